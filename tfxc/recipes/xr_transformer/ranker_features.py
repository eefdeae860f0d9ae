"""What the ranker of a run reads: terms, or terms concatenated with vectors of an encoder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from tfxc.core.storage.locks import scratch_folder
from tfxc.data.sources.base import ArraySource
from tfxc.data.sources.matrices import matrices
from tfxc.data.sources.shards import open_source
from tfxc.inference.embedder import Embedder
from tfxc.recipes.xr_linear.settings import ranker_settings
from tfxc.recipes.xr_linear.stages import training_matrices
from tfxc.recipes.xr_transformer.embeddings import concatenated, write_embeddings
from tfxc.recipes.xr_transformer.recipe import EMBEDDINGS

if TYPE_CHECKING:
    from tfxc.data.examples.rows import Rows
    from tfxc.ranker.settings import RankerSettings
    from tfxc.recipes.xr_linear.recipe import XRLinear
    from tfxc.recipes.xr_transformer.recipe import XRTransformer
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
        return training_matrices(data_folder)

    def of_rows(
        self, rows: "Rows", num_labels: int
    ) -> tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]:
        """Returns X and Y of ``Rows``, Y with this many columns."""
        return matrices(ArraySource(rows, num_labels))

    def of_tree(self, features: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
        """Returns the part of X by which the labels are clustered."""
        return features


class EncodedFeatures(PlainFeatures):
    """Terms followed by the encoder's vectors, as recipe ``xr_transformer`` takes them."""

    def __init__(self, loaded: "LoadedRun", recipe: "XRTransformer") -> None:
        super().__init__(loaded, recipe)
        self._embed = Embedder(loaded.model)

    def settings(self, sizes: Sequence[int]) -> "RankerSettings":
        return self._recipe.settings_of_ranker(self._loaded.config, sizes)

    def of_training(
        self, data_folder: str | Path
    ) -> tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]:
        terms, labels = training_matrices(data_folder)
        path = self._loaded.folder.path / EMBEDDINGS
        if path.is_file():
            vectors = np.load(path, mmap_mode="r")
        else:  # deleted, to save space
            source = open_source(data_folder, "train")
            with scratch_folder("encodings") as folder:
                path = Path(folder) / "train.npy"
                write_embeddings(path, self._embed, source, self._batch_size, "embedding")
                vectors = np.load(path)
        return self._concatenated(terms, vectors), labels

    def of_rows(
        self, rows: "Rows", num_labels: int
    ) -> tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]:
        terms, labels = super().of_rows(rows, num_labels)
        size = self._batch_size
        parts = [rows.slice(start, start + size) for start in range(0, len(rows), size)]
        vectors = [self._embed(part.batch()["features"]) for part in parts]
        return self._concatenated(terms, np.concatenate(vectors)), labels

    def of_tree(self, features: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
        if not self._recipe.fix_clustering:
            return features
        return scipy.sparse.csr_matrix(features[:, : self._loaded.manifest["num_features"]])

    @property
    def _batch_size(self) -> int:
        return self._loaded.config.evaluation.batch_size

    def _concatenated(
        self, terms: scipy.sparse.csr_matrix, vectors: np.ndarray
    ) -> scipy.sparse.csr_matrix:
        return concatenated(terms, vectors, self._recipe.encoding_length)


RECIPES: dict[str, Callable[..., PlainFeatures]] = {
    "xr_linear": PlainFeatures,
    "xr_transformer": EncodedFeatures,
}


def features_of_ranker(loaded: "LoadedRun", recipe: "XRLinear | XRTransformer") -> "PlainFeatures":
    """Returns ``PlainFeatures`` or ``EncodedFeatures``, as the run's ranker was trained on."""
    return RECIPES[loaded.config.recipe.name](loaded, recipe)
