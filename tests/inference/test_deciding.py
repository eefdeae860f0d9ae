"""Decisions of lists: what is learned of all examples, and measured by halves."""

import numpy as np

from tfxc.core.config import parse_config
from tfxc.core.messages import NOTES
from tfxc.inference.deciding import learned_of_lists


def test_what_half_of_the_examples_cannot_teach_is_not_measured(caplog):
    """Every second example is wrong, and less sure: of those alone nothing can be answered."""
    wrong = np.arange(200) % 2 == 1
    scores = np.where(wrong, 0.1, 0.9).astype(np.float32)[:, None]
    ids = np.zeros((200, 1), np.int32)
    section = {"labels": {"name": "top_k", "count": 1}, "abstain": {"risk": 0.2}}
    tree = {"run": "run", "data": {"name": "any", "train": "x"}, "recipe": {"name": "xr_linear"}}
    settings = parse_config({**tree, "decision": section}).decision
    with caplog.at_level("WARNING", NOTES.name):
        learned = learned_of_lists(
            ids,
            scores,
            ~wrong[:, None],
            wrong[:, None].astype(np.int32),
            settings,
            np.ones(2),
            True,
        )
    assert "the decision is not measured: of half of the examples, all 100 labels" in caplog.text
    assert learned.measured == {} and 0.1 < learned.fitted.rule.abstain <= 0.9
