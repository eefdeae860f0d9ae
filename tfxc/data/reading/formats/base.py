"""What every reader does: recognise its files, and cut them into chunks."""

import abc
import dataclasses
import functools
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from annotated_types import MinLen

from tfxc.core.declared import Count, Declared
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.messages import NOTES
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.core.storage.reading import existing_file
from tfxc.data.examples.chunk import Chunk, of_size
from tfxc.data.reading.parsing.column_guess import Columns, Wanted
from tfxc.data.reading.parsing.lines import Lines, bounded
from tfxc.data.reading.parsing.path_probe import PathProbe

# The signs that cp1252 has and Latin-1 has not, read as Latin-1; characters shown around one.
_CONTROLS = re.compile("[\x80-\x9f]")
_SHOWN = 12
#: Options ``text_field``, ``labels_field`` and ``label_separator`` of a format with columns.
TextField = str | Annotated[Sequence[str], MinLen(1)]
LabelsField = str | Annotated[Sequence[str], MinLen(1)]
LabelSeparator = Annotated[str, MinLen(1)]
#: Option ``split`` of the data sets that come with tfxc.
Split = Literal["train", "dev", "test"]
#: No options.
NONE_GIVEN: Mapping[str, Any] = types.MappingProxyType({})


class Table(NamedTuple):
    """All columns of a source, also those that hold neither texts nor labels.

    Attributes:
        columns: their names.
        rows: the values of each example, in the order of the examples.
        types: types of Arrow, one for each column; None where values are texts or those of JSON.
    """

    columns: Sequence[str]
    rows: Iterable[Sequence[Any]]
    types: Sequence[Any] | None = None


class Reader(Declared, abc.ABC):
    """A data file as a stream of chunks.

    A format is a file of this folder with one class derived from this one; the file's name is the
    format's. The class says how its files are recognised, the constructor's arguments after
    ``path`` are its options, which their annotations check. What options of the same name mean in
    several formats is said here.

    Attributes:
        suffixes: endings of the names of its files.
        compressed: whether its files may be compressed by gzip, xz, bzip2 or Zstandard.
        summary: one phrase on its files, for a message; empty = their endings.
        specificity: of readers that recognise the same thing, the one with the highest gets it.
        has_labels: whether its files have labels; others are only read to find their labels.
        label_options: options about labels, which do not apply where these are not read.
        path: the file or folder.
        num_labels: number of labels, or None if the format does not say.
        label_names: their names in the order of the format, or None if it only numbers them
            or does not say.
        num_features: number of features (columns), or None if there are none or it is unknown.
        num_examples: number of examples, or None if the format does not say.
        bytes_read: bytes of the file read so far by the latest ``chunks``, for a progress line.
        total_bytes: size of the file in bytes, or None for a folder.

    Args:
        path: the file or folder to read.
        labelled: if False, yields the examples without labels, which are optional.
        max_line_bytes: longest line of a text format; longer ones are refused.
        encoding: of its text, a name that Python knows, such as cp1252; a byte order mark at its
            beginning comes first. None = UTF-8, and messages do not name this option.
        text_field: column of the texts; None = ``text`` or ``sentence``. A list names several,
            whose texts are joined by line breaks, empty ones left out.
        labels_field: column of the labels; None = ``labels`` or ``label``. A list names columns of
            0 and 1, or of truth values, that are a label each.
        label_separator: what separates the labels within their cell, e.g. ``";"``; ``"[]"`` = the
            cell is a list such as ``['law', 'health']``; ``"{}"`` = it is one label or, as Label
            Studio writes several, ``{"choices": ["law", "health"]}``; None = it is one label.
        id_field: column of the examples' names, which answers can repeat; None = none.

    Raises:
        ConfigError: an option is not as its annotation says, Python knows no such ``encoding``, or
            ``labels_field`` names a column twice.
        DataError: there is nothing at ``path``.
    """

    suffixes: tuple[str, ...] = ()
    compressed: bool = False
    summary: str = ""
    specificity: int = 0
    has_labels: bool = True
    label_options: tuple[str, ...] = ()

    total_bytes: int | None = None
    num_labels: int | None = None
    label_names: list[str] | None = None
    num_features: int | None = None
    num_examples: int | None = None

    @classmethod
    def recognises(cls, probe: PathProbe) -> bool:
        """Tells whether what is at a path is of this format, as far as can be seen without reading
        it.

        A format that is also recognised by what is in a folder, an archive or the first line says
        so here; the default uses ``suffixes`` and ``compressed``.

        Args:
            probe: what is there.
        """
        return probe.suffix(cls.compressed) in cls.suffixes

    @classmethod
    def summary_of_files(cls) -> str:
        """Returns ``summary``, or the endings."""
        return cls.summary or ", ".join(cls.suffixes)

    @classmethod
    def splits_of(cls, path: Path) -> list[str]:
        """Returns the names of the splits at a path among which the option ``split`` chooses.

        Empty where there is nothing to choose, as by default.
        """
        return []

    @classmethod
    def options_of(
        cls,
        path: Path,
        wanted: Wanted,
        split: str | None = None,
        given: Mapping[str, Any] = NONE_GIVEN,
    ) -> dict[str, Any]:
        """Returns options by which a training file is read, found by looking at its beginning.

        Where a file can be read in several ways (columns, delimiters), a format finds the right
        one here; the default has none.

        Args:
            path: the file or folder.
            wanted: columns that the user names.
            split: the one to look at of ``splits_of``; None where there are none.
            given: options that the user has chosen, with which the file is looked at.

        Raises:
            ConfigError: columns are named, and the format has none.
            DataError: it cannot be found out.
        """
        if wanted != Wanted():
            raise ConfigError(
                f"files of this format ({cls.summary_of_files()}) have no columns",
                where="--text-column" if wanted.text is not None else "--label-column",
                fix="leave it out",
            )
        return {}

    def __init__(
        self,
        path: str | Path,
        max_line_bytes: Count = MAX_LINE_BYTES,
        encoding: str | None = None,
    ) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            existing_file(self.path)
        self.total_bytes = self.path.stat().st_size if self.path.is_file() else None
        self._lines = Lines(self.path, max_line_bytes, encoding=encoding)

    @property
    def bytes_read(self) -> int:
        return self._lines.bytes_read

    def chunks(self, size: int = 4096) -> Iterator[Chunk]:
        """Yields the examples in file order as ``Chunk``s of ``size`` examples, the last smaller.

        A chunk whose lines or files take 64 MB ends there. Every call starts at the beginning of
        the file. Of texts with control characters, which a wrong conversion leaves, one is printed.

        Raises:
            ConfigError: ``size`` is below 1.
            DataError: the file is malformed; the message names file and line.
        """
        if size < 1:
            raise ConfigError(f"the chunk size {size} is below 1", fix="give at least 1")
        return self._examined(self._read(size))

    def _examined(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Yields the chunks; says where texts of cp1252 seem to have been read as Latin-1."""
        first = 1
        said = False
        for chunk in chunks:
            texts = () if said or chunk.texts is None else chunk.texts
            for number, text in enumerate(texts, first):
                control = None if text.isascii() else _CONTROLS.search(text)
                if control is not None:
                    shown = text[max(0, control.start() - _SHOWN) : control.end() + _SHOWN]
                    warn_once(
                        f"{self.path}: example {number:,} has a control character in {shown!r}, "
                        "as text in cp1252 has that was converted as if it were Latin-1; it stays "
                        "as it is. Convert the original with iconv -f CP1252 -t UTF-8."
                    )
                    said = True
                    break
            first += len(chunk)
            yield chunk

    def ranges(self, folder: Path) -> Callable[[int, int], Chunk] | None:
        """Opens the source so that any of its examples can be read without those before them.

        Processes that share a folder each call it, the first of them before the others.

        Args:
            folder: where files that this takes are written, if they are not there yet.

        Returns:
            Function of the number of the first example and of the one after the last; None if the
            format, or this file, can only be read from its beginning.
        """
        return None

    def label_lists(self, size: int = 4096) -> Iterator[Sequence[list[Any]]]:
        """Yields the labels of the examples in file order, lists as in ``Chunk.labels``.

        A format in which labels are stored apart reads nothing else.
        """
        for chunk in self.chunks(size):
            yield chunk.labels

    def table(self) -> Table | None:
        """Returns all columns of the source, whose rows are read anew; None if a format has no
        columns.
        """
        return None

    def column_names(self) -> Sequence[str]:
        """Returns the names of the columns, as far as the first examples tell them."""
        table = self.table()
        return [] if table is None else table.columns

    @abc.abstractmethod
    def _read(self, size: int) -> Iterator[Chunk]:
        """Yields the chunks."""


class TextReader(Reader):
    """A reader of lines whose examples are texts; a subclass defines them one by one."""

    compressed = True

    @abc.abstractmethod
    def _examples(self) -> Iterator[tuple[str, list[Any]] | tuple[str, list[Any], str]]:
        """Yields ``(text, list of labels)``, or all of them with a name."""

    def _read(self, size: int) -> Iterator[Chunk]:
        examples = self._examples()
        for block in bounded(examples, size, lambda example: len(example[0])):
            texts, labels, *names = map(list, zip(*block, strict=True))
            yield Chunk(texts=texts, labels=labels, names=names[0] if names else None)


class EncodedImageReader(Reader):
    """A reader whose examples are image files with labels; a subclass defines them one by one."""

    @abc.abstractmethod
    def _examples(self) -> Iterator[tuple[str, bytes, list[Any]]]:
        """Yields ``(name for messages, bytes of the image file, list of labels)``."""

    def _read(self, size: int) -> Iterator[Chunk]:
        examples = self._examples()
        for block in bounded(examples, size, lambda example: len(example[1])):
            names, images, labels = zip(*block, strict=True)
            yield Chunk(labels=list(labels), images=list(images), names=list(names))


class PixelReader(Reader):
    """A reader whose examples are pixels; a subclass defines blocks of any number of them."""

    @abc.abstractmethod
    def _blocks(self, size: int) -> Iterator[Chunk]:
        """Yields ``Chunk``s with uint8 ``images`` (n, height, width, channels) and ``names``.

        Args:
            size: number of examples that is requested.
        """

    def _read(self, size: int) -> Iterator[Chunk]:
        for chunk in of_size(self._blocks(size), size):
            # Blocks may be views with the channels first.
            yield dataclasses.replace(chunk, images=np.ascontiguousarray(chunk.images))


@functools.lru_cache(maxsize=64)
def warn_once(message: str) -> None:
    """Warns with a message, however often the same file is opened and read.

    Example:
        >>> warn_once("a.csv: example 3 has a control character")     # doctest: +SKIP
    """
    NOTES.warning(message)


def column_options(columns: Columns) -> dict[str, Any]:
    """Returns the options that say where texts and labels are, of a format with columns.

    Example:
        >>> column_options(Columns("body", "tags", ";"))
        {'text_field': 'body', 'labels_field': 'tags', 'label_separator': ';'}
    """
    options = {"text_field": columns.text, "labels_field": columns.labels}
    return options | ({"label_separator": columns.separator} if columns.separator else {})


def split_error(folder: Path, splits: Sequence[str], split: str | None) -> DataError:
    """Returns the error of a folder of several splits of which none is chosen, or one that is not
    there.

    Args:
        folder: where they are.
        splits: their names.
        split: the one that the user names, or None.

    Example:
        >>> print(split_error(Path("set"), ["train", "test"], "dev"))
        set: there is no split 'dev', only train, test. Choose one with the reader's option split.
    """
    names = ", ".join(splits)
    problem = f"the folder holds several splits: {names}"
    if split is not None:
        problem = f"there is no split {split!r}, only {names or 'nothing'}"
    return DataError(problem, where=folder, fix="choose one with the reader's option split")
