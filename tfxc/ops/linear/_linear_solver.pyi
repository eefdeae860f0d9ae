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
def keep(
    weights: NDArray[Any],
    duals: NDArray[Any],
    terms: NDArray[Any],
    places: NDArray[Any],
    single_rows: NDArray[Any],
    single_columns: NDArray[Any],
    single_values: NDArray[Any],
    least: float,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]: ...
def number_columns(
    columns: NDArray[Any], slots: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]: ...
def by_place(
    splits: NDArray[Any], places: NDArray[Any], values: NDArray[Any], num_places: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]: ...
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
