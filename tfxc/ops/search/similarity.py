"""How alike the weights of labels are."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfxc.ops.margins import unit_rows

_TILE_VALUES = 1 << 24  # numbers in the rows that are compared at once: 64 MB


def cosines_to_row(
    rows_between: Callable[[int, int], tf.Tensor], row: int, count: int
) -> np.ndarray:
    """Returns cosines of one row of a table and all rows; 0 to a row of zeros.

    Args:
        rows_between: (begin, end) -> float (end - begin, width), rows of the table; not all at
            once, so that a table of another layout is copied in parts.
        row: number of the one.
        count: rows of the table.

    Returns:
        float32 (count,).

    Example:
        >>> table = tf.constant([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
        >>> found = cosines_to_row(lambda begin, end: table[begin:end], 0, 3)
        >>> [f"{cosine:.3f}" for cosine in found]
        ['1.000', '0.000', '0.707']
    """
    direction = unit_rows(rows_between(row, row + 1))[0]
    step = max(1, _TILE_VALUES // max(1, direction.shape[0]))
    parts = [
        tf.linalg.matvec(unit_rows(rows_between(begin, min(begin + step, count))), direction)
        for begin in range(0, count, step)
    ]
    return tf.concat(parts, axis=0).numpy()


def most_similar(similarities: np.ndarray, label: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the k labels that are most similar to one, without itself.

    Args:
        similarities: float32 (num_labels,), to the label.
        label: its id.
        k: how many; fewer if there are not as many others.

    Returns:
        ids int32 and similarities float32, best first, ties by ascending id.

    Example:
        >>> most_similar(np.float32([0.5, 1, 0.7]), 1, 5)[0].tolist()
        [2, 0]
    """
    order = np.argsort(-similarities, kind="stable")
    ids = order[order != label][:k].astype(np.int32)
    return ids, similarities[ids]
