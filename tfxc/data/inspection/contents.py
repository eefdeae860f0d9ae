"""Looks at a training file: its format, its columns, texts or features, one or several labels."""

import collections
import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core import registry
from tfxc.core.errors import DataError
from tfxc.data.formats import check_options, detect_format, open_reader
from tfxc.data.formats.base import NONE_GIVEN
from tfxc.data.kinds import IMAGE, TEXT, kind_of_features
from tfxc.data.parsing.column_guess import Wanted
from tfxc.data.source_files import is_builtin, staged
from tfxc.labels.joined_labels import joined_labels

if TYPE_CHECKING:
    from tfxc.data.chunk import Chunk
    from tfxc.data.formats.base import Reader

# What is read of a large file at most, and how much of it is looked at closely.
MOST_EXAMPLES, MOST_CHARACTERS = 200_000, 1 << 26
_TEXTS, _IMAGES = 64, 64  # of each chunk; in all
_LARGEST_IMAGE = 96  # of the shorter side; a larger image takes a GPU
_CHUNK = 4096
# From so many examples on, labels that hardly ever repeat are none.
_ALL_DIFFERENT, _DIFFERENT = 20, 0.9
# Letters of scripts that put no blanks between words: Thai to Myanmar, Khmer, kana, Han.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
)
_UNSPACED_SHARE, _LONGEST_WORD = 0.3, 6
# What the splits of a folder that holds several are called, by what they are for.
_SPLIT_NAMES = {
    "train": ("train", "training", "trn"),
    "dev": ("dev", "validation", "valid", "val"),
    "test": ("test", "tst"),
}


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a training file holds.

    Attributes:
        format: name of the reader.
        options: the reader's options, such as the columns.
        kind: what an example is: ``"text"``, ``"sparse"``, ``"dense"`` or ``"image"``.
        examples: number of examples; an estimate unless ``complete``.
        labels: number of labels that were seen.
        labels_each: mean number of labels of an example.
        unlabelled: number of examples without labels.
        complete: whether the whole file was looked at.
        warning: says that each example has one label, and that these look like several in one;
            None if they do not, or if the user has settled it with ``label_separator``.
        tokens: "characters" of texts in a script without blanks, else "words".
        length: median number of tokens in a text.
        long: number of tokens that 95 of 100 texts have at most.
        image_shape: (height, width, channels) to bring images to; None for other kinds.
        splits: of a folder that holds several splits: their names in it, by what they are for
            (``"train"``, ``"dev"``, ``"test"``).
    """

    format: str
    options: dict[str, Any]
    kind: str
    examples: int
    labels: int
    labels_each: float
    complete: bool
    unlabelled: int = 0
    warning: str | None = None
    tokens: str = "words"
    length: int = 0
    long: int = 0
    image_shape: tuple[int, int, int] | None = None
    splits: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def several_labels(self) -> bool:
        """Whether an example may have several labels, or none."""
        return not math.isclose(self.labels_each, 1.0)


def inspect(
    path: str,
    wanted: Wanted | None = None,
    reader: str | None = None,
    given: Mapping[str, Any] | None = None,
) -> Contents:
    """What a training file holds.

    At most 200,000 examples, or 64 million characters of texts, are read, in constant memory.

    Args:
        path: as in ``data.train``; ``~`` and ``${VAR}`` are expanded.
        wanted: columns that the user names.
        reader: the format's name; None recognises it.
        given: options of the reader that the user has chosen; they are not looked for.

    Raises:
        ConfigError: columns are named, and the format has none.
        DataError: the file is missing, empty, malformed, or holds nothing that can be learned: one
            label only, or labels of which none occurs twice.

    Example:
        >>> inspect("train.csv").kind              # doctest: +SKIP
        'text'
    """
    given, wanted = given or {}, wanted or Wanted()
    columns = Wanted(
        wanted.text or given.get("text_field"), wanted.labels or given.get("labels_field")
    )
    source = staged(path, "data.train")
    name, options = options_of(source, columns, reader, given=given)
    options = {**options, **given}
    found = _Sample(open_reader(source, name, **options))
    found.read()
    found.check(source, options)
    splits = {} if "split" in given else splits_of(source, name)
    return dataclasses.replace(found.contents(name or str(path), options), splits=splits)


def options_of(
    source: str | Path,
    wanted: Wanted | None = None,
    reader: str | None = None,
    role: str = "train",
    given: Mapping[str, Any] = NONE_GIVEN,
) -> tuple[str | None, dict[str, Any]]:
    """The format of a file and the options by which it is read.

    Args:
        source: a file or folder of this machine, or a built-in set.
        wanted: columns that the user names.
        reader: the format's name; None recognises it.
        role: what it is for: ``"train"``, ``"dev"`` or ``"test"``.
        given: options of the reader that the user has chosen; ``split`` is found by ``role`` where
            it is not among them.

    Raises:
        ConfigError: the format has no such option.
        DataError: the file is missing, empty or of no known format, or a folder has no such split.
    """
    if is_builtin(source):
        return None, {}
    source = Path(source)
    if source.is_file() and not source.stat().st_size:
        raise DataError("the file is empty", where=source, fix="check it")
    name = reader or detect_format(source)
    found_class = registry.get("reader", name)
    check_options(found_class, given, source)
    split = given.get("split") or _split_for(role, source, name)
    options = {} if split is None else {"split": split}
    found = found_class.options_of(source, wanted or Wanted(), split, given)
    return name, options | found


def splits_of(source: str | Path, reader: str | None) -> dict[str, str]:
    """The splits of a folder that holds several, by what they are for, as far as that is known.

    Args:
        source: as of ``options_of``.
        reader: the format's name; None for a built-in set.

    Example:
        >>> splits_of("eurlex-4k", "pecos")     # doctest: +SKIP
        {'train': 'trn', 'test': 'tst'}
    """
    if reader is None or is_builtin(source):
        return {}
    there = registry.get("reader", reader).splits_of(Path(source))
    found = {
        role: [name for name in names if name in there] for role, names in _SPLIT_NAMES.items()
    }
    if len(there) == 1 and not any(found.values()):
        return {"train": there[0]}
    return {role: names[0] for role, names in found.items() if names}


def _split_for(role, source, reader):
    """The name of the split for a role; None where there is nothing to choose."""
    there = registry.get("reader", reader).splits_of(source)
    if not there:
        return None
    if (found := splits_of(source, reader).get(role)) is not None:
        return found
    raise DataError(
        f"a split for {role} expected, as {' or '.join(_SPLIT_NAMES[role])}, found "
        f"{', '.join(there)}",
        where=source,
        fix="name it with --set data.reader_options.split=NAME",
    )


class _Sample:
    """The first examples of a reader, and what was counted in them."""

    def __init__(self, reader: "Reader") -> None:
        self.reader, self.names = reader, collections.Counter[Any]()
        self.examples = self.given = self.several = self.without = self.characters = 0
        self.lengths: dict[str, list[int]] = {"words": [], "characters": []}
        self.unspaced = self.letters = 0
        self.kind: str = ""
        self.image_shape: tuple[int, int, int] | None = None
        self.complete, self.bytes_read = True, 0

    def read(self):
        """Reads until the end, or until enough has been seen."""
        chunks = self.reader.chunks(_IMAGES if self._folder_of_images() else _CHUNK)
        for chunk in chunks:
            self._add(chunk)
            enough = self.kind == IMAGE.name and self._labels_are_known()
            many = self.examples >= MOST_EXAMPLES or self.characters >= MOST_CHARACTERS
            if enough or many:
                self.bytes_read = self.reader.bytes_read
                self.complete = next(chunks, None) is None
                break

    def _folder_of_images(self):
        return self.reader.label_names is not None and self.reader.total_bytes is None

    def _labels_are_known(self):
        return self.reader.label_names is not None and self.reader.num_examples is not None

    def _add(self, chunk: "Chunk"):
        self.examples += len(chunk)
        for labels in chunk.labels:
            self.given += len(labels)
            self.several += len(labels) != 1
            self.without += not labels
            self.names.update(labels)
        if chunk.images is not None:
            self._add_images(chunk.images)
        elif chunk.texts is not None and chunk.features is None:
            self.kind = TEXT.name
            self._add_texts(chunk.texts)
        else:
            self.kind = kind_of_features(chunk.features, self.reader.path).name

    def _add_texts(self, texts: Sequence[str]):
        self.characters += sum(map(len, texts))
        step = max(1, len(texts) // _TEXTS)
        for text in texts[::step]:
            words = text.split()
            self.lengths["words"].append(len(words))
            self.lengths["characters"].append(len(text))
            self.unspaced += len(_UNSPACED.findall(text))
            self.letters += sum(map(len, words))

    def _add_images(self, images):
        if not self.kind:
            self.image_shape = _common_shape(images[:_IMAGES])
        self.kind = IMAGE.name

    def check(self, where, options):
        """Refuses what nothing can be learned from."""
        column = options.get("labels_field")
        named = f" in {column!r}" if column else ""
        if not self.examples:
            raise DataError("there are no examples", where=where, fix="check the file")
        if not self.names:
            raise DataError(
                f"there are no labels{named} in {self.examples:,} examples",
                where=where,
                fix="name the right column as --label-column" if column else "check the file",
            )
        if self.complete and len(self.names) == 1:
            only = next(iter(self.names))
            raise DataError(
                f"the only label{named} of all {self.examples:,} examples is {only!r}",
                where=where,
                fix="name the right column as --label-column" if column else "check the file",
            )
        # What is different in the first part of a file may repeat in the rest.
        least = _DIFFERENT * self.given if self.complete else self.given
        if column and self.given >= _ALL_DIFFERENT and len(self.names) >= least:
            raise DataError(
                f"hardly any label{named} occurs twice: {len(self.names):,} different ones in "
                f"{self.examples:,} examples, as in a column of ids or texts",
                where=where,
                fix="name the right column as --label-column, or, if a cell holds several labels, "
                "what separates them as --set data.reader_options.label_separator=,",
            )

    def contents(self, name, options):
        """What was found, as ``Contents``."""
        script = self._script()
        lengths = self.lengths[script] or [0]
        known = self._labels_are_known()
        labels = self.reader.num_labels if known else len(self.names)
        settled = self.several or known or options.get("label_separator", "") is None
        joined = None if settled else joined_labels(map(str, self.names), self.given)
        splits_cells = "label_separator" in self.reader.label_options
        return Contents(
            format=name,
            options=options,
            kind=self.kind,
            examples=self._number(),
            labels=labels,
            labels_each=1.0 if not self.several else self.given / self.examples,
            complete=self.complete or known,
            unlabelled=self.without,
            warning=None if joined is None else joined.warning(self.reader.path, splits_cells),
            tokens=script,
            length=int(np.median(lengths)),
            long=int(np.quantile(lengths, 0.95)),
            image_shape=self.image_shape,
        )

    def _number(self):
        """The number of examples; that of a file read in part by its bytes."""
        if self.complete or self.reader.num_examples is not None:
            return self.reader.num_examples or self.examples
        share = self.bytes_read / max(1, self.reader.total_bytes or 1)
        return round(self.examples / share) if 0 < share <= 1 else self.examples

    def _script(self):
        words = sum(self.lengths["words"])
        unspaced = self.unspaced > _UNSPACED_SHARE * max(1, self.letters)
        return "characters" if unspaced and self.letters > _LONGEST_WORD * words else "words"


def _common_shape(images):
    """The (height, width, channels) that most images are near, at most 96 on the shorter side."""
    from tfxc.data.images.decoding import own_shape

    shapes = [shape for shape in map(own_shape, images) if shape is not None]
    if not shapes:
        return None  # preparation names the damaged ones
    height, width = (int(np.median(sizes)) for sizes in list(zip(*shapes, strict=True))[:2])
    scale = min(1.0, _LARGEST_IMAGE / min(height, width))
    channels = max(shape[2] for shape in shapes)
    return round(scale * height), round(scale * width), channels
