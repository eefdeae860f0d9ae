"""Adam over the rows of a table that a batch touched, in C++."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfxc.ops.compiled_operations import load_operations

_SOURCE = Path(__file__).with_name("_row_adam.cc")


@functools.cache
def row_adam() -> Callable[..., Any] | None:
    """The operation of ``_row_adam.cc``, compiled now if it has not been on this machine.

    ``row_adam()(variable, first_moment, second_moment, rows, gradient, rate, epsilon, share_1=,
    share_2=)`` takes three variables' handles, distinct int32 row numbers, their float32 gradients,
    two scalars and 1 - beta of both moments, and updates these rows as
    ``training.optimization.optimizers.Adam`` does.

    Returns:
        The operation, or None if it cannot be made.
    """
    found = load_operations(_SOURCE, "optimizer step")
    return None if found is None else found.tfxc_row_adam


def row_adam_was_requested() -> bool:
    """Whether this process has called ``row_adam``: whether its training updates rows."""
    return row_adam.cache_info().currsize > 0
