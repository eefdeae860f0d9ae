"""Images of any size, format and number of channels to uint8 images of one shape.

One way of decoding and resizing serves preparation, batches, prediction and the exported graph,
always on the CPU, so that all of them see the same pixels.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

#: The way of decoding JPEG files whose pixels are those of OpenCV and Pillow. TensorFlow's faster
#: one, its default, is up to 8 of 255 away from them and saves no measurable time.
ACCURATE = "INTEGER_ACCURATE"
_DECODED_AT_ONCE = 16


def decode(content: tf.Tensor) -> tf.Tensor:
    """Decodes one JPEG, PNG, BMP or GIF (its first frame), in the graph.

    Returns:
        uint8 (height, width, channels) with the file's own channels, at most 4.

    Raises:
        tf.errors.InvalidArgumentError: it is none of them, truncated or damaged.
    """
    image = tf.cond(
        tf.io.is_jpeg(content),
        lambda: tf.io.decode_jpeg(content, dct_method=ACCURATE),
        lambda: tf.io.decode_image(content, expand_animations=False),
    )
    return tf.ensure_shape(image, [None, None, None])


def fit(image: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """Brings an image to ``shape``, in the graph.

    The image is scaled, its aspect ratio kept, until it just covers the target, and what hangs over
    is cut off evenly on both sides. Grey becomes RGB by repetition, RGB grey by its luma; an alpha
    channel is dropped. An image of the right size keeps its pixels.

    Args:
        image: uint8 (height, width, 1 to 4).
        shape: (height, width, channels).

    Returns:
        uint8 of ``shape``.
    """
    height, width, channels = shape
    image = with_channels(image, channels)
    old_size = tf.shape(image)[:2]
    scale = tf.reduce_max(tf.constant([height, width], tf.float64) / tf.cast(old_size, tf.float64))
    size = tf.cast(tf.round(scale * tf.cast(old_size, tf.float64)), tf.int32)
    size = tf.maximum(size, [height, width])
    image = tf.cond(tf.reduce_all(size == old_size), lambda: image, lambda: resized(image, size))
    top, left = tf.unstack((size - [height, width]) // 2)
    return tf.ensure_shape(image[top : top + height, left : left + width], shape)


def resized(image: tf.Tensor, size: Sequence[int]) -> tf.Tensor:
    """Returns an image as uint8 of another height and width, bilinear and without aliasing."""
    return tf.saturate_cast(tf.round(tf.image.resize(image, size, antialias=True)), tf.uint8)


def decode_batch(contents: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """Decodes files (batch,) to uint8 (batch, *shape), in the graph; see ``decode`` and ``fit``."""
    return _each(lambda content: fit(decode(content), shape), contents, shape)


def decode_files(contents: Sequence[bytes] | np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Returns the ``decode_batch`` of a sequence of ``bytes``, as a NumPy array.

    Example:
        >>> file = tf.io.encode_png(tf.fill((4, 8, 3), tf.constant(7, tf.uint8))).numpy()
        >>> decode_files([file], (2, 2, 1)).tolist()
        [[[[7], [7]], [[7], [7]]]]
    """
    return _compiled(tuple(shape))[0](tf.constant(contents, tf.string, [len(contents)])).numpy()


def decode_good(
    files: Sequence[bytes], shape: Sequence[int]
) -> tuple[list[int], np.ndarray, list[list[int]]]:
    """Decodes those of the files that can be decoded.

    Args:
        files: list of ``bytes``.
        shape: (height, width, channels).

    Returns:
        tuple: list of the positions of these files, uint8 (kept, *shape), and their own shapes.
    """
    good = list(range(len(files)))
    pairs = _compiled(tuple(shape))[1]
    try:
        pixels, shapes = pairs(tf.constant(files, tf.string, [len(files)]))
    except tf.errors.InvalidArgumentError:
        # Damaged files are rare: only now is it worth looking at them one by one.
        good = [number for number in good if own_shape(files[number]) is not None]
        readable = tf.constant([files[number] for number in good], tf.string, [len(good)])
        pixels, shapes = pairs(readable)
    return good, pixels.numpy(), shapes.numpy().tolist()


def fit_arrays(images: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Returns the ``fit`` of uint8 (n, height, width, channels), as a NumPy array (n, *shape)."""
    return _compiled(tuple(shape))[2](images).numpy()


def own_shape(image: np.ndarray | bytes) -> tuple[int, int, int] | None:
    """Returns (height, width, 1 or 3) of an array or a file (``bytes``), None if it cannot be
    decoded.
    """
    if isinstance(image, bytes):
        try:
            pixels = _decode_eagerly(tf.constant(image)).numpy()
        except tf.errors.InvalidArgumentError:
            return None
    else:
        pixels = image
    height, width, channels = pixels.shape
    return (height, width, 1 if channels < 3 else 3) if pixels.size else None


@functools.cache
def _compiled(shape: tuple[int, ...]) -> tuple[Callable, Callable, Callable]:
    """Functions of files -> pixels, files -> (pixels, own shapes), arrays -> pixels."""
    files = [tf.TensorSpec([None], tf.string)]
    arrays = [tf.TensorSpec([None, None, None, None], tf.uint8)]

    def with_own_shape(content: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = decode(content)
        return fit(image, shape), tf.shape(image)

    def all_with_own_shapes(contents: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.device("CPU:0"):
            return tf.map_fn(
                with_own_shape,
                contents,
                parallel_iterations=_DECODED_AT_ONCE,
                fn_output_signature=(tf.TensorSpec(shape, tf.uint8), tf.TensorSpec([3], tf.int32)),
            )

    return (
        tf.function(
            lambda contents: decode_batch(contents, shape), input_signature=files, autograph=False
        ),
        tf.function(all_with_own_shapes, input_signature=files, autograph=False),
        tf.function(
            lambda images: _each(lambda image: fit(image, shape), images, shape),
            input_signature=arrays,
            autograph=False,
        ),
    )


@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def _decode_eagerly(content: tf.Tensor) -> tf.Tensor:
    with tf.device("CPU:0"):
        return decode(content)


def _each(
    function: Callable[[tf.Tensor], tf.Tensor], values: tf.Tensor, shape: Sequence[int]
) -> tf.Tensor:
    with tf.device("CPU:0"):
        return tf.map_fn(
            function,
            values,
            parallel_iterations=_DECODED_AT_ONCE,
            fn_output_signature=tf.TensorSpec(shape, tf.uint8),
        )


def with_channels(image: tf.Tensor, channels: int) -> tf.Tensor:
    """Returns a uint8 image (height, width, 1 to 4) as grey or RGB, in the graph; see ``fit``."""
    grey = tf.shape(image)[-1] < 3
    if channels == 1:
        return tf.cond(
            grey, lambda: image[..., :1], lambda: tf.image.rgb_to_grayscale(image[..., :3])
        )
    return tf.cond(grey, lambda: tf.repeat(image[..., :1], 3, -1), lambda: image[..., :3])
