"""Vectors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfxc.data.examples.columns import Arrays, Sizes, Vectors
from tfxc.data.examples.kinds.base import Given, Tensor


class Dense(Given):
    """Vectors."""

    name = "dense"
    description = "dense vectors"
    prompt = "numbers"
    columns = (Vectors("matrix", "input_vals"),)
    inputs = ("features",)
    encoder = "precomputed"
    is_matrix = True

    def describe(self, sizes: Sizes) -> str:
        return f"{sizes['num_features']:,} features (dense)"

    def tensors(self, sizes: Sizes) -> tuple[Tensor, ...]:
        return (Tensor("features", "float32", ("batch", sizes["num_features"])),)

    def typed(
        self, lines: Sequence[str], places: Sequence[str], num_features: int | None = None
    ) -> dict[str, Any]:
        from tfxc.data.examples import typed_lines

        return {"features": typed_lines.vectors_of_lines(lines, places, num_features)}

    def recognises(self, features: object) -> bool:
        return isinstance(features, np.ndarray) and features.ndim == 2

    def values(self, features: np.ndarray) -> np.ndarray:
        return features

    def _arrays_of(self, features: np.ndarray) -> Arrays:
        return {"matrix": features}

    def tensors_of(self, arrays: Arrays) -> Arrays:
        return {"features": arrays["matrix"]}

    def matrix(self, features: Any, num_features: int) -> np.ndarray:
        return np.asarray(features, np.float32)

    def width(self, features: np.ndarray) -> int:
        return features.shape[1]

    def unit_rows(self, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        import tensorflow as tf

        # As sklearn's normalize: a row of zeros stays one.
        norms = tf.norm(tensors["features"], axis=1, keepdims=True)
        return {"features": tf.math.divide_no_nan(tensors["features"], norms)}

    def example(
        self, sizes: Sizes, count: int = 2, draw: np.random.Generator | None = None
    ) -> Arrays:
        draw = draw or np.random.default_rng(0)
        return {"matrix": draw.normal(size=(count, sizes["num_features"])).astype(np.float32)}


DENSE = Dense()
