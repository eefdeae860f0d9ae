"""Images, as pixels or as files."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfxc.data.examples.columns import Arrays, Column, Files, Pixels, Sizes
from tfxc.data.examples.kinds.base import FeatureKind, Tensor
from tfxc.data.examples.lists import joined_files


class Image(FeatureKind):
    """Images as pixels."""

    name = "image"
    description = "images"
    prompt = "a path"
    chunk_field = "images"
    columns: tuple[Column, ...] = (Pixels("images", "image/raw"),)
    inputs = ("images",)
    encoder = "resnet"
    is_image = True

    def describe(self, sizes: Sizes) -> str:
        return f"images of {' x '.join(map(str, sizes['image_shape']))}"

    def tensors(self, sizes: Sizes) -> tuple[Tensor, ...]:
        return (Tensor("images", "uint8", ("batch", *sizes["image_shape"])),)

    def typed(
        self, lines: Sequence[str], places: Sequence[str], num_features: int | None = None
    ) -> dict[str, Any]:
        from tfxc.data.examples import typed_lines

        return {"images": typed_lines.files_of_lines(lines, places), "names": lines}

    def recognises(self, features: object) -> bool:
        return True

    def _arrays_of(self, features: np.ndarray) -> Arrays:
        return {"images": features}

    def tensors_of(self, arrays: Arrays) -> Arrays:
        return {"images": arrays["images"]}

    def example(
        self, sizes: Sizes, count: int = 2, draw: np.random.Generator | None = None
    ) -> Arrays:
        draw = draw or np.random.default_rng(0)
        return {"images": draw.integers(0, 256, (count, *sizes["image_shape"]), np.uint8)}


class Encoded(Image):
    """Images as files, which are decoded on the way to the model."""

    name = "encoded"
    description = "encoded images"
    columns = (Files(),)
    inputs = ("image_bytes",)

    @property
    def decoded(self) -> FeatureKind:
        return IMAGE

    def tensors(self, sizes: Sizes) -> tuple[Tensor, ...]:
        return (Tensor("image_bytes", "string", ("batch",)),)

    def _arrays_of(self, features: Sequence[bytes] | np.ndarray) -> Arrays:
        return joined_files(list(features))

    def tensors_of(self, arrays: Arrays) -> Arrays:
        (files,) = self.columns
        return {"image_bytes": files.files(arrays)}

    def decode(self, features: Any, image_shape: tuple[int, ...] | None) -> Any:
        from tfxc.data.images.decoding import decode_files

        assert image_shape is not None, "encoded images need a shape"
        return decode_files(features, image_shape)

    def example(
        self, sizes: Sizes, count: int = 2, draw: np.random.Generator | None = None
    ) -> Arrays:
        """See ``FeatureKind``; PNG files lose nothing."""
        import tensorflow as tf

        images = IMAGE.example(sizes, count, draw)["images"]
        return self.arrays_of([tf.io.encode_png(image).numpy() for image in images])


IMAGE = Image()
ENCODED = Encoded()
