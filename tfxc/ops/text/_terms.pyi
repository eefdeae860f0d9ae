"""Types of the functions of _terms.pyx, where shapes and meaning are documented."""

from collections.abc import Iterable, Sequence
from typing import Any

from numpy.typing import NDArray

class TermTree:
    def __init__(
        self,
        blocks: Sequence[tuple[str, int, int]],
        shortest: int = 1,
        most: int | None = None,
        terms: Sequence[str] | None = None,
        left_out: Iterable[str] = (),
    ) -> None: ...
    def bags(self, texts: Iterable[str]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]: ...
    def sequences(self, texts: Iterable[str]) -> tuple[NDArray[Any], NDArray[Any]]: ...
    def names(self) -> list[str]: ...

def sorted_rows(
    indptr: NDArray[Any], ids: NDArray[Any], values: NDArray[Any], width: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]: ...
def murmur_hashes(names: Sequence[str]) -> NDArray[Any]: ...
