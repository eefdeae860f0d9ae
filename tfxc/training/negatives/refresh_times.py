"""When the lists by which training finds wrong labels are made anew."""

from typing import TYPE_CHECKING

from tfxc.core.errors import ConfigError

if TYPE_CHECKING:
    from tfxc.heads.label_text.head import LabelText

MINED = "labels are mined", "head.mined to 0"
NEAR = "batches are near ones", "head.batching to 'random'"


def check_first(first: int, last: int, purpose: str, otherwise: str) -> None:
    """Refuses a training that ends before the first time.

    Args:
        first: number of the epoch of the first time.
        last: of the last epoch.
        purpose: what would never happen, and ``otherwise`` what to do without it.

    Raises:
        ConfigError: it does.
    """
    if first > last:
        raise ConfigError(
            f"{first} is after the last epoch, {last} counted from 0, so that never {purpose}",
            where="head.mine_from",
            fix=f"lower it, train for more epochs, or set {otherwise}",
        )


class RefreshTimes:
    """The steps at which epoch ``mine_from`` begins, and every ``refresh`` epochs after it.

    Args:
        head: with ``mine_from`` and ``refresh_every``.
        num_examples: of the training split.
        batch_size: examples of a step, over all replicas.

    Example:
        >>> from tfxc.heads.label_text.head import LabelText
        >>> times = RefreshTimes(LabelText(9, mine_from=1, refresh=2), 10, batch_size=5)
        >>> [step for step in range(12) if times.is_due(step)]
        [2, 6, 10]
    """

    def __init__(self, head: "LabelText", num_examples: int, batch_size: int) -> None:
        self._head = head
        self._num_examples = num_examples
        self._batch_size = batch_size

    def check(self, total_steps: int, purpose: str, otherwise: str) -> None:
        """As ``check_first``, of a training of so many steps."""
        check_first(self._head.mine_from, self._epoch(total_steps - 1), purpose, otherwise)

    def is_due(self, step: int) -> bool:
        """Tells whether it is made anew before the step after so many."""
        return self._period(step) > self._period(step - 1)

    def _period(self, step: int) -> int:
        """Returns how many times were due before this one; -1 before the first."""
        return max(-1, (self._epoch(step) - self._head.mine_from) // self._head.refresh_every)

    def _epoch(self, step: int) -> int:
        """Counts in integers, as the training loop counts them; -1 before the first step."""
        return step * self._batch_size // self._num_examples
