"""Texts as tokens and as sparse features."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse

from tfxc.data.examples.columns import Arrays, Lists, Sizes
from tfxc.data.examples.kinds.base import FeatureKind, Tensor
from tfxc.data.examples.kinds.sparse import SPARSE, Sparse
from tfxc.data.examples.kinds.tokens import TOKENS


class Joined(FeatureKind):
    """Texts twice, as tokens and as sparse features; an encoder reads one of the two."""

    name = "joined"
    description = "texts as tokens and as bags (data.text_features 'joined')"
    inputs = (*Sparse.inputs, "tokens")
    encoder = "textcnn"
    is_matrix = True
    columns = (
        *Sparse.columns,
        Lists(
            "token_indptr",
            "tokens",
            "tokens",
            "token_counts",
            what="token",
            limit="vocabulary_size",
        ),
    )

    @property
    def components(self) -> Mapping[str, FeatureKind]:
        return {"tokens": TOKENS, "terms": SPARSE}

    def describe(self, sizes: Sizes) -> str:
        tokens = TOKENS.describe({"num_features": sizes["vocabulary_size"]})
        return f"{tokens} and {SPARSE.describe(sizes)}"

    def tensors(self, sizes: Sizes) -> tuple[Tensor, ...]:
        return (*SPARSE.tensors(sizes), *TOKENS.tensors(sizes))

    def _arrays_of(self, features: Any) -> Arrays:
        return _joined(SPARSE.arrays_of(features.terms), TOKENS.arrays_of(features.tokens))

    def tensors_of(self, arrays: Arrays) -> Arrays:
        tokens = {"indptr": arrays["token_indptr"], "tokens": arrays["tokens"]}
        return {**SPARSE.tensors_of(arrays), **TOKENS.tensors_of(tokens)}

    def matrix(self, features: Any, num_features: int) -> scipy.sparse.csr_matrix:
        """See ``FeatureKind``; that of the terms."""
        return SPARSE.matrix(features, num_features)

    def model_arguments(self, data_dependent: Mapping[str, Any]) -> Mapping[str, Any]:
        """See ``FeatureKind``; encoders know of text features those that make tokens."""
        texts = data_dependent.get("text_features")
        return {**data_dependent, "text_features": texts["tokens"]} if texts else data_dependent

    def example(
        self, sizes: Sizes, count: int = 2, draw: np.random.Generator | None = None
    ) -> Arrays:
        vocabulary = {"num_features": sizes.get("vocabulary_size") or 2}
        return _joined(
            SPARSE.example(sizes, count, draw),
            TOKENS.example(vocabulary, count, draw),
        )


def _joined(terms: Arrays, tokens: Arrays) -> Arrays:
    """Returns the arrays of joined rows out of those of their parts."""
    return {**terms, "token_indptr": tokens["indptr"], "tokens": tokens["tokens"]}


JOINED = Joined()
