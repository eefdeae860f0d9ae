"""Looks at a training file: its format, its columns, texts or features, one or several labels."""

import collections
import dataclasses
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfxc.core import registry
from tfxc.core.errors import DataError, inside
from tfxc.core.progress import Progress
from tfxc.data.examples.chunk import Chunk
from tfxc.data.examples.kinds import IMAGE, TEXT, kind_of_features
from tfxc.data.reading.formats import (
    OPTIONS,
    check_options,
    detect_format,
    encoding_of,
    open_reader,
)
from tfxc.data.reading.formats.base import NONE_GIVEN, Reader
from tfxc.data.reading.inspection.findings import Findings, Survey
from tfxc.data.reading.parsing.column_guess import LABELS_FIELDS, TEXT_FIELDS, Wanted
from tfxc.data.reading.source_files import is_builtin, staged
from tfxc.labels.joined_labels import joined_labels

# What is read at most of a large file of features, and how much of one of texts is looked at
# closely: of these all are read, which takes a small part of the time of a training.
MOST_EXAMPLES = 200_000
_TEXTS = 64  # of each chunk
_IMAGES = 64  # in all
_LARGEST_IMAGE = 96  # of the shorter side; a larger image takes a GPU
_CHUNK = 4096
# From so many examples on, labels that hardly ever repeat are none.
_ALL_DIFFERENT = 20
_DIFFERENT = 0.9
# Letters of scripts that put no blanks between words: Thai to Myanmar, Khmer, kana, Han.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
)
_UNSPACED_SHARE = 0.3
_LONGEST_WORD = 6
_WORD = re.compile(r"[^\W\d_]{3}")  # of a label's name
# Fewer examples of a file without labels are left out, if all others have one label: they are
# cells that nobody filled in.
_FEW_UNLABELLED = 0.05
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
        named_labels: whether most labels have a word in their names, as codes and numbers do not.
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
        unused: columns that hold neither texts nor labels.
        findings: what is odd in the examples.
    """

    format: str
    options: dict[str, Any]
    kind: str
    examples: int
    labels: int
    labels_each: float
    complete: bool
    named_labels: bool = False
    unlabelled: int = 0
    warning: str | None = None
    tokens: str = "words"
    length: int = 0
    long: int = 0
    image_shape: tuple[int, int, int] | None = None
    splits: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unused: Sequence[str] = ()
    findings: Findings | None = None

    @property
    def several_labels(self) -> bool:
        """Whether an example may have several labels, or none."""
        return not math.isclose(self.labels_each, 1.0)

    @property
    def skips_unlabelled(self) -> bool:
        """Whether the few examples without labels are left out, so that all have one label."""
        return self.unlabelled > 0 and not self.several_labels


def inspect(
    path: str,
    wanted: Wanted | None = None,
    reader: str | None = None,
    given: Mapping[str, Any] | None = None,
) -> Contents:
    """Returns what a training file holds.

    All texts are read, and at most 200,000 examples of features; an example takes 21 bytes.

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
    given = given or {}
    wanted = wanted or Wanted()
    columns = Wanted(
        wanted.text or given.get("text_field"), wanted.labels or given.get("labels_field")
    )
    source = staged(path, "data.train")
    name, options = options_of(source, columns, reader, given=given)
    options = {**options, **given}
    sample = _Sample(open_reader(source, name, **options))
    sample.read()
    sample.check(source, options)
    splits = {} if "split" in given else splits_of(source, name)
    return dataclasses.replace(sample.contents(name or str(path), options), splits=splits)


def contents_of(texts: Sequence[str], labels: Sequence[Sequence[Any]]) -> Contents:
    """Returns what examples in memory are, as ``inspect`` does of those of a file.

    Args:
        texts: of the examples.
        labels: a list for each of them.

    Example:
        >>> contents_of(["red fox", "blue sea"], [["animal"], ["water"]]).several_labels
        False
    """
    reader = _InMemory(texts, labels)
    sample = _Sample(reader)
    for chunk in reader.chunks(_CHUNK):
        sample._add(chunk)
        if sample.examples >= MOST_EXAMPLES:
            break
    return sample.contents("memory", {"label_separator": None})


class _InMemory:
    """Texts and labels as a ``_Sample`` reads them."""

    label_names = None
    label_options = ()
    total_bytes = None
    bytes_read = 0
    path = "memory"

    def __init__(self, texts: Sequence[str], labels: Sequence[Sequence[Any]]) -> None:
        self._texts = texts
        self._labels = labels
        self.num_examples = len(texts)

    def column_names(self) -> Sequence[str]:
        return ()

    def chunks(self, size: int) -> Iterator[Chunk]:
        for first in range(0, self.num_examples, size):
            part = slice(first, first + size)
            yield Chunk(texts=list(self._texts[part]), labels=list(map(list, self._labels[part])))


def options_of(
    source: str | Path,
    wanted: Wanted | None = None,
    reader: str | None = None,
    role: str = "train",
    given: Mapping[str, Any] = NONE_GIVEN,
) -> tuple[str | None, dict[str, Any]]:
    """Returns the format of a file and the options by which it is read.

    Args:
        source: a file or folder of this machine, or a built-in set.
        wanted: columns that the user names.
        reader: the format's name; None recognises it.
        role: what it is for: ``"train"``, ``"dev"`` or ``"test"``.
        given: options of the reader that the user has chosen; ``split`` is found by ``role`` where
            it is not among them.

    Raises:
        ConfigError: the format has no such option, or refuses its value.
        DataError: the file is missing, empty or of no known format, or a folder has no such split.
    """
    if is_builtin(source):
        return None, {}
    source = Path(source)
    if source.is_file() and not source.stat().st_size:
        raise DataError("the file is empty", where=source, fix="check it")
    name = reader or detect_format(source)
    reader_class = registry.get("reader", name)
    check_options(reader_class, given, name)
    split = given.get("split") or splits_of(source, name).get(role)
    if split is None and (splits := reader_class.splits_of(source)):
        raise DataError(
            f"none of the splits {', '.join(splits)} is called {' or '.join(_SPLIT_NAMES[role])}",
            where=source,
            fix="name the one to read: --set data.reader_options.split=NAME",
        )
    options = {} if split is None else {"split": split}
    encoding = encoding_of(source, reader_class, given)
    if encoding is not None:
        options["encoding"] = encoding
        given = {**given, "encoding": encoding}
    with inside(OPTIONS, given):
        return name, options | reader_class.options_of(source, wanted or Wanted(), split, given)


def check_labels_of_split(
    source: str | Path, reader: str | None, options: Mapping[str, Any], usual: object
) -> None:
    """Refuses a file of another split whose labels would be a column of ids, as one without labels
    seems to have.

    Args:
        source: the file.
        reader: name of its format.
        options: of the reader.
        usual: the training file's ``labels_field``.

    Raises:
        DataError: none of the labels of the first examples occurs twice.
    """
    chunk = next(open_reader(source, reader, **options).chunks(_CHUNK), None)
    labels = [] if chunk is None else [label for each in chunk.labels for label in each]
    if len(labels) >= _ALL_DIFFERENT and len(set(labels)) == len(labels):
        raise DataError(
            f"there is no column of labels: the training file's are in {usual!r}, and what is in "
            f"{options.get('labels_field')!r} never repeats",
            where=source,
            fix="leave the file out, and find its labels with tfxc predict",
        )


def splits_of(source: str | Path, reader: str | None) -> dict[str, str]:
    """Returns the splits of a folder that holds several, by what they are for, as far as that is
    known.

    Args:
        source: as of ``options_of``.
        reader: the format's name; None for a built-in set.

    Example:
        >>> splits_of("eurlex-4k", "pecos")     # doctest: +SKIP
        {'train': 'trn', 'test': 'tst'}
    """
    if reader is None or is_builtin(source):
        return {}
    splits = registry.get("reader", reader).splits_of(Path(source))
    by_role = {
        role: [name for name in names if name in splits] for role, names in _SPLIT_NAMES.items()
    }
    if len(splits) == 1 and not any(by_role.values()):
        return {"train": splits[0]}
    return {role: names[0] for role, names in by_role.items() if names}


class _Sample:
    """The first examples of a reader, and what was counted in them."""

    def __init__(self, reader: Reader | _InMemory) -> None:
        self.reader = reader
        self.names = collections.Counter[Any]()
        self.survey = Survey()
        self.examples = 0
        self.labels_given = 0
        self.several = 0  # examples with more than one label
        self.without = 0  # examples without labels
        self.lengths: dict[str, list[int]] = {"words": [], "characters": []}
        self.unspaced = 0
        self.letters = 0
        self.kind: str = ""
        self.image_shape: tuple[int, int, int] | None = None
        self.complete = True
        self.bytes_read = 0

    def read(self) -> None:
        """Reads until the end, or until enough has been seen."""
        is_folder_of_images = (
            self.reader.label_names is not None and self.reader.total_bytes is None
        )
        chunks = self.reader.chunks(_IMAGES if is_folder_of_images else _CHUNK)
        with Progress("looking at the data", self.reader.total_bytes, unit="B") as progress:
            for chunk in chunks:
                self._add(chunk)
                progress.advance(self.reader.bytes_read - self.bytes_read)
                self.bytes_read = self.reader.bytes_read
                enough = self.kind == IMAGE.name and self._labels_are_known()
                many = self.kind != TEXT.name and self.examples >= MOST_EXAMPLES
                if enough or many:
                    self.complete = next(chunks, None) is None
                    break

    def _labels_are_known(self) -> bool:
        return self.reader.label_names is not None and self.reader.num_examples is not None

    def _add(self, chunk: Chunk) -> None:
        self.survey.add(chunk)
        self.examples += len(chunk)
        for labels in chunk.labels:
            self.labels_given += len(labels)
            self.several += len(labels) > 1
            self.without += not labels
            self.names.update(labels)
        if chunk.images is not None:
            if not self.kind:
                self.image_shape = _common_shape(chunk.images[:_IMAGES])
            self.kind = IMAGE.name
        elif chunk.texts is not None and chunk.features is None:
            self.kind = TEXT.name
            step = max(1, len(chunk.texts) // _TEXTS)
            for text in chunk.texts[::step]:
                words = text.split()
                self.lengths["words"].append(len(words))
                self.lengths["characters"].append(len(text))
                self.unspaced += len(_UNSPACED.findall(text))
                self.letters += sum(map(len, words))
        else:
            self.kind = kind_of_features(chunk.features, self.reader.path).name

    def check(self, where: str | Path, options: Mapping[str, Any]) -> None:
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
        least = _DIFFERENT * self.labels_given if self.complete else self.labels_given
        if column and self.labels_given >= _ALL_DIFFERENT and len(self.names) >= least:
            raise DataError(
                f"hardly any label{named} occurs twice: {len(self.names):,} different ones in "
                f"{self.examples:,} examples, as in a column of ids or texts",
                where=where,
                fix="name the right column as --label-column, or, if a cell holds several labels, "
                "what separates them as --set data.reader_options.label_separator=,",
            )

    def contents(self, name: str, options: dict[str, Any]) -> Contents:
        """Returns the ``Contents`` of a file of which these are the first examples."""
        words = sum(self.lengths["words"])
        unspaced = self.unspaced > _UNSPACED_SHARE * max(1, self.letters)
        has_long_words = self.letters > _LONGEST_WORD * words
        tokens = "characters" if unspaced and has_long_words else "words"
        lengths = self.lengths[tokens] or [0]
        known = self._labels_are_known()
        label_names = self.reader.label_names if known else None
        several = self.several or self.without > _FEW_UNLABELLED * self.examples
        settled = several or known or options.get("label_separator", "") is None
        joined = None if settled else joined_labels(map(str, self.names), self.labels_given)
        splits_cells = "label_separator" in self.reader.label_options
        if self.complete or self.reader.num_examples is not None:
            examples = self.reader.num_examples or self.examples
        else:  # as many more as there are bytes
            share = self.bytes_read / max(1, self.reader.total_bytes or 1)
            examples = round(self.examples / share) if 0 < share <= 1 else self.examples
        return Contents(
            format=name,
            options=options,
            kind=self.kind,
            examples=examples,
            labels=len(self.names if label_names is None else label_names),
            labels_each=1.0 if not several else self.labels_given / self.examples,
            complete=self.complete or known,
            named_labels=_have_words(self.names if label_names is None else label_names),
            unlabelled=self.without,
            warning=None if joined is None else joined.warning(self.reader.path, splits_cells),
            tokens=tokens,
            length=int(np.median(lengths)),
            long=int(np.quantile(lengths, 0.95)),
            image_shape=self.image_shape,
            unused=self._unused(options),
            findings=self.survey.findings(self.names),
        )

    def _unused(self, options: Mapping[str, Any]) -> list[str]:
        """Returns the columns that are not read."""
        used: set[str] = set()
        defaults = {"text_field": TEXT_FIELDS, "labels_field": LABELS_FIELDS, "id_field": ()}
        for key, usual in defaults.items():
            names = options.get(key) or usual
            used.update([names] if isinstance(names, str) else names)
        # A column of objects is read where something in it is, and the other way round.
        read = {path for name in used for path in _paths_to(name)}
        return [
            name
            for name in self.reader.column_names()
            if name not in read and used.isdisjoint(_paths_to(name))
        ]


def _have_words(names: Collection[Any]) -> bool:
    """Tells whether most names of labels have a word in them."""
    return sum(_WORD.search(str(name)) is not None for name in names) > len(names) / 2


def _paths_to(name: str) -> list[str]:
    """Returns a path to a value and those to the objects it is in."""
    return [name, *(name[: step.start()] for step in re.finditer(r"[.\[]", name))]


def _common_shape(images: Sequence[bytes] | np.ndarray) -> tuple[int, int, int] | None:
    """Returns the (height, width, channels) that most images are near, at most 96 on the shorter
    side.
    """
    from tfxc.data.images.decoding import own_shape

    shapes = [shape for shape in map(own_shape, images) if shape is not None]
    if not shapes:
        return None  # preparation names the damaged ones
    height, width = (int(np.median(sizes)) for sizes in list(zip(*shapes, strict=True))[:2])
    scale = min(1.0, _LARGEST_IMAGE / min(height, width))
    channels = max(shape[2] for shape in shapes)
    return round(scale * height), round(scale * width), channels
