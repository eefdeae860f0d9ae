"""Trains one model once."""

from typing import Any

from tfxc.recipes.base import Context, Recipe, StartPart
from tfxc.training.job import TrainingJob


class Fit(Recipe):
    """One model, one training run. A head with several repetitions trains them side by side.

    Args:
        start: run folder of a finished run whose weights the training begins with; None begins with
            random ones.
        start_part: what is taken of it: ``"model"``, for the same labels in the same order, or
            ``"encoder"``, whatever the labels. Shapes and text features have to be the same.
        trust: whether modules that its config names are imported, see docs/trust.md.
    """

    refits = True

    def __init__(
        self, *, start: str | None = None, start_part: StartPart = "model", trust: bool = False
    ) -> None:
        self.start = start
        self.start_part = start_part
        self.trust = trust

    def train(self, context: Context) -> dict[str, Any]:
        """Trains into the run folder itself."""
        job = TrainingJob(
            context.config,
            context.data_folder,
            context.run,
            start=self.run_start(),
            **context.refit_options,
        )
        return job.run(**context.start_options)
