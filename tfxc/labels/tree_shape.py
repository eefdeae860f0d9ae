"""Sizes of label trees, and the children of their nodes as tables."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfxc.labels.cluster_tree import ClusterTree


class LevelShape(NamedTuple):
    """Sizes of one level of a tree.

    Attributes:
        nodes: number of nodes.
        max_children, min_children: most and fewest children that a node above has on this level.
    """

    nodes: int
    max_children: int
    min_children: int


def shape_of(tree: ClusterTree) -> "list[LevelShape]":
    """Returns a ``LevelShape`` for every level of a ``ClusterTree``, from the top.

    Example:
        >>> from tfxc.labels.cluster_tree import ClusterTree
        >>> [tuple(level) for level in shape_of(ClusterTree([[0, 0], [0, 1, 0]]))]
        [(2, 2, 2), (3, 2, 1)]
    """
    counts = [np.diff(tree.children(level)[1]) for level in range(tree.depth)]
    return [LevelShape(int(c.sum()), int(c.max()), int(c.min())) for c in counts]


def built_shape(
    num_labels: int, nr_splits: int = 16, min_codes: int | None = None, max_leaf_size: int = 100
) -> "list[LevelShape]":
    """Returns the shape that ``build_tree`` gives this many labels, whatever their vectors are.

    Args:
        num_labels: number of labels.
        nr_splits, min_codes, max_leaf_size: see ``labels.tree_building.ClusteringSettings``.

    Returns:
        list of ``LevelShape``.

    Example:
        >>> [level.nodes for level in built_shape(40, nr_splits=4, max_leaf_size=3)]
        [4, 16, 40]
    """
    if max_leaf_size >= num_labels:
        return [LevelShape(num_labels, num_labels, num_labels)]
    leaves = 1 << (-(-num_labels // max_leaf_size) - 1).bit_length()
    levels = [LevelShape(num_labels, -(-num_labels // leaves), num_labels // leaves)]
    size = leaves
    while size > (nr_splits if min_codes is None else min_codes):
        last = size % nr_splits or nr_splits
        levels.insert(0, LevelShape(size, min(nr_splits, size), last))
        size = -(-size // nr_splits)
    return [LevelShape(size, size, size), *levels]


def tree_in_order(sizes: Sequence[int]) -> ClusterTree:
    """Returns a ``ClusterTree`` of these level sizes whose neighbours are adjacent, for trials.

    Example:
        >>> tree_in_order([2, 5]).parents[1].tolist()
        [0, 0, 0, 1, 1]
    """
    above = [1, *sizes[:-1]]
    levels = zip(above, sizes, strict=True)
    return ClusterTree([np.arange(size) * parents // size for parents, size in levels])


def children_table(tree: ClusterTree, level: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the children of every node above a level, side by side.

    Args:
        tree: ``ClusterTree``.
        level: t.

    Returns:
        ``(children, ranks)``: int32 (K_(t-1), most children) nodes of level t, ascending, padded
        with -1; and int32 (K_t,), each node's place in its row.

    Example:
        >>> from tfxc.labels.cluster_tree import ClusterTree
        >>> [part.tolist() for part in children_table(ClusterTree([[0, 0], [0, 1, 0]]), 1)]
        [[[0, 2], [1, -1]], [0, 0, 1]]
    """
    nodes, splits = tree.children(level)
    counts = np.diff(splits)
    parents = tree.parents[level]
    places = (np.arange(len(nodes)) - np.repeat(splits[:-1], counts)).astype(np.int32)
    children = np.full((len(counts), counts.max()), -1, np.int32)
    ranks = np.empty(len(nodes), np.int32)
    ranks[nodes] = places
    children[parents[nodes], places] = nodes
    return children, ranks
