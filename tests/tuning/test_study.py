"""A search by Optuna that is killed goes on with the settings of one that is not."""

import pytest

pytest.importorskip("optuna", reason="the extra search is not installed")

from tests.tiny import tiny_tree
from tfxc.core.config import parse_config
from tfxc.tuning.space import Values
from tfxc.tuning.study import Study

TRIED = [
    Values("encoder.dropout", None, 0.0, 0.6),
    Values("training.optimizer.learning_rate", None, 1e-4, 1e-1, logarithmic=True),
]
TRIALS = 14  # the first ten are drawn at random


def result_of(changes):
    dropout, rate = changes.values()
    return 1 - (dropout - 0.2) ** 2 - (rate - 0.01) ** 2


def search(folder, kill_at=None, suggested=2):
    """Settings that are tried, in order, by one start of a search.

    Args:
        kill_at: number of the trial in which the process dies.
        suggested: how many keys of it have a value by then; 2 means that it is being trained.
    """
    study = Study(folder, parse_config(tiny_tree(folder)), TRIED, "P@1")
    done = study.resume(seed=3, jobs=1)
    tried = [changes for changes, _, _ in done]
    for number in range(len(done), TRIALS):
        if number == kill_at and suggested < 2:
            study.tried = TRIED[:suggested]
            study.ask()
            return tried
        trial, changes = study.ask()
        if number == kill_at:
            return tried
        study.report(trial, result_of(changes))
        tried.append(changes)
    return tried


@pytest.fixture(scope="module")
def expected(tmp_path_factory, quick_database):
    return search(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("suggested", [0, 1, 2])
def test_a_killed_search_tries_the_same_settings(tmp_path, expected, suggested):
    for kill_at in (2, 2, 11):
        assert search(tmp_path, kill_at, suggested) == expected[:kill_at]
    assert search(tmp_path) == expected
