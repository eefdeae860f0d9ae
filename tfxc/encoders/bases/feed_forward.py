"""An encoder as arrays: rows of a table that are added up, and dense layers."""

from typing import NamedTuple

import numpy as np


class FeedForward(NamedTuple):
    """What ``Encoder.feed_forward`` returns; NumPy alone can compute it.

    The rows of a sparse bag are added up with their weights, those of tokens averaged. On the sum x
    follow ``activation(x + bias)`` and then, layer by layer, ``activation(x @ kernel + bias)``.

    Attributes:
        table: float32 (features or words, width).
        lookup: int32 (features,), the row of each feature where features are hashed; else None.
        kernels: float32 (inputs, outputs) of the layers above the table.
        biases: float32 (outputs,) of the table and of the layers above it.
        activations: Keras name of each of the biases' activations.
    """

    table: np.ndarray
    lookup: np.ndarray | None
    kernels: list[np.ndarray]
    biases: list[np.ndarray]
    activations: list[str]
