"""Shows layers which training examples a step uses."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf


_local = threading.local()


@contextlib.contextmanager
def examples_of(batch: Mapping[str, Any]) -> Iterator[None]:
    """Inside, ``current_examples`` gives the ``example_index`` of a batch.

    Args:
        batch: dict of a batch, with or without ``example_index``.

    Example:
        >>> with examples_of({"example_index": [4, 2]}):
        ...     current_examples()
        [4, 2]
    """
    before = current_examples()
    _local.index = batch.get("example_index")
    try:
        yield
    finally:
        _local.index = before


def current_examples() -> "tf.Tensor | None":
    """int64 (batch,), each example's row number in the training split; None outside of training."""
    return getattr(_local, "index", None)
