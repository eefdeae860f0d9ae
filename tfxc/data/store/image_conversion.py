"""The images of a data set: of one shape, counted, the damaged ones left out and named."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfxc.core.errors import DataError
from tfxc.core.escaping import one_line
from tfxc.core.messages import NOTES
from tfxc.core.settings import ImageSettings
from tfxc.data.examples.kinds import ENCODED, IMAGE
from tfxc.data.examples.lists import joined_files
from tfxc.data.images.decoding import decode_good, fit_arrays, own_shape

if TYPE_CHECKING:
    from tfxc.data.examples.chunk import Chunk


CORRUPT_IMAGES_FILE = "corrupt_images.txt"
_NAMES_SHOWN = 5
# Images that are decoded at once.
_CHUNK_BYTES = 64 << 20


class ImageConverter:
    """Turns the images of chunks into arrays of ``Rows``, all of one shape.

    What of ``height``, ``width`` and ``channels`` is not given is taken from the first image that
    can be decoded, and an image that differs there is refused; where it is given, images are
    converted.

    Args:
        settings: ``tfxc.core.settings.ImageSettings``.

    Attributes:
        shape: (height, width, channels); None until it is known, see ``count``.
        store: ``"pixels"`` or ``"encoded"``.
        kind: the kind of the rows it makes, by ``store``.
        corrupt: source and name of the images that could not be decoded.
    """

    def __init__(self, settings: ImageSettings) -> None:
        self.store = settings.store
        self.corrupt: list[tuple[str | Path, str]] = []
        self.kind = ENCODED if self.store == "encoded" else IMAGE
        self._max_corrupt = settings.max_corrupt
        self._remedy = "fix or remove these files, or raise data.images.max_corrupt"
        height, width, channels = self._wanted = settings.height, settings.width, settings.channels
        self.shape: tuple[int, int, int] | None = None
        if height is not None and width is not None and channels is not None:
            self.shape = (height, width, channels)

    @classmethod
    def of_shape(cls, shape: Sequence[int]) -> "ImageConverter":
        """Converts all images to pixels of one shape and refuses those it cannot decode."""
        height, width, channels = shape
        sizes = {"height": height, "width": width, "channels": channels}
        converter = cls(ImageSettings.model_validate(sizes))
        converter._remedy = "fix or remove these files"
        return converter

    @property
    def num_values(self) -> int:
        """Values of an image."""
        assert self.shape is not None, "it is learned from the training split"
        return int(np.prod(self.shape))

    def count(self, chunk: "Chunk") -> None:
        """Takes from a training chunk what the settings leave open."""
        assert chunk.images is not None, "a chunk of images"
        for image in chunk.images if self.shape is None else ():
            sizes = own_shape(image)
            if sizes is not None:
                height, width, channels = self._wanted
                self.shape = (height or sizes[0], width or sizes[1], channels or sizes[2])
                return

    def chunk_images(self, most: int) -> int:
        """Returns how many images to decode at once, at most ``most``, so that they take 64 MB."""
        if self.shape is None or self.store == "encoded":
            return most
        return max(1, min(most, _CHUNK_BYTES // max(1, self.num_values)))

    def save_corrupt(self, folder: str | Path) -> None:
        """Names the images that were left out, if any: in a file and in a message."""
        if self.corrupt:
            lines = (one_line(f"{where}: {name}") + "\n" for where, name in self.corrupt)
            (Path(folder) / CORRUPT_IMAGES_FILE).write_text("".join(lines), encoding="utf-8")
            message = f"{len(self.corrupt)} images that cannot be decoded are left out: "
            NOTES.info(message + _some([name for _, name in self.corrupt]))

    def convert(
        self, chunk: "Chunk", where: str | Path, first: int
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Returns the images of a chunk.

        Args:
            where: the source, for messages.
            first: number of the chunk's first example, for images without a name.

        Returns:
            tuple: int64 numbers of the images that were decoded, and their arrays for ``Rows``;
            none while the shape is not known, see ``count``.

        Raises:
            DataError: more images than allowed cannot be decoded, or one differs from the first.
        """
        assert chunk.images is not None, "a chunk of images"
        names = chunk.names or [f"example {first + i + 1}" for i in range(len(chunk))]
        if self.shape is None:  # none of those so far can be decoded, nor any of these
            self._refuse_too_many(np.arange(len(chunk)), names, where)
            return np.zeros(0, np.int64), {}
        if isinstance(chunk.images, np.ndarray):
            decoded = np.arange(len(chunk))
            pixels = self._from_arrays(chunk.images, names, where)
        else:
            decoded, pixels = self._from_list(chunk.images, names, where)
        self._refuse_too_many(np.delete(np.arange(len(chunk)), decoded), names, where)
        if self.store == "pixels":
            return decoded, {"images": pixels}
        files = [chunk.images[number] for number in decoded.tolist()]
        if not all(isinstance(file, bytes) for file in files):
            raise DataError(
                "the images are pixels, which cannot be stored encoded",
                where=where,
                fix='set data.images.store to "pixels"',
            )
        return decoded, joined_files(files)

    def _from_list(
        self, images: Sequence[np.ndarray | bytes], names: Sequence[str], where: str | Path
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the numbers of the images that can be decoded, and uint8 (decoded, *shape)."""
        assert self.shape is not None, "the first images are counted"
        encoded = [number for number, image in enumerate(images) if isinstance(image, bytes)]
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for number, image in enumerate(images):
            if not isinstance(image, bytes) and image.size:
                by_shape.setdefault(image.shape, []).append(number)
        pixels = np.empty((len(images), *self.shape), np.uint8)
        arrays = []
        for numbers in by_shape.values():
            stacked = np.stack([images[number] for number in numbers])
            shape_names = [names[number] for number in numbers]
            pixels[numbers] = self._from_arrays(stacked, shape_names, where)
            arrays += numbers
        files = [image for image in images if isinstance(image, bytes)]
        good, file_pixels, shapes = decode_good(files, self.shape)
        encoded = [encoded[position] for position in good]
        for number, shape in zip(encoded, shapes, strict=True):
            self._refuse_other_shape(shape, names[number], where)
        pixels[encoded] = file_pixels
        decoded = np.sort(np.array([*arrays, *encoded], np.int64))
        return decoded, pixels if len(decoded) == len(images) else pixels[decoded]

    def _from_arrays(
        self, images: np.ndarray, names: Sequence[str], where: str | Path
    ) -> np.ndarray:
        assert self.shape is not None, "the first images are counted"
        assert images.dtype == np.uint8 and images.ndim == 4, "uint8 (n, height, width, channels)"
        if images.shape[1:] == self.shape or not len(images):
            return images
        self._refuse_other_shape(images.shape[1:], names[0], where)
        return fit_arrays(images, self.shape)

    def _refuse_other_shape(self, shape: Sequence[int], name: str, where: str | Path) -> None:
        assert self.shape is not None, "the first images are counted"
        channels = {1: 1, 2: 1}.get(shape[2], 3)  # an alpha channel does not count
        keys = ("height", "width", "channels")
        sizes = (*shape[:2], channels)
        for key, wanted, size, first_size in zip(
            keys, self._wanted, sizes, self.shape, strict=True
        ):
            if wanted is None and size != first_size:
                is_size = key != "channels"
                raise DataError(
                    f"the {key if is_size else 'number of channels'} of {name} is {size} instead "
                    f"of {first_size} as in the first image",
                    where=where,
                    fix="convert all images: set data.images."
                    + ("height and width" if is_size else "channels"),
                )

    def _refuse_too_many(
        self, numbers: np.ndarray, names: Sequence[str], where: str | Path
    ) -> None:
        self.corrupt += [(where, names[number]) for number in numbers.tolist()]
        if len(self.corrupt) > self._max_corrupt:
            limit = f", at most {self._max_corrupt} may be left out" if self._max_corrupt else ""
            raise DataError(
                f"{len(self.corrupt)} of the images cannot be decoded{limit}: "
                f"{_some([name for _, name in self.corrupt])}",
                where=where,
                fix=self._remedy,
            )


def nothing_decoded(where: str | Path) -> DataError:
    """Returns the ``DataError`` of a training split without any good image."""
    return DataError(
        "no image of the training split can be decoded",
        where=where,
        fix="check the files and the reader's options",
    )


def _some(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _NAMES_SHOWN else ""
    return ", ".join(map(one_line, names[:_NAMES_SHOWN])) + more
