"""Types of the functions of _chunk_index.pyx, where shapes and meaning are documented."""

from typing import Any

from numpy.typing import NDArray

def index_chunks(
    rows: NDArray[Any], row_splits: NDArray[Any], shifts: NDArray[Any], index_splits: NDArray[Any]
) -> Any: ...
