"""How much memory the preparation of data takes, from the sizes of the set."""

from tfxc.core.settings import DataSettings
from tfxc.data.store.blocks.layout import CHUNK_EXAMPLES, CHUNK_IMAGES
from tfxc.data.store.manifest import Manifest
from tfxc.data.store.records.shard_writer import IMAGE_SHARD_BYTES, SHARD_BYTES

# A block is there as what the reader yields, as arrays, as what is written and on its way between.
_COPIES_OF_BLOCK = 4
# A shard is there as rows, and as the bytes of its records.
_COPIES_OF_SHARD = 2
# Bytes of a name in a list and in a dict, the name itself included.
_NAME = 100


def preparation_bytes(manifest: Manifest, settings: DataSettings) -> int:
    """Returns the estimated bytes of ``tfxc prepare``, or of its largest process, beyond those of
    its start.

    Blocks and shards have a size of their own, so that a set takes little more memory the larger it
    is: what grows are the names of labels and terms.

    Args:
        manifest: sizes of the set.
        settings: section ``data`` of the config.
    """
    kind = manifest.row_kind
    images = manifest.image_shape is not None
    split = manifest.split("train")
    tokens = sum(shard.tokens for shard in split.shards)
    total = kind.memory_bytes(split.examples, split.labels, split.nonzeros, tokens)
    each = total / max(1, split.examples)
    block = each * min(split.examples, CHUNK_IMAGES if images else CHUNK_EXAMPLES)
    largest = IMAGE_SHARD_BYTES if images else SHARD_BYTES
    shard = min(total, largest, each * settings.shard_examples)
    names = manifest.num_labels
    if settings.text_features is not None:
        names += manifest.num_features
    copies = _COPIES_OF_BLOCK * block + _COPIES_OF_SHARD * shard
    return int(copies) + _NAME * names
