"""The problem of a layer as files, from which workers in other processes solve its blocks."""

import contextlib
import dataclasses
import functools
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from tfxc.core.storage.files import write_array, write_errors, write_json
from tfxc.core.storage.reading import read_array, read_json
from tfxc.ops.linear.block import Block
from tfxc.ops.linear.settings import SolverSettings
from tfxc.parallel import not_on_storage
from tfxc.ranker.block_queue import Plan
from tfxc.ranker.problem import Blocks, LayerProblem

_LAYER_MATRICES = ("targets", "examples", "relevance")
_ARRAYS = ("data", "indices", "indptr")
_SETTINGS = "settings.json"
_PREFIX = ".shared-"
_ENTRIES = 8_000_000  # of a task, see ``Blocks.entries``
#: Layers that are trained at a time on a cluster, where they do not wait for each other.
AT_A_TIME = 3
_AGAIN = "run the same command again"


class SharedFiles:
    """A folder of files for the workers of a cluster; a context that removes it at its end.

    Its name is another one each time, since workers keep the layers that they have opened. What
    a killed training left there is removed when the context begins.

    Args:
        features: CSR (N, D), which all layers share; they are written when a layer needs them.
        parent: of the folder, on storage that all workers see under the same path.
    """

    def __init__(self, features: scipy.sparse.csr_matrix, parent: Path) -> None:
        self._features = features
        self._parent = parent
        self._folder = parent / f"{_PREFIX}{secrets.token_hex(4)}"
        self._written: list[Any] | None = None

    def __enter__(self) -> "SharedFiles":
        for left in self._parent.glob(f"{_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
        return self

    def __exit__(self, *problem: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextlib.contextmanager
    def layer(self, blocks: Blocks, name: str) -> Iterator[Path]:
        """Writes what ``solve_shared`` reads, and removes it afterwards, but for the features.

        Args:
            blocks: of the layer.
            name: of the layer, another one than of the others.

        Yields:
            Its folder.

        Raises:
            UserError: it cannot be written.
        """
        folder = self._folder / name
        try:
            with write_errors(folder):
                folder.mkdir(parents=True)
                if self._written is None:
                    shape = _write_matrix(self._folder, "features", self._features)
                    self._written = [str(self._folder), *shape]
                shapes = {}
                for part in _LAYER_MATRICES:
                    matrix = getattr(blocks, part)
                    if matrix is not None:
                        shapes[part] = _write_matrix(folder, part, matrix)
                write_array(folder / "parents.npy", blocks.parents)
                settings = dataclasses.asdict(blocks.settings)
                content = {"settings": settings, "features": self._written, "shapes": shapes}
                write_json(folder / _SETTINGS, content)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _write_matrix(folder: Path, name: str, matrix: scipy.sparse.spmatrix) -> list[Any]:
    """Writes the arrays; returns format and shape."""
    for part in _ARRAYS:
        write_array(folder / f"{name}-{part}.npy", getattr(matrix, part))
    return [matrix.format, *map(int, matrix.shape)]


class SharedBlocks:
    """Blocks that workers solve from files. See ``tfxc.ranker.block_queue.Solver``.

    Args:
        blocks: of the layer.
        folder: of ``SharedFiles.layer``.
    """

    def __init__(self, blocks: Blocks, folder: Path) -> None:
        self.num_parents = blocks.num_parents
        self.child_splits = blocks.child_splits
        self._folder = str(folder)
        self._ends = np.cumsum(blocks.entries())

    def spans(self, first: int) -> Iterator[tuple[int, int]]:
        """Yields as many blocks as a worker solves in about a second."""
        while first < self.num_parents:
            done = self._ends[first - 1] if first else 0
            last = int(np.searchsorted(self._ends, done + _ENTRIES))
            last = min(self.num_parents, max(first + 1, last))
            yield first, last
            first = last

    def task(self, first: int, last: int, plan: Plan) -> tuple[Any, ...]:
        """Returns ``solve_shared`` and its arguments, for a worker."""
        return solve_shared, self._folder, first, last, plan


def solve_shared(folder: str, first: int, last: int, plan: Plan) -> list[Block]:
    """Solves the ``Block``s of some parents, in a worker.

    Args:
        folder: of ``SharedFiles.layer``.
        first, last: parents, without the last.
        plan: ``Plan``.

    Raises:
        MachineError: this process does not see the folder.
    """
    return _opened(folder).solve_span(first, last, plan)


@functools.lru_cache(maxsize=AT_A_TIME)
def _opened(folder: str) -> Blocks:
    path = Path(folder)
    if not (path / _SETTINGS).is_file():
        raise not_on_storage("the layer that is trained", path)
    content = read_json(path / _SETTINGS, fix=_AGAIN)
    problem: dict[str, Any] = {
        name: _matrix(path, name, *shape) for name, shape in content["shapes"].items()
    }
    features, *shape = content["features"]
    problem["features"] = _matrix(Path(features), "features", *shape)
    problem["parents"] = read_array(path / "parents.npy", fix=_AGAIN)
    return Blocks(LayerProblem(**problem), SolverSettings(**content["settings"]))


def _matrix(folder: Path, name: str, kind: str, *shape: int) -> scipy.sparse.spmatrix:
    parts = [read_array(folder / f"{name}-{part}.npy", fix=_AGAIN, mapped=True) for part in _ARRAYS]
    kinds = {"csr": scipy.sparse.csr_matrix, "csc": scipy.sparse.csc_matrix}
    return kinds[kind](tuple(parts), shape=tuple(shape), copy=False)
