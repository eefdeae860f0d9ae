"""Types of the functions of _linear_solver.pyx, where shapes and meaning are documented."""

from typing import Any

from numpy.typing import NDArray

def solve(
    row_splits: NDArray[Any],
    columns: NDArray[Any],
    values: NDArray[Any],
    own: NDArray[Any],
    norms: NDArray[Any],
    terms: NDArray[Any],
    members: NDArray[Any],
    lanes: Any,
    bias: float,
    squared: bool,
    epsilon: float,
    max_passes: int,
    seed: Any,
    weights: NDArray[Any],
    duals: NDArray[Any],
) -> Any: ...
def count_columns(indices: NDArray[Any], counts: NDArray[Any]) -> None: ...
def separate(
    row_splits: NDArray[Any],
    columns: NDArray[Any],
    values: NDArray[Any],
    slots: NDArray[Any],
    new_splits: NDArray[Any],
    single_rows: NDArray[Any],
    single_columns: NDArray[Any],
    single_values: NDArray[Any],
    own: NDArray[Any],
    norms: NDArray[Any],
) -> Any: ...
