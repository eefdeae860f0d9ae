import numpy as np
import pytest
import tensorflow as tf

from tfxc.ops.search.candidates import best_columns, children_with_positives, sample_with_true


def padded(rows):
    """Lists as int32 (batch, longest) padded with -1."""
    width = max(1, max(map(len, rows)))
    return tf.constant([[*row, *[-1] * (width - len(row))] for row in rows], tf.int32)


def by_hand(parents, positives, size, num_nodes):
    """Candidates of one example: list of nodes, None for an empty slot."""
    slots = []
    for parent in parents:
        children = range(parent * size, parent * size + size)
        slots += [c if parent >= 0 and c < num_nodes else None for c in children]
    slots += [None] * (len(positives) - len(slots))
    true = [slot in positives for slot in slots]
    for node in positives:
        if node not in slots:
            place = true.index(False)
            slots[place], true[place] = node, True
    return slots


@pytest.mark.parametrize("seed", range(10))
def test_children_equal_a_loop(seed):
    random = np.random.default_rng(seed)
    size, count = random.integers(1, 5), random.integers(1, 4)
    num_nodes = int(random.integers(count * size, 4 * count * size + 1))
    num_parents = -(-num_nodes // size)
    parents = [random.permutation(num_parents)[:count] for _ in range(20)]
    parents = [[*row[: len(row) - random.integers(0, 2)]] or [0] for row in parents]
    parents = [row + [-1] * (count - len(row)) for row in parents]
    most = min(num_nodes, 2 * count * size)
    positives = [random.permutation(num_nodes)[: random.integers(0, most + 1)] for _ in range(20)]
    positives = [row.tolist() for row in positives]
    width = max(map(len, positives))
    found = children_with_positives(
        tf.constant(parents, tf.int32), padded(positives), int(size), num_nodes
    )
    assert found.nodes.shape[1] == max(count * size, width, 1)
    for row in range(20):
        expected = by_hand(parents[row], positives[row], size, num_nodes)
        expected += [None] * (found.nodes.shape[1] - len(expected))
        valid = found.valid.numpy()[row]
        pairs = zip(found.nodes.numpy()[row], valid, strict=True)
        nodes = [node if ok else None for node, ok in pairs]
        assert nodes == expected
        columns = found.positives.numpy()[row]
        assert [nodes[c] for c in columns if c >= 0] == positives[row]
        used = [node for node in nodes if node is not None]
        assert len(set(used)) == len(used), "each candidate once"


@pytest.mark.parametrize(
    ("true", "nodes", "columns"), [([5], [4, 5], [1]), ([0, 5], [0, 5], [0, 1])]
)
def test_the_published_example(true, nodes, columns):
    """Groups {0, 1}, {2, 3}, {4, 5} with chances .9, .2, .6; one candidate group."""
    scores = tf.math.log([[0.9, 0.2, 0.6]])
    parents = best_columns(scores, padded([sorted({t // 2 for t in true})]), 1)
    found = children_with_positives(parents, padded([true]), 2, 6)
    assert found.nodes.numpy().tolist() == [nodes]
    assert found.positives.numpy().tolist() == [columns]


def test_best_columns():
    minus = float("-inf")
    scores = tf.constant([[-3.0, 0.0, -1.0, -2.0], [-3.0, minus, minus, -1.0]])
    found = best_columns(scores, tf.constant([[0, 3], [-1, 0]]), 3)
    assert found.numpy().tolist() == [[3, 0, 1], [0, 3, -1]]


def test_sample_with_true():
    random = np.random.default_rng(0)
    bits = random.integers(0, 2**32, (500, 9), dtype=np.uint64).astype(np.uint32)
    true = padded([sorted(random.permutation(9)[: n % 5]) for n in range(500)])
    chosen, counts = (np.asarray(x) for x in sample_with_true(tf.constant(bits), true, 2))
    assert chosen.shape == (500, 4)
    for row in range(500):
        wanted = {t for t in true.numpy()[row] if t >= 0}
        assert set(chosen[row, : len(wanted)]) == wanted
        assert len(set(chosen[row])) == 4
        assert counts[row] == max(2, len(wanted))
        others = [c for c in np.argsort(-bits[row].astype(np.int64)) if c not in wanted]
        np.testing.assert_array_equal(chosen[row, len(wanted) :], others[: 4 - len(wanted)])


def test_a_sample_of_one_true_column_has_a_known_width():
    function = tf.function(lambda bits, true: sample_with_true(bits, true, 3)[0], autograph=False)
    graph = function.get_concrete_function(
        tf.TensorSpec([None, 9], tf.uint32), tf.TensorSpec([None, 1], tf.int32)
    )
    assert graph.output_shapes.as_list() == [None, 3]
