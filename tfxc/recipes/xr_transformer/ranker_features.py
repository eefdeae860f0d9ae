"""What the ranker of a run without an encoder reads: the features themselves."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import scipy.sparse

from tfxc.data.sources.base import ArraySource
from tfxc.data.sources.matrices import matrices
from tfxc.recipes.xr_linear.settings import ranker_settings
from tfxc.recipes.xr_linear.stages import training_matrices

if TYPE_CHECKING:
    from tfxc.data.examples.rows import Rows
    from tfxc.ranker.settings import RankerSettings
    from tfxc.runs.loaded import LoadedRun


class PlainFeatures:
    """The features themselves, as recipe ``xr_linear`` takes them.

    Args:
        loaded: ``LoadedRun``.
        recipe: its recipe.
    """

    def __init__(self, loaded: "LoadedRun", recipe: Any) -> None:
        self._loaded = loaded
        self._recipe = recipe

    def settings(self, sizes: Sequence[int]) -> "RankerSettings":
        """Returns ``RankerSettings`` of the run, for a tree of these level sizes."""
        return ranker_settings(self._recipe.ranker, self._loaded.config.seed)

    def of_training(
        self, data_folder: str | Path
    ) -> tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]:
        """Returns X and Y of the training split."""
        return training_matrices(data_folder, self._recipe.label_text_rows)

    def of_rows(
        self, rows: "Rows", num_labels: int
    ) -> tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]:
        """Returns X and Y of ``Rows``, Y with this many columns."""
        return matrices(ArraySource(rows, num_labels))

    def of_tree(self, features: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
        """Returns the part of X by which the labels are clustered."""
        return features
