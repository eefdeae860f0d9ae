import math

import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.head import NUM_LABELS, HeadContract
from tests.heads.digits_by_numpy import log_probabilities
from tfxc.heads import mhc
from tfxc.heads.mhc import MHC
from tfxc.objectives.sigmoid import Sigmoid
from tfxc.objectives.softmax import Softmax


def level_logits(head, features):
    """Logits of all nodes of each level, by NumPy: float64 (batch, nodes)."""
    kernel, bias, *rest = (weight.astype(np.float64) for weight in head.get_weights())
    found = [features @ kernel + bias]
    for level in range(1, len(head.heads)):
        projection, bias, table = rest[3 * level - 3 : 3 * level]
        logits = (features @ projection + bias) @ table.T
        found.append(logits[:, : math.ceil(head.num_labels / head.strides[level])])
    return found


def is_joint(head):
    return head.num_candidate_groups > 1 and head.link in (None, "softmax")


def level_scores(head, logits):
    """Numbers by which nodes are ranked, of each level, from the logits: float64 (batch, nodes)."""
    found = [log_probabilities(logits[0], head.link)]
    for size, own in zip(head.heads[1:], logits[1:], strict=True):
        if not is_joint(head):
            families = np.split(own, range(size, own.shape[1], size), axis=1)
            families = [log_probabilities(family, head.link) for family in families]
            own = np.concatenate(families, axis=1)
        above = np.repeat(found[-1], size, axis=1)[:, : own.shape[1]]
        found.append(own + head.parent_weight * above)
    return found


class TestMHC(HeadContract):
    def make(self, num_labels=NUM_LABELS, **arguments):
        exhaustive = {"heads": [4, 3], "beam": None, "projection_dim": 10}
        return MHC(num_labels, **{**exhaustive, **arguments})

    def label_scores(self, head, features):
        scores = level_scores(head, level_logits(head, features))[-1]
        return log_probabilities(scores, "softmax") if is_joint(head) else scores

    def test_positives_are_those_of_the_labels(self):
        """Candidates differ by example: the positive columns hold the labels' own nodes."""
        head = self.built()
        rows = [[1, 3, 7], [4, -1, -1], [-1, -1, -1], [11, 0, -1]]
        levels = head.training_levels(self.features(4), tf.constant(rows))
        expected = level_logits(head, np.asarray(self.features(4), np.float64))
        if is_joint(head):
            expected = [expected[0], *level_scores(head, expected)[1:]]
        for level, (group, nodes) in enumerate(levels):
            stride = math.prod(head.heads[level + 1 :])
            for number, row in enumerate(rows):
                of_row = nodes.numpy()[number]
                true = [of_row[c] for c in group.positives.numpy()[number] if c >= 0]
                assert sorted(true) == sorted({label // stride for label in row if label >= 0})
                used = np.ones_like(of_row, bool)
                if group.valid is not None:
                    used = group.valid.numpy()[number]
                assert len(set(of_row[used])) == used.sum()
                assert (of_row[used] >= 0).all() and (of_row[used] < head.nodes[level]).all()
                found, by_hand = group.logits.numpy()[number], expected[level][number][of_row[used]]
                if level > 1 and is_joint(head):  # relative to the candidates of the level above
                    by_hand += found[used][0] - by_hand[0]
                np.testing.assert_allclose(found[used], by_hand, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(("beam", "num_labels"), [(1, 51), (2, 60), (3, 51), (5, 60)])
    @pytest.mark.parametrize("of_link", [{}, {"link": "sigmoid", "parent_weight": 0.3}])
    def test_beam_equals_a_search_by_hand(self, beam, num_labels, of_link):
        """Beam 1 is the greedy descent."""
        head = self.built(num_labels=num_labels, heads=[3, 4, 5], beam=beam, **of_link)
        features = self.features(9)
        ids, scores = head.top_k(features, 1)
        levels = level_scores(head, level_logits(head, np.asarray(features, np.float64)))
        for row in range(9):
            best = [(0.0, 0)]
            for level, of_nodes in enumerate(levels):
                size = head.heads[level] if level else of_nodes.shape[1]
                scored = [
                    (of_nodes[row, child], child)
                    for _, node in best
                    for child in range(node * size, min((node + 1) * size, of_nodes.shape[1]))
                ]
                best = sorted(scored, reverse=True)[:beam]
            assert ids.numpy()[row, 0] == best[0][1]
            expected = best[0][0]
            if is_joint(head):
                expected -= np.log(sum(np.exp(score) for score, _ in scored))
            assert scores.numpy()[row, 0] == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize("num_labels", [60, 51, 46])
    def test_a_narrow_beam_finds_k_labels(self, num_labels):
        head, features = self.built(num_labels=num_labels, heads=[3, 4, 5], beam=1), self.features()
        for k in (2, 5, 17, num_labels):
            ids, scores = (np.asarray(part) for part in head.top_k(features, k))
            assert np.isfinite(scores).all() and (np.diff(scores) <= 0).all()
            assert all(len(set(row)) == k and set(row) <= set(range(num_labels)) for row in ids)


class TestThreeLevelsWithSpareCodes(TestMHC):
    variant = True

    def make(self, num_labels=NUM_LABELS, **arguments):
        deep = {"heads": [3, 2, 3], "num_candidate_groups": 2}
        return super().make(num_labels, **{**deep, **arguments})


@pytest.mark.parametrize(
    ("num_labels", "link", "candidate_groups", "parent_weight"),
    [
        # The softmax of two candidate groups is a joint one; other links know no difference.
        *((60, None, 2, 1), (41, None, 2, 1), (51, None, 2, 1), (51, "softmax", 2, 1)),
        *((51, link, 1, 1) for link in (None, "softmax", "sigmoid", "hinge")),
        *((51, "sigmoid", 1, 0.25), (60, "hinge", 1, 0.25), (51, "sigmoid", 1, 0)),
        pytest.param(60, None, 1, 1, marks=pytest.mark.slow),
        pytest.param(41, None, 1, 1, marks=pytest.mark.slow),
        pytest.param(51, "sigmoid", 2, 1, marks=pytest.mark.slow),
        pytest.param(51, "hinge", 2, 1, marks=pytest.mark.slow),
    ],
)
def test_exhaustive_search_of_three_levels(
    num_labels, link, candidate_groups, parent_weight, monkeypatch
):
    arguments = {"num_labels": num_labels, "heads": [3, 4, 5], "link": link}
    arguments |= {"num_candidate_groups": candidate_groups, "parent_weight": parent_weight}
    contract = TestMHC()
    head, wide = contract.built(**arguments), contract.built(**arguments, beam=99)
    features = contract.features()
    for k in (1, 7, num_labels):
        expected_ids, expected_scores = contract.brute_force(head, features, k)
        for tile, one in ((10**6, head), (10, head), (10**6, wide)):
            monkeypatch.setattr(mhc, "_TILE", tile)
            ids, scores = one.top_k(features, k)
            np.testing.assert_array_equal(ids, expected_ids)
            np.testing.assert_allclose(scores, expected_scores, rtol=1e-4, atol=1e-5)


def test_one_group_above_changes_nothing():
    two = MHC(18, heads=[6, 3], projection_dim=4, num_candidate_groups=2, beam=2)
    three = MHC(18, heads=[1, 6, 3], projection_dim=4, num_candidate_groups=1, beam=2)
    features, labels = tf.random.stateless_normal((5, 8), (0, 3)), tf.constant([[4], [0], [17]] * 3)
    features, labels = features[:5], labels[:5]
    two(features), three(features)
    # Level 1 of three digits scores its nodes by projection and table: give the dense layer of
    # two digits the same logits.
    for target, source in zip(two.weights[2:], three.weights[5:], strict=True):
        target.assign(source)
    projection, bias, table = three.get_weights()[2:5]
    two.set_weights([projection @ table.T, bias @ table.T, *two.get_weights()[2:]])
    two.num_candidate_groups = 1
    losses = [
        tf.add_n([Softmax()(group) for group in head.training_groups(features, labels)])
        for head in (two, three)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    for one, other in zip(two.top_k(features, 5), three.top_k(features, 5), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_teacher_forcing_with_one_label():
    head = MHC(14, heads=[4, 4], projection_dim=5)
    features = tf.random.stateless_normal((6, 8), (0, 4))
    head(features)
    labels = np.array([0, 13, 5, 7, 12, 3])
    groups = head.training_groups(features, tf.constant(labels[:, None], tf.int32))
    found = tf.add_n([Softmax()(group) for group in groups])
    top, low = level_logits(head, np.asarray(features, np.float64))
    expected = []
    for row, label in enumerate(labels):
        family = low[row, label // 4 * 4 : min(14, label // 4 * 4 + 4)]
        chances = (log_probabilities(part, None) for part in (top[row], family))
        expected.append(-sum(c[d] for c, d in zip(chances, divmod(label, 4), strict=True)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("sizes", [[10, 10], [4, 5, 5]])
def test_loss_of_logits_zero(sizes):
    head = MHC(100, heads=sizes)
    head(tf.zeros((1, 3)))
    head.set_weights([np.zeros_like(weight) for weight in head.get_weights()])
    groups = head.training_groups(tf.ones((1, 3)), tf.constant([[67]]))
    loss = sum(float(Softmax()(group)[0]) for group in groups)
    assert loss == pytest.approx(sum(map(math.log, sizes)))


@pytest.mark.parametrize(
    ("true", "nodes", "slots"),
    [([5, -1], [4, 5], {1}), ([0, 5], [0, 5], {0, 1})],
)
def test_candidates_of_the_published_example(true, nodes, slots):
    """Groups {0, 1}, {2, 3}, {4, 5} with chances .9, .2, .6 and K = 1."""
    head = MHC(6, heads=[3, 2], link="sigmoid", projection_dim=2)
    head(tf.zeros((1, 2)))
    chances = np.array([0.9, 0.2, 0.6])
    weights = head.get_weights()
    weights[0][:], weights[1] = 0, np.log(chances / (1 - chances))
    head.set_weights(weights)
    group, found = head.training_levels(tf.ones((1, 2)), tf.constant([true]))[1]
    assert found.numpy().tolist() == [nodes]
    assert {c for c in group.positives.numpy()[0] if c >= 0} == slots


def test_candidates_are_the_true_groups_then_the_best():
    head = MHC(40, heads=[10, 4], num_candidate_groups=3, link="sigmoid", projection_dim=4)
    features = tf.random.stateless_normal((8, 8), (0, 5))
    head(features)
    labels = np.random.default_rng(2).permuted(np.tile(np.arange(40), (8, 1)), axis=1)[:, :2]
    _, (group, nodes) = head.training_levels(features, tf.constant(labels, tf.int32))
    logits = level_logits(head, np.asarray(features, np.float64))[0]
    for row in range(8):
        key = 1 / (1 + np.exp(-logits[row]))
        key[labels[row] // 4] += 1
        best = np.argsort(-key, kind="stable")[:3]
        expected = (best[:, None] * 4 + np.arange(4)).ravel()
        np.testing.assert_array_equal(nodes.numpy()[row], expected)
    assert group.logits.shape == (8, 12)
    assert np.isfinite(Sigmoid()(group)).all()


@pytest.mark.parametrize(
    ("link", "weight"), [("softmax", 1), ("sigmoid", 1), ("hinge", 1), ("sigmoid", 0.2)]
)
def test_candidates_of_a_third_level_are_the_best_of_the_search(link, weight):
    """Below level 1 too, nodes are chosen by the number that the search ranks by."""
    sizes = {"heads": [5, 4, 3], "num_candidate_groups": 2, "projection_dim": 4}
    head = MHC(60, **sizes, link=link, parent_weight=weight)
    features = tf.random.stateless_normal((8, 8), (0, 5))
    head(features)
    random = np.random.default_rng(2)
    head.set_weights([w + random.normal(0, 1, w.shape) for w in head.get_weights()])
    labels = random.permuted(np.tile(np.arange(60), (8, 1)), axis=1)[:, :3]
    levels = head.training_levels(features, tf.constant(labels, tf.int32))
    scores = level_scores(head, level_logits(head, np.asarray(features, np.float64)))[1]
    candidates, leaves = (nodes.numpy() for _, nodes in levels[1:])
    for row in range(8):
        scored = {node: scores[row, node] for node in candidates[row] if node >= 0}
        true = sorted({label // 3 for label in labels[row]}, key=scored.get, reverse=True)
        others = sorted(set(scored) - set(true), key=scored.get, reverse=True)
        chosen = (true + others)[:2]
        assert {leaf // 3 for leaf in set(leaves[row]) - set(labels[row])} <= set(chosen)
        of_chosen = {3 * node + child for node in chosen for child in range(3)}
        if of_chosen >= set(labels[row]):
            assert set(leaves[row]) == of_chosen


@pytest.mark.parametrize("sizes", [[4, 3], [3, 2, 2], [3, 2, 3]])
def test_all_candidate_groups_train_the_softmax_that_the_search_ranks_by(sizes):
    head = MHC(12, heads=sizes, num_candidate_groups=2, beam=None, projection_dim=5)
    features = tf.random.stateless_normal((12, 8), (0, 4))
    head(features)
    head.num_candidate_groups = 12  # of every level
    random = np.random.default_rng(3)
    head.set_weights([w + random.normal(0, 1, w.shape) for w in head.get_weights()])
    ids, scores = (part.numpy() for part in head.top_k(features, 12))
    *_, last = head.training_groups(features, tf.range(12)[:, None])
    for row, loss in enumerate(Softmax()(last).numpy()):
        assert loss == pytest.approx(-scores[row][ids[row] == row][0], rel=1e-4)
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, rtol=1e-5)


def joint_loss(head, features, label):
    """Loss of one example by its definition: a softmax over the children of K nodes a level."""
    logits = [level[0] for level in level_logits(head, features[None])]
    chances = log_probabilities(logits[0], "softmax")
    loss, scores = -chances[label // head.strides[0]], dict(enumerate(chances))
    for level in range(1, len(head.heads)):
        true, size = label // head.strides[level], head.heads[level]
        others = sorted(set(scores) - {true // size}, key=scores.get, reverse=True)
        parents = [true // size, *others][: head.num_candidate_groups]
        children = [p * size + c for p in parents for c in range(size)]
        nodes = [node for node in children if node < head.nodes[level]]
        z = np.array([logits[level][node] + scores[node // size] for node in nodes])
        chances = log_probabilities(z, "softmax")
        loss, scores = loss - chances[nodes.index(true)], dict(zip(nodes, chances, strict=True))
    return loss


@pytest.mark.parametrize("candidate_groups", [2, 4])
@pytest.mark.parametrize(
    ("num_labels", "sizes"), [(30, [6, 5]), (27, [6, 5]), (60, [5, 4, 3]), (51, [5, 4, 3])]
)
def test_joint_loss_and_its_gradient_are_the_definition(num_labels, sizes, candidate_groups):
    """Gradients, by differences of the loss, also pass through the groups' scores."""
    head = MHC(num_labels, heads=sizes, num_candidate_groups=candidate_groups, projection_dim=4)
    features = tf.random.stateless_normal((6, 8), (0, 4))
    head(features)
    random = np.random.default_rng(3)
    head.set_weights([w + random.normal(0, 0.7, w.shape) for w in head.get_weights()])
    labels = random.choice(num_labels, 6, replace=False)
    with tf.GradientTape() as tape:
        tape.watch(features)
        groups = head.training_groups(features, tf.constant(labels[:, None], tf.int32))
        losses = tf.add_n([Softmax()(group) for group in groups])
        total = tf.reduce_sum(losses)
    gradients = tape.gradient(total, features).numpy()
    for row, label in enumerate(labels):
        x = features.numpy()[row].astype(np.float64)
        assert float(losses[row]) == pytest.approx(joint_loss(head, x, label), rel=1e-4)
        for column, step in enumerate(1e-5 * np.eye(8)):
            slope = (joint_loss(head, x + step, label) - joint_loss(head, x - step, label)) / 2e-5
            assert gradients[row, column] == pytest.approx(slope, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("candidate_groups", [1, 3])
def test_gradients_of_candidates_reach_the_groups(candidate_groups):
    """Of several groups: d loss / d g_k = sum of p_c over candidates of k, minus 1 at the true."""
    head = MHC(12, heads=[4, 3], num_candidate_groups=candidate_groups, projection_dim=5)
    features = tf.random.stateless_normal((1, 8), (0, 4))
    head(features)
    with tf.GradientTape() as tape:
        _, (group, nodes) = head.training_levels(features, tf.constant([[7]]))
        loss = tf.reduce_sum(Softmax()(group))
    gradient = tape.gradient(loss, head.bias.value)
    if candidate_groups == 1:
        np.testing.assert_allclose(0.0 if gradient is None else gradient, 0, atol=1e-6)
        return
    chances = tf.nn.softmax(group.logits).numpy()[0]
    expected = np.bincount(nodes.numpy()[0] // 3, chances, 4)
    expected[7 // 3] -= 1
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_only_rows_of_candidates_get_a_gradient():
    head = MHC(20, heads=[7, 3], projection_dim=4)
    features = tf.random.stateless_normal((2, 8), (0, 6))
    head(features)
    table = head.tables[1].value
    with tf.GradientTape() as tape:
        groups = head.training_groups(features, tf.constant([[0, 4], [19, -1]]))
        loss = tf.add_n([Softmax()(group) for group in groups])
    gradient = tape.gradient(loss, table)
    assert isinstance(gradient, tf.IndexedSlices)
    touched = set(gradient.indices.numpy().tolist())
    assert {0, 4, 18, 19} <= touched and len(touched) <= 6
    assert 20 not in touched, "the row of a code without label"


def test_published_sizes():
    head = MHC(100, heads=[10, 10])
    head(tf.zeros((1, 512)))
    assert head.count_params() == 162_058
    head = MHC(1000, heads=[40, 25])
    head(tf.zeros((1, 2048)))
    assert head.count_params() == 862_504


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"heads": [3, 3]}, r"9 codes for 12 labels.* \[3, 4\]"),
        (
            {"num_candidate_groups": 5},
            r"must be at most 4, as many as there are groups, not 5",
        ),
        ({"beam": 0}, "beam: must be an integer of at least 1, not 0"),
        ({"parent_weight": 0.5}, "parent_weight: must be 1 with link 'softmax', not 0.5"),
        ({"link": "sigmoid", "parent_weight": 2}, r"parent_weight: must be a number from 0 to 1"),
        ({"link": "tanh"}, "link: must be one of sigmoid, softmax, hinge"),
        (
            {"label_order": "alphabetical"},
            "label_order: must be one of given, random, clusters, product",
        ),
    ],
)
def test_wrong_arguments(wrong, message):
    with pytest.raises(ValueError, match=message):
        MHC(12, **{"heads": [4, 3], **wrong})
