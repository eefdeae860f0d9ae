"""Exact top-k in the graph, a tile of columns at a time."""

from collections.abc import Callable, Sequence

import tensorflow as tf

from tfxc.ops.sparse import for_other_runtimes


def tiled_top_k(
    score_tile: Callable[..., tf.Tensor],
    num_columns: int,
    k: int,
    tile: int | tf.Tensor,
    unrolled: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the best k of ``num_columns`` scores that are computed tile by tile.

    Args:
        score_tile: function of (begin, end) int32 scalars -> float32 (batch, end - begin).
        num_columns: Python int.
        k: Python int, at most num_columns.
        tile: Python int, columns per tile; or an int32 scalar, for a loop.
        unrolled: see ``over_tiles``.

    Returns:
        ids int32 (batch, k), scores float32 (batch, k); ties go to the lower id. Where there are
        scores that are NaN the order is unspecified; ids are distinct columns even then.
    """
    if tf.is_tensor(tile):
        first = tf.minimum(tf.maximum(tile, k), num_columns)
        scores, ids = tf.math.top_k(score_tile(tf.constant(0), first), k)
    else:
        first = first_tile(num_columns, k, tile, unrolled)
        scores, ids = tf.math.top_k(score_tile(0, first), min(k, first))
        if first == num_columns:
            return ids, scores

    def body(
        begin: tf.Tensor, end: tf.Tensor, ids: tf.Tensor, scores: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return merged_with_tile(ids, scores, score_tile(begin, end), begin, end, k)

    shapes = tf.TensorShape([None, k]), tf.TensorShape([None, k])
    ids, scores = over_tiles(body, (ids, scores), shapes, num_columns, tile, unrolled, first)
    return ids, scores


def first_tile(num_columns: int, k: int, tile: int, unrolled: bool = False) -> int:
    """Returns columns that a search for the best k starts with, before it goes on tile by tile.

    In a loop the state is k columns wide from the start, so they are as many whole tiles as hold k.
    """
    tiles = 1 if unrolled else -(-k // tile)
    return min(tiles * tile, num_columns)


def merged_with_tile(
    ids: tf.Tensor, scores: tf.Tensor, fresh: tf.Tensor, begin: tf.Tensor, end: tf.Tensor, k: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the best k of all tiles so far.

    Args:
        ids, scores: those of the tiles before.
        fresh: float32 (batch, end - begin).
        begin, end: int32 scalars, or Python ints.
        k: Python int.
    """
    width = end - begin
    most = tf.minimum(k, width) if tf.is_tensor(width) else min(k, width)
    # Of a tile only its best are put beside the others, which is cheaper than to copy it.
    best, places = tf.math.top_k(fresh, most)
    # The running winners come first: top_k keeps the first of equals, and their ids are lower.
    merged = tf.concat([scores, best], axis=1)
    columns = tf.concat([ids, places + begin], axis=1)
    best, places = tf.math.top_k(merged, k if tf.is_tensor(end) else min(k, end))
    return tf.gather(columns, places, batch_dims=1), best


def over_tiles(
    body: Callable[..., tuple[tf.Tensor, ...]],
    start: Sequence[tf.Tensor],
    shapes: Sequence[tf.TensorShape],
    num_columns: int,
    tile: int | tf.Tensor,
    unrolled: bool = False,
    first: int | tf.Tensor = 0,
) -> tuple[tf.Tensor, ...]:
    """Returns the state of a search after all tiles of columns, one after the other.

    Args:
        body: function of (begin, end, *state) -> the next state.
        start: the first state.
        shapes: of the state, open where they change.
        num_columns: Python int.
        tile: Python int, columns per tile; or an int32 scalar, for a loop.
        unrolled: whether each tile is a part of the graph, and begin and end are Python ints: for
            scores that are not all made from the same variable. Otherwise the graph is a loop.
        first: the column with which the first tile begins, of the type of ``tile``.

    Example:
        >>> count = lambda begin, end, columns: (columns + end - begin,)
        >>> int(over_tiles(count, [tf.constant(0)], [tf.TensorShape([])], 5, 2)[0])
        5
    """
    if not unrolled:

        def next_state(begin: tf.Tensor, *state: tf.Tensor) -> tuple[tf.Tensor, ...]:
            end = tf.minimum(begin + tile, num_columns)
            return (end, *body(begin, end, *state))

        _, *state = tf.while_loop(
            lambda begin, *_: begin < num_columns,
            next_state,
            (tf.convert_to_tensor(first), *start),
            shape_invariants=(tf.TensorShape([]), *shapes),
            parallel_iterations=1,
        )
        return tuple(state)
    state = tuple(start)
    for begin in range(int(first), num_columns, int(tile)):
        # Side by side the tiles would need the memory of all scores.
        with tf.control_dependencies(state):
            state = body(begin, min(begin + tile, num_columns), *state)
    return state


def read_once(table: tf.Tensor) -> tf.Tensor:
    """Returns the value of a variable for a loop over tiles, read here without a copy; a tensor as
    it is.

    A variable that was gathered from or scattered into copies itself whenever it is read: in the
    body of a loop the whole table for each tile, which makes the cost of a search grow with the
    square of the labels. The value is read at this place of the graph, in front of the loop, and
    shares the variable's memory.

    Args:
        table: variable or tensor.
    """
    # Converters to other formats make a constant of the variable, and know ordinary reads only.
    if for_other_runtimes() or not hasattr(table, "read_value_no_copy"):
        return tf.convert_to_tensor(table)
    return table.read_value_no_copy()


def rows_between(table: tf.Tensor, begin: int, end: int) -> tf.Tensor:
    """Returns ``table[begin:end]``, without a copy where that is the whole table.

    Args:
        table: tensor.
        begin, end: int32 scalars, or Python ints.
    """
    whole = not tf.is_tensor(begin) and (begin, end) == (0, table.shape[0])
    return table if whole else table[begin:end]


def merge_top_k(ids: tf.Tensor, scores: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the best k of the best of several parts.

    Args:
        ids: int32 (parts, batch, n), ascending from part to part.
        scores: float32 (parts, batch, n), sorted within a part, ties by ascending id.
        k: Python int, at most parts · n.

    Returns:
        ids int32 (batch, k), scores float32 (batch, k); ties go to the lower id.
    """
    batch = tf.shape(scores)[1]
    ids, scores = (tf.reshape(tf.transpose(x, (1, 0, 2)), [batch, -1]) for x in (ids, scores))
    best, places = tf.math.top_k(scores, k)
    return tf.gather(ids, places, batch_dims=1), best
