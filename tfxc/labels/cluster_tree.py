"""A tree of label clusters: which labels are under which node, level by level."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError, UserError
from tfxc.core.resources import require_memory
from tfxc.core.storage.files import atomic_file
from tfxc.core.storage.reading import MALFORMED
from tfxc.ops.csr import bounds_of

FILE_VERSION = 1
_KIND = "tfxc label tree"


class ClusterTree:
    """Labels under clusters under clusters; the nodes of the last level are the labels.

    Above level 0 is one root, so that a tree of one level has all labels under the root.

    Args:
        parents: list of int arrays, one per level from the top: ``parents[t][node]`` is the node
            of level t - 1 that a node of level t is under; of level 0 all zeros.

    Attributes:
        parents: list of int32 arrays.
        sizes: nodes of each level, ``[K_0, ..., number of labels]``.

    Raises:
        DataError: a parent is not a node of the level above, or an inner node has no child.

    Reference: Yu et al., "PECOS", JMLR 2022; Zhang et al., NeurIPS 2021, arXiv 2110.00685.

    Example:
        >>> tree = ClusterTree([[0, 0], [0, 1, 0]])
        >>> tree.sizes, tree.labels_under(0, 0).tolist(), tree.matrix(1).toarray().tolist()
        ([2, 3], [0, 2], [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    """

    def __init__(self, parents: Sequence[Sequence[int] | np.ndarray]) -> None:
        _check(parents)
        self.parents = [np.array(level, np.int32) for level in parents]
        self._grouped: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    @property
    def sizes(self) -> list[int]:
        """Nodes of each level from the top, the last the number of labels."""
        return [len(level) for level in self.parents]

    @property
    def depth(self) -> int:
        """Number of levels."""
        return len(self.parents)

    @property
    def num_labels(self) -> int:
        """Nodes of the last level."""
        return len(self.parents[-1])

    def __repr__(self) -> str:
        return f"ClusterTree(sizes={self.sizes})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClusterTree):
            return NotImplemented
        return self.sizes == other.sizes and all(map(np.array_equal, self.parents, other.parents))

    __hash__ = None  # type: ignore[assignment]  # mutable, so not hashable

    def matrix(self, level: int) -> scipy.sparse.csr_matrix:
        """Returns C_t, float32 CSR (nodes of the level, nodes above): a 1 at each node's parent."""
        nodes = self.sizes[level]
        above = self._above(level)
        ones = np.ones(nodes, np.float32)
        starts = np.arange(nodes + 1, dtype=np.int32)
        return scipy.sparse.csr_matrix((ones, self.parents[level], starts), (nodes, above))

    def children(self, level: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the nodes of a level grouped by parent.

        Args:
            level: t.

        Returns:
            ``(nodes, splits)``: int32 (K_t,) and int64 (K_(t-1) + 1,); the children of node p of
            level t - 1, of the root for t = 0, are ``nodes[splits[p]:splits[p + 1]]``, ascending.

        Example:
            >>> [part.tolist() for part in ClusterTree([[0, 0], [0, 1, 0]]).children(1)]
            [[0, 2, 1], [0, 2, 3]]
        """
        level = range(self.depth)[level]
        if level not in self._grouped:
            parents = self.parents[level]
            splits = bounds_of(np.bincount(parents, minlength=self._above(level)))
            self._grouped[level] = np.argsort(parents, kind="stable").astype(np.int32), splits
        return self._grouped[level]

    def labels_under(self, level: int, node: int) -> np.ndarray:
        """Returns ids of the labels under a node, int32, ascending.

        Raises:
            IndexError: there is no such node.
        """
        nodes = np.array([range(self.sizes[level])[node]], np.int32)
        for below in range(range(self.depth)[level] + 1, self.depth):
            grouped, splits = self.children(below)
            nodes = np.concatenate([grouped[splits[n] : splits[n + 1]] for n in nodes])
        return np.sort(nodes)

    def multi_resolution(self, labels: scipy.sparse.spmatrix) -> list[scipy.sparse.csr_matrix]:
        """Returns the label matrix of every level, ``Y_(t-1) = Y_t C_t``.

        Counts are kept: an entry is the number of an example's labels under a node, where the
        given matrix holds ones.

        Args:
            labels: Y (examples, labels), sparse.

        Returns:
            list of float32 CSR matrices (examples, K_t), the last one Y.

        Raises:
            DataError: Y has another number of labels.

        Example:
            >>> tree = ClusterTree([[0, 0], [0, 1, 0]])
            >>> labels = scipy.sparse.csr_matrix(np.array([[1, 0, 1]]))
            >>> [matrix.toarray().tolist() for matrix in tree.multi_resolution(labels)]
            [[[2.0, 0.0]], [[1.0, 0.0, 1.0]]]
        """
        if labels.shape[1] != self.num_labels:
            raise DataError(
                f"the matrix has {labels.shape[1]:,} columns, the tree {self.num_labels:,} labels",
                fix="build the tree from the same labels",
            )
        levels = [scipy.sparse.csr_matrix(labels, dtype=np.float32)]
        for level in range(self.depth - 1, 0, -1):
            above = levels[0] @ self.matrix(level)
            above.sort_indices()
            levels.insert(0, above)
        return levels

    def save(self, path: str | Path) -> None:
        """Writes the tree atomically as one ``.npz`` file.

        Raises:
            UserError: the file cannot be written.
        """
        content: dict[str, Any] = {f"parents_{n}": level for n, level in enumerate(self.parents)}
        content |= {"kind": _KIND, "version": FILE_VERSION, "sizes": self.sizes}
        with atomic_file(path, "wb") as stream:
            np.savez_compressed(stream, **content)

    @classmethod
    def load(cls, path: str | Path) -> "ClusterTree":
        """Reads what ``save`` wrote.

        Raises:
            DataError: the file is missing, damaged, no tree, or its tree has gaps.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError("no such file", where=path, fix="check the path")
        try:
            with zipfile.ZipFile(path) as archive:
                require_memory(sum(member.file_size for member in archive.infolist()), path)
            with np.load(path) as content:
                if content["kind"].item() != _KIND or content["version"].item() != FILE_VERSION:
                    raise DataError(
                        f"it is not a label tree of version {FILE_VERSION}",
                        where=path,
                        fix="build the tree again",
                    )
                sizes = content["sizes"].tolist()
                parents = [content[f"parents_{level}"] for level in range(len(sizes))]
                level_sizes = [level.size for level in parents]
        except (*MALFORMED, OSError) as error:
            if isinstance(error, UserError):
                raise
            raise DataError(
                f"the file cannot be read as a label tree: {error}",
                where=path,
                fix="build the tree again",
            ) from error
        if level_sizes != sizes:
            raise DataError(
                f"its levels have other sizes than {sizes}",
                where=path,
                fix="build the tree again",
            )
        try:
            return cls(parents)
        except DataError as error:
            raise DataError(str(error), where=path, fix="build the tree again") from error

    def _above(self, level: int) -> int:
        level = range(self.depth)[level]
        return self.sizes[level - 1] if level else 1


def _check(parents: Sequence[Sequence[int] | np.ndarray]) -> None:
    if not len(parents):
        raise DataError("the tree has no level")
    above = 1
    for level, numbers in enumerate(map(np.asarray, parents)):
        if numbers.ndim != 1 or not numbers.size or numbers.dtype.kind not in "iu":
            raise DataError(
                f"level {level}: shape {numbers.shape} of {numbers.dtype} is not a list of "
                "integers, the parent of each node"
            )
        if numbers.min() < 0 or numbers.max() >= above:
            raise DataError(
                f"level {level}: the parents go from {numbers.min()} to {numbers.max()}, but there "
                f"are only 0 to {above - 1}"
            )
        childless = np.flatnonzero(np.bincount(numbers, minlength=above) == 0)
        if childless.size:
            raise DataError(
                f"level {level - 1}: every node needs a child, {childless.size:,} have none, "
                f"the first is {childless[0]}"
            )
        above = numbers.size
