"""Types of the functions of _fusion.pyx, where shapes and meaning are documented."""

from typing import Any

from numpy.typing import NDArray

def nearest_rows(
    bounds: NDArray[Any],
    ids: NDArray[Any],
    weights: NDArray[Any],
    splits: NDArray[Any],
    rows: NDArray[Any],
    values: NDArray[Any],
    num_rows: int,
    k: int,
    threads: int,
    by_row: tuple[int, NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]] | None = None,
) -> tuple[Any, Any]: ...
def nearest_dense(
    bounds: NDArray[Any],
    ids: NDArray[Any],
    weights: NDArray[Any],
    values: NDArray[Any],
    k: int,
    threads: int,
) -> tuple[Any, Any]: ...
def pair_sums(
    features: Any, texts: Any, queries: NDArray[Any], labels: NDArray[Any], width: int
) -> tuple[Any, Any, Any]: ...
def tree_scores(
    columns: NDArray[Any],
    roots: NDArray[Any],
    features: NDArray[Any],
    thresholds: NDArray[Any],
    children: NDArray[Any],
    values: NDArray[Any],
    baseline: NDArray[Any],
) -> Any: ...
