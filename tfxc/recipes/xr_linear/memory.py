"""The memory that a recipe of linear rankers allows their training."""

import math
from contextlib import contextmanager

from tfxc.core.errors import ConfigError
from tfxc.ranker.layer import BudgetError


@contextmanager
def memory_of_ranker(memory_gb, where="recipe.memory_gb"):
    """Bytes of ``recipe.memory_gb``; an error about them names that key.

    Args:
        memory_gb: as of the recipe; None for no limit.
        where: what the user sets it by.

    Yields:
        ``memory_budget`` of ``ranker.layer.Limits``.

    Raises:
        ConfigError: what is trained inside needs more; the message says how much.

    Example:
        >>> with memory_of_ranker(0.5) as budget:
        ...     print(budget)
        536870912
    """
    try:
        yield None if memory_gb is None else int(memory_gb * 2**30)
    except BudgetError as error:
        least = math.ceil(100 * error.least / 2**30) / 100
        raise ConfigError(
            f"at least {least:.2f} expected for the labels' matrices and the largest block of "
            f"classifiers, found {memory_gb:g}",
            where=where,
            fix=f"set {where} to {least:.2f}",
        ) from None
