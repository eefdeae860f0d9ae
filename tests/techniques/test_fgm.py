import numpy as np
import pytest

from tests.contracts.technique import TechniqueContract
from tests.techniques.one_step import (
    LABELS,
    NUM_FEATURES,
    applied,
    assert_gradients,
    bag_model,
    bags,
)
from tests.techniques.table_attack import TableAttackTests
from tfxc.core.errors import ConfigError
from tfxc.techniques.fgm import FGM


class TestFGM(TechniqueContract, TableAttackTests):
    name = "fgm"

    def strong(self):
        return FGM(epsilon=0.7)

    def expected_moves(self, gradient_at):
        gradient = gradient_at(None)
        return 0.7 * gradient / np.sqrt((gradient**2).sum())


def by_hand(x, target, table, bias, kernel, kernel_bias):
    """Gradients of the mean cross-entropy of a linear network."""
    hidden = x @ table + bias
    logits = hidden @ kernel + kernel_bias
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    up = (p - target) / len(x)
    down = up @ kernel.T
    return [x.T @ down, down.sum(0), hidden.T @ up, up.sum(0)]


def test_linear_network_by_hand():
    model, batch = bag_model(activation="linear"), bags()
    x, target = np.zeros((4, NUM_FEATURES)), np.zeros((4, 9))
    features, splits = batch["features"], batch["features"]["row_splits"]
    for row in range(4):
        part = slice(splits[row], splits[row + 1])
        np.add.at(x[row], features["ids"][part], features["weights"][part])
        true = LABELS[row][LABELS[row] >= 0]
        target[row, true] = 1 / len(true)
    weights = [variable.numpy().astype(np.float64) for variable in model.trainable_variables]
    clean = by_hand(x, target, *weights)
    moved = weights[0] + 0.5 * clean[0] / np.linalg.norm(clean[0])
    both = zip(clean, by_hand(x, target, moved, *weights[1:]), strict=True)
    _, found = applied(model, [FGM(epsilon=0.5)], [batch])
    assert_gradients(found, [one + other for one, other in both])


def test_bad_epsilon():
    with pytest.raises(ConfigError, match=r"epsilon: must be .*positive number, not 0"):
        FGM(epsilon=0)
