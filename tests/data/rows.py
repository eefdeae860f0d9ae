"""Rows of shards and of images, as tests compare them."""

import numpy as np

from tfxc.data.examples.kinds import ENCODED, IMAGE, SPARSE
from tfxc.data.examples.lists import LabelLists
from tfxc.data.examples.rows import Rows, RowsBuilder
from tfxc.data.reading.parsing.tfrecord import read_chunks


def read_shard(path, layout, kind=SPARSE, num_features=None, image_shape=None):
    """Returns all ``Rows`` of one TFRecord file; the arguments are those of ``read_chunks``."""
    parts = list(read_chunks(path, layout, kind, num_features, image_shape))
    if not parts:
        sizes = {"num_features": num_features, "image_shape": image_shape}
        return RowsBuilder(kind, (0, 0, 0, 0), sizes).finish()
    width = max(part.num_features for part in parts)
    for part in parts:
        part.num_features = width
    return Rows.concatenate(parts)


def rows_of_images(images, labels):
    """Returns the ``Rows`` of uint8 (n, height, width, channels), or of a list of files."""
    is_array = isinstance(images, np.ndarray)
    kind = IMAGE if is_array else ENCODED
    lists = LabelLists.of(labels)
    return Rows(
        kind,
        kind.arrays_of(images),
        label_indptr=lists.indptr,
        label_ids=lists.ids,
        num_features=np.prod(images.shape[1:]) if is_array else 0,
    )
