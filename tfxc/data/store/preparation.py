"""Raw files to a prepared folder: vectorise, number the labels, shuffle, write shards.

A prepared folder holds the shards, ``manifest.json``, ``labels.txt`` (the training vocabulary),
``unseen_labels.txt`` (labels of dev and test outside it), ``label_counts.npy`` (int64
(num_labels,), training examples of each label), for texts ``text_features/``, for texts of labels
``label_texts/`` and, where images were left out, ``corrupt_images.txt``; ``checksums.json`` of all
these, and ``sources.json`` (sizes and times of the sources).
"""

import glob
import itertools
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.config import DataSettings
from tfxc.core.errors import DataError
from tfxc.core.escaping import json_text
from tfxc.core.messages import NOTES
from tfxc.core.progress import Progress
from tfxc.core.resources import thread_count
from tfxc.core.settings import ImageSettings
from tfxc.core.storage import checksums
from tfxc.core.storage.files import SCRATCH, ensured_parent, write_array
from tfxc.core.storage.locks import locked, sweep
from tfxc.core.storage.ownership import atomic_folder
from tfxc.data.examples.chunk import Chunk
from tfxc.data.examples.kinds import KINDS, Given
from tfxc.data.examples.label_ids import LabelNumbering
from tfxc.data.reading.held_out import Subset, held_out_rows, note_on_titles, open_split
from tfxc.data.reading.parsing.record_layout import AGAIN
from tfxc.data.reading.source_files import (
    STAMPS_FILE,
    changed_source,
    describe_sources,
    find_sources,
    is_builtin,
    save_stamps,
    source_path,
    stamps_of,
)
from tfxc.data.store.blocks.converting import BlockConverter, BlockRows
from tfxc.data.store.blocks.job import CHUNK, KEYS, LABELS, READ, TERMS, SplitJob
from tfxc.data.store.blocks.layout import (
    CHUNK_EXAMPLES,
    CHUNK_IMAGES,
    Segment,
    dealt,
    in_order,
    shuffled_order,
)
from tfxc.data.store.blocks.reading import BlockRead, BlockReader
from tfxc.data.store.blocks.tasks import convert_block, read_block
from tfxc.data.store.conversion import check_kind, check_width, report_unused_features
from tfxc.data.store.manifest import (
    LABEL_COUNTS_FILE,
    LABELS_FILE,
    MANIFEST_FILE,
    TEXT_FEATURES_FOLDER,
    UNSEEN_LABELS_FILE,
    Manifest,
    SplitInfo,
    fingerprint,
    fingerprints_of,
    prepared_folder,
)
from tfxc.data.store.records.shard_writer import (
    IMAGE_SHARD_BYTES,
    SHARD_BYTES,
    split_info,
    write_block_shard,
)
from tfxc.data.text.base import Learner, learners_of, part_errors, parts_of
from tfxc.data.text.registry import build_text_features, given_terms
from tfxc.labels.joined_labels import joined_labels
from tfxc.labels.look_alikes import warnings_of_names
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.parallel import map_tasks, workers

if TYPE_CHECKING:
    from tfxc.data.examples.kinds import FeatureKind
    from tfxc.data.label_texts.preparation import LabelTextsPreparation
    from tfxc.data.reading.formats.base import Reader
    from tfxc.data.store.image_conversion import ImageConverter

__all__ = ["DataSettings", "ensure_prepared", "fingerprint", "prepare", "prepared_folder"]

_MOST_EXAMPLES = 65536
_BLOCKS = 256
# Fewer characters of texts, fewer blocks (of texts that can be read from any one on, and of given
# features), or fewer bytes of rows, are finished sooner than processes start.
MIN_CHARACTERS = 32 << 20
MIN_TEXTS = 2
MIN_BLOCKS = 64
MIN_BYTES = 128 << 20


def prepare(
    settings: DataSettings, folder: str | Path, *, jobs: int | None = None, told: bool = False
) -> Manifest:
    """Prepares a data set; the folder is written atomically and replaces an existing one.

    The files are read once, block by block, in memory that does not depend on their size. The same
    files, settings and seed give the same bytes, however many processes work.

    Args:
        settings: ``DataSettings``.
        folder: the folder to write.
        jobs: processes that read, cut and write; None means all the cores there are. On a cluster
            (``tfxc.parallel.cluster``) its workers do so.
        told: whether the user has been told which label names of the training file look alike, as
            by its inspection; else a warning does so.

    Returns:
        Manifest.

    Raises:
        DataError: a file is missing or malformed, the training split is empty or without labels.
        UserError: the disk is full or the folder cannot be written to.

    Example:
        >>> settings = DataSettings(name="bibtex", train="train.txt", test="test.txt")
        >>> prepare(settings, "prepared/bibtex").num_labels        # doctest: +SKIP
        159
    """
    sources = find_sources(settings)
    with atomic_folder(folder, "prepared data set") as scratch:
        if _names_feature_sets(settings, sources):
            from tfxc.data.store.feature_sets.preparation import prepare_feature_sets

            prepare_feature_sets(settings, sources, scratch)
        else:
            _Preparation(settings, sources, scratch, _processes(jobs), told).run()
        _record(scratch)
    return Manifest.load(folder)


def _names_feature_sets(settings: DataSettings, sources: Mapping[str, str | Path]) -> bool:
    """Whether the sources of a data set are feature sets, which are read where they are.

    Args:
        sources: split → path, expanded.
    """
    if settings.reader is not None:
        return settings.reader == "feature_set"
    if is_builtin(sources["train"]) or not Path(sources["train"]).is_dir():
        return False
    from tfxc.data.reading.parsing.feature_set import is_feature_set

    return is_feature_set(sources["train"])


def _processes(jobs: int | None) -> int:
    """Returns how many tasks run at a time; on a cluster never only one, which would stay here."""
    cluster = workers()
    return thread_count(jobs) if cluster is None else max(2, cluster.tasks)


def _record(folder: Path) -> None:
    """Writes down the checksums of all files but those that change, see ``source_files``."""
    shards = [shard for split in Manifest.load(folder).splits.values() for shard in split.shards]
    known = {shard.file: (shard.bytes, shard.sha256) for shard in shards}
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    checksums.record(folder, {str(name) for name in files} - {STAMPS_FILE}, known)


def ensure_prepared(
    settings: DataSettings,
    root: str | Path = "prepared",
    *,
    jobs: int | None = None,
    told: bool = False,
    renew: bool = False,
) -> Path:
    """Returns the prepared folder of ``settings``, prepared now if it is not there yet.

    Several processes may ask at once: one prepares, the others wait for it.

    Args:
        settings: ``DataSettings``.
        root: where prepared folders are.
        jobs, told: see ``prepare``.
        renew: whether sources that have changed since are prepared again, instead of refused.

    Returns:
        Path: ``prepared_folder(settings, root)``.

    Raises:
        DataError: as ``prepare``; or a source has changed since it was prepared, or a file of the
            prepared folder is missing or damaged.
        UserError: as ``prepare``.
    """
    folder = prepared_folder(settings, root)
    changed = None
    if folder.exists():
        # A killed one may have left what it had replaced.
        sweep(folder.parent, SCRATCH.format(glob.escape(folder.name)))
        changed = _changed_source(folder)
    if not folder.exists() or (changed is not None and renew):
        find_sources(settings)  # refuses before anything is made
        if changed is not None:
            NOTES.info(f"{changed.problem}; preparing it again")

        def waiting(process):
            NOTES.info(f"waiting for {process}, which prepares {folder}")

        with ensured_parent(folder), locked(folder.with_name(f".{folder.name}.lock"), waiting):
            sweep(folder.parent, SCRATCH.format("*"))  # of killed preparations, also of other sets
            if not folder.exists() or _changed_source(folder) is not None:
                prepare(settings, folder, jobs=jobs, told=told)
        changed = _changed_source(folder)
    if changed is not None:
        raise changed
    return folder


def refuse_changed_sources(settings: DataSettings, root: str | Path = "prepared") -> None:
    """Refuses, before long work, what ``ensure_prepared`` would refuse after it.

    Raises:
        DataError: a source has changed since it was prepared, or prepared data are damaged.
    """
    folder = prepared_folder(settings, root)
    if folder.exists() and (changed := _changed_source(folder)) is not None:
        raise changed


def _changed_source(folder: Path) -> DataError | None:
    """Checks a prepared folder; returns what ``changed_source`` does."""
    return changed_source(check_prepared(folder).sources, folder)


def check_prepared(folder: str | Path) -> Manifest:
    """Compares the small files of a prepared folder with their checksums, and all sizes.

    Shards are left to their readers: every record has its own checksum.

    Returns:
        Manifest.

    Raises:
        DataError: this is not a prepared folder, or a file is missing or damaged.
    """
    if not (Path(folder) / MANIFEST_FILE).is_file():
        return Manifest.load(folder)  # raises, and says what is missing
    checksums.check_file(folder, MANIFEST_FILE, AGAIN)
    manifest = Manifest.load(folder)
    shards = {shard.file for split in manifest.splits.values() for shard in split.shards}
    checksums.check(folder, AGAIN, elsewhere=shards)
    return manifest


class _Preparation:
    """One run of ``prepare``: learn from the training split, then write every split."""

    # Known once the training split is open, and once it is learned.
    numbering: LabelNumbering
    kind: "FeatureKind"
    num_features: int

    def __init__(
        self,
        settings: DataSettings,
        sources: dict[str, str | Path],
        folder: Path,
        jobs: int,
        told: bool,
    ) -> None:
        self.settings = settings
        self.sources = sources
        self.folder = folder
        self.jobs = jobs
        self.told = told
        self.text_features: Any = None
        self.images: ImageConverter | None = None
        self.label_texts: LabelTextsPreparation | None = None
        self.fingerprints: dict[str, str] = {}
        self.splits_cells = False
        self._dev_rows: np.ndarray | None = None

    def run(self) -> None:
        """Fills the folder."""
        settings = self.settings
        stamps = stamps_of(settings)
        infos = {split: _Split(self, split).run() for split in self.sources}
        vocabulary = self.numbering.vocabulary
        unseen = self.numbering.unseen_vocabulary()
        images = self.images
        texts = self.label_texts
        where = self.sources["train"]
        if not is_builtin(where):
            told = len(vocabulary) if self.told else 0
            for line in warnings_of_names([*vocabulary.names, *unseen.names], told):
                NOTES.warning(f"{where}: {line}")
        text_settings = None
        if settings.text_features is not None:
            # Through JSON, so that what is loaded equals what was saved (tuples become lists).
            text_settings = json.loads(
                json_text({**settings.text_features, **self.text_features.settings()})
            )
        vocabulary.save(self.folder / LABELS_FILE)
        unseen.save(self.folder / UNSEEN_LABELS_FILE)
        if images is not None:
            images.save_corrupt(self.folder)
        if texts is not None:
            texts.save(self.folder, vocabulary.names, self.text_features)
        write_array(self.folder / LABEL_COUNTS_FILE, self.numbering.label_counts)
        Manifest(
            name=settings.name,
            settings_fingerprint=fingerprint(settings),
            layout=settings.layout,
            feature_kind=self.kind.decoded.name,
            image_shape=None if images is None else images.shape,
            image_store=None if images is None else images.store,
            num_features=self.num_features,
            num_labels=len(vocabulary),
            num_trained_labels=None if texts is None else texts.num_trained,
            vocabulary_size=getattr(self.text_features, "vocabulary_size", None),
            num_unseen_labels=len(unseen),
            text_features=text_settings,
            row_normalise=settings.normalise,
            sources=describe_sources(settings, self.sources, self.fingerprints, stamps),
            splits=infos,
            fingerprints=fingerprints_of(
                self.folder, {split: info.sha256 for split, info in infos.items()}
            ),
        ).save(self.folder)
        save_stamps(self.folder, stamps)

    def open(self, split: str) -> Any:
        """The reader of a split; that of the training split decides what there is to learn."""
        if self.settings.dev_share is not None and self._dev_rows is None:
            self._dev_rows = held_out_rows(self.settings)
            if note := note_on_titles(self.settings):
                NOTES.info(note)
        reader = open_split(self.settings, split, self._dev_rows)
        if is_builtin(self.sources[split]):
            self.fingerprints[split] = reader.source_fingerprint
        if split == "train":
            self._begin(reader)
        return reader

    def _begin(self, reader: "Reader | Subset") -> None:
        """Decides by the reader of the training split what there is to learn."""
        settings = self.settings
        names = None
        if settings.label_names is not None:
            names = LabelVocabulary.load(source_path(settings.label_names))
        elif (own_names := getattr(reader, "label_names", None)) is not None:
            names = LabelVocabulary(own_names)  # in the order of the format
        else:
            self.splits_cells = "label_separator" in getattr(reader, "label_options", ())
        self.numbering = LabelNumbering(
            reader.num_labels, names, settings.label_names, settings.num_labels
        )
        if settings.text_features is not None:
            self.text_features = build_text_features(settings.text_features)
        if settings.label_texts is not None:
            from tfxc.data.label_texts.preparation import LabelTextsPreparation

            self.label_texts = LabelTextsPreparation(
                settings, self.text_features, getattr(reader, "held_out", ())
            )

    def number_labels(self) -> list[str]:
        """Fixes the labels; returns the texts of those that text features learn from."""
        settings = self.settings
        where = self.sources["train"]
        vocabulary = self.numbering.freeze(settings.min_label_count, where)
        options = {**settings.reader_options, **settings.split_options.get("train", {})}
        # The user has said which texts are labels.
        settled = settings.label_names is not None or options.get("label_separator", "") is None
        if self.numbering.most_labels == 1 and not settled:
            labelled = int(self.numbering.label_counts.sum())
            joined = joined_labels(vocabulary.names, labelled)
            if joined is not None:
                NOTES.warning(joined.warning(where, self.splits_cells))
        return [] if self.label_texts is None else self.label_texts.number(self.numbering)

    def learned(self, kind: "FeatureKind | None", num_features: int, num_train: int) -> None:
        """Takes the kind and width of what a training split is made of."""
        where = self.sources["train"]
        if (given := given_terms(self.text_features)) is not None:
            given.take_width(num_features, where)
        if self.text_features is not None:
            kind = self.text_features.kind
            num_features = self.text_features.num_features
            self.text_features.save(self.folder / TEXT_FEATURES_FOLDER)
        if self.images is not None:
            if self.images.shape is None or not num_train:
                from tfxc.data.store.image_conversion import nothing_decoded

                raise nothing_decoded(where)
            kind = self.images.kind
            num_features = self.images.num_values
        assert kind is not None, "examples have features"
        self.kind = kind
        self.num_features = num_features


class _Split:
    """One split of a preparation: its blocks are read, converted and dealt to shards."""

    def __init__(self, preparation: _Preparation, split: str) -> None:
        self._all = preparation
        self._split = split
        self._training = split == "train"
        self._settings = preparation.settings
        self._where = preparation.sources[split]
        self._scratch = preparation.folder / f"scratch-{split}"
        self._learners: dict[str, Learner] = {}
        self._examples: list[int] = []
        self._kinds: list[tuple[Given, int]] = []
        self._truncated = 0
        self._width = 0
        self._starts_processes = False

    def run(self) -> SplitInfo:
        """Writes the shards; returns the ``SplitInfo``."""
        self._scratch.mkdir()
        reader = self._all.open(self._split)
        images = self._all.images
        corrupt_before = len(images.corrupt) if images else 0
        if self._training and self._all.text_features is not None:
            self._learners = learners_of(self._all.text_features)
        self._describe("learning" if self._training else "known")
        self._read(reader)
        if self._training:
            self._learn()
            self._describe("known")
        blocks = self._convert()
        count = sum(block.examples for block in blocks)
        if self._truncated:
            from tfxc.data.text.tokens import report_truncated

            report_truncated(self._all.text_features, self._truncated, count, self._split)
        info = self._write_shards(blocks)
        if self._all.label_texts is not None:
            # What the examples' texts have in common with those of labels, in the records' order.
            parts = [np.load(self._job.file(KEYS, number)) for number in range(len(self._examples))]
            keys = np.concatenate(parts) if parts else np.zeros((0, 2), np.uint64)
            if self._training:
                keys = keys[shuffled_order(info.blocks, len(info.shards), self._settings.seed)]
            self._all.label_texts.save_examples(self._all.folder, self._split, keys)
        if (images := self._all.images) is not None:
            info.corrupt_images = len(images.corrupt) - corrupt_before
        shutil.rmtree(self._scratch)
        return info

    def _describe(self, stage: str) -> None:
        """Writes down what tasks have to know, and opens it for those of this process."""
        preparation = self._all
        settings = self._settings
        # A process may have another current folder.
        absolute_paths = {
            split: str(Path(source).absolute())
            for split, source in preparation.sources.items()
            if not is_builtin(source) and getattr(settings, split) is not None
        }
        known = stage == "known"
        texts = None
        if known and preparation.text_features is not None:
            texts = str(preparation.folder / TEXT_FEATURES_FOLDER)
        SplitJob.describe(
            self._scratch,
            settings.model_copy(update=absolute_paths),
            split=self._split,
            where=str(self._where),
            limit=preparation.numbering.limit,
            features=texts,
            kind=preparation.kind.name if known else None,
            num_features=preparation.num_features if known else None,
            num_labels=len(preparation.numbering.vocabulary) if known else None,
        )
        self._stage = stage
        self._job = SplitJob(self._scratch)
        self._job.text_features = preparation.text_features
        self._job.learning = set(self._learners)

    def _read(self, reader: "Reader | Subset") -> None:
        """Runs the first task of all blocks, and counts labels and terms."""
        self._width = reader.num_features or 0
        with Progress(f"reading {self._split}", reader.num_examples, "examples") as progress:
            for block in self._blocks_read(reader):
                self._count(block, len(self._examples))
                self._examples.append(block.examples)
                progress.advance(block.examples)
        if not sum(self._examples):
            kind = "training" if self._training else self._split
            raise DataError(
                f"the {kind} split is empty",
                where=self._where,
                fix="check the file and the reader's options"
                + ("" if self._training else f", or remove data.{self._split}"),
            )

    def _blocks_read(self, reader: "Reader | Subset") -> Iterator[BlockRead]:
        """Yields the ``BlockRead`` of every block in its order."""
        here = BlockReader(self._job)
        settings = self._settings
        ranges = getattr(reader, "ranges", lambda folder: None)(self._scratch)
        if ranges is not None and self._all.images is None and not settings.images:
            total = reader.num_examples
            assert total is not None, "a reader whose rows can be read from any one on knows it"
            size = min(_MOST_EXAMPLES, max(CHUNK_EXAMPLES, total // _BLOCKS // 4096 * 4096))
            tasks = [
                (str(self._scratch), self._stage, number, start, min(total, start + size))
                for number, start in enumerate(range(0, total, size))
            ]
            least = MIN_BLOCKS if self._all.text_features is None else MIN_TEXTS
            self._starts_processes = self._all.jobs > 1 and len(tasks) >= least
            if self._starts_processes:
                yield from map_tasks(read_block, tasks, self._all.jobs)
                return
            yield from (here.read(ranges(a, b), n, a) for _, _, n, a, b in tasks)
            return
        chunks = reader.chunks(
            CHUNK_IMAGES if settings.images or self._all.images else CHUNK_EXAMPLES
        )
        first = next(chunks, None)
        if first is None:
            return
        chunks = itertools.chain([first], chunks)
        # The first chunk of the training split decides whether this is a set of images.
        unspecified = settings.text_features is None and settings.normalise is None
        if self._training and (settings.images or (unspecified and first.images is not None)):
            from tfxc.data.store.image_conversion import ImageConverter

            self._all.images = ImageConverter(settings.images or ImageSettings())
        if self._all.images is not None:
            yield from self._images_read(here, chunks, self._all.images)
            return
        may_start = self._all.jobs > 1 and len(first) == CHUNK_EXAMPLES and self._all.text_features
        least = MIN_CHARACTERS if workers() is None else 0
        characters = 0
        start = 0
        numbered = enumerate(chunks)
        while not (may_start and characters >= least):
            number, chunk = next(numbered, (0, None))
            if chunk is None:
                return
            yield here.read(chunk, number, start)
            start += len(chunk)
            characters += sum(map(len, chunk.texts or ()))
        self._starts_processes = True
        yield from map_tasks(read_block, self._chunk_files(numbered, start), self._all.jobs)

    def _chunk_files(
        self, numbered: Iterable[tuple[int, Chunk]], start: int
    ) -> Iterator[tuple[str, str, int, int, None]]:
        """Yields tasks for chunks, which are written to files.

        Args:
            numbered: numbers of blocks and their chunks.
            start: number of their first example.
        """
        from tfxc.data.store.blocks.chunk_file import write_chunk

        for number, chunk in numbered:
            write_chunk(self._job.file(CHUNK, number), chunk)
            yield str(self._scratch), self._stage, number, start, None
            start += len(chunk)

    def _images_read(
        self, here: BlockReader, chunks: Iterable[Chunk], images: "ImageConverter"
    ) -> Iterator[BlockRead]:
        """Yields the ``BlockRead`` of blocks of images, fewer of them where they are large."""
        start = 0
        number = 0
        for chunk in chunks:
            if self._training:
                check_kind(chunk, "images", self._where, fix=None)
                images.count(chunk)
            size = images.chunk_images(CHUNK_IMAGES)
            for place in range(0, len(chunk), size):
                part = chunk.slice(place, place + size)
                yield here.read_images(part, number, start, images)
                start += len(part)
                number += 1

    def _count(self, block: BlockRead, number: int) -> None:
        """Numbers the labels and the terms of a block; notes its given features."""
        numbering = self._all.numbering
        # Not by the task: if its worker is lost before the result is here, it runs once more.
        self._job.file(CHUNK, number).unlink(missing_ok=True)
        if self._training:
            codes = numbering.count(block.labels, self._where)
        else:
            codes = numbering.ids_of(block.labels.values)
        write_array(self._job.file(LABELS, number), codes)
        text_features = self._all.text_features
        for part, learner in self._learners.items():
            terms = learner.add(block.cuts[part])
            if parts_of(text_features)[part].cuts_once:
                write_array(self._job.file(TERMS, number, part or "all"), terms)
        self._truncated += block.truncated
        if block.kind is None:
            return
        if text_features is None or given_terms(text_features) is not None:
            kind = KINDS[block.kind]
            assert isinstance(kind, Given), "the kind of given features"
            self._kinds.append((kind, block.width))
        elif self._training and not number:
            report_unused_features(self._where, self._split)

    def _learn(self) -> None:
        """Fixes the vocabularies, and writes down the ids of labels and terms."""
        parts = parts_of(self._all.text_features)
        texts = self._all.number_labels()
        for name, learner in self._learners.items():
            with part_errors(name):
                if texts:
                    learner.add(parts[name].cut(texts))
                ids = learner.finish()
            if parts[name].cuts_once:
                write_array(self._job.term_ids_file(name), ids)
        kind = None
        width = self._width
        if self._kinds:
            kind = self._kinds[-1][0]
            width = max(width, *(block_width for _, block_width in self._kinds), 0)
            if self._all.text_features is None:
                for block_kind, block_width in self._kinds:
                    check_width(block_kind, block_width, kind, width, self._where)
        self._all.learned(kind, width, sum(self._examples))
        write_array(self._job.label_ids_file, self._all.numbering.ids)

    def _convert(self) -> list[BlockRows]:
        """Runs the second task of all blocks; returns the ``BlockRows`` of each."""
        here = BlockConverter(self._job)
        numbers = [number for number, count in enumerate(self._examples) if count]
        # Images that were left out took their labels with them.
        recount = self._training and self._all.images is not None
        shared_out = self._starts_processes
        if self._all.text_features is None:
            shared_out = self._all.jobs > 1 and len(numbers) >= MIN_BLOCKS
        converted: Iterator[BlockRows]
        if shared_out and self._all.images is None:
            tasks = ((str(self._scratch), self._stage, number, recount) for number in numbers)
            converted = map_tasks(convert_block, tasks, self._all.jobs)
        else:
            converted = (here.convert(number, recount) for number in numbers)
        blocks = [BlockRows(0, 0, 0, None)] * (numbers[-1] + 1)
        counts = np.zeros_like(self._all.numbering.label_counts)
        with Progress(f"preparing {self._split}", sum(self._examples), "examples") as progress:
            for number, block in zip(numbers, converted, strict=True):
                blocks[number] = block
                self._truncated += block.truncated
                if block.label_counts is not None:
                    counts += block.label_counts
                progress.advance(block.examples)
                for what in (READ, LABELS):
                    self._job.file(what, number).unlink()
        if recount:
            self._all.numbering.label_counts = counts
        return blocks

    def _write_shards(self, blocks: Sequence[BlockRows]) -> SplitInfo:
        """Runs the third task, of all shards; returns the ``SplitInfo``."""
        preparation = self._all
        sizes = [block.examples for block in blocks]
        most = SHARD_BYTES if preparation.images is None else IMAGE_SHARD_BYTES
        total = sum(block.nbytes for block in blocks)
        shards: Iterable[list[Segment]]
        if self._training:
            examples = sum(sizes)
            count = max(-(-examples // self._settings.shard_examples), -(-total // most))
            count = min(count, examples)
            shards = (dealt(sizes, count, number) for number in range(count))
        else:
            row_bytes = [block.nbytes // max(1, block.examples) for block in blocks]
            shards = in_order(sizes, row_bytes, self._settings.shard_examples, most)
            count = len(shards)
        job = (str(self._scratch), self._stage, str(preparation.folder))
        tasks = ((*job, number, count, segments) for number, segments in enumerate(shards))
        processes = preparation.jobs if total >= MIN_BYTES else 1
        written = []
        with Progress(f"writing {self._split}", count, "shards") as progress:
            for shard in map_tasks(write_block_shard, tasks, processes):
                written.append(shard)
                progress.advance(1)
        return split_info(written, sizes if self._training else [])
