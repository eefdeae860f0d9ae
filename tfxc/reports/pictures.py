"""The images of single examples, read once more, small enough for a page."""

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from tfxc.inference.searcher import Examples

_SIDE = 96


def pictures_of(open_examples: "Callable[[], Examples]", wanted: set[int]) -> dict[int, str]:
    """Returns {example: data URI of a PNG} of the wanted images.

    Args:
        open_examples: function that returns all examples in order; they are images.
        wanted: set of example numbers.
    """
    first = 0
    pictures: dict[int, str] = {}
    for batch in open_examples().sequential(256) if wanted else ():
        images = batch["features"]
        numbers = [n for n in range(len(images)) if first + n in wanted]
        pictures |= {first + n: data_uri(images[n]) for n in numbers}
        first += len(images)
        if len(pictures) == len(wanted):
            break
    return pictures


def data_uri(image: "np.ndarray") -> str:
    """Returns an image as the address that an ``img`` element takes; large ones are made smaller.

    Args:
        image: uint8 (height, width, channels), 1 or 3 channels.
    """
    import tensorflow as tf

    height, width = image.shape[:2]
    if max(height, width) > _SIDE:
        share = _SIDE / max(height, width)
        size = max(1, round(height * share)), max(1, round(width * share))
        image = tf.cast(tf.round(tf.image.resize(image, size, "area")), tf.uint8)
    png = tf.io.encode_png(image).numpy()
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
