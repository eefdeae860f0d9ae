"""Batches of a source as a ``tf.data.Dataset``: one fetch per batch, no Python per example."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfxc.core.errors import ConfigError, DataError, UserError
from tfxc.core.resources import thread_count
from tfxc.data.examples.kinds import ENCODED
from tfxc.data.sources.base import slice_size

if TYPE_CHECKING:
    from tfxc.data.images.augmentation import Augmentation
    from tfxc.data.sources.base import Source


# One fetch takes a fraction of a millisecond; more calls would only compete for the same lock.
_PARALLEL_FETCHES = 2
_PREFETCH = 4  # batches kept ready
_ON_DEVICE = 2  # of them on a GPU


class Share(NamedTuple):
    """What one process gets of each micro-batch, which is cut into equal contiguous parts.

    Attributes:
        parts: into how many, one per replica.
        first: number of the first that is delivered here.
        count: how many are.
    """

    parts: int = 1
    first: int = 0
    count: int = 1  # type: ignore[assignment]  # instead of the method of a tuple


ALL = Share()


def training_dataset(
    source: "Source",
    *,
    batch_size: int,
    seed: int,
    num_steps: int,
    start_step: int = 0,
    micro_batches: int = 1,
    share: "Share" = ALL,
    augmentation: "Augmentation | None" = None,
) -> tf.data.Dataset:
    """Returns training batches of the steps ``start_step`` to ``start_step + num_steps - 1``.

    The global batch of a step is cut into ``micro_batches`` equal contiguous slices and each of
    them into the parts of ``share``. The elements are ordered by step, then micro-batch, then part.

    Args:
        source: a ``Source``.
        batch_size: examples of a step over all micro-batches and replicas.
        seed: of the order of the examples.
        num_steps: how many steps to deliver.
        share: ``Share`` of this process.
        augmentation: ``tfxc.data.images.augmentation.Augmentation`` of images, or None.

    Returns:
        tf.data.Dataset: ``num_steps · micro_batches · share.count`` batches, see
        docs/architecture.md, "Rows and batches", of ``batch_size / (micro_batches · share.parts)``
        examples.

    Raises:
        ConfigError: the batch size is not a multiple of ``micro_batches · share.parts``, the parts
            wanted here do not exist, or the source is empty.

    Example:
        >>> import numpy as np
        >>> from tfxc.data.examples.rows import Rows
        >>> from tfxc.data.sources.shards import ArraySource
        >>> source = ArraySource(Rows.from_dense(np.eye(4), [[0], [1], [2], [3]]))
        >>> batches = training_dataset(source, batch_size=2, seed=0, num_steps=3)
        >>> len(batches)
        3
    """
    parts, first_part, num_parts_here = share
    if first_part < 0 or num_parts_here < 1 or first_part + num_parts_here > parts:
        raise ConfigError(
            f"the parts go from 0 to {parts - 1}, so that {num_parts_here} from {first_part} on "
            "do not exist",
            where="share",
        )
    if not source.num_examples:
        raise ConfigError("there are no examples", where="data")
    size = slice_size(batch_size, micro_batches * parts)
    per_step = micro_batches * num_parts_here

    def fetch(number: np.ndarray) -> list[Any]:
        step, element = divmod(int(number), per_step)
        micro_batch, part = divmod(element, num_parts_here)
        try:
            batch = source.batch(
                seed,
                start_step + step,
                batch_size,
                part=micro_batch * parts + first_part + part,
                parts=micro_batches * parts,
            )
            index = batch["example_index"]
            # A GPU would read any memory for numbers of examples that are not there.
            wrong = index[(index < 0) | (index >= source.num_examples)]
            if len(wrong):
                raise DataError(
                    f"a batch contains the example_index {wrong[0]}, but the training examples "
                    f"have the numbers from 0 to {source.num_examples - 1:,}",
                    where="data.train",
                    fix="number the examples from 0 in their order",
                )
        except UserError as error:
            source.failure = error  # TensorFlow makes another error of it
            raise
        return tf.nest.flatten(batch)

    def finish(number: tf.Tensor, batch: dict[str, Any]) -> dict[str, Any]:
        assert augmentation is not None and source.image_shape is not None, "these are images"
        step = number // per_step
        element = number % per_step
        part = element // num_parts_here * parts + first_part + element % num_parts_here
        images = augmentation(batch["features"], start_step + step, part * size)
        return {**batch, "features": tf.ensure_shape(images, [size, *source.image_shape])}

    if augmentation is None and source.kind is ENCODED:
        from tfxc.data.images.augmentation import Augmentation

        assert source.image_shape is not None, "encoded images need a shape"
        augmentation = Augmentation([], seed, source.image_shape)
    signature = batch_signature(source, size)
    specs = tf.nest.flatten(signature)

    def typed(number: tf.Tensor) -> dict[str, Any]:
        tensors = tf.numpy_function(fetch, [number], [spec.dtype for spec in specs])
        for tensor, spec in zip(tensors, specs, strict=True):
            tensor.set_shape(spec.shape)
        return tf.nest.pack_sequence_as(signature, tensors)

    elements = tf.data.Dataset.range(num_steps * per_step)
    batches = elements.map(typed, num_parallel_calls=_PARALLEL_FETCHES, deterministic=True)
    if augmentation is not None:
        numbered = tf.data.Dataset.zip(elements, batches)
        batches = numbered.map(finish, thread_count(), deterministic=True)
    options = tf.data.Options()
    options.deterministic = True
    # Its thread may miss that the iterator is done with, which then waits for it, up to a minute.
    options.autotune.enabled = False
    # The parts are cut by the caller's arguments; a strategy must not cut them once more.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.prefetch(_PREFETCH).with_options(options)


def copied_ahead(batches: tf.data.Dataset, device: str) -> tf.data.Dataset:
    """Returns the same batches, of which the next ones are copied to a device while it is busy.

    Args:
        batches: the result of ``training_dataset``.
        device: e.g. ``"/GPU:0"``.
    """
    return batches.apply(tf.data.experimental.prefetch_to_device(device, _ON_DEVICE))


def batch_signature(source: "Source", batch_size: int) -> dict[str, Any]:
    """Returns the ``tf.TensorSpec``s of a batch of ``batch_size`` examples as the source returns
    it.
    """
    return {
        "features": source.kind.specs(source.sizes, batch_size),
        "labels": tf.TensorSpec((batch_size, None), tf.int32),
        "example_index": tf.TensorSpec((batch_size,), tf.int64),
    }
