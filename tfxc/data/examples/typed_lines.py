"""Lines as a user types or pipes them: bags, vectors and paths of files."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.core.storage.reading import existing_file
from tfxc.ops.csr import bounds_of


def bags_of_lines(
    lines: Sequence[str], places: Sequence[str], num_features: int | None
) -> scipy.sparse.csr_matrix:
    """Returns ``id:value id:value ...`` lines as float32 CSR (n, num_features); equal ids are added
    up.

    Args:
        lines: list of n texts.
        places: where each is from, for messages.
        num_features: width; None means what the lines need.

    Raises:
        DataError: a line of another form, an id out of range, NaN or infinity.

    Example:
        >>> bags_of_lines(["0:1 2:0.5"], ["line:1"], 3).toarray().tolist()
        [[1.0, 0.0, 0.5]]
    """
    rows = [_bag(*pair, num_features) for pair in zip(lines, places, strict=True)]
    counts = [len(ids) for ids, _ in rows]
    ids = np.fromiter(itertools.chain.from_iterable(ids for ids, _ in rows), np.int32)
    values = np.fromiter(itertools.chain.from_iterable(v for _, v in rows), np.float32)
    width = int(ids.max(initial=-1)) + 1 if num_features is None else num_features
    indptr = bounds_of(counts)
    matrix = scipy.sparse.csr_matrix((values, ids, indptr), (len(rows), width))
    matrix.sum_duplicates()
    return matrix


def _bag(text: str, where: str, num_features: int | None) -> tuple[list[int], list[float]]:
    """Returns ids and values of ``id:value`` pairs."""
    pairs = [pair.partition(":") for pair in text.split()]
    try:
        ids = [int(number) for number, _, _ in pairs]
        values = [float(value) for _, _, value in pairs]
    except ValueError:
        raise DataError(
            f"{text[:60]!r} does not consist of 'id:value' pairs",
            where=where,
            fix="write them as in 3:0.5 8:1",
        ) from None
    limit = 2**31 if num_features is None else num_features
    for number, value in zip(ids, values, strict=True):
        if not 0 <= number < limit or not math.isfinite(value):
            raise DataError(
                f"{number}:{value} in {text[:60]!r} is not a finite value of one of the features "
                f"0 to {limit - 1}",
                where=where,
                fix="leave it out",
            )
    return ids, values


def vectors_of_lines(
    lines: Sequence[str], places: Sequence[str], num_features: int | None
) -> np.ndarray:
    """Returns the lines of numbers, separated by spaces or commas, as float32 (n, num_features).

    Args:
        lines, places, num_features: see ``bags_of_lines``.

    Raises:
        DataError: another count of numbers, something else than numbers, NaN or infinity.
    """
    rows = []
    for text, where in zip(lines, places, strict=True):
        try:
            values = [float(part) for part in text.replace(",", " ").split()]
        except ValueError:
            values = []
        if len(values) != num_features or not np.isfinite(values).all():
            raise DataError(
                f"{text[:60]!r} does not consist of {num_features} finite numbers",
                where=where,
                fix="write them with spaces or commas between them",
            )
        rows.append(values)
    return np.array(rows, np.float32)


def files_of_lines(lines: Sequence[str], places: Sequence[str]) -> list[bytes]:
    """Returns the bytes of the files whose paths the lines are.

    Raises:
        DataError: a file cannot be read.
    """
    contents = []
    for path, where in zip(lines, places, strict=True):
        try:
            contents.append(existing_file(Path(path).expanduser()).read_bytes())
        except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
            raise DataError(
                f"the image file {path[:60]!r} cannot be read ({error})",
                where=where,
                fix="write the path of an image file",
            ) from None
    return contents
