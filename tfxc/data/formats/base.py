"""What every reader does: find its file, cut it into chunks, refuse impossible label names."""

import abc
from pathlib import Path

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.files import existing_file
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.data.chunk import Chunk
from tfxc.data.formats.lines import BLOCK_BYTES, Lines


class Reader(abc.ABC):
    """A data file as a stream of chunks.

    Attributes:
        path: the file or folder.
        num_labels: number of labels, or None where the format does not say.
        label_names: their names in the order of the format, or None where it only numbers them
            or does not say.
        num_features: number of features (columns), or None where there are none or it is unknown.
        num_examples: number of examples, or None where the format does not say.
        bytes_read: bytes of the file read so far by the latest ``chunks``, for a progress line.
        total_bytes: size of the file in bytes, or None for a folder.

    Args:
        path: the file or folder to read.
        max_line_bytes: longest line of a text format; longer ones are refused.

    Raises:
        ConfigError: ``max_line_bytes`` is no whole number from 1 on.
        DataError: there is nothing at ``path``.
    """

    num_labels = None
    label_names = None
    num_features = None
    num_examples = None

    def __init__(self, path, max_line_bytes=MAX_LINE_BYTES):
        self.path = Path(path)
        if type(max_line_bytes) is not int or max_line_bytes < 1:
            raise ConfigError(
                f"a whole number from 1 on is expected, found {max_line_bytes!r}",
                where="max_line_bytes",
            )
        if not self.path.is_dir():
            existing_file(self.path)
        self.total_bytes = self.path.stat().st_size if self.path.is_file() else None
        self._lines = Lines(self.path, max_line_bytes)

    @property
    def bytes_read(self):
        return self._lines.bytes_read

    def chunks(self, size=4096):
        """Yields the examples in file order as ``Chunk``s of ``size`` examples, the last smaller.

        A chunk whose lines or files take 64 MB ends there. Every call starts at the beginning of
        the file.

        Raises:
            ConfigError: ``size`` is below 1.
            DataError: the file is malformed; the message names file and line.
        """
        if size < 1:
            raise ConfigError(f"a chunk size of at least 1 is expected, found {size}")
        return self._read(size)

    def label_lists(self, size=4096):
        """Yields the labels of the examples in file order, lists as in ``Chunk.labels``.

        A format in which labels stand apart reads nothing else.
        """
        for chunk in self.chunks(size):
            yield chunk.labels

    @abc.abstractmethod
    def _read(self, size):
        """Yields the chunks."""


class TextReader(Reader):
    """A reader whose examples are texts with labels; a subclass gives them one by one."""

    @abc.abstractmethod
    def _examples(self):
        """Yields ``(text, list of labels)``."""

    def _read(self, size):
        examples = self._examples()
        for block in bounded(examples, size, lambda example: len(example[0])):
            yield Chunk(
                texts=[text for text, _ in block],
                labels=[labels for _, labels in block],
            )


def bounded(items, size, bytes_of):
    """Yields lists of ``size`` items, the last shorter; a list that holds 64 MB ends there.

    Args:
        bytes_of: function of an item, about how many bytes it takes.

    Example:
        >>> list(bounded("abcde", 2, len))
        [['a', 'b'], ['c', 'd'], ['e']]
    """
    block, held = [], 0
    for item in items:
        block.append(item)
        held += bytes_of(item)
        if len(block) == size or held >= BLOCK_BYTES:
            yield block
            block, held = [], 0
    if block:
        yield block


def check_label_name(name, where):
    """Refuses a label name that could not be written as one line of a vocabulary file.

    Raises:
        DataError: ``name`` is empty, holds a line break or is no valid Unicode.
    """
    if not name or "\n" in name or "\r" in name:
        raise DataError(
            f"a label name of one non-empty line is expected, found {name!r}",
            where=where,
            fix="rename the label",
        )
    check_unicode(name, "a label name", where)


def check_labels(labels, kind, where):
    """Refuses labels of another type than ``kind``, impossible names and ids out of range.

    Raises:
        DataError: naming the label.
    """
    for label in labels:
        if type(label) is not kind:
            raise DataError(
                f"label {label!r} is no {kind.__name__} as the labels before it are",
                where=where,
                fix="use names or ids throughout",
            )
        if kind is str:
            check_label_name(label, where)
        elif not 0 <= label < 2**31:
            raise DataError(
                f"a label id of 0 to {2**31 - 1:,} is expected, found {label}",
                where=where,
                fix="correct the label",
            )


def check_label_names(names, where):
    """Refuses a list in which a name is impossible or occurs twice.

    Raises:
        DataError: naming the place in the list, counted from 0.
    """
    places = {}
    for place, name in enumerate(names):
        check_label_name(name, f"{where}[{place}]")
        if places.setdefault(name, place) != place:
            raise DataError(
                f"label name {name!r} occurs twice, as {places[name]} and {place}",
                where=where,
                fix="rename one of the two",
            )


def check_unicode(text, what, where):
    """Refuses half a surrogate pair, which JSON can write and UTF-8 cannot.

    Raises:
        DataError: ``text`` cannot be encoded.
    """
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{what} of valid Unicode is expected, found the lone surrogate "
            f"{text[error.start]!r} at character {error.start + 1}",
            where=where,
            fix="write the character as a pair of surrogates or in UTF-8",
        ) from None
