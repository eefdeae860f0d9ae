"""Vectors of many texts whose activations need the memory of a few."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import tensorflow as tf

from tfxc.ops.gradients import custom_gradient
from tfxc.ops.randomness import rows_of_labels

_Encode = Callable[[tf.Tensor], tf.Tensor]
_Gradient: TypeAlias = tf.Tensor | tf.IndexedSlices | None


def encoded_in_chunks(encode: _Encode, ids: tf.Tensor, chunks: int) -> tf.Tensor:
    """Returns the vectors of texts, a chunk after the other, without their activations.

    In the backward pass each chunk is encoded once more: time is saved for memory. The dropout
    masks of a text are those it has in one piece, see ``ops.randomness.rows_of_labels``.

    Args:
        encode: function of int64 ids (n,) -> float vectors (n, dim), n at least 1; of weights that
            a tape watches.
        ids: int64 (C,), C at least 1.
        chunks: how many, a Python int.

    Returns:
        float (C, dim).

    Reference: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited
    Setup", 2021, arXiv 2101.06983.

    Example:
        >>> double = lambda ids: 2.0 * tf.cast(ids, tf.float32)[:, None]
        >>> encoded_in_chunks(double, tf.constant([1, 2, 5], tf.int64), 2).numpy().ravel().tolist()
        [2.0, 4.0, 10.0]
    """
    if chunks <= 1:
        with rows_of_labels():
            return encode(ids)

    @custom_gradient
    def vectors(ids: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        cut = _Cut(ids, chunks)

        def gradient(
            upstream: tf.Tensor, variables: Sequence[tf.Variable] = ()
        ) -> tuple[list[None], list[_Gradient]]:
            return [None], _gradients(encode, cut, list(variables), upstream)

        return _vectors(encode, cut), gradient

    return vectors(ids)


class _Cut:
    """Ids in chunks of nearly equal size."""

    def __init__(self, ids: tf.Tensor, chunks: int) -> None:
        self.ids = ids
        self.chunks = chunks
        self.count = tf.size(ids, tf.int64)

    def encoded(self, encode: _Encode, number: int | tf.Tensor) -> tuple[tf.Tensor, slice]:
        """Returns the vectors of a chunk, and which rows of all they are."""
        number = tf.cast(number, tf.int64)
        begin, end = (at * self.count // self.chunks for at in (number, number + 1))
        with rows_of_labels(begin):
            # An encoder is not given less than one text; what is too many is cut off.
            some = encode(self.ids[begin : tf.maximum(end, begin + 1)])
        return some[: end - begin], slice(begin, end)


def _vectors(encode: _Encode, cut: _Cut) -> tf.Tensor:
    # The first chunk is outside of the loop: it tells the loop what an encoder returns.
    first, _ = cut.encoded(encode, 0)
    parts = _list_of(first, cut.chunks)

    def body(number: tf.Tensor, parts: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        return number + 1, parts.write(number, cut.encoded(encode, number)[0])

    # One after the other: side by side they would need the memory of all.
    with tf.control_dependencies([first]):
        start = tf.constant(1), parts
    _, parts = tf.while_loop(
        lambda number, _: number < cut.chunks, body, start, parallel_iterations=1
    )
    return tf.ensure_shape(parts.concat(), [cut.ids.shape[0], first.shape[1]])


def _gradients(
    encode: _Encode, cut: _Cut, variables: list[tf.Variable], upstream: tf.Tensor
) -> list[_Gradient]:
    """Encodes each chunk again for the variables' gradients: tensors, rows of tables, or None."""

    def of_chunk(number: tf.Tensor) -> list[_Gradient]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            again, rows = cut.encoded(encode, number)
        return tape.gradient(again, variables, upstream[rows])

    # Not before the gradient is there, else the activations of two passes would be.
    with tf.control_dependencies([upstream]):
        first = of_chunk(tf.constant(0))
    sums = [_begun(gradient, cut.chunks) for gradient in first]

    def body(number: tf.Tensor, sums: list[Any]) -> tuple[tf.Tensor, list[Any]]:
        added = [_added(*pair, number) for pair in zip(sums, of_chunk(number), strict=True)]
        return number + 1, added

    with tf.control_dependencies([g for g in first if g is not None]):
        start = tf.constant(1), sums
    _, sums = tf.while_loop(
        lambda number, _: number < cut.chunks, body, start, parallel_iterations=1
    )
    return [_ended(total, gradient) for total, gradient in zip(sums, first, strict=True)]


def _begun(gradient: _Gradient, chunks: int) -> Any:
    """Returns what a sum of gradients is in the loop: of rows of a table, they are listed."""
    if gradient is None:
        return ()
    if isinstance(gradient, tf.IndexedSlices):
        return tuple(_list_of(part, chunks) for part in (gradient.indices, gradient.values))
    return gradient


def _added(
    total: tf.Tensor | tuple[tf.TensorArray, ...], gradient: _Gradient, number: tf.Tensor
) -> Any:
    if gradient is None:
        return ()
    if isinstance(gradient, tf.IndexedSlices):
        indices, values = total
        return indices.write(number, gradient.indices), values.write(number, gradient.values)
    return total + gradient


def _ended(total: tf.Tensor | tuple[tf.TensorArray, ...], gradient: _Gradient) -> _Gradient:
    if gradient is None:
        return None
    if isinstance(gradient, tf.IndexedSlices):
        indices, values = total
        return tf.IndexedSlices(values.concat(), indices.concat(), gradient.dense_shape)
    return total


def _list_of(first: tf.Tensor, length: int) -> tf.TensorArray:
    """Returns a list of tensors, of which the first is known, as wide as it and of any length."""
    shape = tf.TensorShape([None]).concatenate(first.shape[1:])
    parts = tf.TensorArray(first.dtype, length, infer_shape=False, element_shape=shape)
    return parts.write(0, first)
