"""Long short-term memory in both directions over padded texts."""

from collections.abc import Callable, Sequence
from typing import Any, Unpack

import keras
import tensorflow as tf

from tfxc.core.declared import LayerArguments
from tfxc.ops.gradients import custom_gradient

# The next state, and the outputs of a step.
Step = tuple[tuple[tf.Tensor, ...], tuple[tf.Tensor, ...]]


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
        start: Callable[..., keras.Initializer],
        seeds: Callable[[], int],
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.hidden_dim = hidden_dim
        self._start = start
        self._seeds = seeds
        self.kernels: list[keras.Variable] = []
        self.recurrent_kernels: list[keras.Variable] = []
        self.biases: list[keras.Variable] = []

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes the kernels of both directions; gates in the order input, forget, output, cell."""
        hidden = self.hidden_dim
        ones = [0.0] * hidden + [1.0] * hidden + [0.0] * (2 * hidden)
        for direction in ("forward", "backward"):
            for weights, name, rows in (
                (self.kernels, "kernel", input_shape[-1]),
                (self.recurrent_kernels, "recurrent", hidden),
            ):
                weights.append(
                    self.add_weight(
                        (rows, 4 * hidden),
                        self._start(seed=self._seeds()),
                        name=f"{direction}_{name}",
                        autocast=False,
                    )
                )
            start = keras.initializers.Constant(ones)
            self.biases.append(
                self.add_weight((4 * hidden,), start, name=f"{direction}_bias", autocast=False)
            )

    def call(self, x: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """States of all words."""
        batch = tf.shape(x)[0]
        length = tf.shape(x)[1]
        # Which word each step reads, int32 (batch, length); each order is its own inverse.
        forwards = tf.broadcast_to(tf.range(length), tf.stack([batch, length]))
        is_word = forwards < lengths[:, None]
        backwards = tf.where(is_word, lengths[:, None] - 1 - forwards, forwards)
        states_of_both = []
        for direction, order in enumerate((forwards, backwards)):
            kernel = tf.cast(self.kernels[direction].value, x.dtype)
            into = tf.transpose(tf.range(batch)[:, None] * length + order)
            back = order * batch + tf.range(batch)[:, None]
            words = _rearranged(tf.reshape(x, [-1, x.shape[2]]), into, back)
            products = tf.cast(tf.matmul(words, kernel), tf.float32) + self.biases[direction].value
            gates = tf.reshape(products, tf.stack([length, batch, 4 * self.hidden_dim]))
            recurrent = tf.convert_to_tensor(self.recurrent_kernels[direction].value)
            states = tf.reshape(_recur(gates, recurrent), [-1, self.hidden_dim])
            states = _rearranged(states, back, into)
            states_of_both.append(tf.reshape(states, tf.stack([batch, length, self.hidden_dim])))
        return tf.cast(tf.concat(states_of_both, axis=2), self.compute_dtype)


@custom_gradient
def _rearranged(
    rows: tf.Tensor, into: tf.Tensor, back: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, None, None]]]:
    """Returns ``rows`` in the order ``into``; ``back`` is the inverse order, which the gradient
    takes.
    """

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None, None]:
        return tf.gather(upstream, tf.reshape(back, [-1])), None, None

    return tf.gather(rows, tf.reshape(into, [-1])), gradient


@custom_gradient
def _recur(
    gates: tf.Tensor, kernel: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    """States (length, batch, hidden) of an LSTM.

    The gradient's loop does only what depends on the next step; all else is done for all steps
    at once. That takes half the time of the gradient that TensorFlow derives.

    Args:
        gates: float32 (length, batch, 4 · hidden), products of the inputs with biases.
        kernel: float32 (hidden, 4 · hidden).
    """
    hidden = kernel.shape[0]
    length = tf.shape(gates)[0]
    zero = tf.zeros_like(gates[0, :, :hidden])
    products = tf.TensorArray(tf.float32, length).unstack(gates)

    def step(time: tf.Tensor, state: tf.Tensor, cell: tf.Tensor) -> Step:
        sums = products.read(time) + tf.matmul(state, kernel)
        switches, entry = tf.split(sums, [3 * hidden, hidden], axis=1)
        switches = tf.sigmoid(switches)
        entry = tf.tanh(entry)
        enter, keep, out = tf.split(switches, 3, axis=1)
        cell = keep * cell + enter * entry
        state = out * tf.tanh(cell)
        return (state, cell), (switches, entry, cell, state)

    widths = (3 * hidden, hidden, hidden, hidden)
    switches, entry, cells, states = _loop(length, step, (zero, zero), widths)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        of_gates = _gradient_of_gates(upstream, kernel, switches, entry, cells)
        before = tf.reshape(_one_later(states), [-1, hidden])
        flat = tf.reshape(of_gates, [-1, 4 * hidden])
        return of_gates, tf.matmul(before, flat, transpose_a=True)

    return states, gradient


def _gradient_of_gates(
    upstream: tf.Tensor, kernel: tf.Tensor, switches: tf.Tensor, entry: tf.Tensor, cells: tf.Tensor
) -> tf.Tensor:
    hidden = kernel.shape[0]
    length = tf.shape(upstream)[0]
    enter, keep, out = tf.split(switches, 3, axis=2)
    bent = tf.tanh(cells)
    # By the gradient of the cell: input, forget and cell gate. By that of the state: output gate.
    of_cell = [entry * enter * (1 - enter), _one_later(cells) * keep * (1 - keep)]
    of_cell.append(enter * (1 - tf.square(entry)))
    parts = [upstream, out * (1 - tf.square(bent)), keep, *of_cell, bent * out * (1 - out)]
    widths = [hidden, hidden, hidden, 3 * hidden, hidden]
    everything = tf.TensorArray(tf.float32, length).unstack(tf.concat(parts, axis=2))
    reordered = tf.transpose(_exchanged(kernel, hidden))

    def step(time: tf.Tensor, of_state: tf.Tensor, of_cell: tf.Tensor) -> Step:
        from_above, slope, keeps, by_cell, by_state = tf.split(
            everything.read(length - 1 - time), widths, axis=1
        )
        of_state = from_above + of_state
        of_cell = of_state * slope + of_cell
        of_sums = tf.concat([tf.tile(of_cell, [1, 3]) * by_cell, of_state * by_state], axis=1)
        return (tf.matmul(of_sums, reordered), of_cell * keeps), (of_sums,)

    zero = tf.zeros_like(upstream[0])
    (of_gates,) = _loop(length, step, (zero, zero), (4 * hidden,))
    return _exchanged(tf.reverse(of_gates, [0]), hidden)


def _exchanged(gates: tf.Tensor, hidden: int) -> tf.Tensor:
    """Exchanges the third gate and the last, output and cell."""
    first, third, last = tf.split(gates, [2 * hidden, hidden, hidden], axis=-1)
    return tf.concat([first, last, third], axis=-1)


def _one_later(steps: tf.Tensor) -> tf.Tensor:
    """Returns what was before each step; zero before the first."""
    return tf.concat([tf.zeros_like(steps[:1]), steps[:-1]], axis=0)


def _loop(
    length: tf.Tensor,
    step: Callable[..., Step],
    state: tuple[tf.Tensor, ...],
    widths: Sequence[int],
) -> list[tf.Tensor]:
    """Runs ``step(time, *state) -> (state, outputs)``; returns the outputs of all steps."""
    count = len(state)
    batch = state[0].shape[0]
    arrays = [tf.TensorArray(tf.float32, length, element_shape=[batch, w]) for w in widths]

    def body(time: tf.Tensor, *variables: tf.Tensor | tf.TensorArray) -> tuple[Any, ...]:
        new, outputs = step(time, *variables[:count])
        written = [a.write(time, o) for a, o in zip(variables[count:], outputs, strict=True)]
        return (time + 1, *new, *written)

    start = (tf.constant(0), *state, *arrays)
    end = tf.while_loop(lambda time, *_: time < length, body, start, parallel_iterations=1)
    return [array.stack() for array in end[1 + count :]]
