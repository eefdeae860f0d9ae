"""A trainable table whose rows are sharded over the replicas of a strategy."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from tfxc.ops.distributed.cross_replica import replica_number

_BLOCK = 65_536  # rows of each shard that travel at a time when the table is put together


class ShardedTable:
    """Replica r of n holds the rows ``[r · size, (r + 1) · size)`` and no one else does.

    A shard is a plain ``tf.Variable`` on the replica's device, no mirrored one. Where the
    replicas belong to several processes, each process holds the shards of its own. The last
    shard may have rows beyond the table; they are zero and belong to nothing.

    Args:
        strategy: a ``tf.distribute.Strategy``; build this inside its scope, in every process.
        shape: (rows, columns) of the whole table.
        size: rows of a shard.
        start: function (begin, end) -> (end - begin, columns), the first values, float32 or
            bfloat16: the type of the shards.
        name: of the variables.

    Attributes:
        count: number of shards.
        shards: {replica number: variable} of the shards held here.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        shape: Sequence[int],
        size: int,
        start: Callable[[int, int], tf.Tensor],
        name: str = "table",
    ) -> None:
        self.strategy = strategy
        self.shape = tuple(shape)
        self.size = size
        self.name = name
        self.count = strategy.num_replicas_in_sync
        self._whole: np.ndarray | None = None
        self._devices = _devices_of(strategy)

        def make(number: int) -> tf.Variable:
            begin, end = self.rows_of(number)
            rows = tf.pad(start(begin, end), [[0, size - (end - begin)], [0, 0]])
            return tf.Variable(rows, name=name)

        self.shards = {
            number: self.on_device_of(number, functools.partial(make, number))
            for number in self._devices
        }
        self._dtype = next(iter(self.shards.values())).dtype.as_numpy_dtype

    def on_device_of(self, number: int, make: Callable[[], Any]) -> Any:
        """Calls ``make()``, whose variables are then plain ones on the device of a shard."""

        def on_device() -> Any:
            with tf.device(self._devices[number]):
                return make()

        # A strategy's scope belongs to a thread; in a new one variables are not mirrored.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(on_device).result()

    def rows_of(self, number: int) -> tuple[int, int]:
        """Returns the first row of a shard and the one after its last; equal where it has none."""
        return min(number * self.size, self.shape[0]), min((number + 1) * self.size, self.shape[0])

    def on_every_shard(self, function: Callable[..., Any], *tensors: tf.Tensor) -> Any:
        """Applies a function to all shards, each on its replica.

        Args:
            function: of (replica number, shard, *tensors) -> nest of tensors, equally shaped on
                all replicas.
            tensors: the same everywhere. Every process has to take part.

        Returns:
            The results of all shards, stacked: (count, ...).
        """

        def on_replica(*tensors: tf.Tensor) -> Any:
            context = tf.distribute.get_replica_context()
            number = replica_number(context)
            results = function(number, self.shards[number], *tensors)
            return tf.nest.map_structure(lambda x: context.all_gather(x[None], axis=0), results)

        def run(*tensors: tf.Tensor) -> Any:
            results = self.strategy.run(on_replica, args=tensors)
            return tf.nest.map_structure(
                lambda value: self.strategy.experimental_local_results(value)[0], results
            )

        return (tf.function(run, autograph=False) if tf.executing_eagerly() else run)(*tensors)

    def gathered(self) -> np.ndarray:
        """Returns the complete table as a NumPy array. Every process must take part."""
        if self._whole is not None:
            return self._whole
        table = np.empty((self.count, self.size, self.shape[1]), self._dtype)
        for begin, rows in self._blocks():
            table[:, begin : begin + rows.shape[1]] = rows
        return table.reshape(-1, self.shape[1])[: self.shape[0]]

    @contextlib.contextmanager
    def collected(self, keep: bool) -> Iterator[None]:
        """Inside, ``gathered`` no longer needs the other processes if ``keep`` is true.

        Where there are none, nothing is gathered before it is asked for.
        """
        if len(self.shards) == self.count:
            yield
            return
        if keep:
            self._whole = self.gathered()
        else:
            for _ in self._blocks():
                pass
        try:
            yield
        finally:
            self._whole = None

    def _blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (first row within a shard, those rows of all shards)."""
        if len(self.shards) == self.count:
            for begin in range(0, self.size, _BLOCK):
                rows = tf.range(begin, min(begin + _BLOCK, self.size))
                yield begin, np.stack([tf.gather(x, rows) for x in self.shards.values()])
            return
        take = tf.function(
            lambda rows: self.on_every_shard(
                # Not all devices can send bfloat16.
                lambda _, x, r: tf.cast(tf.gather(x, r), tf.float32),
                rows,
            ),
            autograph=False,
        )
        for begin in range(0, self.size, _BLOCK):
            yield begin, take(tf.range(begin, min(begin + _BLOCK, self.size))).numpy()

    def assign(self, table: np.ndarray) -> None:
        """Gives every shard its rows of a whole table (rows, columns)."""
        if tuple(table.shape) != self.shape:
            raise ValueError(f"the table has the shape {table.shape} instead of {self.shape}")
        for number, shard in self.shards.items():
            begin, end = self.rows_of(number)
            rows = np.asarray(table[begin:end], self._dtype)
            shard.assign(np.pad(rows, [(0, self.size - (end - begin)), (0, 0)]))


@functools.cache
def _devices_of(strategy: tf.distribute.Strategy) -> dict[int, str]:
    """Returns {replica number: device} of the replicas of this process."""
    numbers = tf.function(strategy.run, autograph=False)(
        lambda: tf.distribute.get_replica_context().replica_id_in_sync_group
    )
    numbers = [int(number) for number in strategy.experimental_local_results(numbers)]
    return dict(zip(numbers, strategy.extended.worker_devices, strict=True))
