"""How much memory clustering and a trained linear ranker take, estimated from the data's sizes.

How many features a label's examples have in common, and how many weights are kept, is only known
later. The estimates were fitted to trainings on stand-ins for Amazon-670K (shares of 0.05 to 1),
and compared with those on stand-ins for Amazon-3M and EURLEX57K, on EURLEX57K itself and on the
texts of ``quickstart``, where they say three quarters to three times the weights; all with the
threshold 0.1; a smaller one keeps more weights.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tfxc.core.resources import resident_bytes
from tfxc.data.examples.kinds import DENSE
from tfxc.ops.search.beam_search.chunked_layer import MOST_DENSE
from tfxc.training.memory.preparation import preparation_bytes

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.store.manifest import Manifest
    from tfxc.recipes.xr_linear.settings import TreeSettings

# Different features of a label's examples, of those counted with repetitions; labels of many
# examples have more repetitions. The sums are there twice while they are scaled.
_DIFFERENT = 0.6
_REPEATED = 2.3
_REPEATED_POWER = 0.38
_SUM_BYTES = 16
_DENSE_SUM_BYTES = 8
# A cluster keeps a weight for a share of the features of its examples, counted with repetitions, as
# long as these are not nearly all features.
_CLUSTER_SHARE = 0.045
_NEARLY_ALL = 0.85
# So does a label, for a larger share of fewer features; the share halves where they are so many
# that most of them have been seen in other examples of the label.
_LABEL_SHARE = 0.35
_HALF_SEEN = 2500
# Rows per weight: features that some node of those under one parent has a weight of. Labels share
# fewer of them the more features there are for each of their weights.
_CLUSTER_ROWS = 0.5
_LABEL_ROWS = 0.031
_SHARED_POWER = 0.8
_LEAST_ROWS = 0.1
# Bytes in the files of a layer, all of which a search has read: a weight and its column; a row's
# feature and where it ends. And of the index of rows, which is made when a run is opened.
_WEIGHT_BYTES = 6
_ROW_BYTES = 12
_INDEX_BYTES = 16
# In an export: a weight with its column, and a row with its place in a hash table. Most is held
# while places are found for the rows of the largest layer. The layers near the root are a table of
# all features, which is there twice while it is put together.
_EXPORTED_WEIGHT_BYTES = 8
_EXPORTED_ROW_BYTES = 18
_PLACE_BYTES = 128
_TABLE_BYTES = 8
_NAME_BYTES = 100  # bytes of a label's name as a string in a list


def clustering_bytes(manifest: "Manifest", tree: "TreeSettings") -> int:
    """Estimates the bytes of the sums by which labels are clustered (PIFA); else 0.

    Args:
        manifest: sizes of the data.
        tree: how labels are clustered.
    """
    if tree.file is not None or tree.label_embedding != "pifa" or tree.label_features is not None:
        return 0
    train = manifest.split("train")
    width = manifest.num_features
    labels = manifest.num_labels
    if manifest.kind is DENSE:
        return _DENSE_SUM_BYTES * labels * width
    examples = train.labels / max(1, labels)  # of a label
    features = train.nonzeros / max(1, train.examples)
    different = features * min(_DIFFERENT * examples, _REPEATED * examples**_REPEATED_POWER)
    most = min(width, tree.max_nonzeros or width)
    return int(_SUM_BYTES * labels * min(different, most))


class Weights(NamedTuple):
    """Estimated numbers of weights.

    Attributes:
        all: of all layers.
        rows: of all layers: the features that some node of those under one parent has weights of.
        most_rows: of the layer that has most.
        table: numbers of the table that an export makes of the layers near the root.
    """

    all: int
    rows: int
    most_rows: int
    table: int


def kept_weights(manifest: "Manifest", sizes: Sequence[int]) -> Weights:
    """Estimates how many weights a training keeps at the threshold 0.1.

    Args:
        manifest: sizes of the data.
        sizes: nodes of each level of the tree, the last are the labels.

    Example:
        >>> kept_weights(manifest, [8, 128, 2048, 30938]).all  # doctest: +SKIP
        3120000
    """
    train = manifest.split("train")
    width = manifest.num_features
    features = train.nonzeros / max(1, train.examples)
    layers = []
    rows = []
    parents = 1
    for level, nodes in enumerate(sizes):
        of_node = features * min(train.labels, train.examples * nodes) / nodes
        if level < len(sizes) - 1:
            layers.append(nodes * min(_NEARLY_ALL * width, _CLUSTER_SHARE * of_node))
            rows.append(min(layers[-1] * _CLUSTER_ROWS, width * parents))
            parents = nodes
            continue
        of_label = min(width, _LABEL_SHARE * of_node / (1 + of_node / _HALF_SEEN))
        layers.append(nodes * of_label)
        together = of_label * nodes / parents
        share = _LABEL_ROWS * (max(together, 1.0) / width) ** -_SHARED_POWER
        rows.append(min(layers[-1] * max(share, _LEAST_ROWS), layers[-1], width * parents))
    near = [nodes for nodes in np.cumsum(sizes) if nodes <= min(MOST_DENSE, sum(layers) / width)]
    table = int(max(near, default=0)) * width
    return Weights(int(sum(layers)), int(sum(rows)), int(max(rows)), table)


def evaluation_bytes(manifest: "Manifest", weights: Weights) -> int:
    """Estimates the bytes of ``tfxc evaluate`` on a split; pages of the ranker's files count.

    Args:
        manifest: sizes of the data.
        weights: see ``kept_weights``.
    """
    name = next((name for name in ("test", "dev") if name in manifest.splits), "train")
    split = manifest.splits[name]
    held = manifest.row_kind.memory_bytes(split.examples, split.labels, split.nonzeros)
    return resident_bytes() + _search_bytes(manifest, weights) + held


def export_bytes(manifest: "Manifest", weights: Weights) -> int:
    """Estimates the bytes of ``tfxc export``, most of them while the largest layer is converted.

    Args:
        manifest: sizes of the data.
        weights: see ``kept_weights``.
    """
    exported = weights.all * _EXPORTED_WEIGHT_BYTES + weights.rows * _EXPORTED_ROW_BYTES
    making = weights.most_rows * _PLACE_BYTES + weights.table * _TABLE_BYTES
    return resident_bytes() + _search_bytes(manifest, weights) + exported + making


def memory_lines(config: "Config", manifest: "Manifest", sizes: Sequence[int]) -> Iterator[str]:
    """Yields lines about what preparation, evaluation and export will need.

    Args:
        config: ``Config``.
        manifest: sizes of the data.
        sizes: nodes of each level of the tree.
    """
    weights = kept_weights(manifest, sizes)
    yield (
        "of preparation, evaluation and export, each in a process of its own, with about "
        f"{weights.all:,} weights:"
    )
    needed = {
        "preparation": resident_bytes() + preparation_bytes(manifest, config.data),
        "evaluation": evaluation_bytes(manifest, weights),
        "export": export_bytes(manifest, weights),
    }
    for phase, size in needed.items():
        yield f"  {phase:19} {size / 2**20:10,.0f} MB"


def _search_bytes(manifest: "Manifest", weights: Weights) -> int:
    """Estimates the bytes of a run that is opened and searched; pages of its files count."""
    files = weights.all * _WEIGHT_BYTES + weights.rows * (_ROW_BYTES + _INDEX_BYTES)
    return files + _NAME_BYTES * manifest.num_labels
