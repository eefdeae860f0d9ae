"""Types of the functions of _fusion.pyx, where shapes and meaning are documented."""

from typing import Any

from numpy.typing import NDArray

def pair_sums(
    features: Any, texts: Any, queries: NDArray[Any], labels: NDArray[Any]
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
