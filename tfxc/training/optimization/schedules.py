"""Learning-rate schedules: the factor on the base rate at a step."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import tensorflow as tf

from tfxc.core.declared import FromData, ShareBelowOne, checked, from_section
from tfxc.core.errors import ConfigError

#: How the rate changes.
Name = Literal["constant", "linear", "cosine", "polynomial", "exponential", "steps"]
_USERS = {  # of arguments that do not apply to other schedules
    "end": ("linear", "cosine", "polynomial", "exponential"),
    "power": ("polynomial",),
    "milestones": ("steps",),
    "gamma": ("steps",),
}


class Schedule:
    """Warm-up, then decay.

    Args:
        total_steps: total number of training steps (from the run).
        steps_per_epoch: float (from the run).
        name: ``constant``; ``linear`` to ``end``; ``cosine`` to ``end``; ``polynomial`` of
            ``power`` to ``end``; ``exponential`` to ``end`` (which must be positive); ``steps``:
            times ``gamma`` at each share of the steps in ``milestones``.
        warmup: share of all steps over which the rate increases linearly from ``warmup_start``.
        warmup_start: factor at the first step of the warm-up.
        end: factor at the end of training.
        power: exponent of ``polynomial``.
        milestones: shares of all steps, those of the warm-up included, after which ``steps`` lowers
            the rate.
        gamma: factor of ``steps`` at each milestone.
        per_epoch: whether the decay moves at the beginning of each epoch only, as scripts for
            PyTorch do; the warm-up still increases at each step.

    Example:
        >>> schedule = Schedule(100, name="linear")
        >>> float(schedule(tf.constant(50)))
        0.5
    """

    @checked
    def __init__(
        self,
        total_steps: FromData[int],
        steps_per_epoch: FromData[float] = 1.0,
        *,
        name: Name = "constant",
        warmup: ShareBelowOne = 0.0,
        warmup_start: float = 0.0,
        end: float = 0.0,
        power: float = 1.0,
        milestones: Sequence[float] = (0.5, 0.75),
        gamma: float = 0.1,
        per_epoch: bool = False,
    ) -> None:
        if name == "exponential" and end <= 0:
            raise ConfigError(
                f"must be a positive number with schedule 'exponential', not {end}",
                where="end",
                fix="set it to e.g. 0.01",
            )
        self.name = name
        self.end = end
        self.power = power
        self.warmup_steps = warmup * total_steps
        self.warmup_start = warmup_start
        self.epoch_steps = steps_per_epoch if per_epoch else None
        last: float = total_steps
        if per_epoch:  # the last batch fills up: the steps are whole, the epochs may not be
            last = round(total_steps / steps_per_epoch) * steps_per_epoch
        # Milestones are shares of all steps; other schedules fall behind the warm-up.
        self.decay_start = 0.0 if name == "steps" else self.warmup_steps
        self.decay_steps = max(last - self.decay_start, 1.0)
        self.milestones = tuple(milestones)
        self.gamma = gamma

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns factor at ``step`` (from 0), a float32 scalar."""
        if self.epoch_steps is None:
            place = tf.cast(step, tf.float32)  # the step that determines the decay
        else:
            # In float64, as the loop counts its epochs.
            epoch = tf.floor(tf.cast(step, tf.float64) / self.epoch_steps)
            place = tf.cast(epoch * self.epoch_steps, tf.float32)
        step = tf.cast(step, tf.float32)
        done = tf.clip_by_value((place - self.decay_start) / self.decay_steps, 0.0, 1.0)
        if self.name == "constant":
            factor = tf.ones_like(done)
        elif self.name == "linear":
            factor = 1 - (1 - self.end) * done
        elif self.name == "polynomial":
            factor = self.end + (1 - self.end) * (1 - done) ** self.power
        elif self.name == "cosine":
            factor = self.end + (1 - self.end) * 0.5 * (1 + tf.cos(math.pi * done))
        elif self.name == "exponential":
            factor = tf.exp(done * math.log(self.end))
        else:
            assert self.name == "steps", self.name
            factor = self.gamma ** tf.add_n(
                [tf.cast(done >= m, tf.float32) for m in self.milestones]
            )
        if not self.warmup_steps:
            return factor
        rise = self.warmup_start + (1 - self.warmup_start) * step / self.warmup_steps
        return tf.where(step < self.warmup_steps, rise, factor)


def get_schedule(
    section: Mapping[str, Any], total_steps: int = 1, steps_per_epoch: float = 1.0
) -> "Schedule":
    """Makes the schedule of a config section ``{"name": ..., argument: value}``.

    Raises:
        ConfigError: unknown name or argument, or one that this schedule has no use for.

    Example:
        >>> get_schedule({"name": "cosine", "end": 0.1}).end
        0.1
    """
    where = "training.schedule"
    sizes: dict[str, Any] = {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
    schedule = from_section(Schedule, section, where, **sizes)
    for key in section:
        if key in _USERS and schedule.name not in _USERS[key]:
            raise ConfigError(
                f"schedule {schedule.name!r} does not use {key}",
                where=f"{where}.{key}",
                fix=f"remove it, or choose schedule {' or '.join(_USERS[key])}",
            )
    return schedule
