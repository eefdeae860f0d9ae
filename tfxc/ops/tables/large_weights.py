"""Layers whose weights are started, read and written without a copy of them."""

import math
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import h5py
import keras
import tensorflow as tf

from tfxc.core.thread_value import ThreadValue
from tfxc.ops.private_apis import in_stateless_scope
from tfxc.ops.tables.row_start import RowStart

if TYPE_CHECKING:
    import numpy as np

    from tfxc.ops.tables.row_start import Rows

_PIECE = 2**26  # bytes started, read or written at a time
_left_out = ThreadValue(False)


def without_starts() -> AbstractContextManager[None]:
    """Inside, weights of ``LargeWeights`` begin as zeros: they are read from a file next.

    So the time to draw random numbers is saved.
    """
    return _left_out.set_to(True)


def starts_are_left_out() -> bool:
    """Says whether this is inside ``without_starts``."""
    return _left_out.value


class LargeWeights(keras.layers.Layer):
    """A layer whose large weights are never in memory twice, where Keras holds each three times.

    They are drawn, read and written piece by piece; the start of a large one is drawn so where it
    is a ``RowStart``.
    """

    def add_weight(
        self,
        shape: Sequence[int] | None = None,
        initializer: object = None,
        *args: object,
        **more: object,
    ) -> keras.Variable:
        """As of a Keras layer."""
        if starts_are_left_out():
            return super().add_weight(shape, "zeros", *args, **more)
        is_large = bool(pieces_of(shape)) and not in_stateless_scope()
        if shape is None or not is_large or not isinstance(initializer, RowStart):
            return super().add_weight(shape, initializer, *args, **more)
        variable = super().add_weight(shape, "zeros", *args, **more)
        with tf.init_scope():
            assign_in_pieces(variable, initializer.of_shape(shape))
        return variable

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """As of a Keras layer."""
        # An HDF5 group of Keras, into which a large variable is written some rows at a time.
        group = getattr(store, "_h5_entry_group", None)
        for number, variable in enumerate(self._own_variables):
            pieces = pieces_of(variable.shape, variable.dtype)
            if not isinstance(group, h5py.Group) or not pieces:
                store[str(number)] = variable
                continue
            values = shared_value(variable.value)
            written = group.create_dataset(str(number), tuple(variable.shape), "float32")
            for begin, end in pieces:
                written[begin:end] = values[begin:end].numpy()

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """As of a Keras layer."""
        variables = self._own_variables
        names = [str(number) for number in range(len(variables))]
        if set(store.keys()) != set(names):
            super().load_own_variables(store)  # which says what does not fit
            return
        for variable, name in zip(variables, names, strict=True):
            assign_in_pieces(variable, _stored(store, name))

    @property
    def _own_variables(self) -> list[keras.Variable]:
        return self._trainable_variables + self._non_trainable_variables


def pieces_of(shape: Sequence[int] | None, dtype: str = "float32") -> list[tuple[int, int]]:
    """Returns the ranges of rows of the pieces of a large weight; empty for one that is handled
    whole.

    Args:
        shape: of the weight.
        dtype: its type; what is not float32 is handled whole.

    Example:
        >>> pieces_of((300_000, 128)), pieces_of((100_000, 128))
        ([(0, 131072), (131072, 262144), (262144, 300000)], [])
    """
    shape = tuple(shape or ())
    rows = _PIECE // max(4 * math.prod(shape[1:]), 1) if shape else 0
    rows -= rows % 16 if rows > 16 else 0  # TensorFlow copies slices that are not aligned so
    if tf.as_dtype(dtype) != tf.float32 or not 0 < rows < shape[0]:
        return []
    return [(begin, min(begin + rows, shape[0])) for begin in range(0, shape[0], rows)]


def largest_piece(shape: Sequence[int], dtype: str = "float32") -> int:
    """Returns bytes of the largest piece of a weight, or of the weight if it is handled whole.

    Args:
        shape, dtype: as of ``pieces_of``.

    Example:
        >>> largest_piece((300_000, 128)), largest_piece((1_000, 128), "bfloat16")
        (67108864, 256000)
    """
    whole = math.prod(shape) * tf.as_dtype(dtype).size
    for begin, end in pieces_of(shape, dtype)[:1]:  # the others are no larger
        return whole // shape[0] * (end - begin)
    return whole


def _stored(store: Mapping[str, Any], name: str) -> Any:
    """Returns the data set itself, whose rows can be read; as Keras returns it, it is read as a
    whole.

    What refers to another file is left to Keras, which refuses it.
    """
    group = getattr(store, "_h5_entry_group", None)
    if isinstance(group, h5py.Group) and isinstance(group.get(name, getlink=True), h5py.HardLink):
        data = group[name]
        plain = isinstance(data, h5py.Dataset) and not (data.external or data.is_virtual)
        if plain and data.dtype == "float32" and "dtype" not in data.attrs:
            return data
    return store[name]


def shared_value(variable: tf.Variable) -> tf.Tensor:
    """Returns the value of a variable, which shares its memory, and so do slices of rows.

    While it exists, an assignment to the variable copies the whole.

    Args:
        variable: of several replicas, the first one is read.
    """
    return copies_of(variable)[0].read_value_no_copy()


def copies_of(variable: tf.Variable) -> list[tf.Variable]:
    """Returns the variables of the replicas that are here; itself where it is not distributed."""
    return list(getattr(variable, "values", None) or [variable])


def assign_in_pieces(variable: keras.Variable, values: "np.ndarray | h5py.Dataset | Rows") -> None:
    """Assigns values to a Keras variable, of a large one some rows at a time.

    Args:
        variable: a Keras variable.
        values: array, data set of HDF5 or ``row_start.Rows``, of its shape.

    Raises:
        ValueError: another shape.
    """
    pieces = pieces_of(variable.shape, variable.dtype)
    if tuple(values.shape) != tuple(variable.shape) or not pieces:
        variable.assign(values[()])
        return
    for begin, end in pieces:
        assign_rows(variable.value, begin, values[begin:end])


def assign_rows(variable: tf.Variable, begin: int, values: "np.ndarray | tf.Tensor") -> None:
    """Assigns some rows of a variable in place, in all replicas that are here.

    Args:
        variable: float32.
        begin: the first of them.
        values: array or tensor, a row for each.
    """
    for copy in copies_of(variable):
        # Not ``value[begin:end].assign``: that reads the slice, which shares the variable's memory,
        # and so makes the assignment copy the whole.
        tf.raw_ops.ResourceStridedSliceAssign(
            ref=copy.handle,
            begin=[begin],
            end=[begin + len(values)],
            strides=[1],
            value=values,
        )
        # Else every reading would copy the whole from now on.
        tf.raw_ops.DisableCopyOnRead(resource=copy.handle)
