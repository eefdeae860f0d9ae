import gc
import weakref

import numpy as np

from tfxc.ops.batch_function import BatchFunction
from tfxc.ops.gradients import custom_gradient


def counted():
    """A function of a dict of tensors, and the shapes it was compiled for."""
    shapes = []

    def sums(features, factor=1):
        shapes.append(features["steps"].shape.as_list())
        return {"sums": factor * (features["steps"][:, :, 0] + features["more"][:, None])}

    return BatchFunction(sums), shapes


def features(count, length, width=3):
    steps = np.random.default_rng(length).normal(size=(count, length, width))
    return {"steps": steps.astype(np.float32), "more": np.arange(count, dtype=np.float32)}


def test_one_compilation_for_all_sizes_two_for_all_lengths():
    function, shapes = counted()
    for count, length in ((2, 4), (7, 4), (0, 4), (2, 9), (3, 1), (2, 4), (5, 30)):
        given = features(count, length)
        expected = given["steps"][:, :, 0] + given["more"][:, None]
        np.testing.assert_array_equal(function(given)["sums"], expected)
    assert shapes == [[None, 4, 3], [None, None, 3]]


def test_settings_are_compiled_in():
    function, shapes = counted()
    for factor in (1, 2, 1):
        given = features(2, 4)
        expected = factor * (given["steps"][:, :, 0] + given["more"][:, None])
        np.testing.assert_array_equal(function(given, factor=factor)["sums"], expected)
    assert len(shapes) == 2


def test_lists_are_open_from_the_start():
    shapes = []

    def lengths(tokens):
        shapes.append(tokens.shape.as_list())
        return tokens[:, 0]

    function = BatchFunction(lengths)
    for length in (8, 16):
        assert function(np.full((2, length), length, np.int32)).tolist() == [length] * 2
    assert shapes == [[None, None]]


def test_nothing_stays_of_a_function_that_is_not_needed_any_more():
    """TensorFlow keeps what a custom gradient refers to, which would be the weights of a model."""

    @custom_gradient
    def square(x):
        return x * x, lambda upstream: 2 * x * upstream

    function = BatchFunction(square)
    assert function(np.float32([[3.0]])).tolist() == [[9.0]]
    ((_, compiled),) = function._compiled.values()
    graph = weakref.ref(compiled.graph)
    del function, compiled
    gc.collect()
    assert graph() is None
