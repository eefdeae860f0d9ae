"""Draws distorted images of glyphs."""

import hashlib
from collections.abc import Sequence

import numpy as np
import scipy.ndimage

from tfxc.data.reading.builtin.glyphs.faces import FACES, ink

# Pixels of the drawing that becomes one pixel of the image.
_OVERSAMPLING = 3
# The em square in heights of the image, and its middle above the baseline in ems: nearly all
# glyphs reach from 1.0 above to 0.35 below it.
_EM = 0.7
_MIDDLE = 0.33
# What a shrunk glyph may take of the image before it is distorted.
_ROOM = 0.94


def seed_of(*parts: int | str) -> int:
    """Returns a number below 2^64 that depends on the parts alone."""
    text = "/".join(map(str, parts)).encode("utf-8")
    return int.from_bytes(hashlib.sha1(text).digest()[:8], "big")


def draw(code: int, face: int, variants: Sequence[int] | np.ndarray, size: int) -> np.ndarray:
    """Returns the images of one glyph, each distorted in its own way.

    Rotation by up to 12 degrees, shear by up to 0.15, size 0.8 to 1.1 (of width and height each up
    to 6 % more or less), shift by up to a sixteenth of the image, blur up to one pixel, noise with
    a deviation of up to 20 of 255. The random numbers come from a hash of (character, face,
    variant), so that an image does not depend on what else is drawn.

    Args:
        code: code point.
        face: place in ``FACES``.
        variants: numbers of the variants.
        size: height and width in pixels.

    Returns:
        uint8 (variants, size, size), 255 = ink.
    """
    random = [
        np.random.Generator(np.random.PCG64(seed_of("glyph", code, FACES[face], variant)))
        for variant in variants
    ]
    values = np.array([generator.random(8) for generator in random])
    sharp, centre, shrink = _drawing(code, face, size)
    blurred = scipy.ndimage.gaussian_filter(sharp, _OVERSAMPLING)
    places = _places(values[:, :6], size, shrink, centre)
    share = values[:, 6, None]
    images = (1 - share) * _sampled(sharp, places) + share * _sampled(blurred, places)
    noise = np.array([generator.standard_normal(size * size) for generator in random])
    images += 20 * values[:, 7, None] * noise
    return np.clip(np.rint(images), 0, 255).astype(np.uint8).reshape(-1, size, size)


def _drawing(code: int, face: int, size: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Pixels float32, the point of them that belongs in the middle, and the factor to fit in."""
    em = round(_EM * size * _OVERSAMPLING)
    glyph = ink(face, code, em)
    assert glyph is not None, "blank glyphs are left out"
    pixels, top = glyph
    margin = 2 * _OVERSAMPLING
    sharp = np.pad(pixels.astype(np.float32), margin)
    # Without it, three pixels taken for one would be one of them.
    sharp = scipy.ndimage.gaussian_filter(sharp, 0.4 * _OVERSAMPLING)
    height, width = pixels.shape
    middle = -_MIDDLE * em - top
    centre = np.array([middle, (width - 1) / 2]) + margin
    reach = max(abs(middle), abs(height - middle), width / 2)
    return sharp, centre, min(1.0, _ROOM * size * _OVERSAMPLING / 2 / reach)


def _places(values: np.ndarray, size: int, shrink: float, centre: np.ndarray) -> np.ndarray:
    """Returns where each image's pixels are taken from the drawing, float (2, variants, size²)."""
    angle, shear, scale, aspect, down, right = (2 * values - 1).T
    angle = np.deg2rad(12 * angle)
    zoom = shrink * (0.95 + 0.15 * scale) / _OVERSAMPLING
    heights = zoom * (1 + 0.06 * aspect)
    widths = zoom * (1 - 0.06 * aspect)
    rotate = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    lean = np.array([[heights, 0 * zoom], [0.15 * shear * widths, widths]])
    forward = np.einsum("ijv,jkv->vik", rotate, lean)
    pixels = np.indices((size, size)).reshape(2, -1) - (size - 1) / 2
    shift = size / 16 * np.stack([down, right], axis=1)
    offsets = pixels[None] - shift[:, :, None]
    return (np.linalg.inv(forward) @ offsets + centre[:, None]).transpose(1, 0, 2)


def _sampled(drawing: np.ndarray, places: np.ndarray) -> np.ndarray:
    return scipy.ndimage.map_coordinates(drawing, places, order=1, mode="constant", cval=0.0)
