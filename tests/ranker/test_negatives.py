"""Training examples of a layer against sets."""

import itertools

import numpy as np
import pytest
import scipy.sparse

from tfxc.core.errors import ConfigError, DataError
from tfxc.ranker.negatives import examples_of, scheme_of


def pairs(matrix):
    found = scipy.sparse.coo_matrix(matrix)
    return set(zip(found.row.tolist(), found.col.tolist(), strict=True))


@pytest.mark.parametrize(
    "scheme",
    ["+".join(p) for n in (1, 2, 3) for p in itertools.permutations(("tfn", "man", "usn"), n)],
)
def test_union_of_the_sources(scheme):
    given = {}
    for seed, name in enumerate(("above", "predicted", "given")):
        given[name] = scipy.sparse.random(30, 9, 0.2, "csr", random_state=seed)
    given["predicted"].data[::2] = 0  # a score of zero is a prediction
    sources = {"tfn": "above", "man": "predicted", "usn": "given"}
    found = examples_of(scheme_of(scheme), **given)
    expected = set().union(*(pairs(given[sources[part]]) for part in scheme.split("+")))
    assert pairs(found) == expected
    assert found.format == "csc" and found.has_sorted_indices


def test_a_missing_matrix_is_reported():
    with pytest.raises(DataError, match="usn"):
        examples_of(("tfn", "usn"), above=scipy.sparse.csr_matrix(np.eye(2)))
    with pytest.raises(DataError, match="shape"):
        examples_of(
            ("tfn", "usn"),
            above=scipy.sparse.csr_matrix(np.eye(2)),
            given=scipy.sparse.csr_matrix(np.eye(3)),
        )


@pytest.mark.parametrize("scheme", ["", "tfn+", "tfn+tfn", "random", None])
def test_unknown_schemes(scheme):
    with pytest.raises(ConfigError, match="negatives"):
        scheme_of(scheme)
