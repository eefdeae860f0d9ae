"""What the ranker of a run with an encoder reads: terms concatenated with the encoder's vectors."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse

from tfxc.core.storage.locks import scratch_folder
from tfxc.data.sources.shards import open_source
from tfxc.inference.embedder import Embedder
from tfxc.recipes.xr_linear.stages import training_matrices
from tfxc.recipes.xr_transformer.embeddings import concatenated, write_embeddings
from tfxc.recipes.xr_transformer.ranker_features import PlainFeatures
from tfxc.recipes.xr_transformer.recipe import EMBEDDINGS

if TYPE_CHECKING:
    from tfxc.data.examples.rows import Rows
    from tfxc.ranker.settings import RankerSettings
    from tfxc.recipes.xr_transformer.recipe import XRTransformer
    from tfxc.runs.loaded import LoadedRun


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
