"""Feature sets copied block by block: cut into splits, or taken over from arrays."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.progress import Progress
from tfxc.data.examples.label_ids import inferred_num_labels
from tfxc.data.examples.order import permutation
from tfxc.data.reading.parsing.feature_set import check_labels
from tfxc.data.store.feature_sets.writer import FeatureWriter

if TYPE_CHECKING:
    from tfxc.data.reading.parsing.feature_set import FeatureSet


SPLITS = ("train", "val", "test")
_BLOCK_BYTES = 8 << 20


def split_features(
    features: "FeatureSet", folder: str | Path, val: float, test: float, seed: int = 0
) -> dict[str, int]:
    """Writes ``train/``, ``val/`` and ``test/`` of a feature set, or resumes writing it.

    Which rows go where depends on the seed alone; in each split they keep their order. One
    block of rows is in memory at a time.

    Args:
        features: ``FeatureSet``.
        folder: where to write; a split without rows is left out.
        val, test: number of rows, or a share below 1 of all rows.
        seed: of the choice.

    Returns:
        dict: split → number of rows.

    Raises:
        ConfigError: more rows are requested than there are, or none are left to train on.
        DataError: NaN or infinity, naming the row.
        UserError: as ``FeatureWriter``.
    """
    sizes = _sizes(features.num_examples, val, test)
    split_of_row = np.zeros(features.num_examples, np.int8)
    order = permutation(features.num_examples, seed)
    split_of_row[order[: sizes["val"]]] = 1
    split_of_row[order[sizes["val"] : sizes["val"] + sizes["test"]]] = 2
    del order
    with contextlib.ExitStack() as stack:
        writers = {}
        for number, split in enumerate(SPLITS):
            if sizes[split]:
                settings = {"split": split, "seed": seed, "sizes": sizes}
                made_from = {
                    key: value
                    for key, value in features.settings.items()
                    if key not in ("origin", "finished")
                }
                writer = FeatureWriter(
                    Path(folder) / split,
                    labels=features.labels[split_of_row == number],
                    num_features=features.num_features,
                    num_labels=features.num_labels,
                    label_names=features.label_names,
                    dtype=features.dtype.name,
                    settings={**settings, "of": made_from},
                    origin=features.settings.get("origin"),
                )
                writers[number] = stack.enter_context(writer)
        _copy(features, split_of_row, writers)
    return sizes


def _sizes(total: int, val: float, test: float) -> dict[str, int]:
    counts = {}
    for name, wanted in (("val", val), ("test", test)):
        counts[name] = int(wanted) if wanted >= 1 else round(wanted * total)
        if wanted < 0 or (wanted >= 1 and wanted != int(wanted)):
            raise ConfigError(
                f"{wanted} is neither a number of rows nor a share from 0 to 1", where=name
            )
        if wanted and not counts[name]:
            raise ConfigError(
                f"a share of {wanted} is less than 1 of {total:,} rows",
                where=name,
            )
    left = total - sum(counts.values())
    if left < 1:
        raise ConfigError(
            f"{counts['val']:,} rows for val and {counts['test']:,} for test leave none of "
            f"{total:,} to train on",
            fix="lower them",
        )
    return {"train": left, **counts}


def _copy(
    features: "FeatureSet", split_of_row: np.ndarray, writers: Mapping[int, FeatureWriter]
) -> None:
    places = dict.fromkeys(writers, 0)
    with Progress("splitting", features.num_examples, "rows") as progress:
        for start in range(0, features.num_examples, features.block_rows):
            chosen = split_of_row[start : start + features.block_rows]
            stops = {
                number: places[number] + int(np.count_nonzero(chosen == number))
                for number in writers
            }
            if not all(
                writer.is_done(places[number], stops[number]) for number, writer in writers.items()
            ):
                block = np.empty((len(chosen), features.num_features), np.float32)
                features.read(start, block)
                for number, writer in writers.items():
                    writer.write(places[number], block[chosen == number])
            places = stops
            progress.advance(len(chosen))


def import_arrays(
    features: np.ndarray,
    labels: Sequence[int] | np.ndarray,
    folder: str | Path,
    *,
    num_labels: int | None = None,
    label_names: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> int:
    """Writes a feature set from arrays, block by block, or resumes writing it.

    Args:
        features: array (n, dim) of float16, float32 or float64, e.g. a memory map; stored as
            float16 where it is, else as float32.
        labels: integers (n,).
        folder: where to write.
        num_labels: number of labels; None means the names' number, or the largest label plus 1.
        label_names: their names, or None.
        settings: dict that names the arrays: a folder started with other ones is refused.

    Returns:
        Number of rows.

    Raises:
        DataError: another shape or type, features and labels of different length, a label out of
            range, NaN or infinity; the row is named.
        UserError: as ``FeatureWriter``.
    """
    kind = features.dtype.name
    if features.ndim != 2 or kind not in ("float16", "float32", "float64"):
        raise DataError(
            f"they are {kind} {features.shape}, not float16, float32 or float64 (n, dim)",
            where="features",
        )
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"they are {labels.dtype} {labels.shape}, not integers (n,)",
            where="labels",
            fix="write one integer for each row of features",
        )
    if len(labels) != len(features):
        raise DataError(
            f"there are {len(labels):,} labels for {len(features):,} features",
            where="labels",
            fix="give the labels that belong to these features",
        )
    if num_labels is None and labels.size:
        num_labels = inferred_num_labels(labels, label_names, "labels")
        check_labels(labels, max(1, num_labels), "labels")
    writer = FeatureWriter(
        folder,
        labels=labels,
        num_features=features.shape[1],
        num_labels=num_labels or 0,  # none at all are refused there
        label_names=label_names,
        dtype="float16" if kind == "float16" else "float32",
        settings=settings,
    )
    size = max(1, _BLOCK_BYTES // (4 * features.shape[1]))
    with writer, Progress("importing", len(labels), "rows") as progress:
        for start in range(0, len(labels), size):
            stop = min(start + size, len(labels))
            if not writer.is_done(start, stop):
                writer.write(start, np.asarray(features[start:stop]))
            progress.advance(stop - start)
    return len(labels)
