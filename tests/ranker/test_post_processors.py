"""Formulas against double precision."""

import numpy as np
import pytest

from tfxc.core.errors import ConfigError
from tfxc.ops.search.beam_search.post_processors import POST_PROCESSORS
from tfxc.ranker.post_processors import post_processor

MARGINS = np.linspace(-30, 30, 241)


def formula(name, margins):
    if name == "noop":
        return margins
    if name.endswith("sigmoid"):
        value = -np.logaddexp(0, -margins)
        return value if name.startswith("log") else np.exp(value)
    power = int(name.removeprefix("log-")[1])
    distance = np.clip(1 - margins, 0, None) ** power
    return -distance if name.startswith("log") else np.exp(-distance)


@pytest.mark.parametrize("name", list(POST_PROCESSORS))
def test_formula(name):
    rule = post_processor(name)
    found = rule.transform(MARGINS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, formula(name, MARGINS), rtol=1e-5, atol=1e-30)
    assert (np.diff(found) >= 0).all()
    expected = {"noop": found}.get(name, found * 0.5 if name[:3] != "log" else found + 0.5)
    np.testing.assert_allclose(rule.combine(found, np.float32(0.5)), expected, rtol=1e-6)


def test_names():
    assert len(POST_PROCESSORS) == 11
    assert post_processor(POST_PROCESSORS["sigmoid"]) is POST_PROCESSORS["sigmoid"]
    with pytest.raises(ConfigError, match=r"here: must be one of noop, .*log-l4-hinge, not 'tanh'"):
        post_processor("tanh", where="here")
    assert post_processor("log-sigmoid").transform([-200.0]).tolist() == [-200]
