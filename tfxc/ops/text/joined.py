"""Texts to tokens and to bags of terms at once, as TensorFlow ops."""

from typing import TYPE_CHECKING

import tensorflow as tf

if TYPE_CHECKING:
    from tfxc.ops.text.bags import TextBag


class JoinedTexts(tf.Module):
    """Turns texts into joined features.

    Args:
        tokens: function of texts -> int32 (batch, length).
        terms: function of texts -> dict ``ids``, ``weights``, ``row_splits``.
    """

    def __init__(self, tokens: tf.Module, terms: "TextBag") -> None:
        super().__init__()
        self._tokens = tokens
        self._terms = terms

    def __call__(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns ``tokens``, ``ids``, ``weights`` and ``row_splits`` of texts (batch,)."""
        return {**self._terms(texts), "tokens": self._tokens(texts)}


class TextsWithFeatures(tf.Module):
    """Turns texts and the features next to them into joined features.

    Args:
        tokens: function of texts -> int32 (batch, length).
    """

    def __init__(self, tokens: tf.Module) -> None:
        super().__init__()
        self._tokens = tokens

    def __call__(
        self, texts: tf.Tensor, ids: tf.Tensor, weights: tf.Tensor, row_splits: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Returns ``tokens``, ``ids``, ``weights``, ``row_splits`` of texts (batch,) and bags."""
        bag = {"ids": ids, "weights": weights, "row_splits": row_splits}
        return {**bag, "tokens": self._tokens(texts)}
