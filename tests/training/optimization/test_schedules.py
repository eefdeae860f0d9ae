import math
import typing

import pytest
import tensorflow as tf

from tfxc.core.errors import ConfigError
from tfxc.training.optimization.schedules import Name, Schedule, get_schedule

NAMES = typing.get_args(Name)

# name -> (arguments, factor at the start, in the middle, at the end), by hand
PLAIN = {
    "constant": ({}, 1, 1, 1),
    "linear": ({}, 1, 0.5, 0),
    "linear to a tenth": ({"name": "linear", "end": 0.1}, 1, 0.55, 0.1),
    "cosine": ({}, 1, 0.5, 0),
    "cosine to a tenth": ({"name": "cosine", "end": 0.1}, 1, 0.55, 0.1),
    "polynomial": ({"power": 2}, 1, 0.25, 0),
    "polynomial to a half": ({"name": "polynomial", "power": 3, "end": 0.5}, 1, 0.5625, 0.5),
    "exponential": ({"end": 0.01}, 1, 0.1, 0.01),
    "steps": ({}, 1, 0.1, 0.01),
    "steps of other places": ({"name": "steps", "milestones": [0.65], "gamma": 0.5}, 1, 1, 0.5),
}


def factor(schedule, step):
    return float(schedule(tf.constant(step, tf.int64)))


@pytest.mark.parametrize("name", PLAIN)
def test_start_middle_end(name):
    arguments, *expected = PLAIN[name]
    schedule = Schedule(200, **{"name": name, **arguments})
    found = [factor(schedule, step) for step in (0, 100, 200)]
    assert found == pytest.approx(expected, abs=1e-6)
    assert factor(schedule, 500) == pytest.approx(expected[-1], abs=1e-6)


@pytest.mark.parametrize("name", PLAIN)
def test_warm_up(name):
    arguments, *expected = PLAIN[name]
    warm = {"warmup": 0.2, "warmup_start": 0.1}
    schedule = Schedule(250, **{"name": name, **arguments, **warm})
    rise = [factor(schedule, step) for step in (0, 25, 49)]
    assert rise == pytest.approx([0.1, 0.55, 0.1 + 0.9 * 49 / 50], abs=1e-6)
    # The 200 steps behind the warm-up hold the whole decay; milestones are shares of all 250.
    decay = [factor(schedule, step) for step in (50, 150, 250)]
    assert decay == pytest.approx(expected, abs=1e-6)


def test_every_name_is_tested():
    assert {PLAIN[name][0].get("name", name) for name in PLAIN} == set(NAMES)


def test_quarter_of_a_cosine():
    schedule = Schedule(100, name="cosine")
    assert factor(schedule, 25) == pytest.approx((1 + math.cos(math.pi / 4)) / 2, abs=1e-6)


def test_linear_warm_up_then_a_square():
    """MHE's face training: lr t/w for t < w, then lr (1 - (t - w)/(T - w))^2."""
    total, warm = 250, 20
    schedule = Schedule(total, name="polynomial", power=2, warmup=warm / total)
    expected = [
        t / warm if t < warm else (1 - (t - warm) / (total - warm)) ** 2 for t in range(total)
    ]
    found = [factor(schedule, step) for step in range(total)]
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("steps_per_epoch", [5, 195.3125])
def test_a_cosine_per_epoch(steps_per_epoch):
    """PyTorch's CosineAnnealingLR(T_max=epochs, eta_min=1e-5) on a rate of 0.1."""
    epochs = 8
    total = math.ceil(epochs * steps_per_epoch)
    schedule = Schedule(total, steps_per_epoch, name="cosine", end=1e-4, per_epoch=True)
    for step in range(0, total, 1 if total < 100 else 13):
        epoch = int(step / steps_per_epoch)
        rate = 1e-5 + (0.1 - 1e-5) * (1 + math.cos(math.pi * epoch / epochs)) / 2
        assert 0.1 * factor(schedule, step) == pytest.approx(rate, rel=1e-5)


def test_the_warm_up_rises_each_step_also_where_the_decay_moves_per_epoch():
    schedule = Schedule(40, 10, name="linear", warmup=0.25, per_epoch=True)
    found = [factor(schedule, step) for step in (0, 5, 9, 10, 19, 20, 29, 30, 39)]
    expected = [0, 0.5, 0.9, 1, 1, 2 / 3, 2 / 3, 1 / 3, 1 / 3]
    assert found == pytest.approx(expected, abs=1e-6)


def test_milestones_count_from_their_step_on():
    schedule = Schedule(100, name="steps")
    found = [factor(schedule, step) for step in (49, 50, 74, 75)]
    assert found == pytest.approx([1, 0.1, 0.1, 0.01], abs=1e-6)


@pytest.mark.parametrize("per_epoch", [False, True])
def test_milestones_are_shares_of_all_steps_also_behind_a_warm_up(per_epoch):
    schedule = Schedule(100, 10, name="steps", warmup=0.2, per_epoch=per_epoch)
    found = [factor(schedule, step) for step in (10, 20, 49, 50, 74, 80)]
    assert found == pytest.approx([0.5, 1, 1, 0.1, 0.1, 0.01], abs=1e-6)


def test_in_a_graph():
    schedule = Schedule(100, name="linear", warmup=0.1)
    compiled = tf.function(schedule, autograph=False)
    for step in (0, 3, 10, 55, 99):
        found = float(compiled(tf.constant(step, tf.int64)))
        assert found == pytest.approx(factor(schedule, step), abs=1e-6)


def test_a_single_step():
    for name in NAMES:
        value = factor(Schedule(1, name=name, end=0.1, warmup=0.5), 0)
        assert 0 <= value <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "cosin"}, "name: must be one of .*, not 'cosin', did you mean 'cosine'"),
        ({"warmup": 1.0}, r"warmup: must be a number of at least 0 and below 1, not 1.0"),
        ({"name": "exponential"}, "must be a positive number with schedule 'exponential'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Schedule(100, **arguments)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "cosine", "power": 2}, r"schedule\.power: .*'cosine' does not use power"),
        ({"name": "constant", "end": 0.1}, "does not use end.*or choose schedule linear or cosine"),
        ({"name": "polynomial", "power": "2"}, "power: must be a number, not '2'"),
        ({"name": "linear", "warm_up": 0.1}, "no argument 'warm_up', did you mean 'warmup'"),
    ],
)
def test_bad_sections(section, message):
    with pytest.raises(ConfigError, match=message):
        get_schedule(section)


def test_a_section_of_a_config():
    schedule = get_schedule({"name": "polynomial", "power": 2, "warmup": 0.5}, total_steps=100)
    assert factor(schedule, 25) == 0.5
    assert factor(schedule, 75) == 0.25
