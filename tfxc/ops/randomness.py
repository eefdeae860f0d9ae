"""Dropout masks that depend on (seed, step, row, column) and on nothing else.

A mask is a hash of its position. So a resumed run, a run over two replicas and a run in
micro-batches drop the same units as an uninterrupted run on one device, with no generator state
to save. The hash is the finaliser of MurmurHash3 (Appleby, public domain description).
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from tfxc.core.thread_value import ThreadValue

# Step, first row, and how often each seed was drawn with.
_scope = ThreadValue[tuple[tf.Tensor, tf.Tensor, dict[int, int]] | None](None)
_examples = ThreadValue[tf.Tensor | None](None)
_FIRST_LABEL = 1 << 31  # rows of labels follow those of any batch
_ROW_FACTOR = 0x27D4EB2F  # that of the compiled operations, too


def step_scope(step: tf.Tensor, first_row: tf.Tensor) -> contextlib.AbstractContextManager[None]:
    """Passes to the masks drawn inside which training step and which rows of its batch these are.

    Args:
        step: int64 scalar.
        first_row: number within the global batch of the first row seen inside.
    """
    return _scope.set_to((tf.cast(step, tf.uint32), tf.cast(first_row, tf.uint32), {}))


def rows_of_labels(first: tf.Tensor | int = 0) -> contextlib.AbstractContextManager[None]:
    """Inside, the rows seen are labels' texts: their draws are not those of the batch's examples.

    They are the same in all replicas, and whenever this is entered again in a step.

    Args:
        first: number of the first text seen inside among those of the step.
    """
    scope = _scope.value
    if scope is not None:
        scope = (scope[0], _u32(_FIRST_LABEL) + tf.cast(first, tf.uint32), {})
    return _scope.set_to(scope)


def in_training_step() -> bool:
    """Says whether this is inside a ``step_scope``."""
    return _scope.value is not None


def current_step() -> tf.Tensor:
    """Returns the number of the step of this ``step_scope``, uint32 scalar.

    Raises:
        RuntimeError: this is not inside of one.
    """
    if _scope.value is None:
        raise RuntimeError("this code does not run inside a step_scope")
    return _scope.value[0]


def draws() -> dict[int, int]:
    """Returns what was drawn so far in this ``step_scope``, for ``drawn_again``."""
    return dict(_scope.value[2]) if _scope.value else {}


@contextlib.contextmanager
def drawn_again(before: Mapping[int, int]) -> Iterator[None]:
    """Inside, the draws of this step since ``before = draws()`` come once more.

    After it, the same draws count as made, however often they came. Without a ``step_scope``
    draws are random, and nothing comes again.
    """
    if _scope.value:
        _scope.value[2].clear()
        _scope.value[2].update(before)
    yield


def dropout(values: tf.Tensor, rate: float, seed: int) -> tf.Tensor:
    """Zeroes a share ``rate`` of ``values`` (batch, ...) and scales up the rest.

    Inside ``step_scope`` the mask is a function of seed, step and place; a second call with the
    same seed in one step (a second pass) draws another mask. Outside, masks are random.
    """
    if not rate:
        return values
    flat = tf.reshape(values, [tf.shape(values)[0], -1])
    rows = tf.range(tf.shape(flat)[0])[:, None]
    columns = tf.range(tf.shape(flat)[1])[None, :]
    keep = tf.reshape(keep_mask(rows, columns, rate, seed), tf.shape(values))
    return tf.where(keep, values / tf.cast(1 - rate, values.dtype), tf.zeros_like(values))


def keep_mask(rows: tf.Tensor, columns: tf.Tensor, rate: float, seed: int) -> tf.Tensor:
    """Says which of the places (row, column) stay, each with probability ``1 - rate``.

    Args:
        rows: int, number of the example within the values seen here; broadcasts with columns.
        columns: int, e.g. unit number or feature id.

    Returns:
        bool of the broadcast shape.
    """
    return random_bits(rows, columns, seed) >= _u32(int(rate * 2**32))


def keep_lists(
    rows: tf.Tensor, columns: tf.Tensor, length: tf.Tensor | int, rate: float, seed: int
) -> tf.Tensor:
    """Says which values stay of a list at each place (row, column).

    A random number serves two values, 16 bits each, so that ``rate`` is rounded down to 1/65,536:
    for attention over long texts, a GPU takes longer to mix bits than to multiply matrices. A
    shorter list is the start of a longer one.

    Args:
        rows, columns: as in ``keep_mask``; a list takes ``length / 2`` columns, rounded up.
        length: values of a list.

    Returns:
        bool, the broadcast shape and ``length``.
    """
    pairs = (length + 1) // 2
    bits = random_bits(rows[..., None], columns[..., None] + tf.range(pairs), seed)
    halves = tf.bitcast(bits, tf.uint16)
    shape = tf.concat([tf.shape(bits)[:-1], [2 * pairs]], 0)
    return tf.reshape(halves, shape)[..., :length] >= tf.constant(int(rate * 2**16), tf.uint16)


def random_bits(
    rows: tf.Tensor, columns: tf.Tensor, seed: int, *, shared: bool = False
) -> tf.Tensor:
    """Returns random numbers of the places (row, column), uniform over all uint32.

    Args:
        rows, columns: as in ``keep_mask``.
        shared: whether row r is the same in every part (replica, micro-batch) of a batch, for
            what the whole batch draws once; else row r of this part is row ``first_row + r``.

    Returns:
        uint32 of the broadcast shape. A second call with the same seed in one step draws others.
    """
    key, first_row = _key_and_first_row(seed)
    rows = tf.cast(rows, tf.uint32) + (_u32(0) if shared else first_row)
    by_row = _mix(rows * _u32(_ROW_FACTOR) + key)
    return _mix(tf.bitwise.bitwise_xor(by_row, tf.cast(columns, tf.uint32) * _u32(0x165667B1)))


def random_key(seed: int, first_row: int = 0) -> tf.Tensor:
    """Returns what ``random_bits(..., shared=True)`` mixes with the places, uint32 scalar.

    A second call with the same seed in one step returns another, as a second one of that does.

    Args:
        seed: of the numbers.
        first_row: the row that is to be number 0 of those mixed with the key.
    """
    # A row enters as a multiple that is added to the key, modulo 2^32.
    return _key_and_first_row(seed)[0] + _u32(first_row * _ROW_FACTOR)


def _key_and_first_row(seed: int) -> tuple[tf.Tensor, tf.Tensor]:
    scope = _scope.value
    if scope is None:
        scope = tf.cast(tf.random.uniform([], 0, 2**31 - 1, tf.int32), tf.uint32), _u32(0), {}
    step, first_row, passes = scope
    passes[seed] = passes.get(seed, 0) + 1
    number = _u32(seed * 0x85EBCA77 + passes[seed] * 0xC2B2AE3D)
    return _mix(step * _u32(0x9E3779B1) + number), first_row


def _mix(x: tf.Tensor) -> tf.Tensor:
    x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _u32(16))) * _u32(0x85EBCA6B)
    x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _u32(13))) * _u32(0xC2B2AE35)
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _u32(16)))


def _u32(value: int) -> tf.Tensor:
    return tf.constant(value & 0xFFFFFFFF, tf.uint32)


def examples_of(batch: Mapping[str, Any]) -> contextlib.AbstractContextManager[None]:
    """Inside, ``current_examples`` gives the ``example_index`` of a batch.

    Args:
        batch: dict of a batch, with or without ``example_index``.

    Example:
        >>> with examples_of({"example_index": [4, 2]}):
        ...     current_examples()
        [4, 2]
    """
    return _examples.set_to(batch.get("example_index"))


def current_examples() -> tf.Tensor | None:
    """Returns int64 (batch,), each example's row number in the training split; None outside of
    training.
    """
    return _examples.value
