"""Matrices with a row for each training example, named by files: relevance and user negatives."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from tfxc.core.declared import check
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.reading.source_files import expand
from tfxc.ops.csr import load_sparse, sparse_shape
from tfxc.ranker.negatives import scheme_of
from tfxc.ranker.relevance import aligned
from tfxc.recipes.xr_linear.settings import MATRIX_FILES, TreeSettings, ranker_settings

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.store.manifest import Manifest
    from tfxc.labels.cluster_tree import ClusterTree
    from tfxc.ranker.settings import RankerSettings

_WHERE = "recipe.ranker"


class ExampleMatrices:
    """The section ``ranker`` of recipe ``xr_linear``: settings, and files of matrices.

    Args:
        section: what ``ranker_settings`` accepts, and of ``MATRIX_FILES``: ``relevance_file``, how
            much each label of an example counts (examples, labels); ``negative_labels_file``, a
            matrix of the same shape whose places say which labels an example is also compared with;
            ``negative_clusters_file``, the same of the clusters right above the labels. Sparse
            matrices (``.npz``), a row for each example of the training file, in its order.

    Raises:
        ConfigError: see ``ranker_settings``; a file that no setting uses.

    Example:
        >>> section = {"negatives": "tfn+usn", "negative_labels_file": "near.npz"}
        >>> ExampleMatrices(section).settings(seed=1).negatives
        'tfn+usn'
    """

    def __init__(self, section: Mapping[str, Any] | None) -> None:
        section = check(Mapping[str, Any], _WHERE, {} if section is None else section)
        self._files = {key: section[key] for key in MATRIX_FILES if section.get(key) is not None}
        for key, name in self._files.items():
            if not isinstance(name, str) or not name:
                raise ConfigError(
                    f"{name!r} is not the name of a file",
                    where=f"{_WHERE}.{key}",
                    fix="name a sparse matrix (.npz)",
                )
        self._section = {key: value for key, value in section.items() if key not in MATRIX_FILES}
        settings = self.settings(0)
        negatives = settings.negatives
        schemes = [negatives] if isinstance(negatives, str) else negatives
        uses_negatives = any("usn" in scheme_of(scheme) for scheme in schemes)
        for key, used, fix in (
            (
                "relevance_file",
                settings.relevance_mode != "disable",
                "set relevance_mode to 'ranker-only' or 'induce'",
            ),
            ("negative_labels_file", uses_negatives, "set negatives to, say, 'tfn+usn'"),
            ("negative_clusters_file", uses_negatives, "set negatives to, say, 'tfn+usn'"),
        ):
            if key in self._files and not used:
                raise ConfigError(
                    "no setting uses this file",
                    where=f"{_WHERE}.{key}",
                    fix=f"{fix}, or remove the file",
                )

    def settings(self, seed: int) -> "RankerSettings":
        """Returns ``RankerSettings``; ``seed`` where the section has none."""
        provided = {MATRIX_FILES[key] for key in self._files}
        return ranker_settings(self._section, seed, provided=provided)

    def check(
        self, config: "Config", manifest: "Manifest", sizes: Sequence[int], tree: TreeSettings
    ) -> None:
        """Holds the shapes of the files against the data, without reading the rest of them.

        Args:
            config: ``Config``.
            manifest: the data's ``Manifest``.
            sizes: nodes of the tree's levels.
            tree: what the tree is made by.

        Raises:
            ConfigError: a file has another shape, or its rows or columns mean nothing here.
            DataError: a file is missing or damaged.
        """
        if self._files and not (config.data.dev_share is None and config.refit is None):
            raise ConfigError(
                f"recipe.ranker.{next(iter(self._files))} has a row for each training example, so "
                "the dev split cannot be a part of the training file",
                where="data.dev_share" if config.refit is None else "refit",
                fix="write the dev examples into a file of their own",
            )
        if "negative_clusters_file" in self._files and (tree.file is None or len(sizes) < 2):
            raise ConfigError(
                "its clusters are numbered as in recipe.tree.file, and there is none with a level "
                "above the labels",
                where=f"{_WHERE}.negative_clusters_file",
                fix="name the tree, or use negative_labels_file",
            )
        rows = manifest.split("train").examples
        labels = sizes[-1]
        for key, name in self._files.items():
            columns = sizes[-2] if key == "negative_clusters_file" else labels
            shape = sparse_shape(expand(name))
            if shape != (rows, columns):
                raise ConfigError(
                    f"the matrix in {name} is {shape[0]:,} x {shape[1]:,} instead of {rows:,} x "
                    f"{columns:,}, training examples x "
                    f"{'labels' if columns == labels else 'clusters'}",
                    where=f"{_WHERE}.{key}",
                    fix="give a row for each example of the training file and the columns in the "
                    "order of the prepared data's labels.txt, or of the tree",
                )

    def load(
        self,
        config: "Config",
        manifest: "Manifest",
        labels: scipy.sparse.csr_matrix,
        names: Sequence[str],
    ) -> dict[str, scipy.sparse.csr_matrix]:
        """Loads the matrices by the key of their file, rows in the order of the prepared ones.

        Args:
            config, manifest: see ``check``, which must have been called.
            labels: Y of the prepared training split.
            names: label names by id.

        Raises:
            DataError: a file is damaged, a positive has no relevance above 0, or the training file
                is not the one that was prepared: its rows would be other examples.
        """
        if not self._files:
            return {}
        from tfxc.data.store.records.reading_order import check_order, reading_order

        order = reading_order(manifest, config.data)
        check_order(np.split(labels.indices, labels.indptr[1:-1]), config.data, names, order)
        matrices = {key: load_sparse(expand(name))[order] for key, name in self._files.items()}
        if "relevance_file" in matrices:
            try:
                aligned(matrices["relevance_file"], labels)
            except DataError as error:
                raise DataError(
                    error.problem,
                    where=f"{self._files['relevance_file']} ({_WHERE}.relevance_file)",
                    fix="give each label of a training example a number above 0",
                ) from error
        return matrices


def negatives_of(
    matrices: Mapping[str, scipy.sparse.csr_matrix], tree: "ClusterTree"
) -> dict[int, scipy.sparse.csr_matrix]:
    """Makes ``negatives`` of ``train_ranker`` out of what ``ExampleMatrices`` loads.

    What an example is compared with on a level follows from the levels below: the clusters of its
    labels, and the clusters of those.

    Args:
        matrices: by the key of their file.
        tree: the ranker's tree.

    Returns:
        {level: CSR (examples, nodes of the level above)}, of all levels but the first; empty if
        there are no such matrices.

    Example:
        >>> from tfxc.labels.cluster_tree import ClusterTree
        >>> tree, near = ClusterTree([[0, 0], [0, 1, 1]]), scipy.sparse.csr_matrix([[0, 0, 2.0]])
        >>> negatives_of({"negative_labels_file": near}, tree)[1].toarray().tolist()
        [[0.0, 1.0]]

    Reference: the matching chain of libpecos 1.2.8, flags ``-uy`` and ``-um`` of
    ``pecos.xmc.xlinear.train``.
    """
    below = _pattern(matrices.get("negative_labels_file"))
    clusters = _pattern(matrices.get("negative_clusters_file"))
    negatives: dict[int, scipy.sparse.csr_matrix] = {}
    for level in range(tree.depth - 1, 0, -1):
        above = None if below is None else _pattern(below @ tree.matrix(level))
        if clusters is not None:
            above = clusters if above is None else _pattern(above + clusters)
            clusters = None
        if above is not None:
            negatives[level] = above
            below = above
    return negatives


def _pattern(matrix: scipy.sparse.csr_matrix | None) -> scipy.sparse.csr_matrix | None:
    """Returns ones at the places of a matrix's entries, explicit zeros too."""
    if matrix is None:
        return None
    ones = np.ones(len(matrix.indices), np.float32)
    parts = (ones, matrix.indices, matrix.indptr)
    # A copy, as sorting the places in the caller's arrays would part them from their values.
    pattern = scipy.sparse.csr_matrix(parts, matrix.shape, copy=True)
    pattern.sum_duplicates()
    pattern.data[:] = 1
    return pattern
