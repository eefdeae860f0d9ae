"""Projected gradient descent on the table of embeddings."""

import tensorflow as tf

from tfxc.core.declared import Count, Positive
from tfxc.techniques.bases.table_attack import TableAttack, of_length


class PGD(TableAttack):
    """Moves the table several times by ``alpha * g / ||g||`` within a ball around the clean one.

    Each round takes the gradient at the point before. The clean gradient and the one at the last
    point add up. Costs ``rounds`` more passes.

    Args:
        rounds: number of moves.
        alpha: length of a move.
        epsilon: radius of the ball; norms are those of the whole table.

    Raises:
        ConfigError: an argument that is not positive.

    Example:
        >>> PGD(rounds=2).rounds
        2

    Reference: Madry et al., ICLR 2018 (arXiv 1706.06083).
    """

    def __init__(
        self, *, rounds: Count = 3, alpha: Positive = 0.3, epsilon: Positive = 1.0
    ) -> None:
        self.rounds = rounds
        self.alpha = alpha
        self.epsilon = epsilon

    def moved(self, before: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        """Returns the table after one move, back in the ball."""
        values = before + of_length(gradient, self.alpha)
        return values * (self.epsilon / tf.maximum(tf.norm(values), self.epsilon))
