"""Parts of the layers of self-attention: which weights belong to a head or to an inner unit."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tfxc.encoders.bases.layered import LayeredEncoder


# Names of weights, and which of their axes the parts lie along.
_HEAD_AXES = {
    "attention_out_kernel": 0,
    "distance_kernel": 1,
    "content_bias": 0,
    "distance_bias": 0,
}
_UNIT_AXES = {"feed_forward_in_kernel": 1, "feed_forward_in_bias": 0, "feed_forward_out_kernel": 0}
# Queries, keys and values are side by side.
_JOINED_HEAD_AXES = {"attention_in_kernel": 1, "attention_in_bias": 0}


def layer_sizes(encoder: "LayeredEncoder") -> list[tuple[int, int]]:
    """Heads and inner units of each layer that has weights of its own, a list of pairs.

    Args:
        encoder: a built encoder with ``gates``.
    """
    return [
        (
            weights["attention_out_kernel"].shape[0] // encoder.head_width,
            weights["feed_forward_out_kernel"].shape[0],
        )
        for weights in encoder.layers
    ]


def sliced(
    name: str, values: np.ndarray, heads: np.ndarray, units: np.ndarray, head_width: int
) -> np.ndarray:
    """Returns what is left of a layer's weight.

    Args:
        name: the weight's name without the layer's number.
        values: its values, an array.
        heads: numbers of the heads that stay, ascending.
        units: numbers of the inner units that stay, ascending.
        head_width: values of a head.

    Example:
        >>> sliced("attention_out_kernel", np.arange(4)[:, None], [1], [0], 2).ravel().tolist()
        [2, 3]
    """
    columns = (np.asarray(heads)[:, None] * head_width + np.arange(head_width)).ravel()
    if name in _HEAD_AXES:
        return np.take(values, columns, axis=_HEAD_AXES[name])
    if name in _JOINED_HEAD_AXES:
        axis = _JOINED_HEAD_AXES[name]
        parts = [np.take(part, columns, axis=axis) for part in np.split(values, 3, axis=axis)]
        return np.concatenate(parts, axis=axis)
    return np.take(values, units, axis=_UNIT_AXES[name]) if name in _UNIT_AXES else values


def smaller_architecture(
    encoder: "LayeredEncoder", kept: Sequence[tuple[np.ndarray, np.ndarray]]
) -> dict[str, Any]:
    """Returns the argument ``architecture`` of the encoder without the parts that go.

    Args:
        encoder: a built encoder with ``gates``.
        kept: for each layer with weights of its own the heads and the inner units that stay, a
            list of pairs of arrays; as many units in each layer.
    """
    heads = [len(pair[0]) for pair in kept]
    return {
        **(encoder.architecture or {}),
        "num_heads": heads[0] if len(set(heads)) == 1 else heads,
        "head_dim": encoder.head_width,
        "feed_forward_dim": len(kept[0][1]),
    }
