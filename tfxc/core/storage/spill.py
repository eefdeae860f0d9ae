"""Objects that wait on disk until they are needed again."""

import pickle
import tempfile
from collections.abc import Iterator
from typing import Any

from tfxc.core.storage.files import write_errors


class Spill:
    """Objects in the order in which they came, in a temporary file without a name.

    The file is in the folder for temporary files (``TMPDIR``), and gone when the object is closed
    or the process ends, however it ends.

    Example:
        >>> with Spill() as spill:
        ...     spill.append([1, 2])
        ...     spill.append("three")
        ...     list(spill)
        [[1, 2], 'three']
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="tfxc-")  # noqa: SIM115 (closed with this object)
        self._ends: list[int] = []

    def __enter__(self) -> "Spill":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._ends[-1] if self._ends else 0

    def append(self, thing: object) -> None:
        """Adds an object, as ``pickle`` writes it.

        Raises:
            MachineError: the disk is full.
        """
        with write_errors(tempfile.gettempdir()):
            self._file.seek(self.size)
            pickle.dump(thing, self._file, protocol=5)
            self._file.flush()
        self._ends.append(self._file.tell())

    def __iter__(self) -> Iterator[Any]:
        """Yields the objects; others may be added meanwhile, and are yielded too."""
        number = 0
        while number < len(self):
            self._file.seek(self._ends[number - 1] if number else 0)
            yield pickle.load(self._file)  # its own file, which has no name
            number += 1

    def close(self) -> None:
        """Gives the disk back."""
        self._file.close()
