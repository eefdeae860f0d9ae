"""Types of the functions of _two_means.pyx, where shapes and meaning are documented."""

from typing import Any

from numpy.typing import NDArray

def halve_nodes(
    values: NDArray[Any],
    starts: NDArray[Any],
    columns: NDArray[Any] | None,
    width: int,
    order: NDArray[Any],
    nodes: NDArray[Any],
    draws: NDArray[Any],
    luck: NDArray[Any],
    rate: float,
    spherical: bool,
    rounds: int,
    threads: int,
) -> Any: ...
