import math

import numpy as np
import pytest

from tfxc.core.errors import ConfigError
from tfxc.labels.propensity import (
    checked_counts,
    counts_of,
    propensities,
)
from tfxc.labels.propensity_constants import DATASET_CONSTANTS, propensity_constants


@pytest.mark.parametrize("constants", DATASET_CONSTANTS.values(), ids=DATASET_CONSTANTS)
def test_formula(constants):
    A, B = constants
    counts = np.array([[0, 1, 7], [50, 999, 10_000]])
    found = propensities(counts, 10_000, A, B)
    for place, count in np.ndenumerate(counts):
        C = (math.log(10_000) - 1) * (B + 1) ** A
        assert found[place] == pytest.approx(1 / (1 + C * math.exp(-A * math.log(count + B))))


def test_a_label_with_one_example_has_propensity_one_over_log_n():
    # N_l = 1 cancels (B + 1)^A, so 1/p = 1 + log N − 1 whatever A and B are.
    for A, B in DATASET_CONSTANTS.values():
        assert propensities([1], 5000, A, B)[0] == pytest.approx(1 / math.log(5000))


def test_propensity_grows_with_frequency_within_0_and_1():
    found = propensities(np.arange(3000), 3000, 0.55, 1.5)
    assert (np.diff(found) > 0).all() and found[0] > 0 and found[-1] < 1


def test_worked_example_with_three_labels():
    # A = B = 1 and log N = 2: 1/p = 1 + 2 / (N_l + 1).
    found = propensities([1, 3, 0], math.e**2, 1, 1)
    assert found.tolist() == pytest.approx([1 / 2, 1 / 1.5, 1 / 3])


def test_counts_of_unseen_and_padded_ids_are_zero():
    ids = np.array([[0, 2], [3, -1]], np.int32)
    assert counts_of(ids, np.array([5, 6, 7])).tolist() == [[5, 7], [0, 0]]


def test_arguments_out_of_range():
    with pytest.raises(ConfigError, match="2 training examples are fewer than 3"):
        propensities([1], 2, 0.55, 1.5)
    with pytest.raises(ConfigError, match="B > 0"):
        propensities([1], 10, 0.55, 0)
    with pytest.raises(ConfigError, match="A >= 0"):
        propensities([1], 10, -1, 1.5)


def test_constants_by_name_or_as_a_pair():
    assert propensity_constants("wikipedia") == (0.5, 0.4)
    assert propensity_constants([0.6, 2.6]) == DATASET_CONSTANTS["amazon"]
    with pytest.raises(ConfigError, match="Write 'wikipedia'"):
        propensity_constants("wikpedia")
    with pytest.raises(ConfigError, match="not a pair"):
        propensity_constants((1, 2, 3))


@pytest.mark.parametrize("counts", [[], [[1]], [3, -1]])
def test_counts_must_be_numbers_of_examples(counts):
    with pytest.raises(ConfigError, match="label_counts"):
        checked_counts(counts)
