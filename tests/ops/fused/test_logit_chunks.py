import numpy as np
import tensorflow as tf

from tfxc.ops.fused.logit_chunks import LogitChunks

LOGITS = np.arange(14, dtype=np.float32).reshape(2, 7)
POSITIVES = tf.constant([[6, 0, -1], [3, 2, 4]])


def chunks(asked):
    """Three chunks of ``LOGITS``; the numbers asked for are written down."""
    columns = [(0, 3), (3, 6), (6, 7)]

    def logits_of(number):
        asked.append(number)
        return tf.constant(LOGITS[:, slice(*columns[number])])

    return LogitChunks(logits_of, columns, POSITIVES)


def test_positives_are_numbered_in_their_chunk():
    found = [(begin, rows.numpy().tolist()) for begin, rows in chunks([]).ranges()]
    assert found == [
        (0, [[-1, 0, -1], [-1, 2, -1]]),
        (3, [[-1, -1, -1], [0, -1, 1]]),
        (6, [[0, -1, -1], [-1, -1, -1]]),
    ]


def test_a_fold_sees_each_chunk_once():
    asked = []
    both = chunks(asked)
    assert both.num_columns == 7 and not asked
    total = both.fold(lambda state, logits, _: state + tf.reduce_sum(logits, 1), tf.zeros(2))
    np.testing.assert_array_equal(total, LOGITS.sum(axis=1))
    assert asked == [0, 1, 2]


def test_chunks_of_a_graph_wait_for_each_other():
    """Otherwise the logits of all chunks are held at the same time."""

    def fold():
        found = chunks([])
        found._logits_of = lambda n: tf.random.stateless_uniform((2, 3), (n, 0))
        return found.fold(lambda state, logits, _: state + tf.reduce_sum(logits, 1), tf.zeros(2))

    graph = tf.function(fold, autograph=False).get_concrete_function().graph
    drawn = [op for op in graph.get_operations() if op.type.startswith("StatelessRandomUniformV2")]
    sums = [op for op in graph.get_operations() if op.type.startswith("Add")]
    assert len(drawn) == 3
    for number, op in enumerate(drawn[1:]):
        assert sums[number] in before(op)


def before(operation):
    """All operations that one waits for."""
    found, todo = set(), [operation]
    while todo:
        op = todo.pop()
        more = {*op.control_inputs, *(tensor.op for tensor in op.inputs)} - found
        found |= more
        todo += more
    return found
