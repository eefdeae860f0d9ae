"""Layers whose weights are read from a file without a copy of them."""

import contextlib
import math
import threading
from collections.abc import Iterator
from typing import Any

import h5py
import keras
import tensorflow as tf

_PIECE = 2**26  # bytes read at a time
_local = threading.local()


@contextlib.contextmanager
def without_starts() -> Iterator[None]:
    """Inside, weights of ``LargeWeights`` begin as zeros: they are read from a file next.

    Random numbers of the size of a table need its memory twice.
    """
    before = starts_are_left_out()
    _local.left_out = True
    try:
        yield
    finally:
        _local.left_out = before


def starts_are_left_out() -> bool:
    """Whether this is inside ``without_starts``."""
    return getattr(_local, "left_out", False)


class LargeWeights(keras.layers.Layer):
    """A layer that reads large weights piece by piece, where Keras holds each three times."""

    def add_weight(
        self, shape: Any = None, initializer: Any = None, *args: Any, **more: Any
    ) -> "keras.Variable":
        """As of a Keras layer."""
        start = "zeros" if starts_are_left_out() else initializer
        return super().add_weight(shape, start, *args, **more)

    def load_own_variables(self, store: Any) -> None:
        """As of a Keras layer."""
        variables = self._trainable_variables + self._non_trainable_variables
        names = [str(number) for number in range(len(variables))]
        if set(store.keys()) != set(names):
            super().load_own_variables(store)  # which says what does not fit
            return
        for variable, name in zip(variables, names, strict=True):
            assign_in_pieces(variable, _stored(store, name))


def _stored(store, name):
    """The data set itself, whose rows can be read; as Keras returns it, it is read as a whole.

    What refers to another file is left to Keras, which refuses it.
    """
    group = getattr(store, "_h5_entry_group", None)
    if isinstance(group, h5py.Group) and isinstance(group.get(name, getlink=True), h5py.HardLink):
        found = group[name]
        plain = isinstance(found, h5py.Dataset) and not (found.external or found.is_virtual)
        if plain and found.dtype == "float32" and "dtype" not in found.attrs:
            return found
    return store[name]


def assign_in_pieces(variable: Any, values: Any) -> None:
    """Assigns values to a Keras variable, of a large one some rows at a time.

    Args:
        variable: a Keras variable.
        values: array, or a data set of HDF5, of its shape.

    Raises:
        ValueError: another shape.
    """
    shape = tuple(variable.shape)
    rows = _PIECE // max(4 * math.prod(shape[1:]), 1)
    alike = tuple(values.shape) == shape and variable.dtype == "float32"
    if not alike or not shape or not 0 < rows < shape[0]:
        variable.assign(values[()])
        return
    for begin in range(0, shape[0], rows):
        piece = values[begin : begin + rows]
        # Not ``value[begin:end].assign``: that reads the slice, which shares the variable's memory,
        # and so makes the assignment copy the whole.
        tf.raw_ops.ResourceStridedSliceAssign(
            ref=variable.value.handle,
            begin=[begin],
            end=[begin + len(piece)],
            strides=[1],
            value=piece,
        )
