"""Types of the functions of _aggregation.pyx, where shapes and meaning are documented."""

from typing import Any

from numpy.typing import NDArray

def greatest_of_sums(
    starts: NDArray[Any],
    members: NDArray[Any],
    factors: NDArray[Any],
    row_starts: NDArray[Any],
    row_columns: NDArray[Any],
    row_values: NDArray[Any],
    width: int,
    most: int,
    counts: NDArray[Any],
    columns: NDArray[Any],
    values: NDArray[Any],
) -> bool: ...
