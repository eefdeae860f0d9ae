"""Helpers of the contracts of encoders, heads and objectives."""

import json

import keras
import numpy as np
import tensorflow as tf
from keras.src.testing import TestCase


def copy_from_config(layer, *example):
    """A second layer from the serialised config, with the same weights.

    Args:
        layer: a built layer.
        example: inputs of its ``call``, to build the copy with.
    """
    saved = keras.saving.serialize_keras_object(layer)
    json.dumps(saved)  # a config that is no JSON cannot be saved
    copy = keras.saving.deserialize_keras_object(saved)
    copy(*example)
    copy.set_weights(layer.get_weights())
    return copy


def exported(function, specification, folder):
    """A loaded module whose ``function`` made a trip through ``tf.saved_model``.

    The saved module holds the captured ``tf.Variable``s only: Keras objects would be written twice.
    Gradients stay behind: a custom one may refer to values of the forward pass.
    """
    module = tf.Module()
    module.function = tf.function(function, input_signature=[specification], autograph=False)
    module.weights = list(module.function.get_concrete_function().graph.variables)
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(folder), options=options)
    return tf.saved_model.load(str(folder))


def open_batch(structure):
    """Signature of a batch whose size is open."""
    return tf.nest.map_structure(
        lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype, name="input"), structure
    )


def assert_equal(found, expected):
    """Nested results are the same to the bit."""
    for one, other in _pairs(found, expected):
        np.testing.assert_array_equal(one, other)


def assert_close(found, expected, tolerance=1e-5):
    """Nested results are the same up to rounding."""
    for one, other in _pairs(found, expected):
        np.testing.assert_allclose(one, other, tolerance, tolerance)


def _pairs(found, expected):
    tf.nest.assert_same_structure(found, expected)
    pairs = zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True)
    return [
        (np.asarray(one), np.asarray(other))
        for one, other in pairs
        if one is not None or other is not None
    ]


def loops_and_their_reads(function):
    """Loops of a ``ConcreteFunction``, in all functions it calls.

    Returns:
        Number of loops, and the names of the ``ReadVariableOp``s inside of them: each reads its
        variable in every round, and copies it where the variable has been gathered from.
    """
    library = {f.signature.name: f for f in function.graph.as_graph_def().library.function}
    loops, reads, seen = 0, [], set()

    def visit(nodes, inside):
        nonlocal loops
        for node in nodes:
            body = node.op in ("While", "StatelessWhile")
            loops += body
            if node.op == "ReadVariableOp" and inside:
                reads.append(node.name)
            for value in node.attr.values():
                for name in [value.func.name, *(f.name for f in value.list.func)]:
                    if name in library and (name, inside or body) not in seen:
                        seen.add((name, inside or body))
                        visit(library[name].node_def, inside or body)

    visit(function.graph.as_graph_def().node, False)
    return loops, reads


def run_keras_layer_test(make, features):
    """What Keras demands of its own layers: saved and made again, symbolic, trained, in half.

    Args:
        make: function of keyword arguments, ``dtype`` among them, that makes the layer.
        features: what it is called with; Keras spreads a dict over several arguments, so the
            layer of a dict is tried inside of one that takes a tuple.
    """
    if isinstance(features, dict):
        names, plain = list(features), make

        def make(**arguments):
            return OfTuple(plain(**arguments), names)

        features = tuple(features.values())
    TestCase().run_layer_test(make, {}, input_data=features)


@keras.saving.register_keras_serializable("tests")
class OfTuple(keras.layers.Layer):
    """Calls a layer with a dict that it gets as a tuple."""

    def __init__(self, layer, names, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.layer, self.names = layer, names

    def build(self, _shapes):
        self.layer.build(None)

    def call(self, values, training=False):
        return self.layer(dict(zip(self.names, values, strict=True)), training=training)

    def get_config(self):
        layer = keras.saving.serialize_keras_object(self.layer)
        return {**super().get_config(), "layer": layer, "names": self.names}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("layer")), **config)
