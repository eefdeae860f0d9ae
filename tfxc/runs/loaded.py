"""A finished run, loaded: model, label names, text features.

TensorFlow is imported with the model, if that needs it.
"""

import copy
import dataclasses
import functools
import gc
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core import registry
from tfxc.core.errors import CheckpointError, ConfigError, number_spans, option_of
from tfxc.core.messages import NOTES
from tfxc.core.storage import checksums
from tfxc.core.storage.files import check_local
from tfxc.core.storage.reading import existing_file, read_array, read_errors, read_record
from tfxc.data.examples.kinds import KINDS, TEXT, TEXT_AND_FEATURES, TOKENS
from tfxc.data.label_texts import LABEL_TEXTS_FOLDER, TEXTS_FILE
from tfxc.data.store.conversion import Converter
from tfxc.data.store.manifest import DIMENSIONS, LABEL_COUNTS_FILE, LABELS_FILE, Manifest
from tfxc.data.text.registry import given_terms, load_text_features
from tfxc.decision.fitted import FittedDecision
from tfxc.inference.protocol import RunModel
from tfxc.inference.search_options import SearchOptions
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.ops.csr import bounds_of
from tfxc.runs.folder import RunFolder
from tfxc.runs.writer import SUMMARY, WEIGHTS

if TYPE_CHECKING:
    from tfxc.data.examples.chunk import Chunk, ChunkSource
    from tfxc.data.examples.kinds import FeatureKind
    from tfxc.data.examples.rows import Rows
    from tfxc.data.store.image_conversion import ImageConverter
    from tfxc.data.text.base import TextFeatures
    from tfxc.inference.embedder import Embedder


_RESTORE = "restore it from a copy, or train again with --fresh"


class LoadedRun:
    """What evaluate, predict and export read. Parts are loaded when first used.

    A loaded run does not change: ``with_options`` opens it anew, to be searched in another way.

    Args:
        path: run folder.
        trust: whether methods outside of tfxc that its config names, such as ``"helper:E"``, may be
            imported, which runs their code, and links may lead out of it. See docs/trust.md.
        options: how it is searched, and with which weights.

    Attributes:
        config: the run's ``Config``, with what the options change of its head.
        manifest: dict of the data's manifest.

    Raises:
        CheckpointError: this is not a run folder, it has no such checkpoint, or it is not trusted
            and a link in its assets leads out of it.
        DataError: a file of the run is missing, changed or damaged.
        ConfigError: it names such a method and is not trusted, its recipe keeps no checkpoints, or
            its head has no such option.

    Example:
        >>> run = LoadedRun("runs/quickstart", options=SearchOptions(beam=20))  # doctest: +SKIP
        >>> run.model.head.num_labels  # doctest: +SKIP
        5012
    """

    def __init__(
        self, path: str | Path, trust: bool = False, options: SearchOptions = SearchOptions()
    ) -> None:
        self.options = options
        self.folder = RunFolder(Path(path), step=options.step)
        self.trust = trust
        self.folder.check_files()
        self.config = self.folder.config()
        if not trust:
            registry.refuse_modules(
                self.config.model_dump(mode="json"), self.folder / "config.json"
            )
            self.folder.check_links()
        if options.step is not None:
            name = self.config.recipe.name
            registry.get("recipe", name).check_checkpoints(name, "--step")
            if not self.folder.has_runs_inside:  # of these, only those that count need it
                self.folder.check_step(options.step, "--step")
        path = self.folder / "assets" / "manifest.json"
        manifest = read_record(path, Manifest, fix=_RESTORE, error=CheckpointError)
        if "train" not in manifest.splits:
            raise CheckpointError("it has no training split", where=path, fix=_RESTORE)
        self.manifest = manifest.model_dump(mode="json")
        if dataclasses.replace(options, streamed=False, step=None) != SearchOptions():
            self.require_labels()
        self._set_head_arguments()

        for name in ("beam", "post_processor"):
            if getattr(options, name) is not None and not self.has_ranker:
                raise ConfigError(
                    f"a run of recipe {self.config.recipe.name!r} has no linear ranker, which this "
                    "option is for",
                    where=option_of(name),
                    fix="leave it out",
                )

    @property
    def has_ranker(self) -> bool:
        """Whether a linear ranker finds the labels, not the head of a network."""
        recipe = registry.get("recipe", self.config.recipe.name)
        return not (recipe.trains_network and recipe.keeps_head)

    def _set_head_arguments(self) -> None:
        """Puts those of the options into the config that are arguments of the head."""
        options = self.options
        for name in ("search_buckets", "search_min_count"):
            if getattr(options, name) is not None and options.search != "approximate":
                raise ConfigError(
                    "this option is for the approximate search, but the search is "
                    f"{options.search or 'auto'!r}",
                    where=option_of(name),
                    fix="add --search approximate, or leave it out",
                )
        names = ("search_buckets", "search_min_count", "seen_penalty")
        arguments = {name: getattr(options, name) for name in names}
        arguments = {name: value for name, value in arguments.items() if value is not None}
        for name in arguments:
            self.require("head", option_of(name))
            assert self.config.head is not None, "``require`` has asked for it"
            head = self.config.head.name
            if name not in registry.arguments(registry.get("head", head)):
                raise ConfigError(
                    f"the run's head is {head!r}, which this option is not for",
                    where=option_of(name),
                    fix="leave it out",
                )
        if arguments:
            assert self.config.head is not None
            section = {**self.config.head.section(), **arguments}
            head_settings = type(self.config.head).model_validate(section)
            self.config = self.config.model_copy(update={"head": head_settings})

    def with_options(self, **changes: Any) -> "LoadedRun":
        """Opens the run anew, to be searched in another way.

        Args:
            changes: fields of ``SearchOptions``.

        Raises:
            UserError: as the constructor.
        """
        options = dataclasses.replace(self.options, **changes)
        return LoadedRun(self.folder.path, self.trust, options)

    @property
    def dimensions(self) -> dict[str, Any]:
        """Arguments of ``build_model`` that come from the data."""
        sizes = {name: self.manifest.get(name) for name in DIMENSIONS}
        sizes["num_examples"] = self.manifest["splits"]["train"]["examples"]
        architecture = self.folder.architecture()
        return sizes if architecture is None else {**sizes, "architecture": architecture}

    @functools.cached_property
    def model(self) -> Any:
        """The trained model, a ``RunModel``, assembled by the run's recipe."""
        recipe = registry.create("recipe", self.config.recipe.section())
        for name, section in self.config.network_sections.items():
            if recipe.trains_network and section is None:
                raise CheckpointError(
                    f"it has no {name!r}, which recipe {self.config.recipe.name!r} needs",
                    where=self.folder / "config.json",
                    fix=_RESTORE,
                )
        streamed = self.options.streamed
        model = recipe.assemble_streamed(self) if streamed else recipe.assemble(self)
        unfinished = self.folder.step is None and not (self.folder / SUMMARY).exists()
        if unfinished and (self.folder / WEIGHTS).exists():
            NOTES.warning(
                f"{self.folder.path}: the training to {self.config.training.epochs:g} "
                "epochs is not finished: these are the last weights it has saved"
            )
        if self.folder.step is not None and getattr(
            getattr(model, "head", None), "reads_label_texts", False
        ):
            from tfxc.data.label_texts.keys import text_keys
            from tfxc.data.label_texts.prepared import LabelTexts, features_of

            # A checkpoint has the labels' vectors of the last evaluation.
            texts = self.label_texts
            rows = features_of(texts, self.text_features)
            model.head.read_texts(LabelTexts(rows, text_keys(texts)))
            model.refresh()
        if self.counted is not None:
            model.head.count_only(self.counted)
        if self.options.seen_penalty is not None:
            model.head.penalty.assign(self.options.seen_penalty)
        as_learned = self.counted is None and self.options.seen_penalty is None
        if as_learned and self.folder.step is None:  # of other scores nothing was learned
            model.decision = FittedDecision.load(self.folder.path, self.manifest["num_labels"])
        beam = self.options.beam
        post_processor = self.options.post_processor
        if beam is not None or post_processor is not None:
            model = model.searching_with(beam, post_processor)
        return model

    @property
    def label_texts(self) -> list[str]:
        """The text of each label by id, "" where it has none; empty if no label has one."""
        if not (self.folder / "assets" / LABEL_TEXTS_FOLDER / TEXTS_FILE).exists():
            return []
        from tfxc.data.label_texts.prepared import label_texts_by_name

        texts = label_texts_by_name(self.folder / "assets")
        return [texts.get(name, "") for name in self.vocabulary.names]

    def replaced(
        self,
        model: RunModel,
        manifest: dict[str, Any],
        vocabulary: LabelVocabulary,
        label_counts: np.ndarray | None,
    ) -> "LoadedRun":
        """Returns this run with other parts, in memory.

        Args:
            model, manifest, vocabulary, label_counts: see the attributes.
        """
        return self._with_parts(
            model=model, manifest=manifest, vocabulary=vocabulary, label_counts=label_counts
        )

    def _with_parts(self, **parts: object) -> "LoadedRun":
        """Returns this run with other parts, without the models that were made of the old ones."""
        run = copy.copy(self)
        run.__dict__.pop("model", None)
        run.__dict__.pop("_in_float32", None)
        run.__dict__.update(parts)
        return run

    def release(self) -> None:
        """Forgets the model, so that its memory is free.

        Where it is used, it is loaded again.
        """
        self.__dict__.pop("model", None)
        self.__dict__.pop("_in_float32", None)
        gc.collect()  # networks refer to themselves

    @functools.cached_property
    def counted(self) -> list[int] | None:
        """Repetitions of a hashed head that labels are scored by; None if the options say none.

        Raises:
            ConfigError: the head has none, or none of these.
            CheckpointError: none of them is trained.
        """
        if self.options.repetitions is None:
            return None
        numbers, trained, _ = self._repetitions
        counted = [number for number in numbers if number in trained]
        if not counted:
            raise CheckpointError(
                f"none of the repetitions {number_spans(numbers)} is trained",
                where=self.folder.path,
                fix=f"train them, e.g. with --repetition {numbers[0]}",
            )
        return counted

    def count_of_repetitions(self) -> str:
        """Says in a line which repetitions count, where the options name some.

        Raises:
            UserError: as ``counted``.
        """
        counted = self.counted or []
        numbers, trained, count = self._repetitions
        missing = [number for number in numbers if number not in trained]
        line = f"{len(counted)} of {count} repetitions count: {number_spans(counted)}"
        return f"{line}; not trained: {number_spans(missing)}" if missing else line

    @functools.cached_property
    def _repetitions(self) -> tuple[list[int], set[int], int]:
        """The repetitions that are wanted, those that are trained, and how many the head has."""
        where = "--repetitions"
        section = self.config.head.section() if self.config.head else {}
        arguments = registry.arguments(registry.get("head", section["name"])) if section else {}
        if "num_repetitions" not in arguments:
            head = f"head {section['name']!r}" if section else "a run without a head"
            raise ConfigError(f"{head} has no repetitions", where=where, fix="leave it out")
        count = section.get("num_repetitions", arguments["num_repetitions"])
        wanted = list(self.options.repetitions or range(count))
        outside = [number for number in wanted if number >= count]
        if outside:
            problem = f"the head has no repetition {outside[0]}"
            raise ConfigError(problem, where=where, fix=f"choose from 0 to {count - 1}")
        recipe = registry.create("recipe", self.config.recipe.section())
        return wanted, set(recipe.finished_repetitions(self.folder, count)), count

    def require(self, part: str, where: str | Path) -> None:
        """Refuses a run that has no encoder, head or objective.

        Args:
            part: ``"encoder"``, ``"head"`` or ``"objective"``.
            where: for the message.

        Raises:
            ConfigError: it has none; its recipe is named.
        """
        if self.config.network_sections[part] is None:
            raise ConfigError(
                f"a run of recipe {self.config.recipe.name!r} has no {part}",
                where=where,
                fix="give a run of another recipe",
            )

    def require_labels(self) -> None:
        """Refuses a run that only encodes: it was imported without a classifier.

        Raises:
            ConfigError: it has no labels.
        """
        if not self.manifest["num_labels"]:
            raise ConfigError(
                "this run has no labels: it only encodes",
                where=self.folder.path,
                fix="use encode or verify, or import it again with its class centres or last layer",
            )

    @functools.cached_property
    def vocabulary(self) -> LabelVocabulary:
        """Label names by id."""
        path = existing_file(self.folder / "assets" / LABELS_FILE, fix=_RESTORE)
        with read_errors(path, fix=_RESTORE):
            vocabulary = LabelVocabulary.load(path)
        self._check_count(path, len(vocabulary), "names")
        return vocabulary

    @functools.cached_property
    def label_counts(self) -> np.ndarray | None:
        """Training examples of each label, int64 (num_labels,); None if they are not known."""
        path = self.folder / "assets" / LABEL_COUNTS_FILE
        if not path.exists() and not path.is_symlink():
            return None
        counts = read_array(path, fix=_RESTORE, error=CheckpointError)
        self._check_count(path, len(counts) if counts.ndim == 1 else counts.shape, "counts")
        return counts

    def _check_count(self, path: Path, count: int | tuple[int, ...], what: str) -> None:
        if count != self.manifest["num_labels"]:
            raise CheckpointError(
                f"the file has {count} {what}, but the run's manifest has "
                f"{self.manifest['num_labels']:,} labels",
                where=path,
                fix=_RESTORE,
            )

    @property
    def single_label(self) -> bool:
        """Whether every training example has exactly one label, as far as is known."""
        split = self.manifest["splits"]["train"]
        return (split.get("min_labels"), split.get("max_labels")) == (1, 1)

    def require_counts(self, where: str) -> None:
        """Refuses a run that does not know how frequent its labels are.

        Raises:
            ConfigError: it was imported without them.
        """
        if self.label_counts is None:
            raise ConfigError(
                "this run does not know how frequent its labels are",
                where=where,
                fix="import it again with --train-labels",
            )

    @functools.cached_property
    def text_features(self) -> "TextFeatures | None":
        """The text vectoriser, or None for runs on given features.

        Raises:
            CheckpointError: its vocabulary is not the one the model was trained with.
        """
        folder = self.folder / "assets" / "text_features"
        if not folder.is_dir():
            return None
        features = load_text_features(folder)
        for name in ("num_features", "vocabulary_size"):
            size = getattr(features, name, None)
            if size != self.manifest.get(name):
                raise CheckpointError(
                    f"its {name} is {size}, but {self.manifest[name]} in the run's manifest",
                    where=folder,
                    fix="restore the run's own text_features, or train again",
                )
        return features

    @property
    def kind(self) -> "FeatureKind":
        """The ``FeatureKind`` of what the model reads."""
        return KINDS[self.manifest["feature_kind"]]

    @property
    def input_kind(self) -> str:
        """What an example is, a name in ``tfxc.data.examples.kinds.INPUTS``."""
        if self.text_features is None:
            return self.manifest["feature_kind"]
        terms = given_terms(self.text_features)
        return TEXT.name if terms is None else TEXT_AND_FEATURES.name

    @property
    def encoder_takes(self) -> str:
        """What its encoder alone needs of an example, see ``tfxc.data.examples.kinds.INPUTS``."""
        return self.input_kind if self._tokens is None else TEXT.name

    @functools.cached_property
    def _tokens(self) -> "TextFeatures | None":
        """The text features of an encoder of tokens that has no use for given features, or None."""
        if given_terms(self.text_features) is None:
            return None
        assert self.config.encoder is not None, "only a recipe with an encoder reads joined texts"
        input_kind = registry.get("encoder", self.config.encoder.name).input_kind
        joined: Any = self.text_features
        return joined.tokens if input_kind == TOKENS.name else None

    def embedder(self, where: str, flip: bool = False) -> "Embedder":
        """Computes the vectors of the run's encoder, in float32.

        Args:
            where: for the message.
            flip: see ``Embedder``.

        Raises:
            ConfigError: the run's recipe has no encoder.
        """
        from tfxc.inference.embedder import Embedder

        self.require("encoder", where)
        return Embedder(self._in_float32.model, flip)

    @functools.cached_property
    def _in_float32(self) -> "LoadedRun":
        """This run, or where it computes in another precision one that does so in float32."""
        if self.config.training.precision == "float32":
            return self
        training = self.config.training.model_copy(update={"precision": "float32"})
        return self._with_parts(config=self.config.model_copy(update={"training": training}))

    @property
    def images(self) -> "ImageConverter | None":
        """What converts images to the run's shape, or None for runs on something else."""
        shape = self.manifest.get("image_shape")
        if shape is None:
            return None
        from tfxc.data.store.image_conversion import ImageConverter

        return ImageConverter.of_shape(shape)

    def rows(
        self, reader: "ChunkSource", size: int | None = None, unknown: list[str] | None = None
    ) -> "Iterator[Rows]":
        """Yields ``Rows`` of a reader's examples in the run's feature and label space.

        Labels unknown to the run get ids from ``num_labels`` on: they count as labels that cannot
        be found. Images are converted to the run's shape.

        Args:
            reader: a ``Reader``, or another source of chunks.
            size: examples in one ``Rows``; None means 4096, or 512 images.
            unknown: takes the names of the unknown labels, in the order of their ids.

        Raises:
            DataError: the file has texts where the run has features, or the other way round, or
                features beyond the run's, or an image cannot be decoded.
        """
        size = size or (4096 if self.images is None else 512)
        unknown = [] if unknown is None else unknown
        converter = self._converter(_Numbering(self.vocabulary.names, unknown))
        yield from converter.rows(reader.chunks(size), reader.path)

    def features_of(
        self, chunk: "Chunk", where: str = "input"
    ) -> dict[str, np.ndarray] | np.ndarray:
        """Returns the features of raw examples, as a batch of the data pipeline has them.

        Args:
            chunk: ``Chunk``; its labels do not matter.
            where: for messages.

        Raises:
            DataError: examples of another kind or width than the run was trained on, or an image
                that cannot be decoded.
        """
        (rows,) = self._unlabelled.rows([chunk], where)
        return rows.batch()["features"]

    def encoder_features_of(
        self, chunk: "Chunk", where: str = "input"
    ) -> dict[str, np.ndarray] | np.ndarray:
        """As ``features_of``, what the encoder reads of them: it may do without given features."""
        if self._tokens is None:
            return self.features_of(chunk, where)
        (rows,) = self._tokens_alone.rows([chunk], where)
        return rows.batch()["features"]

    @functools.cached_property
    def _tokens_alone(self) -> Converter:
        size = self.manifest["vocabulary_size"]
        return Converter(
            numbering=_NoLabels(), num_features=size, kind=TOKENS, text_features=self._tokens
        )

    @functools.cached_property
    def _unlabelled(self) -> Converter:
        return self._converter(_NoLabels())

    def _converter(self, numbering: "_NoLabels | _Numbering") -> Converter:
        return Converter(
            numbering=numbering,
            num_features=self.manifest["num_features"],
            kind=self.kind,
            text_features=self.text_features,
            normalise=self.manifest["row_normalise"],
            images=self.images,
        )


class _NoLabels:
    """Numbering of examples whose labels do not matter."""

    def convert(self, label_lists: Sequence[Sequence[Any]]) -> tuple[np.ndarray, np.ndarray]:
        """Returns empty label lists."""
        return np.zeros(len(label_lists) + 1, np.int64), np.zeros(0, np.int32)


class _Numbering:
    """Label names to ids; new names get the next free id, and are appended to ``unknown``."""

    def __init__(self, names: Sequence[str], unknown: list[str]) -> None:
        self._ids = {name: number for number, name in enumerate(names)}
        self._unknown = unknown

    def convert(self, label_lists: Sequence[Sequence[Any]]) -> tuple[np.ndarray, np.ndarray]:
        """Returns ``indptr`` and ``ids`` of label lists; numbers use their name, e.g. 7 by "7"."""
        ids = self._ids
        known = len(ids)
        lists = [sorted({ids.setdefault(str(x), len(ids)) for x in row}) for row in label_lists]
        self._unknown.extend(itertools.islice(ids, known, None))
        counts = np.fromiter(map(len, lists), np.int64, len(lists))
        flat = np.fromiter((i for row in lists for i in row), np.int32)
        return bounds_of(counts), flat


def load_run(
    path: str | Path, trust: bool = False, options: SearchOptions = SearchOptions()
) -> "LoadedRun":
    """Loads a run folder of this machine; see ``LoadedRun``."""
    check_local(path)
    return LoadedRun(path, trust, options)


def load_runs(
    paths: Sequence[str], trust: bool = False, options: SearchOptions = SearchOptions()
) -> "dict[str, LoadedRun]":
    """Loads runs that answer together, by their paths.

    Of several, a beam and a post-processor are for those with a linear ranker, if there is any.
    """
    plain = dataclasses.replace(options, beam=None, post_processor=None)
    if len(paths) == 1 or options == plain:
        return {path: load_run(path, trust, options) for path in paths}
    runs = {path: load_run(path, trust, plain) for path in paths}
    rankers = [path for path, loaded in runs.items() if loaded.has_ranker]
    for path in rankers or paths:  # without a ranker these options are refused
        runs[path] = load_run(path, trust, options)
    return runs


def fingerprint_of_run(path: str | Path) -> str:
    """Returns text that changes with what a run's model computes: config, assets or weights.

    Args:
        path: run folder.
    """
    path = Path(path)
    files = [path / "config.json", *(path / "assets").rglob("*"), *path.rglob(WEIGHTS)]
    return checksums.of_files(path, {file for file in files if file.is_file()})
