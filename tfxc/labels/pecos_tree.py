"""Trees that PECOS (libpecos 1.2) has written, the files of its ``--code-path``.

A tree is a chain of sparse matrices C_t (nodes of level t, nodes above) with one entry per row, at
the node's parent; above the first level is one root. ``pecos.xmc.xlinear`` writes all of them into
a folder, ``pecos.xmc.xtransformer`` the last one alone, of labels and their leaves.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.core.storage.reading import existing_file, read_errors, read_json
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.labels.tree_building import ClusteringSettings
from tfxc.ops.csr import load_sparse

_CONFIG = "config.json"


def load_tree(path: str | Path, above: Mapping[str, Any] | None = None) -> ClusterTree:
    """Returns a tree of tfxc, or one of PECOS.

    Args:
        path: what ``ClusterTree.save`` wrote; a folder with ``config.json`` and ``C0.npz``,
            ``C1.npz``, …; or one sparse matrix (labels, leaves).
        above: ``nr_splits`` and ``min_codes`` of the levels above the leaves of such a matrix, see
            ``ClusteringSettings``; None means its defaults. The other trees are complete.

    Returns:
        ``ClusterTree``.

    Raises:
        DataError: a file is missing or damaged, or a node has no parent, no child or several
            parents.

    Example:
        >>> load_tree("pecos/code", {"nr_splits": 32})    # doctest: +SKIP
        ClusterTree(sizes=[32, 1024, 30938])
    """
    path = Path(path)
    parents: list[np.ndarray] = []
    if path.is_dir():
        config = path / _CONFIG
        depth = read_json(config, fix="copy the whole folder").get("len")
        if not isinstance(depth, int) or depth < 1:
            raise DataError(
                f"'len' is {depth!r}, which is not a number of matrices",
                where=config,
                fix="write the folder with PECOS's ClusterChain.save",
            )
        for level in range(depth):
            file = path / f"C{level}.npz"
            nodes_above = len(parents[-1]) if parents else 1
            parents.append(parents_of(_matrix(file), nodes_above, file))
        return _tree(parents, path)
    if is_leaf_matrix(path):
        settings = ClusteringSettings(**(above or {}))
        matrix = _matrix(path)
        parents.append(parents_of(matrix, None, path))
        size = matrix.shape[1]
        while size > (settings.min_codes or settings.nr_splits):
            parents.insert(0, np.arange(size, dtype=np.int32) // settings.nr_splits)
            size = -(-size // settings.nr_splits)
        if size > 1:
            parents.insert(0, np.zeros(size, np.int32))
        return _tree(parents, path)
    return ClusterTree.load(path)


def is_leaf_matrix(path: str | Path) -> bool:
    """Says whether a file is there and is a sparse matrix of SciPy's, by the names in it."""
    if not zipfile.is_zipfile(path):
        return False
    with read_errors(path), zipfile.ZipFile(path) as archive:
        return "indptr.npy" in archive.namelist()


def parents_of(
    matrix: scipy.sparse.spmatrix, nodes_above: int | None, where: str | Path
) -> np.ndarray:
    """Returns parents of the nodes of one level.

    Args:
        matrix: sparse (nodes, nodes above); the places of its entries count.
        nodes_above: its width; None for any.
        where: its file, for messages.

    Returns:
        int32 (nodes,).

    Raises:
        DataError: another width, or a node without a parent or with several.

    Example:
        >>> parents_of(scipy.sparse.csr_matrix([[1, 0], [0, 1], [1, 0]]), 2, "C.npz").tolist()
        [0, 1, 0]
    """
    rows = scipy.sparse.csr_matrix(matrix)
    if nodes_above is not None and rows.shape[1] != nodes_above:
        raise DataError(
            f"it has {rows.shape[1]} columns, but the layer above has {nodes_above} nodes",
            where=where,
        )
    counts = np.diff(rows.indptr)
    if not (counts == 1).all():
        node = int(np.flatnonzero(counts != 1)[0])
        raise DataError(
            f"node {node} has {counts[node]} parents instead of one",
            where=where,
        )
    return rows.indices.astype(np.int32)


def _tree(parents: list[np.ndarray], where: Path) -> ClusterTree:
    try:
        return ClusterTree(parents)
    except DataError as error:
        raise DataError(error.problem, where=where, fix=error.fix) from error


def _matrix(path: Path) -> scipy.sparse.csr_matrix:
    matrix = load_sparse(existing_file(path))
    matrix.sum_duplicates()
    return matrix
