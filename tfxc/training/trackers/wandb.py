"""Weights & Biases: parameters and metrics of a run."""

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tfxc.training.trackers.base import Tracker

if TYPE_CHECKING:
    from tfxc.runs.folder import RunFolder

_NAME = "wandb"
_PROJECT = "tfxc"


class WandB(Tracker):
    """Writes to the project ``WANDB_PROJECT``, or ``tfxc``; files are kept in ``RUN/wandb``.

    ``WANDB_MODE=offline`` needs no network: ``wandb sync RUN/wandb/*`` sends it later. A resumed
    training continues the run of the same id, and steps that were reported are not again.
    """

    package = "wandb"
    _session: Any = None
    _step = -1

    def __init__(self, run: "RunFolder") -> None:
        super().__init__(run)
        from wandb.errors import Error

        self.failures = (Error, OSError)

    def begin(self, parameters: Mapping[str, Any], start_step: int) -> None:
        import wandb

        known = self.remembered(_NAME)
        self._step = known.get("step", -1)
        self._session = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            id=known.get("id"),
            name=self.title,
            dir=str(self.run.path),
            config=dict(parameters),
            resume="allow",
        )
        self.remember(_NAME, {"id": self._session.id, "step": self._step})

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if step < self._step:
            return
        self._session.log({n: v for n, v in values.items() if math.isfinite(v)}, step=step)
        self._step = step
        self.remember(_NAME, {"id": self._session.id, "step": step})

    def finish(self, finished: bool) -> None:
        for file in self.artefacts():
            self._session.save(str(file), base_path=str(self.run.path), policy="now")
        self._session.finish(exit_code=0 if finished else 1)
