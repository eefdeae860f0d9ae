"""New axes in slices: the same results without them."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tfxc.exports.axes import expand_new_axes


@pytest.mark.parametrize(
    ("code", "slices"),
    [
        (lambda x: x[:, None], 0),
        (lambda x: x[:, :, None], 0),
        (lambda x: x[None, :, None], 0),
        (lambda x: x[:, None, None, :], 0),
        (lambda x: x[:, None] * x[:, :, None], 0),
        (lambda x: x[::2, None], 1),
        (lambda x: x[1:, None], 1),
        (lambda x: x[..., None], 1),
        (lambda x: x[:, None, 0], 1),
        (lambda x: x[:, 1:], 1),
    ],
)
def test_results_stay(tmp_path, code, slices):
    signature = [tf.TensorSpec([None, None], tf.float32, name="x")]
    function = tf.function(lambda x: {"y": code(x)}, input_signature=signature, autograph=False)
    function = function.get_concrete_function()
    tf.saved_model.save(tf.Module(), str(tmp_path), signatures={"serving_default": function})
    expand_new_axes(tmp_path / "saved_model.pb")
    x = np.arange(9.0, dtype=np.float32).reshape(3, 3)
    found = tf.saved_model.load(str(tmp_path)).signatures["serving_default"](x=tf.constant(x))
    np.testing.assert_array_equal(found["y"], code(tf.constant(x)))
    saved = saved_model_pb2.SavedModel.FromString((tmp_path / "saved_model.pb").read_bytes())
    functions = saved.meta_graphs[0].graph_def.library.function
    kinds = [node.op for one in functions for node in one.node_def]
    assert kinds.count("StridedSlice") == slices
