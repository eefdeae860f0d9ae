"""Examples without labels: files, images, pipes and typed lines that are to be labelled."""

import importlib
import inspect
import json
import os
from pathlib import Path

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.registry import nearest
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.data.chunk import Chunk
from tfxc.data.formats import FORMATS, detect_format, open_reader
from tfxc.data.formats.base import TextReader, check_unicode
from tfxc.data.formats.image_folder import EXTENSIONS
from tfxc.data.formats.lines import Lines, line_too_long
from tfxc.data.formats.matrix_file import MatrixFile, is_matrix_file
from tfxc.data.formats.xc_repository import parse_header
from tfxc.data.kinds import IMAGE, INPUTS, TEXT

_READ_BYTES = 1 << 20
_COMPRESSED = (".gz", ".xz")
# Options about the labels of the training file, which say nothing about images without labels.
_OF_LABELS = ("classes", "class_names", "catalog", "key_column", "label_column")


def open_unlabelled(path, takes, reader=None, options=None, defaults=None):
    """Opens a file of examples whose labels, if it has any, do not matter.

    Args:
        path: any file ``tfxc.data.formats.open_reader`` reads; for texts also plain text, one text
            a line (``.txt`` without the header of the Extreme Classification Repository), and
            JSON lines without labels; for images also one image file, and a folder with images at
            any depth, which are taken in the order of their paths; for features also a matrix alone
            (``tfxc.data.formats.matrix_file.MatrixFile``). A PECOS folder needs no ``Y``.
        takes: what the model takes, a name in ``tfxc.data.kinds.INPUTS``.
        reader: the format's name, ``"lines"`` for plain text; None recognises it.
        options: the reader's options.
        defaults: options that are used where the reader has such ones.

    Returns:
        An object with ``path`` and ``chunks(size)``.

    Raises:
        ConfigError: an unknown format or option.
        DataError: no such file, or its format cannot be told.
    """
    options = dict(options or {})
    if str(path).startswith("builtin:"):
        return open_reader(path, **options)
    if takes == TEXT.name and reader is None and _is_plain_text(Path(path)):
        reader = "lines"
    if takes == IMAGE.name and reader is None:
        if Path(path).is_file() and Path(path).suffix.lower() in EXTENSIONS:
            return OneImage(path)
        reader = "image_folder" if _holds_no_archive(path) else None
    if reader is None and is_matrix_file(path):
        reader_class = MatrixFile
    else:
        reader_class = _reader_class(reader or detect_format(path), takes, path)
    known = [name for name in inspect.signature(reader_class).parameters if name != "path"]
    for option in options:
        if option not in known:
            raise ConfigError(
                f"unknown option {option!r} of {reader_class.__name__}{nearest(option, known)}",
                where=path,
                fix=f"choose of: {', '.join(known)}" if known else "it has no options",
            )
    usable = {key: value for key, value in (defaults or {}).items() if key in known}
    if "labelled" in known:
        usable = {key: value for key, value in usable.items() if key not in _OF_LABELS}
        usable["labelled"] = False
    return reader_class(path, **{**usable, **options})


def open_like(path, data, takes, reader=None, options=None):
    """Opens a file of unlabelled examples in the format of a training file, where it looks alike.

    Args:
        path, takes, reader, options: as of ``open_unlabelled``.
        data: section ``data`` of the config; its reader counts where ``path`` ends as its training
            file does, its options where the format has such ones.
    """
    alike = Path(path).suffixes == Path(data.train).suffixes
    reader = reader or (data.reader if alike else None)
    defaults = {**data.reader_options, "max_line_bytes": data.max_line_bytes}
    return open_unlabelled(path, takes, reader, options, defaults)


class OneImage:
    """A single image file.

    Args:
        path: the file.
    """

    def __init__(self, path):
        self.path = Path(path)

    def chunks(self, size):
        """Yields the image as a chunk of one."""
        yield chunk_of_lines([str(self.path)], IMAGE.name)


class PlainTexts(TextReader):
    """One text a line, UTF-8. An empty line is an empty text: answers keep the lines' numbers.

    Args:
        path: the file.
        max_line_bytes: longest line.
    """

    def __init__(self, path, *, max_line_bytes=MAX_LINE_BYTES):
        super().__init__(path, max_line_bytes)

    def _examples(self):
        for _, line in self._lines.texts():
            yield line, []


class JSONTexts(TextReader):
    """JSON lines of which only the text is read.

    Args:
        path: ``.jsonl``, ``.jsonl.gz`` or ``.jsonl.xz`` file.
        text_field: key of the text.
        max_line_bytes: longest line.
    """

    def __init__(self, path, *, text_field="text", max_line_bytes=MAX_LINE_BYTES):
        super().__init__(path, max_line_bytes)
        self.text_field = text_field

    def _examples(self):
        for number, line in self._lines.texts():
            if line.strip():
                yield self._text(line, f"{self.path}:{number}"), []

    def _text(self, line, where):
        try:
            example = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"a JSON object is expected: {error}", where=where) from None
        text = example.get(self.text_field) if isinstance(example, dict) else None
        if not isinstance(text, str):
            raise DataError(
                f"an object with a string under {self.text_field!r} is expected, found "
                f"{line[:60]!r}",
                where=where,
                fix="name the right key with --reader-option text_field=KEY",
            )
        check_unicode(text, "a text", where)
        return text


def available_lines(descriptor):
    """Yields ``(number of the first line, list of lines)`` as bytes as soon as any are there.

    Whatever a pipe holds is taken at once, so that a slow writer is answered line by line and a
    fast one in blocks.

    Args:
        descriptor: file descriptor to read from.

    Raises:
        DataError: a line is longer than 16 MB.
    """
    first, rest = 1, b""
    while block := os.read(descriptor, _READ_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            raise line_too_long(f"standard input:{first + len(lines)}", MAX_LINE_BYTES)
        if lines:
            yield first, [line.removesuffix(b"\r") for line in lines]
            first += len(lines)
    if rest:
        yield first, [rest.removesuffix(b"\r")]


def chunks_of_pipe(descriptor, takes, num_features, size):
    """Yields what comes as lines as chunks of at most ``size`` examples, at once.

    Args:
        descriptor: file descriptor to read from.
        takes, num_features: as of ``chunk_of_lines``.
        size: most examples in a chunk.

    Raises:
        DataError: as ``chunk_of_lines``.
    """
    for first, lines in available_lines(descriptor):
        for start in range(0, len(lines), size):
            block = lines[start : start + size]
            yield chunk_of_lines(block, takes, num_features, first=first + start)


def chunk_of_lines(lines, takes, num_features=None, where="standard input", first=1):
    """Lines as a ``Chunk`` of examples.

    Args:
        lines: list of bytes or texts: a text each, ``id:value id:value ...`` for sparse features,
            numbers separated by blanks or commas for dense ones, the path of a file for images.
        takes: a name in ``tfxc.data.kinds.INPUTS``.
        num_features: width of the features; None takes what the sparse lines need.
        where, first: name of the source and number of the first line, for messages.

    Raises:
        DataError: a line is not UTF-8 or not of that form, or there is no such image file.

    Example:
        >>> chunk_of_lines(["0:1 2:0.5"], "sparse", 3).features.toarray().tolist()
        [[1.0, 0.0, 0.5]]
    """
    places = [f"{where}:{number}" for number in range(first, first + len(lines))]
    texts = [_decoded(line, place) for line, place in zip(lines, places, strict=True)]
    return Chunk([[] for _ in texts], **INPUTS[takes].typed(texts, places, num_features))


def _decoded(line, where):
    try:
        text = line.decode("utf-8") if isinstance(line, bytes) else line
        text.encode("utf-8")
    except UnicodeError as error:
        raise DataError(f"UTF-8 text is expected ({error})", where=where) from None
    return text


def _reader_class(name, takes, path):
    texts = {"lines": PlainTexts, "jsonl": JSONTexts} if takes == TEXT.name else {}
    if name in texts:
        return texts[name]
    if name not in FORMATS:
        known = [*FORMATS, *(["lines"] if texts else [])]
        raise ConfigError(
            f"unknown data format {name!r}{nearest(name, known)}",
            where=path,
            fix=f"choose one of: {', '.join(known)}",
        )
    return importlib.import_module(f"tfxc.data.formats.{name}").READER


def _holds_no_archive(path):
    """Whether a path is a folder that is no other format than images at some depth."""
    return Path(path).is_dir() and detect_format(path) in ("image_folder", "pecos")


def _is_plain_text(path):
    suffix = Path(path.stem).suffix if path.suffix in _COMPRESSED else path.suffix
    return suffix == ".txt" and path.is_file() and parse_header(Lines(path).first()) is None
