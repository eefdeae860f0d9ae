"""MLflow: parameters, metrics and artefacts in a tracking server or a local store."""

import math
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.core.errors import ConfigError
from tfxc.training.trackers.base import Tracker

if TYPE_CHECKING:
    from tfxc.runs.folder import RunFolder

_NAME = "mlflow"
_EXPERIMENT = "tfxc"
_BATCH = 100  # parameters that a server accepts at once
_LONGEST = 6000  # characters of a value


class MLflow(Tracker):
    """Writes to the store that ``MLFLOW_TRACKING_URI`` names, or to MLflow's own default.

    The experiment is ``MLFLOW_EXPERIMENT_NAME``, or ``tfxc``. MLflow has no ``@`` in names: P@1 is
    ``P_at_1``. A resumed training continues the same run, and what is there already is not written
    again.
    """

    package = "mlflow"
    _client: Any = None
    _run_id: str
    _last: dict[str, int]

    def __init__(self, run: "RunFolder") -> None:
        super().__init__(run)
        from mlflow.exceptions import MlflowException

        self.failures = (MlflowException, OSError)

    def begin(self, parameters: Mapping[str, Any], start_step: int) -> None:
        """See ``Tracker.begin``.

        Raises:
            ConfigError: the run that an interrupted training wrote is not in the store.
        """
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        remembered = self.remembered(_NAME)
        if remembered:
            self._run_id = remembered["run_id"]
            try:
                run = self._client.get_run(self._run_id)
            except self.failures as error:
                raise ConfigError(
                    f"there is no MLflow run {self._run_id}, which this training has begun "
                    f"({error})",
                    where="training.trackers",
                    fix="set MLFLOW_TRACKING_URI as before, or remove trackers.json from the run",
                ) from error
            self._client.update_run(self._run_id, status="RUNNING")
        else:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT)
            experiment = self._client.get_experiment_by_name(name)
            number = (
                experiment.experiment_id if experiment else self._client.create_experiment(name)
            )
            run = self._client.create_run(number, run_name=self.title)
            self._run_id = run.info.run_id
            self.remember(_NAME, {"run_id": self._run_id})
        known = run.data
        self._last = {}
        for name in known.metrics:
            history = self._client.get_metric_history(self._run_id, name)
            self._last[name] = max(metric.step for metric in history)
        texts = {_plain(name): str(value)[:_LONGEST] for name, value in parameters.items()}
        new = [Param(name, text) for name, text in texts.items() if name not in known.params]
        for first in range(0, len(new), _BATCH):
            self._client.log_batch(self._run_id, params=new[first : first + _BATCH])
        for name, text in texts.items():  # parameters cannot be changed there, tags can
            if known.params.get(name, text) != text:
                self._client.set_tag(self._run_id, f"extended.{name}", text)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        tagged = {_plain(name): value for name, value in values.items() if math.isfinite(value)}
        new = [n for n in tagged if step > self._last.get(n, -1)]
        self._client.log_batch(self._run_id, [Metric(n, tagged[n], now, step) for n in new])
        self._last |= dict.fromkeys(new, step)

    def finish(self, finished: bool) -> None:
        for file in self.artefacts():
            folder = file.relative_to(self.run.path).parent
            place = None if folder == Path() else str(folder)
            self._client.log_artifact(self._run_id, str(file), place)
        self._client.set_terminated(self._run_id, "FINISHED" if finished else "KILLED")


def _plain(name: str) -> str:
    """Returns a name with the characters that MLflow allows."""
    return re.sub(r"[^\w./\- ]", "_", name.replace("@", "_at_"))
