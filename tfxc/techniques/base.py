"""What every technique shares."""

import contextlib
import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from tfxc.core.declared import Declared
from tfxc.core.errors import ConfigError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from tfxc.ops.logit_group import LogitGroup


_ROLES = {
    "attack": "both perturb the model for one pass",
    "average": "both evaluate the model with weights other than the trained ones",
    "loss": "both define the loss",
}


class Technique(Declared):
    """Middleware around one training step.

    A technique is made from its config section, learns in ``on_train_begin`` how long the training
    is, and then ``build`` gives it the model inside the strategy's scope.

    Class attributes:
        role: ``"attack"``, ``"average"``, ``"loss"`` or None; a training run has one of each.
        losses: None, or a method ``losses(model, groups_of, batch, update_state)`` that takes the
            place of ``model.losses_of``. ``groups_of`` is what ``groups`` is given as ``compute``,
            other techniques in it.
        setting: the key of a config that asks for this technique, where ``techniques`` does not.

    Attributes:
        variables_to_save: ``tf.Variable``s of its own that a checkpoint holds.
        trainable_variables: those of them that the optimizer trains, too.
    """

    variables_to_save: "Sequence[tf.Variable]" = ()
    trainable_variables: "Sequence[tf.Variable]" = ()
    role: str | None = None
    losses: Callable[..., Any] | None = None
    setting: str | None = None

    def on_train_begin(self, steps_per_epoch: float, total_steps: int) -> None:
        """Called once, before ``build``.

        Args:
            steps_per_epoch: float; epoch e (from 0) begins at step ``ceil(e * steps_per_epoch)``.
            total_steps: total number of training steps.

        Raises:
            ConfigError: an argument does not fit this length.
        """

    def build(self, model: "keras.Model", strategy: "tf.distribute.Strategy") -> None:
        """Makes state variables. Called once, inside ``strategy.scope()``."""

    def before_step(self, step: int) -> Hashable:
        """Called outside the graph with the number of updates made; may say in which stage it is.

        Returns:
            None, or something hashable: another value traces the step again, so that the methods
            below may do something else from there on.
        """
        return None

    def reorders(self, step: int) -> bool:
        """Called before the batch of a step is taken, with the number of updates made.

        Returns:
            whether the batches from this one on are others than those read ahead, as the training
            split has been brought into another order; only where an epoch begins.
        """
        return False

    def gradients(
        self, compute: Callable[..., Any], batch: Mapping[str, Any]
    ) -> "tuple[tf.Tensor, list[Any]]":
        """Wraps the computation of one micro-batch.

        Args:
            compute: function of a batch -> (loss, list of gradients); may be called repeatedly.
                What an objective keeps of each example changes in the first call only. Each call
                draws other dropout masks.
            batch: dict ``features``, ``labels``, ``example_index``.

        Returns:
            (loss, list of gradients).
        """
        return compute(batch)

    def groups(
        self, compute: Callable[..., Any], passes: "Sequence[tf.Tensor]", labels: "tf.Tensor | None"
    ) -> "list[tuple[LogitGroup, ...]]":
        """Wraps the head in training.

        Args:
            compute: the head's ``groups_of_passes``, perhaps with other techniques around it.
            passes: list of the encoder's vectors.
            labels: int32 (batch, max_labels).

        Returns:
            List of tuples of ``LogitGroup``s, one for each pass.
        """
        return compute(passes, labels)

    def learning_rate(
        self, rate_at: "Callable[[tf.Tensor], tf.Tensor]", step: "tf.Tensor"
    ) -> "tf.Tensor":
        """Wraps the learning rate.

        Args:
            rate_at: function of a step -> rate, of optimizer and schedule, perhaps with other
                techniques around it.
            step: int64 scalar, number of updates made.

        Returns:
            float32 scalar.
        """
        return rate_at(step)

    def after_step(self, step: int) -> None:
        """Called outside the graph after update number ``step`` (from 1)."""

    def lent_weights(self) -> "Sequence[tuple[tf.Variable, tf.Variable]]":
        """Returns the pairs of a weight of the model and what it is judged by instead, at this
        moment.
        """
        return ()

    def evaluation_weights(self) -> AbstractContextManager[None]:
        """Context manager: inside it the model has the weights it should be evaluated with."""
        return contextlib.nullcontext()


def check_together(techniques: Sequence[type[Technique]]) -> None:
    """Refuses techniques that cannot be combined.

    Args:
        techniques: list of classes.

    Raises:
        ConfigError: one occurs twice, or two have the same role.

    Example:
        >>> from tfxc.techniques.ema import EMA
        >>> check_together([EMA])
    """
    for first, second in itertools.combinations(techniques, 2):
        why = _ROLES.get(first.role or "") if first.role == second.role else None
        if first is second:
            why = "it is listed twice"
        if why:
            raise ConfigError(
                f"{method_name(first)!r} and {method_name(second)!r} cannot be combined: {why}",
                where="techniques",
                fix="remove one of them",
            )


def overrides(technique: type[Technique], name: str) -> bool:
    """Tells whether a class of techniques has its own method of this name.

    Example:
        >>> from tfxc.techniques.ema import EMA
        >>> overrides(EMA, "after_step"), overrides(EMA, "gradients")
        (True, False)
    """
    return getattr(technique, name) is not getattr(Technique, name)


def method_name(method: type) -> str:
    """Returns the name of a technique's class in configs."""
    module = method.__module__
    if module.startswith("tfxc."):
        return module.rsplit(".", 1)[-1]
    return f"{module}:{method.__qualname__}"
