"""Features that the data have next to their texts, in the place of features made of the texts."""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from tfxc.core.declared import Count, checked
from tfxc.core.errors import DataError
from tfxc.data.examples.kinds import SPARSE, kind_of_features
from tfxc.data.text.base import check_fitted, saving
from tfxc.ops.csr import as_csr


class GivenTerms:
    """The terms of ``joined`` texts as the data have them: nothing is computed or scaled.

    Dense features are kept as sparse ones, all of whose entries count.

    Args:
        num_features: number of columns; None means those of the training file.

    Attributes:
        num_features: None before ``take_width``.

    Example:
        >>> given = GivenTerms()
        >>> given.take_width(3, "X.trn.npz")
        >>> given.rows(np.float32([[0, 2, 1]]), "X.tst.npz").toarray().tolist()
        [[0.0, 2.0, 1.0]]
    """

    name = "given"
    kind = SPARSE
    idf = None

    @checked
    def __init__(self, num_features: Count | None = None) -> None:
        self.num_features = num_features

    def settings(self) -> dict[str, Any]:
        """Returns the constructor's arguments as a dict, the number of columns as it was found."""
        return {"num_features": self.num_features}

    def learner(self) -> None:
        """Returns None: the texts are not read."""
        return None

    def take_width(self, width: int, where: str | Path) -> None:
        """Takes the number of columns from the training file.

        Args:
            width: columns of its features.
            where: the file, for messages.

        Raises:
            DataError: there are more than ``num_features``.
        """
        self.num_features = self.num_features or width
        if width > self.num_features:
            raise DataError(
                f"there are {width:,} features, but data.text_features.terms.num_features is "
                f"{self.num_features:,}",
                where=where,
                fix="raise it, or remove it",
            )

    def rows(
        self, features: scipy.sparse.csr_matrix | np.ndarray, where: str | Path
    ) -> scipy.sparse.csr_matrix:
        """Returns the features of examples as float32 CSR (n, num_features).

        Args:
            features: CSR or array (n, columns), float32.
            where: the source, for messages.

        Raises:
            ConfigError: the number of columns is not known.
            DataError: another number of columns.
        """
        num_features = check_fitted(self.num_features)
        kind = kind_of_features(features, where)
        width = kind.width(features)
        if not kind.fits(width, num_features):
            raise DataError(
                f"there are {width:,} {kind.name} features, but {num_features:,} in the "
                "training split",
                where=where,
                fix="give the features that the run was trained on",
            )
        if isinstance(features, np.ndarray):
            return as_csr(features)
        arrays = (features.data, features.indices, features.indptr)
        return scipy.sparse.csr_matrix(arrays, (features.shape[0], num_features))

    def vocabulary(self) -> None:
        """Returns None: the columns have no names."""
        return None

    def save(self, folder: str | Path) -> None:
        """Writes ``features.json``, atomically.

        Raises:
            ConfigError: the number of columns is not known.
            UserError: the folder cannot be written.
        """
        check_fitted(self.num_features)
        with saving(folder, self.name, self.settings()):
            """Does nothing: there is only what the settings say."""

    def _load(self, folder: Path) -> None:
        """Does nothing: there is only what the settings say."""
