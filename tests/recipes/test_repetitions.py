import pytest

from tests.contracts.recipe import RecipeContract
from tfxc.config import parse_config
from tfxc.errors import ConfigError
from tfxc.recipes.repetitions import Repetitions, repetition_count


class TestRepetitions(RecipeContract):
    name = "repetitions"
    arguments = {"parallel": 2, "together": True}  # noqa: RUF012 (read only)


def config_with_head(**head):
    return parse_config(
        {
            "run": "unused",
            "data": {"name": "unused", "train": "unused"},
            "encoder": {"name": "bag_mlp"},
            "head": head,
            "objective": {"name": "sigmoid"},
        }
    )


def test_count_of_the_config_or_the_head():
    assert repetition_count(config_with_head(name="mach", num_buckets=4, num_repetitions=3)) == 3
    assert repetition_count(config_with_head(name="mach", num_buckets=4)) == 16


def test_a_head_without_repetitions():
    with pytest.raises(ConfigError, match=r"needs a head with repetitions, found 'dense'.*'mach'"):
        repetition_count(config_with_head(name="dense"))


def test_impossible_parallel():
    with pytest.raises(ConfigError, match=r"recipe.parallel: parallel must be at least 1, found 0"):
        Repetitions(parallel=0)
