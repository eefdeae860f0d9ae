"""Texts to the mean of their tokens' vectors, next to a bag of terms, as TensorFlow ops."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfxc.core.errors import ConfigError
from tfxc.ops.text.subwords import SubwordIds
from tfxc.pretrained.sentencepiece import model_of_pieces

if TYPE_CHECKING:
    from tfxc.ops.text.bags import TextBag

_FILE = "tokenizer.json"
_WHOLE_TEXT = (1 << 31) - 1


class StaticBag(tf.Module):
    """Turns texts into the rows of text features ``static``.

    Args:
        tokens: function of texts -> int32 (batch, length), rows of the table.
        table: float32 (rows, dim), with zeros for padding and unknown tokens.
        weight: length of the vectors.
        terms: function of texts -> dict ``ids``, ``weights``, ``row_splits``; None for no terms.
        first: the first column of the vectors.
    """

    def __init__(
        self,
        tokens: tf.Module,
        table: np.ndarray,
        weight: float,
        terms: "TextBag | None",
        first: int,
    ) -> None:
        super().__init__()
        self._tokens = tokens
        self._table = tf.Variable(table, trainable=False, dtype=tf.float32)
        self._weight = weight
        self._terms = terms
        self._first = first

    def __call__(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the rows of texts (batch,): dict ids int32, weights float32, row_splits int64."""
        sums = tf.reduce_sum(tf.gather(self._table, self._tokens(texts)), 1)
        norms = tf.norm(sums, axis=1, keepdims=True)
        vectors = tf.math.divide_no_nan(self._weight * sums, norms)
        places = tf.where(vectors != 0)
        rows = places[:, 0]
        ids = tf.cast(places[:, 1], tf.int32) + self._first
        ragged = tf.RaggedTensor.from_value_rowids
        count = tf.shape(texts, tf.int64)[0]
        all_ids = ragged(ids, rows, count)
        weights = ragged(tf.gather_nd(vectors, places), rows, count)
        if self._terms is not None:
            bag = self._terms(texts)
            splits = tf.RaggedTensor.from_row_splits
            all_ids = tf.concat([splits(bag["ids"], bag["row_splits"]), all_ids], 1)
            weights = tf.concat([splits(bag["weights"], bag["row_splits"]), weights], 1)
        return {
            "ids": all_ids.flat_values,
            "weights": weights.flat_values,
            "row_splits": all_ids.row_splits,
        }


def subword_ids(content: Mapping[str, Any]) -> SubwordIds:
    """Returns what cuts texts as a tokenizer.json does, without special tokens.

    Args:
        content: of the file.

    Raises:
        ConfigError: the graph cannot cut texts in that way.
    """
    model = content["model"]
    normalizer = content.get("normalizer") or {}
    settings: dict[str, Any] = {"padding": 0, "unknown": 0, "prefix": [], "suffix": []}
    pieces: list[str] = []
    if model["type"] == "WordPiece" and normalizer.get("type") == "BertNormalizer":
        pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
        lowercase = normalizer.get("lowercase", True)
        accents = normalizer.get("strip_accents")
        settings |= {
            "kind": "wordpiece",
            "unknown": model["vocab"][model["unk_token"]],
            "lowercase": lowercase,
            "strip_accents": lowercase if accents is None else accents,
            "split_chinese": normalizer.get("handle_chinese_chars", True),
        }
        return SubwordIds(settings, pieces, _WHOLE_TEXT)
    if model["type"] == "BPE" and model.get("byte_fallback"):
        settings |= dict.fromkeys(("lowercase", "strip_accents", "plain_quotes"), False)
        settings |= {"kind": "sentencepiece", "offset": 0, "model_unknown": 0}
        return SubwordIds(settings, pieces, _WHOLE_TEXT, model=model_of_pieces(content, _FILE))
    raise ConfigError(
        f"a graph cannot cut texts by a tokenizer of type {model['type']} with normalizer "
        f"{normalizer.get('type')}",
        where="data.text_features.table",
        fix="export the format runtime, or choose another table",
    )
