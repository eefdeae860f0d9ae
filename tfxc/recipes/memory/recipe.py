"""A memory of the training examples, which answers with their labels."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tfxc.core.declared import Count, Natural, Positive
from tfxc.core.errors import ConfigError
from tfxc.ranker.fusion.memory import Places
from tfxc.recipes.base import Context, StagedRecipe, refuse_settings_of_networks
from tfxc.recipes.memory.model import FusedModel

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.store.manifest import Manifest
    from tfxc.ranker.fusion.memory import MemorySettings
    from tfxc.runs.loaded import LoadedRun


class Memory(StagedRecipe):
    """Labels of the nearest training examples, and labels whose texts are near.

    The config has no ``encoder``, ``head`` and ``objective``, and nothing is trained: an example is
    compared with all others by the inner product of their features, exactly. Each of the nearest
    ones votes for its labels with a power of its similarity. Text features with n-grams of words
    and ``characters`` are two blocks, each compared on its own. With ``data.label_texts`` the texts
    of the labels are compared, too. What each source gives a label, as a share of all it gives, is
    added up.

    Args:
        neighbours: nearest examples, and nearest texts, that count.
        power: of the similarity. Low powers suit examples that are unlike all others.
        label_texts: whether texts of labels are compared, where the data have them.
        tail_places: of the first ten places, how many are kept for rare labels.
        rare: most training examples of a rare label.
        threads: of the search, at most this many; None means all cores.

    Raises:
        ConfigError: an argument out of range.
    """

    trains_network = False
    refits = True

    def __init__(
        self,
        *,
        neighbours: Count = 50,
        power: Positive = 2.0,
        label_texts: bool = True,
        tail_places: Places = 0,
        rare: Natural = 5,
        threads: Count | None = None,
    ) -> None:
        self.neighbours = neighbours
        self.power = power
        self.label_texts = label_texts
        self.tail_places = tail_places
        self.rare = rare
        self.threads = threads

    @classmethod
    def check_config(cls, config: "Config") -> None:
        """Checks as ``Recipe`` does; settings of the training loop are refused.

        Raises:
            ConfigError: the key is named.
        """
        super().check_config(config)
        refuse_settings_of_networks(config)

    def outline(self, config: "Config", manifest: "Manifest") -> tuple[list[str], None]:
        """Says how much is remembered."""
        self.check_data(config, manifest)
        train = manifest.split("train")
        return [
            f"{train.examples:,} examples are remembered: "
            f"{8 * train.nonzeros / 2**20:,.0f} MB of features"
        ], None

    def check(self, context: Context) -> None:
        """Refuses data without sparse features."""
        self.check_data(context.config, context.manifest)

    def check_data(self, config: "Config", manifest: "Manifest") -> None:
        """Refuses data without sparse features.

        Raises:
            ConfigError: they are of another kind, or a split is missing that something needs.
        """
        from tfxc.data.examples.kinds import SPARSE
        from tfxc.recipes.xr_linear.stages import check_data

        check_data(config, manifest)
        if manifest.kind is not SPARSE:
            raise ConfigError(
                f"recipe {config.recipe.name!r} needs sparse features, and these are "
                f"{manifest.feature_kind}",
                where="data",
                fix="use text features 'tfidf'",
            )

    def stages(self, context: Context) -> Callable[[], dict[str, Any]]:
        """Returns what makes the memory, measures it and returns the summary."""

        def train() -> dict[str, Any]:
            from tfxc.recipes.xr_linear import stages

            began = time.monotonic()
            processor = time.process_time()
            self.fill(context)
            seconds = stages.seconds_since(began, processor)
            run = context.folder
            stages.log(run, f"ready after {seconds['processor_seconds']:,.1f} s of processor time")
            return stages.results_of(context, FusedModel.load(run.path, self.threads), seconds)

        return train

    def fill(self, context: Context) -> None:
        """Writes the memory into the run folder."""
        from tfxc.ranker.fusion.memory import ExampleMemory
        from tfxc.recipes.xr_linear.stages import training_matrices

        features, labels = training_matrices(context.data_folder)
        texts = self.texts(context)
        ExampleMemory.of(self.settings(context), features, labels, texts).save(context.run)

    def settings(self, context: Context) -> "MemorySettings":
        """Returns how the memory is searched; the blocks are those of the text features."""
        from tfxc.data.text.registry import load_text_features
        from tfxc.ranker.fusion.memory import MemorySettings

        folder = context.data_folder / "text_features"
        inner = load_text_features(folder).blocks if folder.is_dir() else ()
        return MemorySettings(
            blocks=[0, *inner, context.manifest.num_features],
            neighbours=self.neighbours,
            power=self.power,
            tail_places=self.tail_places,
            rare=self.rare,
        )

    def texts(self, context: Context) -> Any:
        """Returns the features of the labels' texts, CSR, or None."""
        if not self.label_texts or context.config.data.label_texts is None:
            return None
        from tfxc.recipes.xr_linear.stages import label_text_matrix

        return label_text_matrix(context.data_folder)

    def assemble(self, loaded: "LoadedRun") -> FusedModel:
        """Returns the memory of the run folder, a ``FusedModel``."""
        return FusedModel.load(loaded.folder.path, self.threads)
