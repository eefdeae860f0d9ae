"""Trains one model once."""

from typing import Any

from tfxc.recipes.base import Context, Recipe
from tfxc.training.job import TrainingJob


class Fit(Recipe):
    """One model, one training. A head with several repetitions trains them side by side."""

    def train(self, context: Context) -> dict[str, Any]:
        """Trains into the run folder itself."""
        job = TrainingJob(context.config, context.data_folder, context.run)
        return job.run(**context.start)
