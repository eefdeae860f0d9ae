"""Fitted text features as TensorFlow ops, for graphs that take raw texts."""

import tensorflow as tf

from tfxc.ops.text.bags import TextBag
from tfxc.ops.text.tokens import TextTokens


class JoinedTexts(tf.Module):
    """Turns texts into joined features.

    Args:
        tokens: function of texts -> int32 (batch, length).
        terms: function of texts -> dict ``ids``, ``weights``, ``row_splits``.
    """

    def __init__(self, tokens, terms):
        super().__init__()
        self._tokens, self._terms = tokens, terms

    def __call__(self, texts):
        """Dict ``tokens``, ``ids``, ``weights``, ``row_splits`` of texts (batch,)."""
        return {**self._terms(texts), "tokens": self._tokens(texts)}


def text_graph(features, folder):
    """What turns texts into the same features as ``features.transform``, padded as batches are.

    Args:
        features: fitted text features, or None.
        folder: ``Path`` of the folder they were saved in.

    Returns:
        ``tf.Module``, a function of string (batch,); None without text features.

    Raises:
        ConfigError: they cut texts in a way that the graph cannot follow.
    """
    if features is None:
        return None
    if features.kind == "joined":
        parts = {"tokens": features.tokens, "terms": features.terms}
        return JoinedTexts(*(text_graph(part, folder / name) for name, part in parts.items()))
    if features.name == "pretrained":
        return features.graph()
    vocabulary = folder / "vocabulary.txt"
    if features.kind == "tokens":
        return TextTokens(features.name, features.settings(), vocabulary, features.num_features)
    return TextBag(
        features.settings(),
        features.num_features,
        vocabulary if features.vocabulary() is not None else None,
        features.idf,
        features.blocks,
    )
