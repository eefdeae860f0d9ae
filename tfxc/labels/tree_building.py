"""Builds trees of label clusters, and puts new labels into one."""

import heapq
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import scipy.sparse
from annotated_types import Ge

from tfxc.core.bounds import Option
from tfxc.core.declared import Count, Natural, Share, ShareAboveZero, checked
from tfxc.core.errors import ConfigError, DataError
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.labels.tree_shape import built_shape
from tfxc.ops.clustering.two_means import Bisection
from tfxc.ops.csr import Matrix, unit_rows

_MAX_SCORES = 1 << 24  # of labels and leaves that are in memory together


@checked
@dataclass(frozen=True)
class ClusteringSettings:
    """How labels are clustered.

    Attributes:
        nr_splits: number of children of an inner node.
        min_codes: largest number of nodes on the first level; None means ``nr_splits``.
        max_leaf_size: largest number of labels under a leaf. If there are no more labels than that,
            the tree has only one level, the labels.
        spherical: whether centres are scaled to unit length (cosines), or are means.
        max_iter: largest number of iterations of 2-means.
        seed: seed of the first centres. The same seed gives the same tree, for any number of
            threads.
        min_sample_rate: share of the labels that the centres at the root are computed from.
        max_sample_rate: share of the labels that the centres at the leaves are computed from.
        warmup_ratio: share of the levels of halving over which the first share changes to the
            second.

    Raises:
        ConfigError: an argument out of range.

    Example:
        >>> ClusteringSettings(max_leaf_size=16).level_sizes(30_938)
        [8, 128, 2048, 30938]
    """

    nr_splits: Annotated[int, Ge(2)] = 16
    min_codes: Count | None = None
    max_leaf_size: Annotated[int, Ge(2)] = 100
    spherical: Annotated[bool, Option(hidden=True)] = True
    max_iter: Count = 20
    seed: Natural = 0
    min_sample_rate: ShareAboveZero = 1.0
    max_sample_rate: ShareAboveZero = 1.0
    warmup_ratio: Share = 0.4

    def __post_init__(self) -> None:
        if self.min_sample_rate > self.max_sample_rate:
            raise ConfigError(
                f"{self.min_sample_rate!r} is above max_sample_rate, {self.max_sample_rate!r}",
                where="min_sample_rate",
                fix="lower it, or raise the other",
            )

    def level_sizes(self, num_labels: int) -> list[int]:
        """Returns the sizes of the levels of the tree that ``build_tree`` builds.

        Returns:
            list of int, the last the number of labels.
        """
        shape = built_shape(num_labels, self.nr_splits, self.min_codes, self.max_leaf_size)
        return [level.nodes for level in shape]

    def sample_rate(self, level: int, depth: int) -> float:
        """Returns the share of a node's labels that its centres are found from."""
        warm = min(1.0, level / (depth * self.warmup_ratio)) if self.warmup_ratio else 1.0
        return self.min_sample_rate + (self.max_sample_rate - self.min_sample_rate) * warm


def build_tree(
    label_vectors: np.ndarray | scipy.sparse.coo_matrix | scipy.sparse.csr_matrix,
    settings: "ClusteringSettings | None" = None,
    *,
    threads: int | None = None,
) -> ClusterTree:
    """Halves labels by balanced 2-means, then merges to nodes of ``nr_splits`` children.

    The labels are halved, the halves again, until at most ``max_leaf_size`` labels are left in
    each of 2^h leaves, whose sizes differ by 1 at most. Where there are more than ``min_codes``
    clusters at the top, every ``nr_splits`` neighbours get a parent. The number of levels follows
    from the number of labels.

    Args:
        label_vectors: float (labels, width), CSR or dense, see ``labels.label_embeddings``; a row
            of zeros gets a leaf as well.
        settings: ``ClusteringSettings``; None means its defaults.
        threads: at most this many; None means all cores.

    Returns:
        ``ClusterTree``.

    Raises:
        DataError: there is no label, or a vector holds NaN or infinity.

    Reference: Prabhu et al., WWW 2018, "Parabel"; Yu et al., JMLR 2022, "PECOS".

    Example:
        >>> settings = ClusteringSettings(nr_splits=4, max_leaf_size=3)
        >>> build_tree(np.eye(40, dtype=np.float32), settings).sizes
        [4, 16, 40]
    """
    settings = settings or ClusteringSettings()
    num_labels = label_vectors.shape[0]
    sizes = settings.level_sizes(num_labels)
    if num_labels < 1:
        raise DataError("there are vectors of no label")
    halves = Bisection(label_vectors, settings.seed, settings.spherical, settings.max_iter, threads)
    if len(sizes) == 1:
        return ClusterTree([np.zeros(num_labels, np.int32)])
    depth = sizes[-2].bit_length() - 1
    bounds = np.array([0, num_labels])
    for level in range(depth):
        begins = bounds[:-1]
        ends = bounds[1:]
        lefts = (begins + ends) // 2 - begins
        halves.cut(np.stack([begins, ends, lefts], 1), settings.sample_rate(level, depth))
        bounds = np.append(np.stack([begins, begins + lefts], 1).ravel(), num_labels)
    leaf_of = np.empty(num_labels, np.int32)
    leaf_of[halves.order] = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    inner = [np.arange(size) // settings.nr_splits for size in sizes[1:-1]]
    return ClusterTree([np.zeros(sizes[0], np.int32), *inner, leaf_of])


def leaf_centroids(tree: ClusterTree, label_vectors: Matrix) -> Matrix:
    """Returns unit-length sums of the label vectors under each parent of labels.

    Args:
        tree: ``ClusterTree``.
        label_vectors: float (labels, width), CSR or dense.

    Returns:
        float32 (leaves, width), sparse where the vectors are.

    Raises:
        DataError: there is not a vector per label.
    """
    if label_vectors.shape[0] != tree.num_labels:
        raise DataError(
            f"there are {label_vectors.shape[0]:,} vectors, "
            f"but {tree.num_labels:,} labels in the tree"
        )
    return unit_rows(tree.matrix(tree.depth - 1).T.tocsr() @ label_vectors)


def add_labels(
    tree: ClusterTree,
    new_vectors: Matrix,
    centroids: Matrix,
) -> tuple[ClusterTree, np.ndarray]:
    """Puts new labels under the leaf with the nearest centroid.

    The new labels get the ids after the old ones; inner levels stay, and leaves may grow beyond
    the size they were built with. Among equally near leaves the one with fewest labels is taken,
    then the first. Labels whose vector is zero go one by one to the leaf that has fewest.

    Args:
        tree: ``ClusterTree``.
        new_vectors: float (new, width), CSR or dense.
        centroids: float (leaves, width), CSR or dense, such as ``leaf_centroids`` returns.

    Returns:
        ``(tree, affected)``: a new ``ClusterTree``, and the ids of the leaves that got a label,
        int32, ascending: only their classifiers of labels must be trained again.

    Raises:
        DataError: shapes do not fit, or a vector holds NaN or infinity.

    Example:
        >>> tree = ClusterTree([[0, 0], [0, 1, 0]])
        >>> tree, affected = add_labels(tree, np.array([[0.1, 1.0]]), np.eye(2))
        >>> tree.parents[1].tolist(), affected.tolist()
        ([0, 1, 0, 1], [1])
    """
    leaves = tree.sizes[-2] if tree.depth > 1 else 1
    if centroids.shape != (leaves, new_vectors.shape[1]):
        raise DataError(
            f"the centroids have the shape {centroids.shape} instead of "
            f"{(leaves, new_vectors.shape[1])}: one row per leaf, as wide as the labels' vectors"
        )
    for matrix in (new_vectors, centroids):
        if not np.isfinite(matrix.data if scipy.sparse.issparse(matrix) else matrix).all():
            raise DataError("a vector contains NaN or infinity")
    counts = np.bincount(tree.parents[-1], minlength=leaves)
    chosen = _nearest(new_vectors, centroids, counts)
    for label in np.flatnonzero(chosen >= 0):
        counts[chosen[label]] += 1
    smallest = [(count, leaf) for leaf, count in enumerate(counts.tolist())]
    heapq.heapify(smallest)
    for label in np.flatnonzero(chosen < 0):
        count, chosen[label] = smallest[0]
        heapq.heapreplace(smallest, (count + 1, chosen[label]))
    extended = ClusterTree([*tree.parents[:-1], np.concatenate([tree.parents[-1], chosen])])
    return extended, np.unique(chosen)


def _nearest(
    vectors: Matrix,
    centroids: Matrix,
    counts: np.ndarray,
) -> np.ndarray:
    """Returns the leaf of greatest cosine of each vector, int32; -1 for a vector of zeros."""
    by_size = np.argsort(counts, kind="stable")
    vectors = unit_rows(vectors.copy())
    centroids = unit_rows(centroids.copy())[by_size]
    leaves = np.empty(vectors.shape[0], np.int32)
    step = max(1, _MAX_SCORES // len(by_size))
    for begin in range(0, len(leaves), step):
        block = vectors[begin : begin + step]
        scores = block @ centroids.T
        scores = scores.toarray() if scipy.sparse.issparse(scores) else scores
        leaves[begin : begin + step] = by_size[np.argmax(scores, axis=1)]
    lengths = vectors.multiply(vectors) if scipy.sparse.issparse(vectors) else vectors * vectors
    leaves[np.asarray(lengths.sum(axis=1)).ravel() == 0] = -1
    return leaves
