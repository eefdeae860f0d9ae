"""Types of the functions of _walk.pyx, where shapes and meaning are documented."""

from typing import Any

from numpy.typing import NDArray

EXACT: int
BROKEN_INVERSE: int

def walk(
    bucket_scores: NDArray[Any],
    lookups: NDArray[Any],
    bucket_bytes: int,
    class_order: NDArray[Any],
    offsets: NDArray[Any],
    aggregate: int,
    budget: int,
    ids: NDArray[Any],
    scores: NDArray[Any],
    state: NDArray[Any],
    work: NDArray[Any],
    rest: NDArray[Any],
    marks: NDArray[Any],
    num_groups: int,
) -> Any: ...
def approximate(
    bucket_scores: NDArray[Any],
    lookups: NDArray[Any],
    bucket_bytes: int,
    class_order: NDArray[Any],
    offsets: NDArray[Any],
    aggregate: int,
    num_buckets_taken: int,
    min_count: int,
    ids: NDArray[Any],
    scores: NDArray[Any],
    state: NDArray[Any],
    work: NDArray[Any],
    rest: NDArray[Any],
    numbers: NDArray[Any],
    counts: NDArray[Any],
    having: NDArray[Any],
) -> Any: ...
