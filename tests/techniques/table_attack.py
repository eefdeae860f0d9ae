"""What every attack on the table must do."""

import keras
import numpy as np
import pytest

from tests.techniques.one_step import (
    applied,
    assert_gradients,
    bag_model,
    bags,
    dense_gradients,
    text_model,
    texts,
    values_of,
)
from tfxc.core.errors import ConfigError
from tfxc.encoders.precomputed import Precomputed
from tfxc.heads.dense import Dense
from tfxc.model import XCModel
from tfxc.objectives.softmax import Softmax

MODELS = {
    "bags": (bag_model, bags),
    "mach": (lambda: bag_model(repetitions=1), bags),
    "mach with separate trunks": (lambda: bag_model(repetitions=2), bags),
    "texts": (text_model, texts),
}


class TableAttackTests:
    """Inherit, with ``strong()``, an attack that moves much, and ``expected_moves``."""

    def strong(self):
        """A technique whose perturbations are large."""
        raise NotImplementedError

    def expected_moves(self, gradient_at):
        """The last perturbation, by NumPy.

        Args:
            gradient_at: function of a perturbation of the whole table, or None -> the gradient.
        """
        raise NotImplementedError

    def expected(self, model, batch, batch_size=None):
        """Clean loss, and the sum of clean gradients and those at the last point."""
        tables = model.encoder.tables
        at = [id(v) for v in model.trainable_variables]
        places = [at.index(id(table)) for table in tables]
        loss, clean = dense_gradients(model, batch, batch_size=batch_size)
        moves = []
        for table, place in zip(tables, places, strict=True):

            def gradient_at(move, table=table, place=place):
                moved = [] if move is None else [(table, move)]
                return dense_gradients(model, batch, moved, batch_size)[1][place]

            moves.append((table, self.expected_moves(gradient_at)))
        _, perturbed = dense_gradients(model, batch, moves, batch_size)
        assert max(np.abs(a - b).max() for a, b in zip(clean, perturbed, strict=True)) > 1e-3
        return loss, [one + other for one, other in zip(clean, perturbed, strict=True)]

    @pytest.mark.parametrize("name", MODELS)
    def test_equals_a_dense_computation(self, name):
        make, batch = MODELS[name]
        loss, gradients = self.expected(make(), batch())
        found_loss, found = applied(make(), [self.strong()], [batch()])
        assert found_loss == pytest.approx(loss, rel=1e-5)
        assert_gradients(found, gradients)

    def test_each_micro_batch_is_attacked_by_itself(self):
        parts = [bags([0, 1]), bags([2, 3])]
        wanted = [self.expected(bag_model(), part, batch_size=4) for part in parts]
        loss, found = applied(bag_model(), [self.strong()], parts)
        assert loss == pytest.approx(sum(each for each, _ in wanted), rel=1e-5)
        assert_gradients(found, [a + b for a, b in zip(*(g for _, g in wanted), strict=True)])

    def test_weights_do_not_change_to_the_bit(self):
        model = bag_model()
        before = values_of(model)
        applied(model, [self.strong()], [bags()], learning_rate=1e-30)
        for one, other in zip(values_of(model), before, strict=True):
            np.testing.assert_array_equal(one, other)

    # Of the two, float16 has the narrower range, and a loss scale.
    @pytest.mark.parametrize(
        "precision", [pytest.param("mixed_bfloat16", marks=pytest.mark.slow), "mixed_float16"]
    )
    def test_mixed_precision(self, precision):
        _, gradients = self.expected(text_model(), texts())
        keras.config.set_dtype_policy(precision)
        _, found = applied(text_model(), [self.strong()], [texts()], precision=precision)
        error = sum(np.abs(a - b).sum() for a, b in zip(found, gradients, strict=True))
        assert error < 0.06 * sum(np.abs(g).sum() for g in gradients)

    def test_an_encoder_without_a_table_is_refused(self):
        model = XCModel(Precomputed(4), Dense(3), Softmax())
        model(np.ones((2, 4), np.float32))
        with pytest.raises(ConfigError, match="but encoder Precomputed has none"):
            applied(model, [self.strong()], [bags()])
