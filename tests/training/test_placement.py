"""What a training step would ask of the host if it ran on a GPU; none is needed."""

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.training.placement import has_gpu_kernels, lines, walk
from tests.training.placement_models import MODELS, as_on_gpu, trace
from tfxc.heads.mach import MACH
from tfxc.training import loop
from tfxc.training.optimization import row_optimizer
from tfxc.training.optimization.optimizers import RMSprop

needs_gpu_kernels = pytest.mark.skipif(
    not has_gpu_kernels(), reason="this build of TensorFlow has no kernels for GPUs"
)
# Operations without a kernel, on the host's 32-bit integers, copies to the host, and sizes that it
# asks for. They may become fewer.
MOST = {
    "mach_1": 3, "mach_4": 3, "mach_16": 3, "dense": 1, "fused": 1, "mhc": 14, "mhs": 7, "mhp": 1,
    "sampled": 5, "margin": 1, "scent": 3, "sox": 3, "textcnn": 2, "minilm": 2, "resnet": 1,
}  # fmt: skip
SLOW = [name for name in MOST if name not in ("mach_4", "scent")]


# Of the other models: the same walk, with the numbers of ``MOST``.
@needs_gpu_kernels
@pytest.mark.parametrize(
    "name", ["mach_4", "scent", *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)]
)
def test_a_step_asks_little_of_the_host(name):
    found = walk(trace(name))
    assert found.total <= MOST[name], lines(name, found)


def test_every_model_has_a_limit():
    assert list(MOST) == list(MODELS)


@needs_gpu_kernels
def test_what_the_walk_counts():
    """A matrix of 32-bit integers, a list of unknown length, and a branch by a value."""
    table = tf.Variable(np.arange(8, dtype=np.int32))

    @tf.function(autograph=False)
    def step(iterator):
        values, ids = next(iterator)
        found = tf.gather(table, ids) + 1
        positive = tf.boolean_mask(values, values > 0)
        total = tf.reduce_sum(positive)
        return tf.cond(total > 1, lambda: total, lambda: -total), found

    batch = np.ones(3, np.float32), np.arange(3, dtype=np.int64)
    found = walk(step.get_concrete_function(iter(tf.data.Dataset.from_tensors(batch))))
    assert list(found.no_kernel) == ["ResourceGather int64"]
    assert list(found.on_host) == ["AddV2 int32"]
    assert list(found.sizes) == ["Where bool"]
    assert {"Greater -> StatelessIf.cond", "IteratorGetNext -> ResourceGather.indices"} == set(
        found.to_host
    )


@needs_gpu_kernels
def test_a_truth_value_that_a_function_is_given_is_copied_back():
    """It enters in the GPU's memory, and a branch needs it in the host's: each call copies it."""

    @tf.function(autograph=False, experimental_attributes={"_noinline": True})
    def chunk(asked, values):
        return tf.cond(asked, lambda: values + 1, lambda: values)

    @tf.function(autograph=False)
    def step(asked, values):
        return chunk(asked, chunk(asked, values))

    found = walk(step.get_concrete_function(tf.TensorSpec([], tf.bool), tf.TensorSpec([3])))
    assert found.to_host == {"asked -> StatelessIf.cond": 2} and found.total == 2


def test_buckets_are_the_same_in_either_table():
    labels, groups = np.int32([[3, 7, -1], [90, -1, 5]]), []
    for gpu in (False, True):
        head = MACH(50, num_buckets=9, num_repetitions=2)
        if gpu:
            with as_on_gpu():
                head.build((None, 4))
        groups.append(head.training_groups(tf.ones((2, 4)), labels))
        dtype = tf.int64 if gpu else tf.int32
        assert head._lookup_table.dtype == dtype
    for one, other in zip(*groups, strict=True):
        np.testing.assert_array_equal(one.positives, other.positives)


def test_rows_are_updated_at_once_as_in_a_loop(monkeypatch):
    found, rows, shape = [], [7, 0, 2, 8, 1], tf.constant([9, 3])
    monkeypatch.setattr(row_optimizer, "_CHUNK_ROWS", 2)
    for gpu in (False, True):
        monkeypatch.setattr(row_optimizer, "on_gpu", lambda variable, gpu=gpu: gpu)
        variable, optimizer = tf.Variable(tf.ones((9, 3))), RMSprop(0.1, weight_decay=0.1)
        optimizer.build([variable])
        gradient = tf.IndexedSlices(tf.reshape(tf.range(15.0), (5, 3)), tf.constant(rows), shape)
        slots = optimizer.slots[variable.ref()]
        update = tf.function(
            lambda g, v=variable, s=slots, o=optimizer: o.update(
                v, g, s, tf.constant(0.1), tf.constant(1, tf.int64)
            ),
            autograph=False,
        )
        assert any(n.op in ("While", "StatelessWhile") for n in _nodes(update, gradient)) != gpu
        update(gradient)
        found.append([variable.numpy(), slots[0].numpy()])
    np.testing.assert_array_equal(*found)


def _nodes(function, *arguments):
    return function.get_concrete_function(*arguments).graph.as_graph_def().node


def test_batches_that_are_copied_ahead_are_the_same(tmp_path, monkeypatch):
    short = {"epochs": 0.4}
    expected = tiny.weights(tiny.train(tmp_path, "one", training=short))
    calls, copied_ahead = [], loop.copied_ahead
    monkeypatch.setattr(loop, "has_gpu", lambda: True)
    monkeypatch.setattr(loop, "GPU", "/CPU:0")
    monkeypatch.setattr(loop, "copied_ahead", lambda *a: calls.append(1) or copied_ahead(*a))
    found = tiny.weights(tiny.train(tmp_path, "other", training=short))
    assert calls
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)
