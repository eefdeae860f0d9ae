"""Checkpoints of text_classifier_torch as runs, and its configs as configs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tfxc.core import registry
from tfxc.core.config import Config, parse_config
from tfxc.core.errors import ConfigError, DataError, UserError
from tfxc.core.storage.files import write_errors, write_json
from tfxc.core.storage.reading import read_text
from tfxc.data.examples.kinds import TOKENS
from tfxc.data.text.registry import build_text_features
from tfxc.data.text.tokens import PADDING, UNKNOWN
from tfxc.imports.text_classifier.mapping import Mapped, mapped
from tfxc.imports.text_classifier.networks import (
    network_sources,
    read_tensors,
    refuse_network,
    rows_of_table,
)
from tfxc.imports.text_classifier.project import Project, read_project
from tfxc.imports.torch_weights import fill
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.model import build_model
from tfxc.recipes.kfold.recipe import KFold
from tfxc.runs.writer import RunWriter, manifest_of, new_run, split_of

if TYPE_CHECKING:
    from tfxc.data.text.base import TextFeatures
    from tfxc.model import XCModel


_ANOTHER_FILE = "give the file that token_file of config.py names"


class Imported(NamedTuple):
    """What has become a run.

    Attributes:
        model_type: ``"TextCNN"`` and so on.
        num_labels: number of classes.
        num_tokens: tokens of the vocabulary, without padding and unknown ones.
        without_equivalent: lines about keys of the config that have no equivalent.
    """

    model_type: str
    num_labels: int
    num_tokens: int
    without_equivalent: list[str]


def import_text_classifier(
    path: str | Path,
    output: str | Path,
    *,
    checkpoint: str | Path | None = None,
    token_file: str | Path | None = None,
    built_vocabulary: bool = False,
) -> Imported:
    """Writes a small network that text_classifier_torch has trained as a run.

    The run scores a text exactly as the original: its texts are filled up with ``[FILL]`` tokens
    to ``max_sequence_length``, as the original reads the padding of all texts. With ``kfold`` the
    run is one of recipe ``kfold`` with the models of all folds.

    Args:
        path: ``config.py``, or its folder.
        output: the run folder, which is written atomically; an older one is replaced.
        checkpoint: the checkpoint; None takes that of the config. Of folds, without ``_1``.
        token_file: the vocabulary's file; None takes that of the config.
        built_vocabulary: whether the run that trained the checkpoint has built the vocabulary's
            file, too. It then trained unknown tokens by the row after the one that the file
            names, and that all later runs read. False reads what these read.

    Returns:
        ``Imported``.

    Raises:
        ConfigError: the config cannot be read, or has no equivalent.
        DataError: a file is missing or damaged, or they do not fit together.
        UserError: the output holds something else.

    Example:
        >>> import_text_classifier("config.py", "runs/imported").model_type  # doctest: +SKIP
        'TextCNN'

    Reference: https://github.com/stanleylsx/text_classifier_torch
    """
    project = read_project(path)
    refuse_network(project.model_type, project.path)
    names = Path(output) / "assets" / "labels.txt"
    tree, without_equivalent = mapped(project, output, names, fill=True)
    characters = project.value("token_level", "char") != "word"
    if project.value("stop_words", False) and characters:
        raise ConfigError(
            "tfxc cannot leave stop words out of texts that it cuts into characters",
            where=f"{project.path}: stop_words",
            fix="train it with tfxc: --write-config writes its config",
        )
    file = token_file or project.place(project.value("token_file", ""))
    tokens = read_token_file(file, one_character=characters)
    features = build_text_features(tree["data"]["text_features"]).use_vocabulary(tokens)
    tree["data"]["text_features"] = {"name": features.name, **features.settings()}
    source = Path(checkpoint or project.checkpoint)
    parts = [source]
    recipe = tree.get("recipe", {})
    if recipe.get("name") == "kfold":
        count = recipe["folds"]
        parts = [source.with_name(f"{source.name}_{fold}") for fold in range(1, count + 1)]
    else:
        tree.pop("recipe", None)  # the network's teacher is no run
    config = parse_config(tree, where=str(project.path))
    unknown = len(tokens) + (2 if built_vocabulary else 1)
    models = [_model(config, project, part, features, unknown) for part in parts]
    _write(output, config, project, features, parts, models)
    num_labels = len(project.train["classes"])
    return Imported(project.model_type, num_labels, len(tokens), without_equivalent)


def write_config(path: str | Path, output: str | Path, run: str | Path) -> Mapped:
    """Writes the config that is equal to a ``config.py``, for ``tfxc train``.

    Args:
        path: ``config.py``, or its folder.
        output: the config's file, e.g. ``"mine.json"``; the classes are written next to it, as
            ``mine.labels.txt``.
        run: the run folder of its training.

    Returns:
        ``Mapped``.

    Raises:
        ConfigError: the config cannot be read, or has no equivalent.
        UserError: a file is there already, or cannot be written.
    """
    project = read_project(path)
    output = Path(output)
    labels = output.with_suffix(".labels.txt")
    for file in (output, labels):
        if file.exists():
            raise UserError(
                "the file already exists",
                where=file,
                fix="remove it, or name another one with --write-config",
            )
    mapping = mapped(project, run, labels, fill=False)
    config = parse_config(mapping.tree, where=str(project.path))
    registry.create("recipe", config.recipe.section())  # refuses what it cannot be
    vocabulary = LabelVocabulary(project.train["classes"], project.path)
    with write_errors(output.parent):
        vocabulary.save(labels)
    write_json(
        output, {key: value for key, value in mapping.tree.items() if value or key == "seed"}
    )
    return mapping


def read_token_file(path: str | Path, one_character: bool) -> list[str]:
    """Returns the tokens with the ids 1, 2 and so on of a file of lines ``token<TAB>id``.

    Args:
        path: the file.
        one_character: whether each token is to be a single character.

    Raises:
        DataError: a line is of another form, an id is missing or given twice; the line is named.
    """
    ids: dict[int, str] = {}
    known: set[str] = set()
    lines = read_text(path, fix="give the vocabulary's file with --tokens")
    for number, line in enumerate(lines.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        if not line.strip():
            continue
        token, tab, digits = line.strip().partition("\t")
        special = token in (PADDING, UNKNOWN)
        if not tab or not digits.isdecimal() or (one_character and not special and len(token) > 1):
            kind = "character" if one_character else "token"
            raise DataError(
                f"the line {line!r} is not of the form {kind}<TAB>id",
                where=f"{path}:{number}",
                fix=_ANOTHER_FILE,
            )
        if int(digits) in ids or token in known:
            raise DataError(
                f"an earlier line has the token or the id of {line!r}",
                where=f"{path}:{number}",
                fix=_ANOTHER_FILE,
            )
        ids[int(digits)] = token
        known.add(token)
    tokens = [ids.get(number) for number in range(len(ids))]
    if len(ids) < 3 or None in tokens or tokens[0] != PADDING or tokens[-1] != UNKNOWN:
        raise DataError(
            f"the ids are not 0 to {max(len(ids) - 1, 0)}, from {PADDING} to {UNKNOWN}",
            where=path,
            fix=_ANOTHER_FILE,
        )
    return [ids[number] for number in range(1, len(ids) - 1)]


def _model(
    config: Config, project: Project, path: Path, features: "TextFeatures", unknown: int
) -> "XCModel":
    tensors = read_tensors(path)
    assert features.num_features is not None, "the vocabulary is given"
    tokens = features.num_features - 3
    rows = rows_of_table(tensors)
    if rows not in (tokens + 2, tokens + 3) or unknown >= rows:
        raise DataError(
            f"the table of word vectors has {rows:,} rows instead of {tokens + 3:,}, for the "
            f"{tokens:,} tokens of the vocabulary",
            where=path,
            fix="give the vocabulary's file that the checkpoint was trained with (--tokens)",
        )
    model = build_model(
        config,
        feature_kind=TOKENS.name,
        num_examples=0,
        num_labels=len(project.train["classes"]),
        num_features=features.num_features,
    )
    length = features.settings()["max_length"]
    kind = project.model_type
    sources = network_sources(model, kind, rows, unknown=unknown, length=length)
    fill(sources, tensors, path, f"the {kind} of config.py")
    return model


def _write(
    output: str | Path,
    config: Config,
    project: Project,
    features: "TextFeatures",
    parts: Sequence[Path],
    models: Sequence["XCModel"],
) -> None:
    """Writes the run; with several models their folds inside it."""
    vocabulary = LabelVocabulary(project.train["classes"], project.path)
    manifest = manifest_of(
        "text_classifier",
        num_labels=len(vocabulary),
        split=split_of(()),
        text_features=features,
        feature_kind=TOKENS.name,
        num_features=features.num_features,
    )

    def write(run: RunWriter, source: Path, model: "XCModel | None") -> None:
        run.write_config(config)
        run.write_assets(manifest, vocabulary, None, features)
        if model is not None:
            run.save_weights(model)
        run.write_summary({"imported": str(source), "dev": {}})

    with new_run(output) as run:
        if len(parts) > 1:
            for number, (path, model) in enumerate(zip(parts, models, strict=True)):
                fold = RunWriter(KFold().path_of(run.path, number))
                fold.mark()
                write(fold, path, model)
        write(run, project.checkpoint, models[0] if len(parts) == 1 else None)
