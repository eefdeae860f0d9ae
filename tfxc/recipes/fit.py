"""Trains one model once."""

from tfxc.recipes.base import Recipe
from tfxc.training.job import TrainingJob


class Fit(Recipe):
    """One model, one training. A head with several repetitions trains them side by side."""

    def train(self, context):
        """Trains into the run folder itself."""
        job = TrainingJob(context.config, context.data_folder, context.run)
        return job.run(fresh=context.fresh)
