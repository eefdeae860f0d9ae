import pytest

from tfxc.core.errors import ConfigError
from tfxc.ranker.settings import RankerSettings
from tfxc.recipes.xr_linear.settings import ranker_settings

SIZES = [4, 60, 4108]


def test_one_value_or_one_for_each_layer():
    settings = RankerSettings(threshold=[0.1, 0.2, 0.3], cost_positive=2.0, bias=0.5, seed=7)
    solvers = settings.solvers(SIZES)
    assert [solver.threshold for solver in solvers] == [0.1, 0.2, 0.3]
    assert [solver.cost_positive for solver in solvers] == [2.0] * 3
    assert {solver.bias for solver in solvers} == {0.5}
    assert len({solver.seed for solver in solvers}) == 3
    assert settings.of_layers(SIZES)["only_topk"] == [10] * 3


def test_a_list_of_another_length_tells_the_sizes():
    with pytest.raises(ConfigError, match=r"4, 60, 4,108 nodes") as caught:
        RankerSettings(negatives=["tfn", "man"]).of_layers(SIZES)
    assert caught.value.where == "negatives"


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"post_processor": ["noop", "noop", "l9"]}, "post_processor[2]"),
        ({"negatives": "near"}, "negatives[0]"),
    ],
)
def test_values_that_are_not_allowed(changes, where):
    with pytest.raises(ConfigError) as caught:
        RankerSettings(**changes).of_layers(SIZES)
    assert caught.value.where == where
    with pytest.raises(ConfigError) as of_a_config:
        RankerSettings(**changes).check(SIZES, "recipe.ranker")
    assert of_a_config.value.where == f"recipe.ranker.{where}"
    assert of_a_config.value.problem == caught.value.problem
    RankerSettings().check(SIZES, "recipe.ranker")


@pytest.mark.parametrize(
    "changes",
    [{"only_topk": [10, 0, 10]}, {"relevance_mode": "indcue"}, {"relevance_norm": "l3"}],
)
def test_values_that_are_not_as_declared(changes):
    (name,) = changes
    with pytest.raises(ConfigError, match=f"^{name}: must be "):
        RankerSettings(**changes)
    with pytest.raises(ConfigError, match=rf"^recipe\.ranker\.{name}: must be "):
        ranker_settings(changes)


@pytest.mark.parametrize(
    ("mode", "levels"), [("full-model", [0, 1, 2]), ("matcher", [0]), ("ranker", [1, 2])]
)
def test_levels_of_a_mode(mode, levels):
    assert list(RankerSettings(mode=mode, ranker_levels=2).levels(3)) == levels


def test_modes_that_leave_nothing():
    with pytest.raises(ConfigError, match=r"ranker_levels: 3 is out of range.* 1 to 2"):
        RankerSettings(mode="matcher", ranker_levels=3).levels(3)
    with pytest.raises(ConfigError, match="full-model"):
        RankerSettings(mode="all")
