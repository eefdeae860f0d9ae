"""Verification sets as InsightFace distributes them: pickles of encoded images."""

from pathlib import Path

import numpy as np

from tfxc.core.errors import DataError
from tfxc.core.storage.pickles import load_plain


def read_bin(path: str | Path) -> tuple[list[bytes], np.ndarray]:
    """Returns images and flags of a ``.bin`` file as InsightFace distributes them.

    The file is a pickle of (list of encoded images, list of flags), images 2i and 2i + 1 being
    pair i; Python 2 wrote most of them. Only lists, numbers, texts and NumPy arrays are made of
    it: a pickle that would run code is refused.

    Returns:
        ``(list of bytes, bool (n,))``.

    Raises:
        DataError: no such pickle, a truncated one, or one that holds anything else.
    """
    with open(path, "rb") as stream:
        content = load_plain(stream, path)
    try:
        images, same = content
        images = [_bytes_of(image) for image in images]
        same = np.array([_flag(flag) for flag in same], bool)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"the pickle is not (list of encoded images, list of flags): {error}",
            where=path,
            fix="give a .bin file as InsightFace distributes it",
        ) from error
    if len(images) != 2 * len(same):
        raise DataError(
            f"there are {len(images):,} images for {len(same):,} flags instead of two for each",
            where=path,
            fix="copy or download it again",
        )
    return images, same


def _bytes_of(image: object) -> bytes:
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 1:
        return image.tobytes()
    if isinstance(image, bytes | bytearray):
        return bytes(image)
    raise ValueError(f"an image is of type {type(image).__name__}")


def _flag(flag: object) -> bool:
    if isinstance(flag, bool | int | np.bool_ | np.integer) and int(flag) in (0, 1):
        return bool(flag)
    raise ValueError(f"a flag is {flag!r}")
