import functools

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

from tests.contracts.head import NUM_LABELS, HeadContract
from tests.heads.digits_by_numpy import log_probabilities
from tfxc.heads.tree import search
from tfxc.heads.tree.head import Tree
from tfxc.labels.tree_building import ClusteringSettings, build_tree
from tfxc.labels.tree_shape import built_shape, children_table, shape_of
from tfxc.objectives.base import masked_logits
from tfxc.objectives.softmax import Softmax
from tfxc.objectives.squared_hinge import SquaredHinge
from tfxc.ops.randomness import examples_of


@functools.cache
def a_tree(num_labels, seed=0, **settings):
    vectors = np.random.default_rng(seed).normal(0, 1, (num_labels, 5)).astype(np.float32)
    settings = {"nr_splits": 2, "max_leaf_size": 3, "seed": seed, **settings}
    return build_tree(vectors, ClusteringSettings(**settings))


def level_logits(head, features):
    """Logits of all nodes of each level, by NumPy: float64 (batch, nodes)."""
    return [
        features @ np.float64(head.kernels[level]).T + np.float64(head.biases[level])
        for level in head.levels
    ]


def is_joint(head):
    return head.link == "softmax" and "man" in head.negatives


def scores_of_levels(head, tree, features):
    """Scores of all nodes of each level, float64 (batch, nodes), by the definitions."""
    found, total = [], np.zeros((len(features), 1))
    for level, logits in enumerate(level_logits(head, features)):
        parents, last = tree.parents[level], level == tree.depth - 1
        if head.link == "hinge":
            own = -(np.maximum(0, 1 - logits) ** 3)
        elif head.link == "softmax" and (level == 0 or not is_joint(head)):
            own = np.empty_like(logits)
            for parent in range(parents.max() + 1):
                family = parents == parent
                own[:, family] = log_probabilities(logits[:, family], "softmax")
        else:
            own = logits if is_joint(head) else log_probabilities(logits, "sigmoid")
        total = logits if last and head.link == "hinge" else total[:, parents] + own
        found.append(total)
    return found


class TestTree(HeadContract):
    link = None
    settings = {}  # noqa: RUF012 (read only)

    def make(self, num_labels=NUM_LABELS, **arguments):
        tree = a_tree(num_labels, **self.settings)
        given = {"nr_splits": 2, "max_leaf_size": 3, **self.settings}
        more = {"beam": None, "link": self.link, "label_tree": tree}
        head = Tree(num_labels, **{**given, **more, **arguments})
        self.tree = tree
        return head

    def label_scores(self, head, features):
        scores = scores_of_levels(head, self.tree, features)[-1]
        return log_probabilities(scores, "softmax") if is_joint(head) else scores

    def test_positives_are_those_of_the_labels(self):
        """Candidates differ by example: the positive columns hold the labels' own nodes."""
        head = self.built()
        rows = [[1, 3, 7], [4, -1, -1], [-1, -1, -1], [11, 0, -1]]
        levels = head.training_levels(self.features(4), tf.constant(rows))
        features = np.asarray(self.features(4), np.float64)
        logits = level_logits(head, features)
        if is_joint(head):
            logits = [logits[0], *scores_of_levels(head, self.tree, features)[1:]]
        matrix = scipy.sparse.lil_matrix((4, NUM_LABELS))
        for number, row in enumerate(rows):
            matrix[number, [label for label in row if label >= 0]] = 1
        counts = self.tree.multi_resolution(matrix)
        for level, (group, nodes) in enumerate(levels):
            for number in range(4):
                of_row, own = nodes.numpy()[number], counts[level][number].toarray()[0]
                places = group.positives.numpy()[number]
                true = {of_row[c]: group.counts.numpy()[number, i] for i, c in enumerate(places)
                        if c >= 0}  # fmt: skip
                assert true == {node: own[node] for node in np.flatnonzero(own)}
                used = of_row >= 0
                if group.valid is not None and true:
                    np.testing.assert_array_equal(group.valid.numpy()[number], used)
                assert len(set(of_row[used])) == used.sum()
                found, by_hand = group.logits.numpy()[number][used], logits[level][number]
                by_hand = by_hand[of_row[used]]
                if level > 1 and is_joint(head):  # relative to the candidates of the level above
                    by_hand += found[0] - by_hand[0]
                np.testing.assert_allclose(found, by_hand, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        "num_labels",
        [pytest.param(60, marks=pytest.mark.slow), 51, pytest.param(41, marks=pytest.mark.slow)],
    )
    def test_a_beam_of_all_nodes_is_exhaustive(self, num_labels, monkeypatch):
        exact, wide = (self.built(num_labels=num_labels, beam=beam) for beam in (None, 99))
        features = self.features()
        for k in (1, 7, num_labels):
            expected_ids, expected_scores = self.brute_force(exact, features, k)
            for tile, head in ((10**6, exact), (10, exact), (10**6, wide)):
                monkeypatch.setattr(search, "_TILE", tile)
                ids, scores = head.top_k(features, k)
                np.testing.assert_array_equal(ids, expected_ids)
                np.testing.assert_allclose(scores, expected_scores, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("beam", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
    def test_beam_equals_a_search_by_hand(self, beam):
        head = self.built(num_labels=51, beam=beam)
        features = self.features(9)
        for k in (1, 12):
            ids, scores = (np.asarray(part) for part in head.top_k(features, k))
            assert np.isfinite(scores).all() and (np.diff(scores) <= 0).all()
            assert all(len(set(row)) == k and set(row) <= set(range(51)) for row in ids)
        ids = head.top_k(features, 1)[0].numpy()[:, 0]
        found = scores_of_levels(head, self.tree, np.asarray(features, np.float64))
        for row in range(9):
            kept = range(1)
            for level, scores in enumerate(found):
                children = np.flatnonzero(np.isin(self.tree.parents[level], kept))
                ranked = children[np.argsort(-scores[row, children], kind="stable")]
                kept = ranked[:beam]
            assert ids[row] == kept[0]


class TestTreeOfSoftmaxes(TestTree):
    """The candidates of a level in one softmax."""

    variant = True
    link = "softmax"

    def test_all_candidates_train_the_softmax_that_the_search_ranks_by(self):
        head = self.built(num_labels=20, negatives="man", num_candidate_groups=20)
        features = self.features(20)
        ids, scores = (part.numpy() for part in head.top_k(features, 20))
        *_, last = head.training_groups(features, tf.range(20)[:, None])
        for row, loss in enumerate(Softmax()(last).numpy()):
            assert loss == pytest.approx(-scores[row][ids[row] == row][0], rel=1e-4)
        np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, rtol=1e-5)

    def test_gradients_of_candidates_reach_the_levels_above(self):
        head, features = self.built(num_labels=20), self.features(4)
        with tf.GradientTape() as tape:
            *_, (group, nodes) = head.training_levels(features, tf.constant([[3], [0], [9], [19]]))
            loss = tf.reduce_sum(Softmax()(group))
        gradient = tape.gradient(loss, head.biases[0].value)
        chances = tf.where(group.valid, tf.nn.softmax(masked_logits(group)), 0).numpy()
        expected, top = np.zeros(self.tree.sizes[0]), np.arange(20)
        for parents in self.tree.parents[:0:-1]:
            top = parents[top]
        for row, label in enumerate([3, 0, 9, 19]):
            expected += np.bincount(top[nodes[row]], chances[row], len(expected))
            expected[top[label]] -= 1
        np.testing.assert_allclose(gradient, expected, atol=1e-5)


class TestTreeOfTeacherForcedSoftmaxes(TestTree):
    """A softmax per family."""

    variant = True
    link = "softmax"

    def make(self, num_labels=NUM_LABELS, **arguments):
        return super().make(num_labels, **{"negatives": "tfn", **arguments})


class TestTreeOfMargins(TestTree):
    variant = True
    link = "hinge"
    settings = {"nr_splits": 3, "max_leaf_size": 4, "min_codes": 2}  # noqa: RUF012


@pytest.mark.parametrize("link", ["sigmoid", "softmax", "hinge"])
def test_without_clusters(link):
    tree = a_tree(12, max_leaf_size=100)
    head = Tree(12, label_tree=tree, max_leaf_size=100, link=link)
    features = tf.random.stateless_normal((4, 8), (0, 1))
    head(features)
    ids, scores = head.top_k(features, 12)
    expected = scores_of_levels(head, tree, features.numpy().astype(np.float64))[-1]
    np.testing.assert_array_equal(ids, np.argsort(-expected, kind="stable"))
    np.testing.assert_allclose(scores, -np.sort(-expected), rtol=1e-5)
    (group,) = head.training_groups(features, tf.constant([[3]] * 4))
    assert group.logits.shape == (4, 12) and group.valid is None


def random_labels(examples, num_labels, seed=0):
    """Y with some rows of none, one, and many labels."""
    random = np.random.default_rng(seed)
    matrix = scipy.sparse.random(examples, num_labels, 0.08, "csr", np.float32, random)
    matrix.data[:] = 1
    rows = [
        list(matrix.indices[a:b]) for a, b in zip(matrix.indptr, matrix.indptr[1:], strict=False)
    ]
    width = max(map(len, rows))
    return matrix, np.array([row + [-1] * (width - len(row)) for row in rows], np.int32)


@pytest.mark.parametrize("negatives", ["tfn", "man", "tfn+man"])
def test_candidates_of_a_level_are_the_set_of_the_definition(negatives):
    """A = M C^T with Y added, by brute force on random Y, C and P."""
    tree, (matrix, labels) = a_tree(60), random_labels(40, 60)
    targets = tree.multi_resolution(matrix)
    for level in range(1, tree.depth):
        above, random = tree.sizes[level - 1], np.random.default_rng(level)
        matched = random.integers(-1, above, (50, 3)).astype(np.int32)
        index = random.permutation(50)[:40]
        head = Tree(
            60, label_tree=tree, level=level, matched=matched, negatives=negatives, link="hinge"
        )
        features = tf.constant(random.normal(0, 1, (40, 8)), tf.float32)
        head(features)
        with examples_of({"example_index": tf.constant(index)}):
            ((group, nodes),) = head.training_levels(features, tf.constant(labels))
        logits = features.numpy() @ head.kernels[level].numpy().T
        widest = 0
        for row in range(40):
            parents = set(matched[index[row]]) - {-1} if "man" in negatives else set()
            true = set(targets[level][row].indices)
            if "tfn" in negatives:
                parents |= set(targets[level - 1][row].indices)
            expected = set(np.flatnonzero(np.isin(tree.parents[level], list(parents)))) | true
            valid, of_row = group.valid.numpy()[row], nodes.numpy()[row]
            assert sorted(of_row[valid]) == sorted(expected)
            columns = group.positives.numpy()[row]
            assert {of_row[c] for c in columns if c >= 0} == true
            np.testing.assert_allclose(
                group.logits.numpy()[row][valid], logits[row, of_row[valid]], rtol=1e-4, atol=1e-5
            )
            widest = max(widest, len(parents))
        most = shape_of(tree)[level].max_children
        assert group.logits.shape[1] <= max(widest, 1) * most + labels.shape[1]


def test_rows_that_no_example_sees_get_no_gradient():
    tree, (_, labels) = a_tree(60), random_labels(5, 60)
    level = tree.depth - 1
    head = Tree(60, label_tree=tree, level=level, negatives="tfn", link="hinge")
    features = tf.random.stateless_normal((5, 8), (0, 1))
    head(features)
    weights = [head.kernels[level].value, head.biases[level].value]
    with tf.GradientTape() as tape:
        ((group, nodes),) = head.training_levels(features, tf.constant(labels))
        loss = tf.reduce_sum(SquaredHinge(weighted=True)(group))
    seen = set(nodes.numpy().ravel()) - {-1}
    for gradient in tape.gradient(loss, weights):
        assert isinstance(gradient, tf.IndexedSlices)
        touched = tf.convert_to_tensor(gradient).numpy().reshape(60, -1).any(axis=1)
        assert set(np.flatnonzero(touched)) == seen


def test_a_level_finds_its_nodes():
    tree = a_tree(60)
    head = Tree(60, label_tree=tree, level=1, link="hinge")
    features = tf.random.stateless_normal((4, 8), (0, 1))
    logits = head(features).numpy()
    ids, scores = head.top_k(features, 3)
    np.testing.assert_array_equal(ids, np.argsort(-logits, kind="stable")[:, :3])
    np.testing.assert_allclose(scores, np.sort(logits)[:, :-4:-1], rtol=1e-5)
    assert head.num_groups == 1
    with pytest.raises(ValueError, match=f"k: must be from 1 to {tree.sizes[1]},"):
        head.top_k(features, tree.sizes[1] + 1)
    with pytest.raises(ValueError, match="matched parents and example numbers"):
        head.training_groups(features, tf.constant([[1]] * 4))


@pytest.mark.parametrize("num_labels", [2, 3, 11, 40, 257, 1000])
@pytest.mark.parametrize(("splits", "codes", "leaf"), [(2, None, 2), (4, 9, 3), (16, None, 100)])
def test_shape_follows_from_the_number_of_labels(num_labels, splits, codes, leaf):
    tree = a_tree(num_labels, nr_splits=splits, min_codes=codes, max_leaf_size=leaf)
    assert shape_of(tree) == built_shape(num_labels, splits, codes, leaf)
    for level in range(1, tree.depth):
        children, ranks = children_table(tree, level)
        nodes = np.arange(tree.sizes[level])
        np.testing.assert_array_equal(children[tree.parents[level], ranks], nodes)
        assert sorted(children[children >= 0]) == list(nodes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nr_splits": 1}, "nr_splits: .*integer of at least 2, not 1"),
        ({"max_leaf_size": 1}, "max_leaf_size: .*integer of at least 2, not 1"),
        (
            {"num_candidate_groups": 0},
            "num_candidate_groups: .*integer of at least 1, not 0",
        ),
        ({"beam": -1}, "beam: .*integer of at least 1, not -1"),
        ({"negatives": "some"}, "negatives: must be one of tfn, man, tfn.man, not 'some'"),
        ({"link": "log"}, "link: must be one of sigmoid, softmax, hinge, not 'log'"),
        ({"min_codes": 0}, "min_codes: .*integer of at least 1, not 0"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        Tree(60, **arguments)
