"""The search of a linear ranker in TensorFlow's graph, for exports."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfxc.ops.search.beam_search.beam_graph import BeamGraph
from tfxc.ranker.search import load_layer

if TYPE_CHECKING:
    from tfxc.ranker.search import Ranker


class LinearGraph:
    """A beam search whose weights are constants of the graph.

    Args:
        folder: run folder, with ``ranker/``.
        ranker: that of the folder.
        search: ``only_topk`` and ``post_processors`` of ``BeamGraph``.
    """

    def __init__(self, folder: Path, ranker: "Ranker", search: Mapping[str, Any]) -> None:
        layers = [load_layer(folder / "ranker" / f"layer-{n}") for n in range(len(ranker.sizes))]
        with tf.init_scope():
            self._graph = BeamGraph(layers, ranker.num_features, bias=ranker.bias, **search)

    def top_k(self, features: Mapping[str, tf.Tensor] | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns ids and scores of the best labels."""
        return self._graph(_bag(features))


def _bag(features: dict[str, tf.Tensor] | tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns features as a bag; of dense ones every number is an entry."""
    if isinstance(features, dict):
        return {name: features[name] for name in ("ids", "weights", "row_splits")}
    rows = tf.shape(features)[0]
    width = features.shape[1]
    splits = tf.range(tf.cast(rows, tf.int64) + 1) * width
    ids = tf.tile(tf.range(width), [rows])
    return {"ids": ids, "weights": tf.reshape(features, [-1]), "row_splits": splits}
