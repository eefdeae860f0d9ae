"""Examples and labels put into a run with a memory, or taken out of it; nothing is trained.

The memory of the new run is, bit for bit, what it would be if it had always, or never, held them
with the same text features. A ranker and the trees of a fusion stay as they were trained.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse

from tfxc.core.errors import ConfigError, DataError, nearest
from tfxc.core.messages import NOTES
from tfxc.core.storage.files import copy_folder
from tfxc.data.reading.label_texts import read_new_label_texts
from tfxc.data.sources.base import ArraySource
from tfxc.data.sources.matrices import matrices
from tfxc.data.store.manifest import Manifest, fingerprints_of
from tfxc.decision.fitted import DECISION
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.runs.writer import new_run, refuse_existing, split_of

if TYPE_CHECKING:
    from tfxc.data.reading.formats.base import Reader
    from tfxc.ranker.fusion.memory import ExampleMemory
    from tfxc.runs.loaded import LoadedRun


def has_memory(loaded: "LoadedRun") -> bool:
    """Tells whether a run has a memory."""
    from tfxc.core import registry
    from tfxc.recipes.memory.recipe import Memory

    return issubclass(registry.get("recipe", loaded.config.recipe.name), Memory)


def add_examples(loaded: "LoadedRun", reader: "Reader", output: str | Path) -> list[str]:
    """Writes a run that remembers the examples of a file, and their labels, as well.

    Args:
        loaded: a run with a memory; it stays as it is.
        reader: of the examples.
        output: the new run folder, which is written atomically.

    Returns:
        Names of the new labels, in the order of their ids.

    Raises:
        ConfigError: a run without a memory, or a folder that is in use.
        DataError: the file has no examples with labels.
    """
    memory = _checked(loaded, output)
    names: list[str] = []
    examples = list(loaded.rows(reader, unknown=names))
    count = memory.labels.shape[1] + len(names)
    parts = [matrices(ArraySource(block, count)) for block in examples]
    if not sum(labels.nnz for _, labels in parts):
        raise DataError("no example has a label", where=reader.path, fix="name another file")
    features, labels = (
        scipy.sparse.vstack(blocks, format="csr") for blocks in zip(*parts, strict=True)
    )
    features.sum_duplicates()
    vocabulary = [*loaded.vocabulary.names, *names]
    texts = [*loaded.label_texts, *([""] * len(names))] if loaded.label_texts else []
    _write(loaded, memory.with_examples(features, labels), vocabulary, texts, output)
    return names


def add_texts(loaded: "LoadedRun", path: str | Path, output: str | Path) -> tuple[list[str], int]:
    """Writes a run that finds the labels of a file by their texts as well.

    Args:
        loaded: a run with a memory of label texts; it stays as it is.
        path: JSON lines ``{"label": ..., "text": ...}``: labels that are new, or that the run knows
            by examples alone.
        output: see ``add_examples``.

    Returns:
        Names of the new labels, in the order of their ids, and the number of the other ones.

    Raises:
        ConfigError: a run without a memory of label texts, or a folder that is in use.
        DataError: the file cannot be read, or has a label whose text the run knows.
    """
    memory = _checked(loaded, output)
    if not memory.texts:
        raise ConfigError(
            "the run has no texts of labels",
            where=loaded.folder.path,
            fix="add examples with --data, or train with data.label_texts",
        )
    all_texts = dict(zip(loaded.vocabulary.names, loaded.label_texts, strict=True))
    texts = read_new_label_texts(path, {name for name, text in all_texts.items() if text})
    new = [name for name in texts if name not in all_texts]
    assert loaded.text_features is not None, "texts of labels need text features"
    features = loaded.text_features.transform(list(texts.values()))
    all_texts |= texts  # new labels come last
    ids = {name: number for number, name in enumerate(all_texts)}
    extended = memory.with_texts(features, [ids[name] for name in texts])
    _write(loaded, extended, list(all_texts), list(all_texts.values()), output)
    return new, len(texts) - len(new)


def remove_labels(loaded: "LoadedRun", names: Iterable[str], output: str | Path) -> int:
    """Writes a run that never had some labels, nor the examples that have no other.

    Args:
        loaded: a run with a memory; it stays as it is.
        names: of the labels.
        output: see ``add_examples``.

    Returns:
        Number of examples that were removed.

    Raises:
        ConfigError: a run without a memory, or a folder that is in use.
        DataError: a name is not a label of the run, or none is left.
    """
    memory = _checked(loaded, output)
    ids = {name: number for number, name in enumerate(loaded.vocabulary.names)}
    names = list(dict.fromkeys(names))
    unknown = [name for name in names if name not in ids]
    where = loaded.folder.path
    if not names:
        raise DataError("no label is named", where=where, fix="name at least one")
    if unknown:
        problem = f"the run has no label {unknown[0]!r}{nearest(unknown[0], ids)}"
        raise DataError(problem, where=where, fix="name its labels, one on each line")
    if len(names) == len(ids):
        raise DataError("no label would be left", where=where, fix="keep at least one")
    removed = np.array([ids[name] for name in names])
    cut = memory.without_labels(removed)
    kept = np.setdiff1d(np.arange(len(ids)), removed).tolist()
    vocabulary = [loaded.vocabulary.names[number] for number in kept]
    texts = loaded.label_texts
    _write(loaded, cut, vocabulary, [texts[number] for number in kept if texts], output)
    return memory.labels.shape[0] - cut.labels.shape[0]


def _checked(loaded: "LoadedRun", output: str | Path) -> "ExampleMemory":
    """Returns the memory of a run."""
    if not has_memory(loaded):
        raise ConfigError(
            f"the run is of recipe {loaded.config.recipe.name!r}, which has no memory",
            where=loaded.folder.path,
            fix="choose a run of recipe 'memory' or 'fuse'",
        )
    refuse_existing(output)
    return loaded.model.memory


def _write(
    loaded: "LoadedRun",
    memory: "ExampleMemory",
    names: Sequence[str],
    texts: Sequence[str],
    output: str | Path,
) -> None:
    """Writes the new run: its ranker and trees are those of the old one."""
    run = loaded.folder.path
    with new_run(output) as written:
        assets = written / "assets"
        written.write_config(loaded.config.model_copy(update={"run": str(output)}))
        copy_folder(run / "assets", assets)
        manifest = Manifest.load(assets)
        counted = split_of(np.diff(memory.labels.indptr))
        counted.nonzeros = sum(layer.values.size for layer in memory.rows)
        manifest.splits["train"] = counted
        manifest.num_labels = memory.labels.shape[1]
        vocabulary = LabelVocabulary(names)
        counts = np.bincount(memory.labels.indices, minlength=manifest.num_labels)
        written.write_assets(manifest, vocabulary, counts.astype(np.int64))
        written.write_label_texts(vocabulary, texts)
        manifest.fingerprints = fingerprints_of(assets, {})  # no prepared data hold all this
        manifest.save(assets)
        if (run / "ranker").is_dir():
            copy_folder(run / "ranker", written / "ranker")
        memory.save(written.path)
        if (run / DECISION).is_file():
            NOTES.warning(
                "probabilities and decision were learned of other labels and are not kept: "
                f"tfxc decide {output} --data FILE learns them again"
            )
        written.write_summary({**(loaded.folder.summary() or {}), "dev": {}, "decision": None})
