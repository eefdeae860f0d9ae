"""Which example of a training file stands where among the prepared ones."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfxc.core.errors import DataError
from tfxc.data.reading.held_out import open_split
from tfxc.data.store.blocks.layout import CHUNK_EXAMPLES, shuffled_order

if TYPE_CHECKING:
    from tfxc.core.settings import DataSettings
    from tfxc.data.store.manifest import Manifest


def reading_order(manifest: "Manifest", data: "DataSettings") -> np.ndarray:
    """Returns which example of the raw training file is at each place of the prepared split.

    Args:
        manifest, data: of the prepared set.

    Returns:
        int64 (examples,).

    Raises:
        DataError: images were left out, so that the numbers of the others are not known.

    Example:
        >>> reading_order(manifest, config.data)[:3].tolist()  # doctest: +SKIP
        [41, 7, 112]
    """
    info = manifest.split("train")
    if info.corrupt_images:
        raise DataError(
            f"{info.corrupt_images:,} corrupt images were left out, so that the places of the "
            "others are not known",
            where=data.train,
            fix="remove them from the data",
        )
    if manifest.layout == "feature_set":  # it is read in place
        return np.arange(info.examples)
    return shuffled_order(info.blocks, len(info.shards), data.seed)


def check_order(
    prepared: Iterable[np.ndarray], data: "DataSettings", names: Sequence[str], order: np.ndarray
) -> None:
    """Refuses a training file whose labels are not those that were prepared.

    Args:
        prepared: label ids of each prepared example.
        data: settings that name the file.
        names: label names by id.
        order: see ``reading_order``.

    Raises:
        DataError: the file has another number of examples, or other labels.

    Example:
        >>> check_order([np.array([2])], config.data, names, np.array([0]))  # doctest: +SKIP
    """
    known = {name: number for number, name in enumerate(names)}
    labels = [
        sorted(known[str(label)] for label in row if str(label) in known)
        for chunk in open_split(data, "train").chunks(CHUNK_EXAMPLES)
        for row in chunk.labels
    ]
    prepared_labels = [sorted(ids.tolist()) for ids in prepared]
    fits = len(labels) == len(order) == len(prepared_labels)
    if not fits or any(
        labels[number] != ids for ids, number in zip(prepared_labels, order, strict=True)
    ):
        raise DataError(
            "the training file has other examples or labels than when it was prepared",
            where=data.train,
            fix="run prepare again with --force",
        )
