"""What every head must do; a head's test class inherits it and gives examples."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfxc
from tests.contracts import general
from tests.contracts.layers import (
    assert_close,
    assert_equal,
    copy_from_config,
    exported,
    loops_and_their_reads,
    open_batch,
    run_keras_layer_test,
)
from tfxc.encoders.precomputed import Precomputed
from tfxc.model import XCModel
from tfxc.objectives.base import masked_logits
from tfxc.objectives.softmax import Softmax
from tfxc.ops.losses import softmax_cross_entropy
from tfxc.ops.randomness import step_scope

NUM_LABELS = 12


class HeadContract:
    """Inherit, and write ``make``, ``label_scores`` and ``positive_columns``.

    Attributes:
        dim: length of the feature vectors.
        least_loss: softmax loss of a perfect head, summed over its groups.
        labels_of_two_tiles: labels of a head whose search needs a loop with the smallest tile.
        tiled: whether it searches in tiles.
    """

    dim = 16
    least_loss = 0.0
    labels_of_two_tiles = NUM_LABELS
    tiled = True

    def make(self, num_labels=NUM_LABELS, **arguments):
        """A new head."""
        raise NotImplementedError

    def label_scores(self, head, features):
        """Scores of all labels by NumPy alone, float64 (batch, num_labels)."""
        raise NotImplementedError

    def positive_columns(self, head, labels):
        """One set per logit group: columns that are true for an example with these labels."""
        raise NotImplementedError

    def encoder(self):
        """An encoder without weights whose output fits the head."""
        return Precomputed(self.dim)

    def vectors(self, batch=6, seed=0):
        """What ``encoder`` gets, float32 (batch, dim)."""
        return tf.random.stateless_normal((batch, self.dim), (seed, 1))

    def features(self, batch=6, seed=0):
        """What the head gets."""
        return self.encoder()(self.vectors(batch, seed))

    def built(self, **arguments):
        """A new head that has its weights, none of them zero."""
        head = self.make(**arguments)
        head(self.features())
        generator = np.random.default_rng(5)
        for weight in head.trainable_weights:
            weight.assign(weight + generator.normal(0, 0.3, weight.shape))
        return head

    def groups(self, head, labels):
        """Training groups of a batch with the given label rows, always of the same step."""
        features = self.features(len(labels))
        with step_scope(3, 0):
            return head.training_groups(features, tf.constant(labels, tf.int32))

    def brute_force(self, head, features, k):
        """Best k labels by sorting all scores; ties by rising id."""
        scores = self.label_scores(head, np.asarray(features, np.float64))
        ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return ids, np.take_along_axis(scores, ids, axis=1)

    def test_groups_are_well_formed(self):
        head = self.built()
        labels = [[1, 3, -1], [-1, -1, -1], [0, 2, 5]]
        for group in self.groups(head, labels):
            columns = group.logits.shape[1]
            assert group.logits.shape == (3, columns)
            assert group.positives.dtype == tf.int64
            assert group.positives.shape[0] == 3
            for row in group.positives.numpy():
                true = row[row >= 0]
                assert len(set(true)) == len(true)
                assert (row >= -1).all() and (row < columns).all()
            if group.valid is not None:
                assert group.valid.shape == group.logits.shape

    def test_positives_are_those_of_the_labels(self):
        head = self.built()
        rows = [[1, 3, 7], [4, -1, -1], [-1, -1, -1], [11, 0, -1]]
        groups = self.groups(head, rows)
        for number, row in enumerate(rows):
            known = [label for label in row if label >= 0]
            expected = self.positive_columns(head, known)
            assert len(expected) == len(groups)
            for group, columns in zip(groups, expected, strict=True):
                assert _true(group, number) == columns

    def test_labels_never_seen_are_left_out(self):
        head = self.built()
        plain = self.groups(head, [[2, 5, -1], [-1, -1, -1]])
        unseen = self.groups(head, [[NUM_LABELS, 5, 2], [NUM_LABELS + 3, -1, NUM_LABELS]])
        for one, other in zip(plain, unseen, strict=True):
            assert_equal(one.logits, other.logits)
            assert [_true(one, row) for row in (0, 1)] == [_true(other, row) for row in (0, 1)]

    @pytest.mark.parametrize("k", [1, 4, NUM_LABELS])
    def test_top_k_equals_brute_force(self, k):
        head, features = self.built(), self.features()
        ids, scores = head.top_k(features, k)
        assert (ids.dtype, scores.dtype) == (tf.int32, tf.float32)
        expected_ids, expected_scores = self.brute_force(head, features, k)
        np.testing.assert_array_equal(ids, expected_ids)
        np.testing.assert_allclose(scores, expected_scores, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("tile", [5, 16_384])
    def test_loss_over_all_labels_equals_brute_force(self, monkeypatch, tile):
        head, features = self.built(), self.features()
        if not head.full_softmax:
            with pytest.raises(TypeError, match="has no scores of single labels"):
                head.top_k_and_loss(features, tf.constant([[1]] * 6), 2)
            return
        monkeypatch.setattr("tfxc.heads.base._LOSS_TILE", tile)
        rows = [[3, -1, -1], [0, 7, 11], [-1, -1, -1], [NUM_LABELS, 5, -1], [NUM_LABELS, -1, -1]]
        rows = np.int32([*rows, [4, 2, NUM_LABELS + 9]])
        found = head.top_k_and_loss(features, rows, 4)
        scores = self.label_scores(head, np.asarray(features, np.float64))
        log_sums = np.log(np.exp(scores - scores.max()).sum(axis=1)) + scores.max()
        known = [[label for label in row if 0 <= label < NUM_LABELS] for row in rows]
        expected = [
            s - z[row].mean() if row else np.nan
            for s, z, row in zip(log_sums, scores, known, strict=True)
        ]
        np.testing.assert_allclose(found[2], expected, rtol=1e-4, atol=1e-5)
        assert_equal(found[0], head.top_k(features, 4)[0])
        np.testing.assert_allclose(found[1], head.top_k(features, 4)[1], rtol=1e-5, atol=1e-6)

    def similarities(self, head):
        """Cosines (num_labels, num_labels) by NumPy alone; scores are linear, or cosines."""
        units = np.eye(self.dim)
        weights = (self.label_scores(head, units) - self.label_scores(head, -units)).T
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
        return weights @ weights.T

    def test_similarities_are_the_cosines_of_weights(self, monkeypatch):
        monkeypatch.setattr("tfxc.ops.search.similarity._TILE_VALUES", 5 * self.dim)
        head = self.built()
        if head.label_similarities(0) is None:
            assert not head.full_softmax
            return
        found = [head.label_similarities(label) for label in range(NUM_LABELS)]
        np.testing.assert_allclose(found, self.similarities(head), atol=1e-5)

    def test_top_k_is_sorted_and_ties_go_to_the_lower_id(self):
        head, features = self.built(), self.features()
        ids, scores = (np.asarray(part) for part in head.top_k(features, NUM_LABELS))
        assert (np.diff(scores) <= 0).all()
        assert (np.diff(ids)[np.diff(scores) == 0] > 0).all()
        assert all(sorted(row) == list(range(NUM_LABELS)) for row in ids)
        for weight in head.trainable_weights:  # a tree or a hash stays
            weight.assign(tf.zeros_like(weight))
        ids, scores = head.top_k(features, 5)
        np.testing.assert_array_equal(ids, [list(range(5))] * len(features))
        assert len(set(scores.numpy().ravel())) == 1

    @pytest.mark.parametrize("k", [0, NUM_LABELS + 1])
    def test_impossible_k_is_refused(self, k):
        head, features = self.built(), self.features()
        message = f"k: must be from 1 to {NUM_LABELS}, .*not {k}"
        with pytest.raises(ValueError, match=message):
            head.top_k(features, k)
        if head.search_methods:
            with pytest.raises(ValueError, match=message):
                head.search_top_k(head.search_scores(features).numpy(), k)

    @pytest.mark.parametrize("k", [1, 4, NUM_LABELS])
    def test_search_equals_top_k(self, k):
        head, features = self.built(), self.features(40)
        if not head.search_methods:
            pytest.skip("no native search")
        expected_ids, expected_scores = head.top_k(features, k)
        for method in set(head.search_methods) - {"approximate"}:
            found = head.search_scores(features).numpy()
            ids, scores = head.search_top_k(found, k, method)
            np.testing.assert_array_equal(ids, expected_ids)
            np.testing.assert_allclose(scores, expected_scores, rtol=1e-5, atol=1e-6)
            assert (ids.dtype, scores.dtype) == (np.int32, np.float32)

    @general
    def test_compiled_equals_eager(self):
        """In training; the search is compiled when it is exported."""
        head, features = self.built(), self.features()
        labels = tf.constant([[1, 2], [3, -1]] * 3, tf.int32)

        def everything(features, labels):
            with step_scope(3, 0):
                groups = head.training_groups(features, labels)
            return head(features), groups

        signature = [open_batch(features), tf.TensorSpec([None, None], tf.int32)]
        compiled = tf.function(everything, input_signature=signature, autograph=False)
        assert_close(compiled(features, labels), everything(features, labels))

    def test_no_loop_of_a_search_reads_a_table(self, monkeypatch):
        """A table that training gathers from is copied as a whole by every read."""
        monkeypatch.setattr("tfxc.heads.base._LOSS_TILE", 4)
        monkeypatch.setattr("tfxc.ops.search.gather_graph._TILE_VALUES", 4)
        for kind in type(self.make()).__mro__:
            module = sys.modules[kind.__module__]
            for name in ("TILE", "_TILE"):
                if module.__name__.startswith("tfxc.heads.") and hasattr(module, name):
                    monkeypatch.setattr(module, name, 4)
        head, features = self.built(num_labels=self.labels_of_two_tiles), self.features()
        search = tf.function(lambda x: head.top_k(x, 3), autograph=False)
        found = [search.get_concrete_function(features)]
        if head.full_softmax:
            labels = tf.constant([[1]] * 6)
            with_loss = tf.function(lambda x, y: head.top_k_and_loss(x, y, 3), autograph=False)
            found.append(with_loss.get_concrete_function(features, labels))
        for function in found:
            loops, reads = loops_and_their_reads(function)
            assert (loops > 0) == self.tiled and not reads

    @general
    def test_exported_equals_eager(self, tmp_path):
        head, features = self.built(), self.features()
        loaded = exported(lambda x: head.top_k(x, 3), open_batch(features), tmp_path / "saved")
        assert_close(loaded.function(features), head.top_k(features, 3))

    def test_config_round_trip(self):
        head, features = self.built(seed=3), self.features()
        copy = copy_from_config(head, features)
        assert copy.get_config() == head.get_config()
        assert_equal(copy.top_k(features, 3), head.top_k(features, 3))

    @general
    def test_keras_file_of_a_whole_model(self, tmp_path):
        model = XCModel(self.encoder(), self.built(), Softmax())
        expected = model(self.vectors()), model.top_k(self.vectors(), 3)
        model.save(tmp_path / "model.keras")
        loaded = tfxc.load_model(tmp_path / "model.keras")
        assert_equal((loaded(self.vectors()), loaded.top_k(self.vectors(), 3)), expected)

    @general
    def test_seed_decides_the_start(self):
        heads = [self.make(seed=seed) for seed in (3, 3, 4)]
        one, same, other = (_start(head, self.features()) for head in heads)
        assert_equal(one, same)
        assert any((a != b).any() for a, b in zip(one, other, strict=True))

    @general
    def test_mixed_precision(self):
        plain, vectors = self.built(), self.vectors()
        expected = self.label_scores(plain, np.asarray(self.encoder()(vectors), np.float64))
        keras.config.set_dtype_policy("mixed_bfloat16")
        head = self.built()
        head.set_weights(plain.get_weights())
        features = self.encoder()(vectors)
        assert features.dtype == tf.bfloat16
        logits = head(features)
        assert np.isfinite(tf.cast(logits, tf.float32)).all()
        ids, scores = head.top_k(features, 3)
        assert (ids.dtype, scores.dtype) == (tf.int32, tf.float32)
        same_labels = np.take_along_axis(expected, ids.numpy().astype(int), axis=1)
        reach = np.abs(expected).max()
        np.testing.assert_allclose(scores / reach, same_labels / reach, atol=0.05)

    @general
    def test_passes_the_test_of_keras(self):
        run_keras_layer_test(self.make, self.features())

    @pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
    def test_logits_are_float32_under_mixed_precision(self, policy):
        """A loss needs the range and the digits of float32, whatever the products were made in."""
        head = self.make(dtype=policy)
        assert head(self.features()).dtype == tf.float32
        assert all(weight.dtype == "float32" for weight in head.trainable_weights)

    def test_gradients_reach_every_weight(self):
        head = self.built()
        weights = [w.value for w in head.trainable_weights]
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(_losses(head, self.features(), tf.constant([[1], [2]] * 3)))
        for gradient in tape.gradient(loss, weights):
            assert gradient is not None
            gradient = tf.convert_to_tensor(gradient)
            assert np.isfinite(gradient).all() and np.any(gradient)

    def test_learns(self):
        head = self.make()
        features = self.features(NUM_LABELS, seed=9)
        labels = tf.range(NUM_LABELS)[:, None]
        head(features)
        weights = [w.value for w in head.trainable_weights]

        @tf.function(autograph=False)
        def step():
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(_losses(head, features, labels))
            for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
                weight.assign_sub(0.5 * tf.convert_to_tensor(gradient))
            return loss

        first = float(step())
        for _ in range(60):
            last = float(step())
        assert last - self.least_loss < 0.3 * (first - self.least_loss)
        np.testing.assert_array_equal(head.top_k(features, 1)[0], labels)


def _losses(head, features, labels):
    groups = head.training_groups(features, labels)
    return tf.add_n([softmax_cross_entropy(masked_logits(g), g.positives) for g in groups])


def _true(group, row):
    return {int(column) for column in group.positives[row] if column >= 0}


def _start(head, features):
    head(features)
    return head.get_weights()
