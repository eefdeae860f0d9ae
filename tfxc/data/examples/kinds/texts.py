"""Texts as a trained model takes them, alone or with the features next to them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse

from tfxc.data.examples.chunk import Chunk
from tfxc.data.examples.columns import Arrays, Sizes
from tfxc.data.examples.kinds.base import Input, Tensor
from tfxc.data.examples.kinds.sparse import SPARSE
from tfxc.ops.csr import as_csr


class Text(Input):
    """Texts, which the text features of a run make features of."""

    name = "text"
    description = "texts"
    prompt = "a text"
    chunk_field = "texts"
    inputs = ("text",)

    def tensors(self, sizes: Sizes) -> tuple[Tensor, ...]:
        return (Tensor("text", "string", ("batch",), ["some text"]),)

    def typed(
        self, lines: Sequence[str], places: Sequence[str], num_features: int | None = None
    ) -> dict[str, Any]:
        return {"texts": lines}

    def given(self, chunk: Chunk) -> Arrays | None:
        return None if chunk.texts is None else {"text": np.array(chunk.texts, object)}


class TextAndFeatures(Input):
    """Texts, and next to them the features that a run takes as they are."""

    name = "text_and_features"
    description = "texts with features"
    chunk_field = "texts"
    inputs = ("text", "ids", "weights", "row_splits")

    def tensors(self, sizes: Sizes) -> tuple[Tensor, ...]:
        return (*TEXT.tensors(sizes), *SPARSE.tensors(sizes))

    def given(self, chunk: Chunk) -> Arrays | None:
        texts = TEXT.given(chunk)
        if texts is None or chunk.features is None:
            return None
        features = chunk.features
        features = features if scipy.sparse.issparse(features) else as_csr(features)
        return {**texts, **SPARSE.tensors_of(SPARSE.arrays_of(features))}


TEXT = Text()
TEXT_AND_FEATURES = TextAndFeatures()
