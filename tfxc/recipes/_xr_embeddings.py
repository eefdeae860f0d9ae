"""Vectors of all training texts in a file, and beside the texts' terms."""

import time

import numpy as np
import scipy.sparse
from sklearn.preprocessing import normalize

from tfxc.errors import DataError
from tfxc.files import read_json, write_errors, write_json
from tfxc.progress import Progress

_SECONDS_BETWEEN_NOTES = 20.0
_BLOCK = 16  # batches that are sorted by length together


def write_embeddings(path, encode, source, batch_size, title):
    """Writes what an encoder gives for every example; a stopped writing goes on.

    With one ``batch_size`` the same examples are always encoded together, so that the bytes do not
    depend on it.

    Args:
        path: ``.npy`` file to write, float32 (examples, dim); nothing is done where it is.
        encode: function of a batch's features -> float32 (batch, dim), made when it is needed:
            ``encode()`` gives it.
        source: a ``Source``.
        batch_size: examples encoded at a time.
        title: of the progress line.

    Raises:
        DataError: a vector that is not finite.
        UserError: the disk is full or cannot be written to.
    """
    if path.exists():
        return
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch, notes = path.with_name(f".{path.name}.unfinished"), path.with_name(".rows.json")
        done = _rows_done(scratch, notes)
        function, vectors, count = encode(), None, 0
        if done:
            vectors = np.lib.format.open_memmap(scratch, "r+")
        noted = time.monotonic()
        with Progress(title, source.num_examples, "examples", start=done) as progress:
            for rows in source.blocks(_BLOCK * batch_size):
                begin, count = count, count + len(rows)
                if count <= done:
                    continue
                order = rows.by_length()  # less padding
                for start in range(0, len(rows), batch_size):
                    places = order[start : start + batch_size]
                    found = function(rows.take(places)["features"])
                    _check_finite(found, begin + places, path)
                    if vectors is None:
                        shape = (source.num_examples, found.shape[1])
                        vectors = np.lib.format.open_memmap(scratch, "w+", np.float32, shape)
                    vectors[begin + places] = found
                    progress.advance(len(places))
                if time.monotonic() - noted > _SECONDS_BETWEEN_NOTES:
                    _note(vectors, notes, count)
                    noted = time.monotonic()
        vectors.flush()
        scratch.rename(path)
        notes.unlink(missing_ok=True)


def _rows_done(scratch, notes):
    """Rows that an interrupted run has encoded, 0 where that is not known."""
    if not (scratch.exists() and notes.exists()):
        return 0
    try:
        return read_json(notes, kind=int)
    except DataError:
        return 0


def _note(vectors, notes, count):
    vectors.flush()
    write_json(notes, count)


def _check_finite(vectors, numbers, path):
    wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if wrong.size:
        raise DataError(
            f"finite vectors expected, the encoder gives NaN or infinity for example "
            f"{numbers[wrong[0]]:,} (counted from 0)",
            where=path,
            fix="lower training.optimizer.learning_rate or set training.clip_norm, and start over "
            "with --fresh",
        )


def as_csr(vectors):
    """A dense matrix with all its entries as float32 CSR."""
    rows, width = vectors.shape
    columns = np.tile(np.arange(width, dtype=np.int32), rows)
    splits = np.arange(rows + 1, dtype=np.int64) * width
    values = np.ascontiguousarray(vectors, np.float32).ravel()
    return scipy.sparse.csr_matrix((values, columns, splits), shape=(rows, width))


def beside(terms, vectors, length=1.0):
    """``[X | length · l2(E)]``: bags of terms with the vectors, scaled to a length, behind them.

    Args:
        terms: X, float32 CSR (n, terms).
        vectors: E, float32 (n, dim).
        length: of a vector; that of the terms is usually 1.

    Returns:
        float32 CSR (n, terms + dim).

    Example:
        >>> terms = scipy.sparse.csr_matrix(np.float32([[0, 2]]))
        >>> beside(terms, np.float32([[3, 4]])).toarray().round(2).tolist()
        [[0.0, 2.0, 0.6000000238418579, 0.800000011920929]]
    """
    vectors = normalize(np.asarray(vectors, np.float32)) * np.float32(length)
    parts = [terms, as_csr(vectors)]
    return scipy.sparse.hstack(parts, format="csr", dtype=np.float32)
