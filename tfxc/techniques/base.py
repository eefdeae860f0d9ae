"""What every technique shares."""

import contextlib


class Technique:
    """Middleware around one training step.

    A technique is made from its config section, hears in ``begin`` how long the training is, and
    then ``build`` gives it the model inside the strategy's scope.
    """

    from_data = ()
    variables_to_save = ()

    def begin(self, steps_per_epoch, total_steps):
        """Called once, before ``build``.

        Args:
            steps_per_epoch: float; epoch e (from 0) begins at step ``ceil(e * steps_per_epoch)``.
            total_steps: steps of the whole training.

        Raises:
            ConfigError: an argument does not fit this length.
        """

    def build(self, model, strategy):
        """Makes state variables. Called once, inside ``strategy.scope()``."""

    def gradients(self, compute, batch):
        """Wraps the computation of one micro-batch.

        Args:
            compute: function of a batch -> (loss, list of gradients); may be called repeatedly.
                What an objective keeps of each example changes in the first call only.
            batch: dict ``features``, ``labels``, ``example_index``.

        Returns:
            (loss, list of gradients).
        """
        return compute(batch)

    def after_step(self, step):
        """Called outside the graph after update number ``step`` (from 1)."""

    def evaluation_weights(self):
        """Context manager: inside it the model has the weights it should be judged by."""
        return contextlib.nullcontext()
