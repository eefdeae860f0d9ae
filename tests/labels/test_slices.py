import collections
import json
import lzma
import os
from pathlib import Path

import numpy as np
import pytest

from tfxc.core.errors import ConfigError
from tfxc.labels.slices import frequency_slices

DATA = Path(os.environ.get("TFXC_DATA", Path(__file__).parents[3] / "shared" / "data"))


def test_default_thresholds():
    slices = frequency_slices([120, 3, 0, 49, 50, 1])
    assert slices.names == ("frequent", "few-shot", "zero-shot")
    assert slices.slice_of_label.tolist() == [0, 1, 2, 1, 0, 1]
    assert slices.sizes() == {"frequent": 2, "few-shot": 3, "zero-shot": 1}


def test_own_thresholds_name_their_ranges():
    slices = frequency_slices([0, 4, 5, 20, 21], bounds=(4, 20))
    assert slices.names == (">20", "5-20", "0-4")
    assert slices.slice_of_label.tolist() == [2, 2, 1, 1, 0]
    assert frequency_slices([1], bounds=(0,)).names == (">0", "0")


def test_shares_by_brute_force():
    counts = np.random.default_rng(0).zipf(1.4, 500).clip(0, 5000) - 1
    slices = frequency_slices(counts, rule="shares", bounds=(0.2, 0.7))
    order = sorted(range(500), key=lambda label: (-counts[label], label))
    held, expected = 0, {}
    for label in order:
        share = held / counts.sum()
        expected[label] = 2 if counts[label] == 0 else int(share >= 0.2) + int(share >= 0.7)
        held += counts[label]
    assert slices.slice_of_label.tolist() == [expected[label] for label in range(500)]
    assert slices.names == ("head", "torso", "tail") and all(slices.sizes().values())


def test_shares_worked_example():
    # 12 occurrences: 4 | 2 2 | 1 1 1 1; the first label alone holds the first third.
    slices = frequency_slices([1, 2, 4, 1, 2, 1, 1, 0], rule="shares")
    assert slices.slice_of_label.tolist() == [2, 1, 0, 2, 1, 2, 2, 2]


def test_labels_that_never_occur_are_tail():
    assert frequency_slices([0, 0], rule="shares").slice_of_label.tolist() == [2, 2]


def test_lookup_puts_unseen_labels_into_the_last_slice():
    slices = frequency_slices([100, 1])
    ids = np.array([[0, 1], [2, -1]])
    assert slices.lookup(ids).tolist() == [[0, 1], [2, -1]]


def test_names_of_ones_own():
    slices = frequency_slices([9, 1], bounds=(5,), names=("head", "tail"))
    assert slices.sizes() == {"head": 1, "tail": 1}
    with pytest.raises(ConfigError, match="2 different names"):
        frequency_slices([9, 1], bounds=(5,), names=("head", "torso", "tail"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "quantiles"}, "thresholds or shares"),
        ({"bounds": (50, 0)}, "ascending"),
        ({"bounds": ()}, "ascending"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        frequency_slices([1, 2], **arguments)


def test_eurlex57k_slices_have_the_published_sizes():
    path = DATA / "eurlex57k" / "train.jsonl.xz"
    if not path.is_file():
        pytest.skip(f"{path} is not here (TFXC_DATA)")
    counts = collections.Counter()
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            # Only the end of the line: the texts are long and not needed.
            counts.update(set(json.loads("{" + line[line.rindex('"labels"') :])["labels"]))
    slices = frequency_slices(list(counts.values()))
    # Chalkidis et al., ACL 2019, section 3.
    assert slices.sizes() == {"frequent": 746, "few-shot": 3362, "zero-shot": 0}
