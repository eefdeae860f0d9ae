"""Trains one model once."""

from tfxc.errors import ConfigError
from tfxc.model import build_model
from tfxc.recipes.base import Recipe
from tfxc.training.job import train_model


class Fit(Recipe):
    """One model, one training. A head with several repetitions trains them side by side."""

    def one_model(self, config, repetition):
        """The whole model.

        Raises:
            ConfigError: a single repetition is asked for.
        """
        if repetition is not None:
            raise ConfigError(
                "recipe 'fit' trains all repetitions in one model",
                where="--repetition",
                fix="leave it out, or add --set recipe.name=repetitions",
            )
        return config, None

    def run(self, context):
        """Trains into the run folder itself.

        Raises:
            ConfigError: a single repetition is asked for.
        """
        config, _ = self.one_model(context.config, context.repetition)
        return train_model(config, context.data_folder, context.run, fresh=context.fresh)

    def assemble(self, loaded):
        """The model with the run's weights."""
        model = build_model(loaded.config, **loaded.dimensions)
        loaded.folder.load_weights(model)
        return model
