"""The vectors of many examples by a trained model's encoder."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tfxc.core.errors import DataError
from tfxc.core.progress import Progress
from tfxc.ops.batch_function import BatchFunction

if TYPE_CHECKING:
    from tfxc.data.examples.rows import Rows
    from tfxc.model import XCModel

_TEXTS = 256  # encoded at a time


class Embedder:
    """Encodes batches of examples.

    Args:
        model: an ``XCModel``.
        flip: whether the vector of an image is the sum of its own and its mirror image's.

    Example:
        >>> vectors = Embedder(model, flip=True)(images)     # doctest: +SKIP
    """

    def __init__(self, model: "XCModel", flip: bool = False) -> None:
        self.model = model
        self._flip = flip
        self._function = BatchFunction(self._encode)

    def __call__(self, features: Mapping[str, np.ndarray] | np.ndarray) -> np.ndarray:
        """Returns vectors of a batch as the data pipeline makes it, float32 (batch, dim).

        The vectors of an encoder with one trunk per repetition are laid side by side.
        """
        vectors = self._function(features)
        return vectors.reshape(len(vectors), int(np.prod(vectors.shape[1:])))

    def _encode(self, features: "Mapping[str, tf.Tensor] | tf.Tensor") -> tf.Tensor:
        vectors = tf.cast(self.model.encoder(features, training=False), tf.float32)
        if self._flip:
            mirrored = self.model.encoder(tf.reverse(features, [2]), training=False)
            vectors += tf.cast(mirrored, tf.float32)
        return vectors

    def over_rows(self, rows: "Iterable[Rows]", batch_size: int, num_examples: int) -> np.ndarray:
        """Computes the vectors of all examples, float32 (num_examples, dim), with a progress line.

        Args:
            rows: iterator of ``Rows``.
            batch_size: examples at a time.
            num_examples: how many there should be.

        Raises:
            DataError: another number of examples came.
        """
        parts = []
        with Progress("embedding", num_examples, "examples") as progress:
            for block in rows:
                for start in range(0, len(block), batch_size):
                    part = block.slice(start, start + batch_size)
                    parts.append(self(part.batch()["features"]))
                    progress.advance(len(part))
        if progress.done != num_examples:
            raise DataError(
                f"there are {progress.done:,} examples instead of the {num_examples:,} announced"
            )
        return np.concatenate(parts)


def vectors_of_texts(
    model: "XCModel", rows: "Rows", title: str = "encoding label texts", unit: str = "labels"
) -> np.ndarray:
    """Returns the vectors of texts, float32 (texts, dim), of length 1, with a progress line.

    Args:
        model: whose encoder reads them.
        rows: ``Rows`` of at least one text; texts of like length are encoded together.
        title, unit: of the progress line.

    Example:
        >>> vectors_of_texts(model, texts.rows).shape                      # doctest: +SKIP
        (150, 384)
    """
    order = rows.by_length()
    all_vectors = np.zeros((0, 0), np.float32)
    with Progress(title, len(order), unit) as progress:
        for some in np.split(order, range(_TEXTS, len(order), _TEXTS)):
            vectors = np.asarray(model.find_vectors(rows.take(some)["features"]), np.float32)
            if not len(all_vectors):
                all_vectors = np.empty((len(order), vectors.shape[1]), np.float32)
            all_vectors[some] = vectors
            progress.advance(len(some))
    return all_vectors
