"""WebDataset shards: tar archives of samples."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.core.errors import ConfigError, DataError
from tfxc.data.formats.base import EncodedImageReader
from tfxc.data.parsing.archives import is_tar, shard_files, tar_members
from tfxc.data.parsing.catalogs import Catalog
from tfxc.data.parsing.label_cells import labels_of
from tfxc.data.parsing.label_checks import check_labels
from tfxc.data.source_files import expand

if TYPE_CHECKING:
    from tfxc.data.parsing.path_probe import PathProbe


_IMAGES = ("jpg", "jpeg", "png")
_ORDER = "write one image and one label per sample, its members one after the other"


class WebDataset(EncodedImageReader):
    """Reads images and labels from tar shards, one after the other.

    Members that follow each other and share the name up to the first dot (of the last part of the
    path) are a sample; what follows the dot says what a member is. A sample has one image
    (``jpg``, ``jpeg``, ``png``) and its label in ``cls`` (an id), else ``txt`` (a name), or, with
    ``label_key``, in ``json``; what the first sample has, all have. Other members are not read;
    hidden files and names without a dot are skipped. The images come as the bytes of their
    files.

    With ``catalog`` the label is the one that a table gives for the last part of the sample's name,
    as in TreeOfLife-10M; a sample whose row has no label is left out.

    Args:
        path: a ``.tar`` file, perhaps compressed, a folder of them, a pattern with ``*``,
            ``?`` or ``[...]``, or a range: ``shards/{000..146}.tar``.
        label_key: key of the label in the ``json`` members: a name, an id, or a list of either.
        labelled: if False, yields the images without labels, which are optional.
        catalog: CSV file of keys and labels.
        key_column, label_column: names of its columns.

    Raises:
        ConfigError: options that exclude each other.
        DataError: a shard is missing, truncated or damaged; a sample has no image or label, two of
            them, or members elsewhere; a label is malformed. The message names shard and sample.

    Source: https://github.com/webdataset/webdataset.

    Example:
        >>> reader = WebDataset("imagenet-train-{000000..000146}.tar")    # doctest: +SKIP
        >>> next(reader.chunks(1)).labels                                 # doctest: +SKIP
        [[304]]
    """

    summary = "tar shards (.tar, .tar.gz, .tgz ...), a folder or a pattern of them"
    specificity = 20
    label_options = ("catalog", "key_column", "label_column")

    @classmethod
    def recognises(cls, probe: "PathProbe") -> bool:
        return probe.is_pattern or probe.is_tar or any(map(is_tar, probe.files))

    def __init__(
        self,
        path: str | Path,
        *,
        label_key: str | None = None,
        labelled: bool = True,
        catalog: str | Path | None = None,
        key_column: str = "treeoflife_id",
        label_column: str = "species",
    ) -> None:
        if catalog is not None and (label_key is not None or not labelled):
            raise ConfigError(
                "labels from either the catalog or the shards expected, found both",
                where="catalog",
                fix="leave catalog out, or label_key and labelled",
            )
        self._shards = shard_files(path)
        super().__init__(self._shards[0])
        self.path = Path(path)
        self.total_bytes = sum(shard.stat().st_size for shard in self._shards)
        self._label_key, self._labelled = label_key, labelled
        self._label_members = () if not labelled else ("json",) if label_key else ("cls", "txt")
        self._catalog = None
        if catalog is not None:
            self._catalog = Catalog(expand(str(catalog)), key_column, label_column)
            self._label_members, self.label_names = (), self._catalog.label_names
            self.num_labels = len(self.label_names)

    def label_lists(self, size: int = 4096) -> Iterator[list[list[Any]]]:
        """Yields the labels as ``Reader.label_lists``; images are skipped unread."""
        examples = self._examples(images=False)
        while block := list(itertools.islice(examples, size)):
            yield [labels for _, _, labels in block]

    def _examples(self, images=True):
        member = label_type = None
        for shard in self._shards:
            for name, parts in self._samples(shard, images):
                where = f"{shard}: sample {name!r}"
                image, labels = _image(parts, where), []
                if self._label_members:
                    found = [part for part in self._label_members if part in parts]
                    member = member or next(iter(found), None)
                    if member not in found:
                        expected = (
                            f".{member}" if member else f".{' or .'.join(self._label_members)}"
                        )
                        raise _missing(f"a label ({expected})", parts, where)
                    labels = self._labels(parts[member], member, where)
                    label_type = label_type or next(map(type, labels), None)
                    check_labels(labels, label_type, where)
                if self._catalog is not None:
                    labels = self._of_catalog(name, where)
                    if labels is None:
                        continue
                yield f"{shard.name}: {name}", image, labels

    def _of_catalog(self, name, where):
        """The label of a sample as a list, None if its row has none."""
        key = name.rpartition("/")[2]
        try:
            label = self._catalog.label(key)
        except KeyError:
            raise DataError(
                f"a row with the key {key!r} expected in {self._catalog.path}, found none",
                where=where,
                fix="give the catalog that belongs to the shards",
            ) from None
        return None if label is None else [label]

    def _samples(self, shard, images):
        """Yields ``(name, {what a member is: content, or None of those not needed})``."""
        needed = {*(_IMAGES if images else ()), *self._label_members}
        name, parts = None, {}
        for member, read in tar_members(shard):
            folder, _, file = member.name.rpartition("/")
            stem, dot, part = file.partition(".")
            if not stem or not dot:
                continue
            key, part = f"{folder}/{stem}".removeprefix("/"), part.lower()
            if key != name:
                if parts:
                    yield name, parts
                name, parts = key, {}
            if part in parts:
                raise DataError(
                    f"one member .{part} expected, found two",
                    where=f"{shard}: sample {key!r}",
                    fix=_ORDER,
                )
            parts[part] = read() if part in needed else None
        if parts:
            yield name, parts

    def _labels(self, content, member, where):
        try:
            text = content.decode("utf-8").strip()
            if member == "txt":
                return [text]
            found = int(text) if member == "cls" else json.loads(text)[self._label_key]
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            expected = {
                "txt": "a UTF-8 text",
                "cls": "an integer",
                "json": f"a JSON object with the key {self._label_key!r}",
            }[member]
            raise DataError(
                f"{expected} expected in .{member}, found {content[:60]!r}",
                where=where,
                fix="correct the member",
            ) from error
        return labels_of(found, where if member == "cls" else f"{where}: {self._label_key!r}")


def _image(parts, where):
    images = [part for part in _IMAGES if part in parts]
    if len(images) != 1:
        raise _missing(f"one image (.{', .'.join(_IMAGES)})", parts, where)
    return parts[images[0]]


def _missing(expected, parts, where):
    found = ", ".join(f".{part}" for part in parts)
    return DataError(f"{expected} expected, found {found}", where=where, fix=_ORDER)
