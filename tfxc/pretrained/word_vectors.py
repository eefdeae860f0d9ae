"""Files of word vectors: the text and the binary format of word2vec."""

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tfxc.core.errors import DataError
from tfxc.core.messages import NOTES
from tfxc.core.progress import Progress
from tfxc.core.storage.compression import decompressed
from tfxc.core.storage.reading import archive_errors, existing_file, read_errors

_PER_REPORT = 4096


def read_vectors(
    path: str | Path,
    row_of: Callable[[str], int | None],
    dim: int | None = None,
    *,
    most: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the vectors of some words in a file of lines ``word number number ...``.

    That is the text format of word2vec, fastText (``.vec``) and GloVe; the first line may hold the
    number of words and their length. Of a word that occurs twice the first vector counts. Words may
    hold blanks, as some of GloVe's do, but not end in a number behind one.

    Args:
        path: the file, plain or compressed by gzip, xz or bzip2.
        row_of: the row of a word that is looked for, None of any other.
        dim: length of a vector; None takes it from the first line.
        most: words that are read, the first ones; None reads all.

    Returns:
        (rows int64 (n,) ascending, vectors float32 (n, dim)).

    Raises:
        DataError: there is no such file, or a line has another number of values; it is named.

    Example:
        >>> read_vectors("wiki.zh.vec", {"你好": 7}.get, 300)  # doctest: +SKIP
        (array([7]), array([[ 0.12, ...
    """
    path = existing_file(path)
    vectors: dict[int, np.ndarray] = {}
    shown = Progress(f"reading {path.name}", unit="words")
    with (
        read_errors(path),
        archive_errors(path),
        open(path, "rb") as raw,
        decompressed(raw, path) as stream,
        shown as progress,
    ):
        for number, line in enumerate(stream, 1):
            line = line.rstrip(b"\n\r ")
            if number == 1:
                first = line.split(b" ")
                header = len(first) == 2 and first[1].isdigit()
                if dim is None:
                    dim = int(first[1]) if header else len(first) - 1
                if header:
                    continue
            if most is not None and number - header > most:
                _note_rest(path, most)
                break
            assert dim is not None, "the first line has said it"
            values = line.rsplit(b" ", dim)
            if len(values) != dim + 1 or _ends_in_number(values[0]):
                raise DataError(
                    f"the line has {len(line.split()) - 1} numbers after the word, but the length "
                    f"of the vectors (encoder.embedding_dim, where there is one) is {dim}",
                    where=f"{path}:{number}",
                    fix="set encoder.embedding_dim to the length of the vectors, or correct the "
                    "line",
                )
            row = row_of(values[0].decode("utf-8", "replace"))
            if row is not None and row not in vectors:
                try:
                    vector = np.array(values[1:], np.float32)
                except ValueError:
                    vector = np.array([np.nan], np.float32)
                if not np.isfinite(vector).all():
                    raise DataError(
                        "not all values after the word are finite numbers",
                        where=f"{path}:{number}",
                        fix="correct the line, or remove it",
                    )
                vectors[row] = vector
            if number % _PER_REPORT == 0:
                progress.advance(_PER_REPORT)
    order = sorted(vectors)
    return np.array(order, np.int64), np.array([vectors[row] for row in order], np.float32)


def read_all_vectors(path: str | Path, most: int) -> tuple[list[str], np.ndarray]:
    """Returns the first words of a file and their vectors.

    Args:
        path: the text format, see ``read_vectors``, or ``.bin``, the binary format of word2vec.
        most: words that are read.

    Returns:
        (words, vectors float32 (words, dim)).

    Raises:
        DataError: there is no such file, or it is damaged.
    """
    path = existing_file(path)
    vectors: dict[str, np.ndarray] = {}
    if path.suffix == ".bin":
        with read_errors(path), open(path, "rb") as stream:
            words = _binary(stream, path)
            for word, vector in itertools.islice(words, most):
                vectors.setdefault(word, vector)
            if next(words, None) is not None:
                _note_rest(path, most)
        return list(vectors), np.array(list(vectors.values()), np.float32)
    rows: dict[str, int] = {}
    _, table = read_vectors(path, lambda word: rows.setdefault(word, len(rows)), most=most)
    return list(rows), table


def _note_rest(path: Path, most: int) -> None:
    NOTES.info(f"{path}: only the first {most:,} words are read")


def _binary(stream: BinaryIO, path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the words and their vectors."""
    header = stream.readline(100).split()
    if len(header) != 2 or not all(number.isdigit() for number in header):
        raise DataError(
            "the first line does not hold the number of words and the length of their vectors",
            where=path,
            fix="give a file in the binary format of word2vec",
        )
    count, dim = map(int, header)
    for number in range(count):
        word = bytearray()
        while (byte := stream.read(1)) not in (b" ", b""):
            word += byte
        values = stream.read(4 * dim)
        if len(values) < 4 * dim:
            raise DataError(
                f"the file ends after {number:,} of {count:,} words",
                where=path,
                fix="copy or download it again",
            )
        yield word.lstrip(b"\n").decode("utf-8", "replace"), np.frombuffer(values, "<f4")


def _ends_in_number(word: bytes) -> bool:
    """Tells whether numbers are left over in front of the vector's: it is longer than it
    should be.
    """
    _, blank, last = word.rpartition(b" ")
    try:
        return bool(blank) and math.isfinite(float(last))
    except ValueError:
        return False
