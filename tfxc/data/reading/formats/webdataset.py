"""WebDataset shards: tar archives of samples."""

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tfxc.core.errors import ConfigError, DataError
from tfxc.data.reading.formats.base import EncodedImageReader
from tfxc.data.reading.parsing.archives import is_tar, shard_files, tar_members
from tfxc.data.reading.parsing.catalogs import Catalog
from tfxc.data.reading.parsing.label_cells import labels_of
from tfxc.data.reading.parsing.label_checks import of_one_kind
from tfxc.data.reading.parsing.path_probe import PathProbe
from tfxc.data.reading.source_files import expand

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
    def recognises(cls, probe: PathProbe) -> bool:
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
                "the labels come from the catalog, so label_key and labelled=False do not apply",
                where="catalog",
                fix="leave catalog out, or label_key and labelled",
            )
        self._shards = shard_files(path)
        super().__init__(self._shards[0])
        self.path = Path(path)
        self.total_bytes = sum(shard.stat().st_size for shard in self._shards)
        self._label_key = label_key
        self._label_members: tuple[str, ...] = (
            () if not labelled else ("json",) if label_key else ("cls", "txt")
        )
        self._catalog = None
        if catalog is not None:
            self._catalog = Catalog(expand(str(catalog)), key_column, label_column)
            self._label_members = ()
            self.label_names = self._catalog.label_names
            self.num_labels = len(self.label_names)

    def label_lists(self, size: int = 4096) -> Iterator[list[list[Any]]]:
        """Yields the labels as ``Reader.label_lists``; images are skipped unread."""
        examples = self._examples(images=False)
        while block := list(itertools.islice(examples, size)):
            yield [labels for _, _, labels in block]

    def _examples(self, images: bool = True) -> Iterator[tuple[str, bytes, list[Any]]]:
        member = label_type = None
        for shard in self._shards:
            for name, parts in self._samples(shard, images):
                where = f"{shard}: sample {name!r}"
                image_members = [part for part in _IMAGES if part in parts]
                if len(image_members) != 1:
                    listed = f".{', .'.join(_IMAGES)}"
                    raise _wrong_members(f"exactly one image ({listed})", parts, where)
                labels: list[Any] = []
                if self._label_members:
                    label_members = [part for part in self._label_members if part in parts]
                    member = member or next(iter(label_members), None)
                    if member not in label_members:
                        listed = f".{member or ' or .'.join(self._label_members)}"
                        raise _wrong_members(f"a label ({listed})", parts, where)
                    labels = self._labels(parts[member], member, where)
                    labels, label_type = of_one_kind(labels, label_type, where)
                if self._catalog is not None:
                    key = name.rpartition("/")[2]
                    try:
                        label = self._catalog.label(key)
                    except KeyError:
                        raise DataError(
                            f"{self._catalog.path} has no row with the key {key!r}",
                            where=where,
                            fix="give the catalog that belongs to the shards",
                        ) from None
                    if label is None:
                        continue
                    labels = [label]
                yield f"{shard.name}: {name}", parts[image_members[0]], labels

    def _samples(self, shard: Path, images: bool) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields ``(name, {what a member is: content, or None of those not needed})``."""
        needed = {*(_IMAGES if images else ()), *self._label_members}
        name = None
        parts: dict[str, Any] = {}
        for member, read in tar_members(shard):
            folder, _, file = member.name.rpartition("/")
            stem, dot, part = file.partition(".")
            if not stem or not dot:
                continue
            key = f"{folder}/{stem}".removeprefix("/")
            part = part.lower()
            if key != name:
                if name is not None:
                    yield name, parts
                name = key
                parts = {}
            if part in parts:
                raise DataError(
                    f"the sample has two members .{part}",
                    where=f"{shard}: sample {key!r}",
                    fix=_ORDER,
                )
            parts[part] = read() if part in needed else None
        if name is not None:
            yield name, parts

    def _labels(self, content: bytes, member: str, where: str) -> list[Any]:
        try:
            text = content.decode("utf-8").strip()
            if member == "txt":
                return [text]
            label = int(text) if member == "cls" else json.loads(text)[self._label_key]
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            content_of = {
                "txt": "a UTF-8 text",
                "cls": "an integer",
                "json": f"a JSON object with the key {self._label_key!r}",
            }
            raise DataError(
                f".{member} contains {content[:60]!r}, which is not {content_of[member]}",
                where=where,
                fix="correct the member",
            ) from error
        return labels_of(label, where if member == "cls" else f"{where}: {self._label_key!r}")


def _wrong_members(missing: str, parts: Iterable[str], where: str) -> DataError:
    members = ", ".join(f".{part}" for part in parts)
    return DataError(
        f"the sample does not have {missing}: its members are {members}", where=where, fix=_ORDER
    )
