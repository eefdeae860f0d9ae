"""Trains one model once."""

from tfxc.model import build_model
from tfxc.recipes.base import Recipe
from tfxc.training.job import TrainingJob


class Fit(Recipe):
    """One model, one training. A head with several repetitions trains them side by side."""

    def train(self, context):
        """Trains into the run folder itself.

        Raises:
            ConfigError: a single repetition is asked for.
        """
        job = TrainingJob(context.config, context.data_folder, context.run)
        return job.run(fresh=context.fresh)

    def assemble(self, loaded):
        """The model with the run's weights."""
        model = build_model(loaded.config, **loaded.dimensions)
        loaded.folder.load_weights(model)
        return model
