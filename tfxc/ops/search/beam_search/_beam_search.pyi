"""Types of the functions of _beam_search.pyx, where shapes and meaning are documented."""

from typing import Any

from numpy.typing import NDArray

class LayerKernels:
    def __init__(self, layers: Any, indexes: Any) -> None: ...
    def search_each(
        self,
        features: Any,
        bias: float,
        settings: Any,
        combines: bool,
        begins: NDArray[Any],
        counts: NDArray[Any],
        parents: NDArray[Any],
        parent_scores: NDArray[Any],
        threads: int,
    ) -> Any: ...
    def search_together(
        self,
        features: Any,
        bias: float,
        settings: Any,
        combines: bool,
        begins: NDArray[Any],
        counts: NDArray[Any],
        parents: NDArray[Any],
        parent_scores: NDArray[Any],
        threads: int,
    ) -> Any: ...
