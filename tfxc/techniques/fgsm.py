"""Fast gradient sign method on the table of embeddings."""

import tensorflow as tf

from tfxc.core.declared import Positive
from tfxc.techniques.bases.table_attack import TableAttack


class FGSM(TableAttack):
    """Trains at the clean table and at one moved by ``epsilon * sign(g)``.

    The gradients of both add up. Costs one more pass.

    Args:
        epsilon: what each number of the rows read moves by; small against the table's numbers.

    Raises:
        ConfigError: ``epsilon`` is not positive.

    Example:
        >>> FGSM(epsilon=0.02).epsilon
        0.02

    Reference: Goodfellow et al., ICLR 2015 (arXiv 1412.6572).
    """

    def __init__(self, *, epsilon: Positive = 0.01) -> None:
        self.epsilon = epsilon

    def moved(self, _before: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        """Returns ``epsilon * sign(gradient)``."""
        return self.epsilon * tf.sign(gradient)
