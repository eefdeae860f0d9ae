"""Faces brought to one pose: five landmarks moved onto a template by a similarity."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tfxc.core.errors import DataError
from tfxc.core.resources import thread_count

#: Eyes, nose, corners of the mouth as (x, y) in an image of 112 x 112, as ArcFace uses them
#: (Deng et al. 2019, arXiv 1801.07698).
TEMPLATE = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
SIZE = 112


def similarities(points: np.ndarray, template: np.ndarray = TEMPLATE) -> np.ndarray:
    """Returns the similarities that bring points closest to a template, in the sense of least
    squares.

    In the complex plane a similarity is ``z -> c z + d``, so that the best one is a regression of
    two numbers; it is the solution of Umeyama 1991 for the plane, without reflections.

    Args:
        points: float (n, k, 2).
        template: float (k, 2).

    Returns:
        float64 (n, 2, 3): ``[A, b]`` with ``A point + b`` near the template.

    Raises:
        DataError: all points of an example coincide.

    Example:
        >>> float(similarities(TEMPLATE[None] * 2)[0, 0, 0].round(6))
        0.5
    """
    source, target = (
        np.asarray(values, np.float64)[..., 0] + 1j * np.asarray(values, np.float64)[..., 1]
        for values in (points, template)
    )
    centred = source - source.mean(axis=1, keepdims=True)
    spread = np.square(np.abs(centred)).sum(axis=1)
    if not (spread > 0).all():
        place = int(np.flatnonzero(~(spread > 0))[0])
        raise DataError(f"all landmarks of face {place + 1} coincide")
    factor = (centred.conj() * (target - target.mean())).sum(axis=1) / spread
    shift = target.mean() - factor * source.mean(axis=1)
    top = np.stack([factor.real, -factor.imag, shift.real], axis=1)
    bottom = np.stack([factor.imag, factor.real, shift.imag], axis=1)
    return np.stack([top, bottom], axis=1)


def aligned_images(
    paths: Sequence[str | Path], points: np.ndarray, size: int
) -> Iterator[np.ndarray]:
    """Yields uint8 (n, 112, 112, 3) of aligned faces, ``size`` at a time.

    Files are read, decoded and warped (bilinear, black outside) on all cores.

    Args:
        paths: image files.
        points: float (m, 5, 2), the landmarks of each.
        size: faces at a time.

    Raises:
        DataError: an image cannot be decoded.
    """
    import tensorflow as tf

    from tfxc.data.images.decoding import decode, own_shape, with_channels

    def face(path: tf.Tensor, transform: tf.Tensor) -> tf.Tensor:
        image = with_channels(decode(tf.io.read_file(path)), 3)
        image = tf.cast(tf.ensure_shape(image, [None, None, 3]), tf.float32)[None]
        warped = tf.raw_ops.ImageProjectiveTransformV3(
            images=image,
            transforms=transform[None],
            output_shape=[SIZE, SIZE],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="CONSTANT",
        )
        return tf.saturate_cast(tf.round(warped[0]), tf.uint8)

    # Eight numbers per face take a pixel of the template to one of the image.
    full = np.zeros((len(points), 3, 3))
    full[:, :2] = similarities(points)
    full[:, 2, 2] = 1
    inverse = np.linalg.inv(full).reshape(-1, 9)
    transforms = (inverse / inverse[:, 8:])[:, :8].astype(np.float32)
    with tf.device("CPU:0"):
        files = tf.constant([str(path) for path in paths], tf.string)
        data = tf.data.Dataset.from_tensor_slices((files, transforms))
        data = data.map(face, num_parallel_calls=thread_count()).batch(size).prefetch(1)
        options = tf.data.Options()
        options.autotune.enabled = False  # as of the batches of a training
        data = data.with_options(options)
    done = 0
    try:
        for batch in data.as_numpy_iterator():
            done += len(batch)
            yield batch
    except tf.errors.InvalidArgumentError as error:
        batch_paths = paths[done : done + size]
        bad = (path for path in batch_paths if own_shape(Path(path).read_bytes()) is None)
        raise DataError(
            f"an image cannot be decoded: {next(bad, 'one of them')}",
            fix="replace the file",
        ) from error
