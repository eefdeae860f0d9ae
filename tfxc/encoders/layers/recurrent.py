"""Long short-term memory in both directions over padded texts."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from tfxc.encoders.bases.starts import STARTS
from tfxc.ops.gradients import custom_gradient

if TYPE_CHECKING:
    from tfxc.encoders.bases.tokens import TokenEncoder


class BidirectionalLSTM(keras.layers.Layer):
    """One layer that reads the words forwards and backwards.

    Backwards, a text is read from its last word; padding comes after all words in both directions,
    so no state of a word depends on it. Weights are float32 and so is the recurrence, whatever
    the precision of the products with the inputs. The bias of the forget gates starts as 1.

    Args:
        hidden_dim: units of each direction.
        start: function of a seed -> initializer of the kernels.
        seeds: function that returns another seed at each call.

    Input: float (batch, length, dim); lengths int32 (batch,).
    Output: float (batch, length, 2 · hidden_dim), forwards first; at padding of no meaning.

    Reference: Hochreiter and Schmidhuber 1997; Gers et al. 2000 (forget gate).
    """

    def __init__(
        self,
        hidden_dim: int,
        start: Callable[..., Any],
        seeds: Callable[[], int],
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.hidden_dim, self._start, self._seeds = hidden_dim, start, seeds
        self.kernels: list[Any] = []
        self.recurrent_kernels: list[Any] = []
        self.biases: list[Any] = []

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes the kernels of both directions; gates in the order input, forget, output, cell."""
        hidden = self.hidden_dim
        ones = [0.0] * hidden + [1.0] * hidden + [0.0] * (2 * hidden)
        for direction in ("forward", "backward"):
            shapes = {"kernel": (input_shape[-1], 4 * hidden), "recurrent": (hidden, 4 * hidden)}
            made = [
                self._weight(shape, self._start(seed=self._seeds()), f"{direction}_{name}")
                for name, shape in shapes.items()
            ]
            self.kernels.append(made[0])
            self.recurrent_kernels.append(made[1])
            start = keras.initializers.Constant(ones)
            self.biases.append(self._weight((4 * hidden,), start, f"{direction}_bias"))

    def _weight(self, shape, start, name):
        return self.add_weight(shape, start, name=name, autocast=False)

    def call(self, x: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """States of all words."""
        states = [self._read(x, lengths, direction) for direction in (0, 1)]
        return tf.cast(tf.concat(states, axis=2), self.compute_dtype)

    def _read(self, x, lengths, direction):
        batch, length = tf.shape(x)[0], tf.shape(x)[1]
        kernel = tf.cast(self.kernels[direction].value, x.dtype)
        order = _places(lengths, length, backwards=direction == 1)
        into = tf.transpose(tf.range(batch)[:, None] * length + order)
        back = order * batch + tf.range(batch)[:, None]
        words = _rearranged(tf.reshape(x, [-1, x.shape[2]]), into, back)
        products = tf.cast(tf.matmul(words, kernel), tf.float32) + self.biases[direction].value
        gates = tf.reshape(products, tf.stack([length, batch, 4 * self.hidden_dim]))
        recurrent = tf.convert_to_tensor(self.recurrent_kernels[direction].value)
        states = _recur(gates, recurrent)
        states = _rearranged(tf.reshape(states, [-1, self.hidden_dim]), back, into)
        return tf.reshape(states, tf.stack([batch, length, self.hidden_dim]))


def lstm_layers(encoder: "TokenEncoder", input_dim: int) -> "list[BidirectionalLSTM]":
    """The built layers of a ``TokenEncoder`` with ``num_layers`` and ``hidden_dim``."""
    layers = []
    for _ in range(encoder.num_layers):
        start, policy = STARTS[encoder.start], encoder.dtype_policy
        layers.append(BidirectionalLSTM(encoder.hidden_dim, start, encoder.next_seed, dtype=policy))
        layers[-1].build((None, None, input_dim))
        input_dim = 2 * encoder.hidden_dim
    return layers


def _places(lengths, length, backwards):
    """Which word each step reads, int32 (batch, length); its own inverse."""
    steps = tf.broadcast_to(tf.range(length), tf.stack([tf.size(lengths), length]))
    if not backwards:
        return steps
    return tf.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)


@custom_gradient
def _rearranged(rows, into, back):
    """``rows`` in the order ``into``; ``back`` is the inverse order, which the gradient takes."""

    def gradient(upstream):
        return tf.gather(upstream, tf.reshape(back, [-1])), None, None

    return tf.gather(rows, tf.reshape(into, [-1])), gradient


@custom_gradient
def _recur(gates, kernel):
    """States (length, batch, hidden) of an LSTM.

    The gradient's loop does only what depends on the next step; all else is done for all steps
    at once. That takes half the time of the gradient that TensorFlow derives.

    Args:
        gates: float32 (length, batch, 4 · hidden), products of the inputs with biases.
        kernel: float32 (hidden, 4 · hidden).
    """
    hidden, length = kernel.shape[0], tf.shape(gates)[0]
    zero = tf.zeros_like(gates[0, :, :hidden])
    products = tf.TensorArray(tf.float32, length).unstack(gates)

    def step(time, state, cell):
        own = products.read(time) + tf.matmul(state, kernel)
        switches, entry = tf.split(own, [3 * hidden, hidden], axis=1)
        switches, entry = tf.sigmoid(switches), tf.tanh(entry)
        enter, keep, out = tf.split(switches, 3, axis=1)
        cell = keep * cell + enter * entry
        state = out * tf.tanh(cell)
        return (state, cell), (switches, entry, cell, state)

    widths = (3 * hidden, hidden, hidden, hidden)
    switches, entry, cells, states = _loop(length, step, (zero, zero), widths)

    def gradient(upstream):
        of_gates = _gradient_of_gates(upstream, kernel, switches, entry, cells)
        before = tf.reshape(_one_later(states), [-1, hidden])
        flat = tf.reshape(of_gates, [-1, 4 * hidden])
        return of_gates, tf.matmul(before, flat, transpose_a=True)

    return states, gradient


def _gradient_of_gates(upstream, kernel, switches, entry, cells):
    hidden, length = kernel.shape[0], tf.shape(upstream)[0]
    enter, keep, out = tf.split(switches, 3, axis=2)
    bent = tf.tanh(cells)
    # By the gradient of the cell: input, forget and cell gate. By that of the state: output gate.
    of_cell = [entry * enter * (1 - enter), _one_later(cells) * keep * (1 - keep)]
    of_cell.append(enter * (1 - tf.square(entry)))
    parts = [upstream, out * (1 - tf.square(bent)), keep, *of_cell, bent * out * (1 - out)]
    widths = [hidden, hidden, hidden, 3 * hidden, hidden]
    everything = tf.TensorArray(tf.float32, length).unstack(tf.concat(parts, axis=2))
    reordered = tf.transpose(_exchanged(kernel, hidden))

    def step(time, of_state, of_cell):
        given, slope, keeps, by_cell, by_state = tf.split(
            everything.read(length - 1 - time), widths, axis=1
        )
        of_state = given + of_state
        of_cell = of_state * slope + of_cell
        own = tf.concat([tf.tile(of_cell, [1, 3]) * by_cell, of_state * by_state], axis=1)
        return (tf.matmul(own, reordered), of_cell * keeps), (own,)

    zero = tf.zeros_like(upstream[0])
    (of_gates,) = _loop(length, step, (zero, zero), (4 * hidden,))
    return _exchanged(tf.reverse(of_gates, [0]), hidden)


def _exchanged(gates, hidden):
    """Exchanges the third gate and the last, output and cell."""
    first, third, last = tf.split(gates, [2 * hidden, hidden, hidden], axis=-1)
    return tf.concat([first, last, third], axis=-1)


def _one_later(steps):
    """Of each step, what was before; zero before the first."""
    return tf.concat([tf.zeros_like(steps[:1]), steps[:-1]], axis=0)


def _loop(length, step, state, widths):
    """Runs ``step(time, *state) -> (state, outputs)``; returns the outputs of all steps."""
    count = len(state)
    batch = state[0].shape[0]
    arrays = [tf.TensorArray(tf.float32, length, element_shape=[batch, w]) for w in widths]

    def body(time, *given):
        new, outputs = step(time, *given[:count])
        written = [a.write(time, o) for a, o in zip(given[count:], outputs, strict=True)]
        return (time + 1, *new, *written)

    start = (tf.constant(0), *state, *arrays)
    end = tf.while_loop(lambda time, *_: time < length, body, start, parallel_iterations=1)
    return [array.stack() for array in end[1 + count :]]
