"""Values that each thread sets for itself."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

Value = TypeVar("Value")


class ThreadValue(threading.local, Generic[Value]):
    """A value that a block of code sets for what it calls; replicas are threads and have their own.

    Args:
        default: the value outside of such blocks.

    Attributes:
        value: as this thread sees it.

    Example:
        >>> colour = ThreadValue("red")
        >>> with colour.set_to("blue"):
        ...     colour.value
        'blue'
        >>> colour.value
        'red'
    """

    def __init__(self, default: Value) -> None:  # called in each thread that reads the value
        self.value = default

    @contextlib.contextmanager
    def set_to(self, value: Value) -> Iterator[None]:
        """Inside, this is the value."""
        before = self.value
        self.value = value
        try:
            yield
        finally:
            self.value = before
