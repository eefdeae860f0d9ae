"""The unit in which examples travel from a reader to the record writer."""

import dataclasses

import numpy as np
import scipy.sparse


@dataclasses.dataclass
class Chunk:
    """A few thousand examples.

    Attributes:
        labels: one list per example, of label names (``str``) or label ids (``int``).
        texts: one string per example, or None.
        features: sparse (n, num_features) CSR or dense (n, dim) matrix, float32, or None.
    """

    labels: list
    texts: list | None = None
    features: scipy.sparse.csr_matrix | np.ndarray | None = None

    def __len__(self):
        return len(self.labels)
