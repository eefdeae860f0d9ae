"""Types of the functions of _gather.pyx, where shapes and meaning are documented."""

from typing import Any

from numpy.typing import NDArray

MEDIAN_VALUES: int
STAGED_LOOKUPS: int
WIDEST: int

def interleave(
    bucket_scores: NDArray[Any], table: NDArray[Any], width: int, threads: int
) -> None: ...
def scan(
    table: NDArray[Any],
    lookups: NDArray[Any],
    bucket_bytes: int,
    num_buckets: int,
    width: int,
    aggregate: int,
    ids: NDArray[Any],
    scores: NDArray[Any],
    staged: NDArray[Any],
    work: NDArray[Any],
) -> Any: ...
def scan_row(
    bucket_scores: NDArray[Any],
    lookups: NDArray[Any],
    bucket_bytes: int,
    minimum: bool,
    ids: NDArray[Any],
    scores: NDArray[Any],
) -> Any: ...
