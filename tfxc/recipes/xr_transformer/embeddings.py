"""Vectors of all training texts in a file, and concatenated with the texts' terms."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.core.progress import Progress
from tfxc.core.storage.files import write_errors
from tfxc.core.storage.locks import scratch_folder
from tfxc.core.storage.reading import checksum
from tfxc.data.store.manifest import MANIFEST_FILE
from tfxc.data.store.row_writer import RowWriter
from tfxc.ops.csr import as_csr, bounds_of, unit_rows
from tfxc.runs.writer import WEIGHTS

if TYPE_CHECKING:
    from tfxc.data.sources.base import Source
    from tfxc.runs.folder import RunFolder


_BLOCK = 16  # batches that are sorted by length together
_ROWS = 8192  # concatenated at a time


def write_embeddings(
    path: str | Path,
    encode: Callable[[Any], np.ndarray],
    source: "Source",
    batch_size: int,
    title: str,
    computation: Mapping[str, Any] | None = None,
) -> None:
    """Writes an encoder's vectors of every example; a stopped writing can be resumed.

    Args:
        path: ``.npy`` file to write, float32 (examples, dim).
        encode: function of a batch's features -> float32 (batch, dim).
        source: a ``Source``.
        batch_size: examples encoded at a time.
        title: of the progress line.
        computation: what determines the vectors apart from the batch size, see ``RowWriter``.

    Raises:
        DataError: a vector that is not finite.
        MachineError: the disk is full or cannot be written to.
    """
    known = computation and {**computation, "batch_size": batch_size}

    def compute(features: Mapping[str, Any] | np.ndarray, places: np.ndarray) -> np.ndarray:
        encoded = encode(features)
        infinite = np.flatnonzero(~np.isfinite(encoded).all(axis=1))
        if infinite.size:
            raise DataError(
                f"the encoder outputs NaN or infinity for example {places[infinite[0]]:,} (counted "
                "from 0)",
                where=path,
                fix="lower training.optimizer.learning_rate or set training.clip_norm, and start "
                "over with --fresh",
            )
        return encoded

    with RowWriter(
        path, dtype=np.float32, computation=known, num_rows=source.num_examples
    ) as vectors:
        start = int(vectors.done.sum())
        count = 0
        with Progress(title, source.num_examples, "examples", start=start) as progress:
            for rows in source.blocks(_BLOCK * batch_size):
                begin = count
                count = count + len(rows)
                if not vectors.is_done(begin, count):
                    places = np.arange(begin, count)
                    vectors.write_missing(rows, places, batch_size, compute, progress)


def origin_of(data_folder: str | Path, run: "RunFolder") -> dict[str, str]:
    """Says what determines the vectors of the training texts by a run's encoder.

    Args:
        data_folder: prepared records.
        run: ``RunFolder`` with the encoder's weights.
    """
    return {"data": checksum(Path(data_folder) / MANIFEST_FILE), "weights": checksum(run / WEIGHTS)}


def concatenated(
    terms: scipy.sparse.csr_matrix | None, vectors: np.ndarray, length: float = 1.0
) -> scipy.sparse.csr_matrix:
    """Returns ``[X | length · l2(E)]``: bags of terms, then the vectors scaled to a length.

    Args:
        terms: X, float32 CSR (n, terms), or None where there are vectors only.
        vectors: E, float32 (n, dim).
        length: of a vector; that of the terms is usually 1.

    Returns:
        float32 CSR (n, terms + dim).

    Example:
        >>> terms = scipy.sparse.csr_matrix(np.float32([[0, 2]]))
        >>> concatenated(terms, np.float32([[3, 4]])).toarray().round(2).tolist()
        [[0.0, 2.0, 0.6000000238418579, 0.800000011920929]]
    """
    scaled = as_csr(unit_rows(np.array(vectors, np.float32)) * np.float32(length))
    if terms is None:
        return scaled
    return scipy.sparse.hstack([terms, scaled], format="csr", dtype=np.float32)


@contextlib.contextmanager
def concatenated_on_disk(
    terms: scipy.sparse.csr_matrix, vectors: np.ndarray, length: float = 1.0
) -> Iterator[scipy.sparse.csr_matrix]:
    """Yields ``concatenated`` of many rows, which are never in memory together.

    Args:
        terms, vectors, length: see there; vectors may be mapped from a file.

    Yields:
        float32 CSR (n, terms + dim) mapped from files in the folder for temporary ones, which are
        removed at the end.

    Raises:
        MachineError: the disk is full or cannot be written to.
    """
    bounds = bounds_of(np.diff(terms.indptr) + vectors.shape[1])
    with scratch_folder("features") as folder:
        with (
            write_errors(folder),
            (folder / "indices").open("wb") as indices_file,
            (folder / "values").open("wb") as values_file,
        ):
            for begin in range(0, terms.shape[0], _ROWS):
                rows = slice(begin, begin + _ROWS)
                block = concatenated(terms[rows], vectors[rows], length)
                block.indices.astype(np.int32, copy=False).tofile(indices_file)
                block.data.tofile(values_file)
        indices = _mapped(folder / "indices", np.int32)
        values = _mapped(folder / "values", np.float32)
        shape = (terms.shape[0], terms.shape[1] + vectors.shape[1])
        yield scipy.sparse.csr_matrix((values, indices, bounds), shape, copy=False)


def _mapped(path: Path, dtype: type[np.generic]) -> np.ndarray:
    return np.memmap(path, dtype, "r") if path.stat().st_size else np.empty(0, dtype)
