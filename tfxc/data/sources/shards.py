"""Sources of batches: rows in memory, and prepared shards larger than memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfxc.core.errors import DataError
from tfxc.core.messages import NOTES
from tfxc.core.progress import Progress
from tfxc.core.storage import checksums
from tfxc.data.examples.rows import Rows, RowsBuilder
from tfxc.data.label_texts import has_label_texts
from tfxc.data.reading.parsing.record_layout import AGAIN
from tfxc.data.sources.base import ArraySource, Source
from tfxc.data.sources.windowed import WINDOWS_IN_MEMORY, WindowSource
from tfxc.data.store.manifest import Manifest

if TYPE_CHECKING:
    from tfxc.data.label_texts.prepared import LabelTexts
    from tfxc.data.store.manifest import ShardInfo


__all__ = ["ArraySource", "ShardSource", "Source", "check_sizes", "open_source", "verify"]

DEFAULT_MEMORY_BYTES = 2 << 30


class ShardSource(WindowSource):
    """One split of a prepared folder.

    Its blocks are the shards. A split within the memory budget is loaded at once.

    Args:
        folder: a prepared folder.
        split: ``"train"``, ``"dev"`` or ``"test"``.
        memory_bytes: how much memory the rows may take.

    Raises:
        DataError: not a prepared folder, no such split, a shard that is missing, of another size
            than the manifest says, truncated or damaged.
    """

    def __init__(
        self, folder: str | Path, split: str, memory_bytes: int = DEFAULT_MEMORY_BYTES
    ) -> None:
        self.folder = Path(folder)
        self.manifest = Manifest.load(folder)
        self._split = split
        info = self.manifest.split(split)
        sizes = [shard.memory_bytes(self.manifest.row_kind) for shard in info.shards]
        super().__init__(
            info.examples,
            self.manifest.num_features,
            self.manifest.num_labels,
            self.manifest.row_kind,
            self.manifest.image_shape,
            name=split,
            counts=[shard.examples for shard in info.shards],
            sizes=sizes,
            memory_bytes=memory_bytes,
        )
        self._shards = info.shards
        check_sizes(self.folder, self._shards)
        needed = WINDOWS_IN_MEMORY * max(sizes, default=0)
        if sum(sizes) > memory_bytes < needed:
            NOTES.info(
                f"{folder}: windows of one shard take {needed / 1e9:.2f} GB, more than the "
                f"{memory_bytes / 1e9:.2f} GB allowed; prepare with a smaller data.shard_examples"
            )
        if self.in_memory:
            self._whole()  # so that a damaged shard is reported before any work is done

    def label_texts(self) -> "LabelTexts | None":
        """See ``Source``."""
        if not has_label_texts(self.folder):
            return None
        from tfxc.data.label_texts.prepared import load_label_texts

        manifest = self.manifest
        return load_label_texts(self.folder, manifest.kind, manifest.num_features, self._split)

    def _load(self, numbers: Sequence[int], progress: Progress | None = None) -> Rows:
        from tfxc.data.reading.parsing.tfrecord import read_chunks

        shards = [self._shards[number] for number in numbers]
        counts = np.sum([shard.counts for shard in shards], axis=0).tolist()
        builder = RowsBuilder(self.kind, counts, self.sizes)
        for shard in shards:
            path = self.folder / shard.file
            layout = self.manifest.layout
            parts = read_chunks(path, layout, self.kind, self.num_features, self.image_shape)
            declared = np.array(shard.counts)
            counted = np.zeros_like(declared)
            for rows in parts:
                counted += rows.counts
                if (counted > declared).any():
                    break
                builder.append(rows)
                if progress is not None:
                    progress.advance(len(rows))
            if (counted != declared).any():
                raise DataError(
                    f"the shard has {tuple(counted.tolist())} examples, labels, feature values and "
                    "tokens next to them, but the manifest says "
                    f"{tuple(declared.tolist())}",
                    where=path,
                    fix=AGAIN,
                )
        return builder.finish()


def open_source(
    folder: str | Path, split: str, memory_bytes: int = DEFAULT_MEMORY_BYTES
) -> WindowSource:
    """Returns the source of a split of a prepared folder: its shards, or the feature set it names.

    Args:
        folder, split, memory_bytes: as for ``ShardSource``.

    Raises:
        DataError: as for ``ShardSource`` and ``FeatureSet``.
    """
    if Manifest.load(folder).layout != "feature_set":
        return ShardSource(folder, split, memory_bytes)
    from tfxc.data.sources.feature_sets import open_feature_split

    return open_feature_split(folder, split, memory_bytes)


def check_sizes(folder: str | Path, shards: "Sequence[ShardInfo]") -> None:
    """Checks at little cost that every shard is there and as long as the manifest says.

    Raises:
        DataError: names the first shard that is not.
    """
    for shard in shards:
        path = Path(folder) / shard.file
        if not path.is_file():
            raise DataError("this shard is missing", where=path, fix=AGAIN)
        size = path.stat().st_size
        if size != shard.bytes:
            raise DataError(
                f"this shard has {size:,} bytes instead of {shard.bytes:,}", where=path, fix=AGAIN
            )


def verify(folder: str | Path) -> Manifest:
    """Compares all files of a prepared folder, and of feature sets it names, with their checksums.

    Returns:
        Manifest.

    Raises:
        DataError: names the first file that is missing or differs.
    """
    checksums.check(folder, AGAIN, all_files=True)
    manifest = Manifest.load(folder)
    if manifest.layout == "feature_set":
        from tfxc.data.sources.feature_sets import open_feature_split

        for split in manifest.splits:
            open_feature_split(folder, split, DEFAULT_MEMORY_BYTES).set.verify()
    return manifest
