"""Which evaluation was the best so far."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfxc.core.errors import ConfigError

if TYPE_CHECKING:
    from tfxc.core.settings import TrainingSettings
    from tfxc.metrics.suite import MetricSuite


class BestMetric:
    """Remembers the best value of one dev metric and how many evaluations have passed since.

    The metric is that of ``early_stopping``, else ``watch``, else the first that is measured.

    Args:
        settings: ``TrainingSettings``.
        metrics: ``MetricSuite`` of the dev split, or None without one.

    Attributes:
        variable: what a checkpoint holds: best value (its negative where lower is better), its
            step, evaluations without a better one.
        metric: name of the metric, or None.

    Raises:
        ConfigError: the metric is not measured.
    """

    def __init__(self, settings: "TrainingSettings", metrics: "MetricSuite | None") -> None:
        self.stopping = settings.early_stopping
        self.variable = tf.Variable([-math.inf, 0.0, 0.0], dtype=tf.float64, trainable=False)
        self.metric: str | None = None
        self._sign = 1
        if metrics is None:
            return
        key = "early_stopping.metric" if self.stopping else "watch"
        name = self.stopping.metric if self.stopping else settings.watch
        self.metric = name or metrics.names[0]
        check_metric(self.metric, metrics.names, f"training.{key}")
        self._sign = 1 if metrics.best_is_larger(self.metric) else -1

    def improved(self, results: Mapping[str, float], step: int) -> bool:
        """Takes the results of a step down; whether they are the best so far."""
        best, best_step, waited = self.variable.numpy()
        least = self.stopping.min_delta if self.stopping else 0.0
        assert self.metric is not None
        value = self._sign * results[self.metric]
        better = value > best + least
        self.variable.assign([value, step, 0] if better else [best, best_step, waited + 1])
        return bool(better)

    def forget(self) -> None:
        """Seeks the best anew."""
        self.variable.assign([-math.inf, 0.0, 0.0])

    @property
    def patience_is_over(self) -> bool:
        """Whether training should stop early."""
        if self.stopping is None:
            return False
        return bool(self.variable.numpy()[2] >= self.stopping.patience)

    def summary(self) -> dict[str, Any]:
        """Returns the best value, its step and the metric's name; empty before the first
        evaluation.
        """
        best, step, _ = self.variable.numpy()
        if not math.isfinite(best):
            return {}
        return {"best": self._sign * best, "best_step": int(step), "best_metric": self.metric}


def check_metric(
    metric: str, names: Sequence[str], where: str = "training.early_stopping.metric"
) -> None:
    """Raises a ``ConfigError`` if a metric is requested that is not measured."""
    if metric not in names:
        raise ConfigError(
            f"unknown metric {metric!r}",
            where=where,
            fix=f"choose one of: {', '.join(names)}",
        )
