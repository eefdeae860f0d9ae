"""Updates of bfloat16 weights that are rounded up or down at random, and right on average."""

from pathlib import Path

import tensorflow as tf

from tfxc.ops.compiled_operations import CompiledOperation
from tfxc.ops.distributed.devices import on_gpu
from tfxc.ops.randomness import random_bits, random_key

#: ``rounded_descent.get()(variable, gradient, rate, kept, key)`` is ``descend`` of a variable's
#: handle, with the ``random_key`` of its seed.
rounded_descent = CompiledOperation(
    Path(__file__).with_name("_rounded_descent.cc"),
    "tfxc_rounded_descent",
    "rounding of bfloat16 weights",
)


def round_stochastically(values: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Returns bfloat16 numbers next to float32 ones: the upper one as often as the value is near to
    it.

    Rounding to the nearest loses every change of less than half the distance of two numbers,
    1/256 of the value; so the mean of many small changes is lost.

    Args:
        values: float32, finite.
        bits: uint32 of the same shape, uniform over all numbers; the upper half counts.

    Example:
        >>> low, high = tf.constant([0], tf.uint32), tf.constant([2**32 - 1], tf.uint32)
        >>> value = tf.constant([1.001])
        >>> [float(round_stochastically(value, bits)[0]) for bits in (low, high)]
        [1.0, 1.0078125]

    Reference: Gupta et al. 2015, arXiv 1502.02551.
    """
    noise = tf.bitwise.right_shift(bits, tf.constant(16, tf.uint32))
    # The upper half of a float32 is a bfloat16: the noise carries into it, or does not.
    shifted = tf.bitcast(values, tf.uint32) + noise
    upper = tf.bitwise.right_shift(shifted, tf.constant(16, tf.uint32))
    return tf.bitcast(tf.cast(upper, tf.uint16), tf.bfloat16)


def descend(
    variable: tf.Variable,
    gradient: tf.Tensor,
    rate: tf.Tensor,
    kept: tf.Tensor | float,
    seed: int,
    first_row: int = 0,
) -> tf.Operation | None:
    """Assigns ``w = kept w - rate gradient`` to a bfloat16 matrix, rounded stochastically.

    The noise is fresh: a function of seed, training step and place. On a CPU with a compiler this
    is one pass in C++, elsewhere a dozen of TensorFlow's operations with the same noise.

    Args:
        variable: bfloat16 (rows, columns).
        gradient: bfloat16 of that shape.
        rate, kept: float32 scalars.
        seed: of the variable.
        first_row: number of the variable's first row among those that share the seed: a matrix in
            several variables is rounded as in one.

    Returns:
        The operation that has assigned it; None outside of a graph.
    """
    compiled = None if on_gpu(variable) else rounded_descent.get()
    if compiled is not None:
        return compiled(
            variable=variable.handle,
            gradient=gradient,
            rate=rate,
            kept=kept,
            key=random_key(seed, first_row),
        )
    rows = tf.range(first_row, first_row + variable.shape[0])[:, None]
    bits = random_bits(rows, tf.range(variable.shape[1])[None], seed, shared=True)
    values = (
        tf.cast(variable.read_value(), tf.float32) * kept - tf.cast(gradient, tf.float32) * rate
    )
    return variable.assign(round_stochastically(values, bits), read_value=False)
