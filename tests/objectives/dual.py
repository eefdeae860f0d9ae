"""What every dual objective must do, and trainings of toys with it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfxc
from tests.contracts.layers import assert_equal
from tests.contracts.objective import (
    COLUMNS,
    POSITIVES,
    ObjectiveContract,
    dense_target,
    group_of,
    random_logits,
    some_valid,
)
from tests.objectives.dual_by_numpy import Toy
from tfxc.core import registry
from tfxc.core.config import TrainingSettings
from tfxc.encoders.precomputed import Precomputed
from tfxc.heads.sampled.head import Sampled
from tfxc.model import XCModel
from tfxc.ops.logit_group import LogitGroup
from tfxc.training.optimization.optimizers import SGD
from tfxc.training.optimization.schedules import Schedule
from tfxc.training.step import TrainStep

ARGUMENTS = {
    "scent": ("log_dual_learning_rate",),
    "sox": ("last_share",),
    "asgd": ("dual_learning_rate",),
    "umax": ("dual_learning_rate", "slack"),
    "asgd_softplus": ("dual_learning_rate", "smoothing"),
    "bsgd": (),
}
NU = np.array([0.3, np.nan, 5.0, -1.5, 0.0, np.nan, 2.0], np.float32)


def objective_of(method, num_examples, num_groups=1):
    """The objective of a ``Method``."""
    values = zip(ARGUMENTS[method.name], (method.rate, method.more), strict=False)
    section = {"name": method.name, **dict(values)}
    return registry.create("objective", section, num_examples=num_examples, num_groups=num_groups)


class ToyTraining:
    """A ``Toy`` trained by ``TrainStep``, from first to last step or in parts."""

    def __init__(self, toy, method, **head):
        self.toy = toy
        objective = objective_of(method, len(toy.labels))
        self.model = XCModel(
            Precomputed(toy.features.shape[1]), Sampled(len(toy.weights), **head), objective
        )
        self.model(toy.features[:2])
        self.model.head.kernel.assign(toy.weights)
        self.per_epoch = toy.order.shape[1] // toy.batch
        steps = self.per_epoch * len(toy.order)
        schedule = Schedule(steps, self.per_epoch, name="cosine", per_epoch=True)
        settings = TrainingSettings(batch_size=toy.batch)
        optimizer = SGD(method.learning_rate)
        self.step = TrainStep(
            self.model, optimizer, schedule, settings, tf.distribute.get_strategy()
        )

    def run(self, first=0, last=16):
        """Losses of the steps ``first`` to ``last``."""
        rows = self.toy.order.reshape(-1, self.toy.batch)
        labels = self.toy.labels[:, None].astype(np.int32)
        batches = {"features": self.toy.features[rows], "labels": labels[rows]}
        batches["example_index"] = rows.astype(np.int64)
        parts = {name: values[first:last] for name, values in batches.items()}
        iterator, losses = iter(tf.data.Dataset.from_tensor_slices(parts)), []
        for number in range(first, last):
            if number % self.per_epoch == 0:
                epoch = number // self.per_epoch + 1
                self.model.objective.on_epoch(epoch, len(self.toy.order))
            losses.append(float(self.step.run(iterator)))
        return losses

    @property
    def result(self):
        """Weights and nu (None without)."""
        tables = self.model.objective.tables
        return self.model.head.kernel.numpy(), tables[0].numpy() if len(tables) else None


class TrajectoryTests:
    """Inherit, and set the golden ``Method`` and the name of its file."""

    method = None
    golden = None

    def assert_trajectory(self, training, found, weights, nu, losses):
        """A finished training, and its losses, are as expected."""
        np.testing.assert_allclose(found, losses, atol=1e-5, rtol=0)
        np.testing.assert_allclose(training.result[0], weights, atol=1e-5, rtol=0)
        if nu is not None:
            np.testing.assert_allclose(training.result[1], nu, atol=1e-5, rtol=0)

    def test_golden_trajectory(self, golden_folder):
        with np.load(golden_folder / f"dual_{self.golden}.npz") as stored:
            golden = {name: stored[name] for name in stored.files}
        toy = Toy(*(golden[name] for name in ("X", "y", "W0", "order")))
        training = ToyTraining(toy, self.method)
        expected = golden["W"], golden.get("nu"), golden["losses"]
        self.assert_trajectory(training, training.run(), *expected)

    def test_trajectory_by_numpy_and_from_saved_variables(self):
        toy = Toy.random()
        whole, second = (ToyTraining(toy, self.method) for _ in range(2))
        losses = whole.run(0, 7)
        pairs = zip(second.step.variables_to_save, whole.step.variables_to_save, strict=True)
        for target, source in pairs:
            target.assign(source)
        rest = whole.run(7, 16)
        weights, nu, expected = toy.by_numpy(self.method)
        nu = None if self.golden == "bsgd" else nu
        self.assert_trajectory(whole, losses + rest, weights, nu, expected)
        assert second.run(7, 16) == rest
        assert_equal(second.result, whole.result)


class DualContract(TrajectoryTests, ObjectiveContract):
    """Inherit, and set ``method`` and ``golden``."""

    index = np.array([3, 0, 5, 1, 6])
    constant = None

    def make(self):
        """Examples 1 and 5 are new."""
        objective = objective_of(self.method, len(NU))
        objective.build(None)
        objective.tables[0].assign(NU)
        return objective

    def rows(self, logits, target, valid):
        """Rows with a true column and their negatives' scores."""
        rows = [row for row in range(5) if target[row].any()]
        scores = []
        for row in rows:
            true = logits[row][target[row] > 0].mean()
            scores.append(logits[row][valid[row] & (target[row] == 0)] - true)
        return rows, scores

    def step(self, logits, target, valid):
        """Rows, nu of the loss and new nu."""
        rows, scores = self.rows(logits, target, valid)
        nu, true = NU[self.index[rows]].astype(float), target[rows].sum(axis=1)
        return rows, *self.method.step(nu, scores, self.method.rate, true)

    def reference(self, logits, target, valid):
        _, scores = self.rows(logits, target, valid)
        rows, used, _ = self.step(logits, target, valid)
        used = used if self.constant is None else self.constant
        losses = np.zeros(5)
        losses[rows] = self.method.losses(scores, used, target[rows].sum(axis=1))
        return losses

    @pytest.mark.parametrize("valid", [None, some_valid()], ids=["all", "some"])
    def test_gradient_equals_differences_of_the_formula(self, valid):
        """nu is a constant of the gradient."""
        everything = np.ones((5, COLUMNS), bool) if valid is None else valid
        logits = random_logits(1.0).astype(float)
        self.constant = self.step(logits, dense_target(), everything)[1]
        super().test_gradient_equals_differences_of_the_formula(valid)

    @pytest.mark.parametrize("valid", [None, some_valid()], ids=["all", "some"])
    def test_the_table_moves_where_the_batch_is(self, valid):
        objective, logits = self.make(), random_logits()
        self.loss(logits, valid, objective)
        everything = np.ones((5, COLUMNS), bool) if valid is None else valid
        rows, _, new = self.step(logits.astype(float), dense_target(), everything)
        expected = NU.copy()
        expected[self.index[rows]] = new
        np.testing.assert_allclose(objective.tables[0].numpy(), expected, rtol=1e-4, atol=1e-5)
        assert not objective.trainable_variables

    def test_only_training_with_an_index_changes_the_table(self):
        objective, group = self.make(), group_of(random_logits())
        index = tf.constant(self.index, tf.int64)
        known = objective(group, index, training=False)
        new = objective(group)
        assert_equal(objective.tables[0].numpy(), NU)
        assert_equal(objective(group, index), known)
        objective = self.make()
        objective.tables[0].assign(np.full(len(NU), np.nan))
        np.testing.assert_allclose(objective(group, index), new, rtol=1e-6)

    @pytest.mark.parametrize("reach", [1e4, -1e4])
    def test_finite_far_from_the_table(self, reach):
        logits = tf.constant(np.where(random_logits() > 0, 1e4, -1e4).astype(np.float32))
        objective = self.make()
        objective.tables[0].assign(np.full(len(NU), reach))
        for _ in range(3):
            with tf.GradientTape() as tape:
                tape.watch(logits)
                loss = self.loss(logits, objective=objective)
            assert np.isfinite(loss).all()
            assert np.isfinite(tape.gradient(loss, logits)).all()
            assert np.isfinite(objective.tables[0].numpy()).all()

    def test_rows_without_a_rival_are_left_alone_and_counted(self):
        objective, valid = self.make(), np.ones((5, COLUMNS), bool)
        valid[0] = dense_target()[0] > 0
        valid[3] = dense_target()[3] > 0
        assert objective.logged_metrics()["rows_without_negatives"] == 0
        logits = tf.constant(random_logits())
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = self.loss(logits, valid, objective)
        assert (loss.numpy() == 0).tolist() == [True, True, False, True, False]
        assert (tape.gradient(loss, logits).numpy() != 0).any(axis=1).tolist() == [
            row in (2, 4) for row in range(5)
        ]
        moved = objective.tables[0].numpy()
        assert_equal(moved[[0, 1, 2, 3, 4]], NU[[0, 1, 2, 3, 4]])
        assert np.isfinite(moved[[5, 6]]).all() and moved[6] != NU[6]
        assert objective.logged_metrics()["rows_without_negatives"] == 2

    def test_a_batch_of_one_class(self):
        objective, positives = self.make(), tf.zeros((5, 1), tf.int32)
        index = tf.constant(self.index, tf.int64)
        loss = objective(LogitGroup(tf.ones((5, 1)), positives), index)
        assert not loss.numpy().any()
        assert_equal(objective.tables[0].numpy(), NU)
        assert objective.logged_metrics()["rows_without_negatives"] == 5

    def test_an_example_that_occurs_twice_is_updated_from_its_first_place(self):
        twice, once = self.make(), self.make()
        logits, positives = random_logits()[:2], tf.constant(POSITIVES[[0, 2]])
        twice(LogitGroup(tf.constant(logits), positives), tf.constant([2, 2], tf.int64))
        group = LogitGroup(tf.constant(logits[:1]), positives[:1])
        once(group, tf.constant([2], tf.int64))
        np.testing.assert_allclose(twice.tables[0].numpy(), once.tables[0].numpy(), rtol=1e-6)

    def test_a_weight_is_that_many_columns(self):
        logits = random_logits()
        weighted = np.array([1, 1, 1, 3, 1, 2, 1, 1, 1])
        positives = tf.constant([[4], [-1], [8], [1], [0]])
        log_weights = tf.math.log(tf.constant(weighted, tf.float32))
        repeated = np.repeat(np.arange(COLUMNS), weighted)
        column = [int(np.flatnonzero(repeated == c)[0]) if c >= 0 else -1 for c in (4, -1, 8, 1, 0)]
        index, one, other = tf.constant(self.index, tf.int64), self.make(), self.make()
        group = LogitGroup(tf.constant(logits), positives, log_weights=log_weights)
        found = one(group, index)
        again = LogitGroup(tf.constant(logits[:, repeated]), tf.constant(column)[:, None])
        np.testing.assert_allclose(found, other(again, index), rtol=1e-5)
        np.testing.assert_allclose(one.tables[0].numpy(), other.tables[0].numpy(), rtol=1e-5)

    def test_each_group_has_its_table(self):
        objective = objective_of(self.method, 7, num_groups=2)
        groups = group_of(random_logits()), group_of(random_logits(seed=3))
        index = tf.constant(self.index, tf.int64)
        total = objective.of_groups(groups, index)
        expected = 0
        for number, group in enumerate(groups):
            single = objective_of(self.method, 7)
            expected += single(group, index)
            assert_equal(objective.tables[number].numpy(), single.tables[0].numpy())
        np.testing.assert_allclose(total, expected, rtol=1e-6)

    @pytest.mark.parametrize("wrong", [-1, len(NU)])
    def test_an_index_outside_the_table(self, wrong):
        index = tf.constant([0, 1, 2, 3, wrong], tf.int64)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"is not in \[0, 7\)"):
            self.make()(group_of(random_logits()), index)

    def test_mixed_precision_keeps_the_table_float32(self):
        keras.config.set_dtype_policy("mixed_float16")
        objective = self.make()
        loss = self.loss(tf.cast(random_logits(), tf.float16), objective=objective)
        assert loss.dtype == tf.float32
        assert objective.tables[0].dtype == "float32"

    def test_numbers_that_are_none_do_not_enter_the_table(self):
        objective, logits = self.make(), random_logits()
        logits[0, 0], logits[4, 0] = np.nan, np.inf
        self.loss(logits, objective=objective)
        assert_equal(objective.tables[0].numpy()[[3, 6]], NU[[3, 6]])

    def test_keras_file_of_a_whole_model(self, tmp_path):
        model = ToyTraining(Toy.random(), self.method).model
        model.objective.tables[0].assign(np.linspace(-1, 1, 64))
        model.save(tmp_path / "model.keras")
        loaded = tfxc.load_model(tmp_path / "model.keras")
        assert_equal(loaded.objective.get_weights(), model.objective.get_weights())


class CappedContract(DualContract):
    """For the methods whose step on nu is exponential in the scores."""

    def trained(self, scores, nu, steps=1, rate=None):
        """The objective after steps of one example with these scores of its negatives."""
        objective = objective_of(self.method, 1)
        objective.build(None)
        objective.tables[0].assign([nu])
        objective.rate.assign(objective.rate if rate is None else rate)
        logits = tf.Variable([[0.0, *scores]])
        group, index = LogitGroup(logits, tf.constant([[0]])), tf.constant([0], tf.int64)
        for _ in range(steps):
            with tf.GradientTape() as tape:
                loss = objective(group._replace(logits=tf.identity(logits)), index)
        gradient = tape.gradient(loss, logits)
        return objective, float(objective.tables[0][0]), np.asarray(gradient)[0]

    @pytest.mark.parametrize("reach", [17.0, 60.0, 100.0, 1e4])
    def test_a_jump_ends_where_it_leads_to(self, reach):
        objective, nu, gradient = self.trained([reach, reach], 0.0)
        assert nu == pytest.approx(reach)
        np.testing.assert_allclose(gradient, [-1, 0.5, 0.5], rtol=1e-4)
        assert objective.logged_metrics() == {"rows_without_negatives": 0, "rows_capped": 1}
        assert (
            "1 rows scored other classes so far above their dual variable"
            in objective.final_message()
        )

    def test_an_example_learns_again_after_a_jump(self):
        _, nu, _ = self.trained([40.0, 40.0], 0.0)
        objective, nu, gradient = self.trained([0.0, 0.0], nu, steps=100)
        assert abs(nu) < 0.1 and gradient[0] < -0.9
        assert objective.logged_metrics()["rows_capped"] == 0 and not objective.final_message()

    @pytest.mark.parametrize("reach", [2.0, 9.0, 16.0])
    def test_a_step_that_float32_can_take_back_is_the_published_one(self, reach):
        objective, nu, _ = self.trained([reach, reach], 0.0)
        _, expected = self.method.step(np.zeros(1), [np.full(2, reach)], self.method.rate)
        assert nu == pytest.approx(expected[0], rel=1e-5)
        assert objective.logged_metrics()["rows_capped"] == 0 and not objective.final_message()

    def test_a_step_of_size_zero_is_none(self):
        """In the last epoch nu stays, however far the scores are."""
        objective, nu, _ = self.trained([40.0, 40.0], 0.0, rate=0.0)
        _, expected = self.method.step(np.zeros(1), [np.full(2, 40.0)], 0.0)
        assert nu == pytest.approx(expected[0])
        assert objective.logged_metrics()["rows_capped"] == 0
