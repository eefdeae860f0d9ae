"""Values of --try, and the settings that they make."""

import argparse
import random

import pytest

from tfxc.core.errors import ConfigError
from tfxc.tuning import space


def test_values():
    assert space.values_of("a.b=1,0.5,x").choices == [1, 0.5, "x"]
    assert space.values_of("a=[[41,40],[6,271]]").choices == [[41, 40], [6, 271]]
    assert space.values_of("a=true").choices == [True]
    assert space.values_of("a=../b.csv,../c.csv").choices == ["../b.csv", "../c.csv"]
    assert space.values_of('a=["x..y"]').choices == ["x..y"]
    found = space.values_of("a=log:1e-4..1e-2")
    assert (found.low, found.high, found.logarithmic, found.integers) == (1e-4, 1e-2, True, False)
    assert space.values_of("a=1..8").integers
    drawn = [found.draw(random.Random(seed)) for seed in range(400)]
    assert min(drawn) >= 1e-4 and max(drawn) <= 1e-2
    assert 0.4 < sum(value < 1e-3 for value in drawn) / 400 < 0.6, "even in the logarithm"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "'a' is not of the form KEY=VALUES"),
        ("a=", "'a=' is not of the form KEY=VALUES"),
        ("a=3..x", "'3..x' is not of the form LOW..HIGH"),
        ("a=3..1", "'3..1' is not a range: LOW must be below HIGH"),
        ("a=3..Infinity", "LOW must be below HIGH"),
        ("a=-Infinity..3", "LOW must be below HIGH"),
        ("a=log:0..1", "LOW must be above 0 and below HIGH"),
        ("a=[]", "a has no values to try"),
    ],
)
def test_bad_values(text, message):
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        space.values_of(text)


def test_settings():
    lists = [space.values_of("a=1,2"), space.values_of("b=x,y,x")]
    found = space.settings(lists, None, 0)
    assert found == [{"a": a, "b": b} for a in (1, 2) for b in ("x", "y")]
    some = space.settings(lists, 3, 0)
    assert len(some) == 3 and all(each in found for each in some)
    assert some == space.settings(lists, 3, 0)
    assert len(space.settings(lists, 100, 0)) == 4, "there are no more"
    with pytest.raises(ConfigError, match="Add --random NUMBER"):
        space.settings([space.values_of("a=1..2")], None, 0)
    with pytest.raises(ConfigError, match="the key 'a' is named twice"):
        space.settings([lists[0], lists[0]], None, 0)
