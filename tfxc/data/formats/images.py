"""What readers of images share: chunks of encoded images and of arrays of pixels."""

import abc

import numpy as np

from tfxc.data.chunk import Chunk
from tfxc.data.formats.base import Reader, bounded


class EncodedImageReader(Reader):
    """A reader whose examples are image files with labels; a subclass gives them one by one."""

    @abc.abstractmethod
    def _examples(self):
        """Yields ``(name for messages, bytes of the image file, list of labels)``."""

    def _read(self, size):
        examples = self._examples()
        for block in bounded(examples, size, lambda example: len(example[1])):
            names, images, labels = zip(*block, strict=True)
            yield Chunk(labels=list(labels), images=list(images), names=list(names))


class PixelReader(Reader):
    """A reader whose examples are pixels; a subclass gives blocks of any number of them."""

    @abc.abstractmethod
    def _blocks(self, size):
        """Yields ``Chunk``s with uint8 ``images`` (n, height, width, channels) and ``names``.

        Args:
            size: number of examples that is asked for.
        """

    def _read(self, size):
        parts, missing = [], size
        for block in self._blocks(size):
            start = 0
            while len(block) - start >= missing:
                yield _joined([*parts, _part(block, start, start + missing)])
                start += missing
                parts, missing = [], size
            if start < len(block):
                parts.append(_part(block, start, len(block)))
                missing -= len(block) - start
        if parts:
            yield _joined(parts)


def _part(chunk, start, end):
    return Chunk(
        labels=chunk.labels[start:end],
        images=chunk.images[start:end],
        names=chunk.names[start:end],
    )


def _joined(parts):
    return Chunk(
        labels=[labels for part in parts for labels in part.labels],
        images=np.ascontiguousarray(np.concatenate([part.images for part in parts])),
        names=[name for part in parts for name in part.names],
    )
