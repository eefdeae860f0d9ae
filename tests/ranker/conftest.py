"""A tiny model of libpecos 1.2.8, its predictions, and the same model imported."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from tests.ranker.imported import import_pecos

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def pecos_model():
    """The folder that PECOS wrote."""
    return DATA / "pecos_model"


@pytest.fixture(scope="session")
def imported(pecos_model, tmp_path_factory):
    """The model folder that ``write_pecos_model`` makes of it; not to be changed."""
    folder = tmp_path_factory.mktemp("imported") / "model"
    import_pecos(pecos_model, folder)
    return folder


@pytest.fixture(scope="session")
def frozen():
    """PECOS's predictions: ``"<post-processor>/<beam>/ids"`` and ``…/scores``, 5 per query."""
    with np.load(DATA / "pecos_predictions.npz") as file:
        return dict(file)


@pytest.fixture(scope="session")
def queries(frozen):
    """The queries of these predictions, CSR (12, 30)."""
    parts = (frozen["q_data"], frozen["q_indices"], frozen["q_indptr"])
    return scipy.sparse.csr_matrix(parts, (12, 30))
