"""Texts as lists of token ids."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfxc.data.examples.columns import Arrays, Lists, Sizes
from tfxc.data.examples.kinds.base import FeatureKind, Tensor
from tfxc.data.examples.lists import pad_tokens
from tfxc.ops.csr import bounds_of


class Tokens(FeatureKind):
    """Texts as lists of token ids."""

    name = "tokens"
    description = "lists of tokens (data.text_features 'characters' or 'words')"
    columns = (Lists("indptr", "tokens", "input_idxs", "input_counts", what="token"),)
    inputs = ("tokens",)
    encoder = "textcnn"

    def describe(self, sizes: Sizes) -> str:
        return f"texts of {sizes['num_features']:,} different tokens"

    def tensors(self, sizes: Sizes) -> tuple[Tensor, ...]:
        padded = ", padded with 0"
        return (Tensor("tokens", "int32", ("batch", "length"), [[1, 1, 0]], padded),)

    def _arrays_of(self, features: Any) -> Arrays:
        return {"indptr": features.indptr, "tokens": features.tokens}

    def tensors_of(self, arrays: Arrays) -> Arrays:
        return {"tokens": pad_tokens(arrays["indptr"], arrays["tokens"])}

    def model_arguments(self, data_dependent: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**data_dependent, "vocabulary_size": data_dependent["num_features"]}

    def example(
        self, sizes: Sizes, count: int = 2, draw: np.random.Generator | None = None
    ) -> Arrays:
        draw = draw or np.random.default_rng(0)
        indptr = bounds_of(draw.integers(1, 13, count))
        tokens = draw.integers(1, max(2, sizes["num_features"]), indptr[-1])
        return {"indptr": indptr, "tokens": tokens.astype(np.int32)}


TOKENS = Tokens()
