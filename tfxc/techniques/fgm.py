"""Fast gradient method on the table of embeddings."""

from typing import TYPE_CHECKING

from tfxc.core.declared import Positive
from tfxc.techniques.bases.table_attack import TableAttack, of_length

if TYPE_CHECKING:
    import tensorflow as tf


class FGM(TableAttack):
    """Trains at the clean table and at one moved by ``epsilon * g / ||g||``.

    The norm is that of the whole gradient tensor, so all examples of a step share the length
    ``epsilon``. The gradients of both points add up. Costs one more pass.

    Args:
        epsilon: length of the move.

    Raises:
        ConfigError: ``epsilon`` is not positive.

    Example:
        >>> FGM(epsilon=1.0).epsilon
        1.0

    Reference: Miyato et al., ICLR 2017 (arXiv 1605.07725); the norm over the whole tensor is
    usual practice in text classification.
    """

    def __init__(self, *, epsilon: Positive = 0.2) -> None:
        self.epsilon = epsilon

    def moved(self, _before: "tf.Tensor", gradient: "tf.Tensor") -> "tf.Tensor":
        """Returns ``epsilon * gradient / ||gradient||``."""
        return of_length(gradient, self.epsilon)
