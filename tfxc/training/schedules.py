"""Learning-rate schedules: the factor on the base rate at a step."""

import math

import tensorflow as tf

from tfxc.errors import ConfigError
from tfxc.registry import nearest

NAMES = ("constant", "linear", "cosine", "polynomial", "exponential", "steps")


class Schedule:
    """Warm-up, then decay.

    Args:
        total_steps: steps of the whole training (from the run).
        name: ``constant``; ``linear`` to ``end``; ``cosine`` to ``end``; ``polynomial`` of
            ``power`` to ``end``; ``exponential`` to ``end`` (which must be positive); ``steps``:
            times ``gamma`` at each share of the training in ``milestones``.
        warmup: share of all steps over which the rate rises linearly from ``warmup_start``.
        end: factor at the end of training.

    Example:
        >>> schedule = Schedule(100, name="linear")
        >>> float(schedule(tf.constant(50)))
        0.5
    """

    from_data = ("total_steps",)

    def __init__(
        self,
        total_steps,
        *,
        name="constant",
        warmup=0.0,
        warmup_start=0.0,
        end=0.0,
        power=1.0,
        milestones=(0.5, 0.75),
        gamma=0.1,
    ):
        if name not in NAMES:
            raise ConfigError(
                f"there is no schedule {name!r}{nearest(name, NAMES)}",
                where="training.schedule.name",
                fix=f"choose one of: {', '.join(NAMES)}",
            )
        if not 0 <= warmup < 1:
            raise ConfigError(
                f"warmup must lie in [0, 1), found {warmup}", where="training.schedule"
            )
        if name == "exponential" and end <= 0:
            raise ConfigError(
                "schedule 'exponential' needs end > 0",
                where="training.schedule.end",
                fix="e.g. 0.01",
            )
        self.name, self.end, self.power = name, end, power
        self.warmup_steps = warmup * total_steps
        self.warmup_start = warmup_start
        self.decay_steps = max(total_steps - self.warmup_steps, 1.0)
        self.milestones, self.gamma = tuple(milestones), gamma

    def __call__(self, step):
        """Factor at ``step`` (from 0), a float32 scalar."""
        step = tf.cast(step, tf.float32)
        done = tf.clip_by_value((step - self.warmup_steps) / self.decay_steps, 0.0, 1.0)
        factor = getattr(self, f"_{self.name}")(done)
        if not self.warmup_steps:
            return factor
        rise = self.warmup_start + (1 - self.warmup_start) * step / self.warmup_steps
        return tf.where(step < self.warmup_steps, rise, factor)

    def _constant(self, done):
        return tf.ones_like(done)

    def _linear(self, done):
        return 1 - (1 - self.end) * done

    def _polynomial(self, done):
        return self.end + (1 - self.end) * (1 - done) ** self.power

    def _cosine(self, done):
        return self.end + (1 - self.end) * 0.5 * (1 + tf.cos(math.pi * done))

    def _exponential(self, done):
        return tf.exp(done * math.log(self.end))

    def _steps(self, done):
        passed = tf.add_n([tf.cast(done >= m, tf.float32) for m in self.milestones])
        return self.gamma**passed
