"""Trackers of training runs (TensorBoard, MLflow, Weights & Biases): a file each.

``check_trackers`` before any work, ``Trackers`` while a run is trained.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfxc.core import registry
from tfxc.core.errors import ConfigError, inside
from tfxc.training.trackers.base import Tracker, flattened, tag_of

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.runs.folder import RunFolder


_KEY = "training.trackers"


def check_trackers(names: Sequence[str]) -> None:
    """Refuses unknown trackers, and those whose package is missing.

    Raises:
        ConfigError: see above, or a name is there twice.

    Example:
        >>> check_trackers(["tensorboard"])
    """
    for name in names:
        if list(names).count(name) > 1:
            raise ConfigError(
                f"tracker {name!r} is named twice",
                where=_KEY,
                fix="name each once",
            )
        with inside(_KEY):
            tracker = registry.get("tracker", name)
        tracker.require()


class Trackers:
    """The trackers of a run; one that fails is left out from then on.

    Args:
        config: ``Config``, whose ``training.trackers`` are begun.
        run: ``RunFolder``; other workers than the chief have none.
        start_step: see ``Tracker.begin``.
        report: function that a line is given to if one fails.
    """

    def __init__(
        self, config: "Config", run: "RunFolder", start_step: int, report: Callable[[str], Any]
    ) -> None:
        names = config.training.trackers if run.chief else []
        self._report = report
        self._last: dict[str, int] = {}  # step of each tag
        self._active: dict[str, Tracker] = {n: registry.get("tracker", n)(run) for n in names}
        parameters = flattened(config.model_dump(mode="json"))
        self._each(lambda tracker: tracker.begin(parameters, start_step))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Passes on values by their names in metrics.jsonl."""
        tagged = {tag_of(name): float(value) for name, value in values.items()}
        # The line of an evaluation repeats the epoch of the loss of the same step.
        tagged = {tag: value for tag, value in tagged.items() if self._last.get(tag) != step}
        self._last |= dict.fromkeys(tagged, step)
        self._each(lambda tracker: tracker.scalars(step, tagged))

    def finish(self, finished: bool) -> None:
        """Ends all sessions, see ``Tracker.finish``."""
        self._each(lambda tracker: tracker.finish(finished))

    def _each(self, call: "Callable[[Tracker], None]") -> None:
        for name, tracker in list(self._active.items()):
            try:
                call(tracker)
            except tracker.failures as error:
                del self._active[name]
                self._report(f"tracker {name!r} failed, training goes on without it: {error}")
