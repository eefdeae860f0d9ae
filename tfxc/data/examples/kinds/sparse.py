"""Bags of features with a weight each, as CSR matrices."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse

from tfxc.data.examples.columns import Arrays, Lists, Sizes
from tfxc.data.examples.kinds.base import Given, Tensor


class Sparse(Given):
    """Bags of features with a weight each."""

    name = "sparse"
    description = "sparse features"
    prompt = "id:value pairs"
    columns = (
        Lists(
            "indptr",
            "indices",
            "input_idxs",
            "input_counts",
            values="values",
            values_field="input_vals",
        ),
    )
    inputs = ("ids", "weights", "row_splits")
    encoder = "bag_mlp"
    is_matrix = True

    def describe(self, sizes: Sizes) -> str:
        return f"{sizes['num_features']:,} features (sparse)"

    def tensors(self, sizes: Sizes) -> tuple[Tensor, ...]:
        return (
            Tensor("ids", "int32", ("nnz",), [0, 7]),
            Tensor("weights", "float32", ("nnz",), [1.0, 0.5]),
            Tensor("row_splits", "int64", ("batch + 1",), [0, 2]),
        )

    def typed(
        self, lines: Sequence[str], places: Sequence[str], num_features: int | None = None
    ) -> dict[str, Any]:
        from tfxc.data.examples import typed_lines

        return {"features": typed_lines.bags_of_lines(lines, places, num_features)}

    def recognises(self, features: object) -> bool:
        return scipy.sparse.issparse(features)

    def values(self, features: scipy.sparse.csr_matrix) -> np.ndarray:
        return features.data

    def _arrays_of(self, features: scipy.sparse.csr_matrix) -> Arrays:
        if not features.has_canonical_format:
            features = features.copy()
            features.sum_duplicates()
        return {"indptr": features.indptr, "indices": features.indices, "values": features.data}

    def tensors_of(self, arrays: Arrays) -> Arrays:
        return {
            "ids": arrays["indices"],
            "weights": arrays["values"],
            "row_splits": arrays["indptr"],
        }

    def matrix_of(self, arrays: Arrays, num_features: int) -> scipy.sparse.csr_matrix:
        """Returns the arrays of rows as a CSR matrix (n, num_features), not copied."""
        parts = (arrays["values"], arrays["indices"], arrays["indptr"])
        return scipy.sparse.csr_matrix(parts, (len(arrays["indptr"]) - 1, num_features))

    def matrix(self, features: Any, num_features: int) -> scipy.sparse.csr_matrix:
        parts = (features["weights"], features["ids"], features["row_splits"])
        shape = (len(features["row_splits"]) - 1, num_features)
        return scipy.sparse.csr_matrix(parts, shape, dtype=np.float32)

    def width(self, features: scipy.sparse.csr_matrix) -> int:
        return int(features.indices.max(initial=-1)) + 1

    def fits(self, width: int, num_features: int) -> bool:
        return width <= num_features

    def unit_rows(self, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        from tfxc.ops.sparse import unit_rows

        weights = unit_rows(tensors["weights"], tensors["row_splits"])
        return {**tensors, "weights": weights}

    def example(
        self, sizes: Sizes, count: int = 2, draw: np.random.Generator | None = None
    ) -> Arrays:
        draw = draw or np.random.default_rng(0)
        num_features = sizes["num_features"]
        width = min(20, num_features)
        ids = [np.sort(draw.choice(num_features, width, replace=False)) for _ in range(count)]
        return {
            "indptr": np.arange(count + 1) * width,
            "indices": np.concatenate(ids).astype(np.int32),
            "values": draw.uniform(0.1, 1, width * count).astype(np.float32),
        }


SPARSE = Sparse()
