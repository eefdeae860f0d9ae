"""Readers: one file per data format, each a stream of ``tfxc.data.examples.chunk.Chunk``.

The file's name is the format's name in configs. What a reader stands for, and how its files are
recognised, is written on its class (``tfxc.data.reading.formats.base.Reader``). A reader outside of
tfxc is named ``"module:Class"``.
"""

import contextlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tfxc.core import declared, registry
from tfxc.core.errors import ConfigError, DataError, inside
from tfxc.core.settings import MAX_LINE_BYTES, DataSettings
from tfxc.core.storage.compression import decompressed, ending_of
from tfxc.core.storage.reading import existing_file
from tfxc.core.storage.remote import is_remote, stage
from tfxc.data.reading.formats.base import Reader, warn_once
from tfxc.data.reading.parsing.encodings import detected_encoding
from tfxc.data.reading.parsing.lines import UTF_8
from tfxc.data.reading.parsing.path_probe import PathProbe
from tfxc.data.reading.source_files import BUILTIN, is_builtin, options_of_file

__all__ = [
    "OPTIONS",
    "check_options",
    "detect_format",
    "encoding_of",
    "named_by_split",
    "open_like",
    "open_reader",
    "open_unlabelled",
]

_KIND = "reader"
#: The config's section of a reader's options, for messages.
OPTIONS = "data.reader_options"
#: The formats that a file of an ending can have; to recognise it, no other reader is imported.
FORMATS_OF_ENDINGS = {
    ".csv": ("delimited",),
    ".tsv": ("delimited",),
    ".jsonl": ("jsonl",),
    ".ndjson": ("jsonl",),
    ".json": ("jsonl",),
    ".xlsx": ("workbook",),
    ".txt": ("delimited", "fasttext_lines", "libmultilabel", "lines", "svmlight", "xc_repository"),
}
#: The package of the data sets that come with tfxc.
BUILTIN_PACKAGE = "tfxc.data.reading.builtin"


def open_reader(
    path: str | Path,
    name: str | None = None,
    longest_line: int = MAX_LINE_BYTES,
    /,
    **options: Any,
) -> Reader:
    """Opens a data file, a data folder or a built-in data set.

    Args:
        path: the file or folder, also the address of a remote one (see
            ``tfxc.core.storage.remote.stage``), or ``"builtin:NAME"`` for a data set that comes
            with the package.
        name: a format's name, or ``"module:Class"`` of a ``Reader`` outside of tfxc; None =
            by the file itself (see ``detect_format``).
        longest_line: ``max_line_bytes`` of a reader that has this option and is not given it.
        **options: the reader's own options.

    Returns:
        A ``Reader``.

    Raises:
        ConfigError: an unknown format, an unknown option or one that the reader refuses, a format
            without labels, or ``longest_line`` for a format without lines.
        DataError: the file is missing, or its name does not show its format.

    Example:
        >>> reader = open_reader("train.jsonl.xz", labels_field="tags")   # doctest: +SKIP
        >>> for chunk in reader.chunks(1000):                             # doctest: +SKIP
        ...     print(len(chunk), chunk.texts[0], chunk.labels[0])
    """
    path = _local(path)
    if is_builtin(path):
        builtin = str(path).removeprefix(BUILTIN)
        modules = registry.modules(BUILTIN_PACKAGE, _KIND)
        if builtin not in modules:
            raise ConfigError(
                f"unknown built-in data set {builtin!r}{registry.nearest(builtin, modules)}",
                fix=f"choose one of: {', '.join(sorted(modules))}",
            )
        reader_class = registry.class_in(modules[builtin], Reader)
        name = str(path)
        arguments: list[str | Path] = []
    else:
        name = name or detect_format(path)
        reader_class = registry.get(_KIND, name)
        if not reader_class.has_labels:
            raise ConfigError(
                f"files of format {name!r} have no labels",
                where=path,
                fix=f"choose one of: {', '.join(_readers(None, registry.names(_KIND)))}",
            )
        arguments = [path]
    if "max_line_bytes" in declared.arguments_of(reader_class):
        options.setdefault("max_line_bytes", longest_line)
    elif longest_line != MAX_LINE_BYTES:
        raise ConfigError(
            f"does not apply to {reader_class.__name__}, which reads no lines",
            where="data.max_line_bytes",
            fix="remove it",
        )
    check_options(reader_class, options, name)
    with inside(OPTIONS, options):
        return reader_class(*arguments, **options)


def open_unlabelled(
    path: str | Path,
    input_kind: str,
    reader: str | None = None,
    options: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Reader:
    """Opens a file of examples whose labels, if it has any, do not matter.

    Args:
        path: any file ``open_reader`` reads, and those of readers without labels
            (``Reader.has_labels``): plain text, an image file, a matrix alone. A folder of images
            may have them at any depth; they are taken in the order of their paths. Where a reader
            has the option ``labelled``, the file needs no labels.
        input_kind: what the model reads, a name in ``tfxc.data.examples.kinds.INPUTS``.
        reader: the format's name, see ``open_reader``; None recognises it.
        options: the reader's options.
        defaults: options that are used where the reader has such ones.

    Raises:
        ConfigError: an unknown format, an unknown option or one that the reader refuses.
        DataError: no such file, or its format cannot be recognised.

    Example:
        >>> open_unlabelled("questions.txt", "text").path     # doctest: +SKIP
        PosixPath('questions.txt')
    """
    options = dict(options or {})
    path = _local(path)
    if is_builtin(path):
        return open_reader(path, **options)
    name = reader or detect_format(path, input_kind)
    reader_class = registry.get(_KIND, name)
    known = declared.arguments_of(reader_class).keys()
    excluded = reader_class.label_options if "labelled" in known else ()
    check_options(reader_class, options, name, excluded)
    usable = known - {"path", *excluded}
    usual = {key: value for key, value in (defaults or {}).items() if key in usable}
    if "encoding" in usable and "encoding" not in options and os.path.isfile(path):
        usual["encoding"] = encoding_of(path, reader_class, {}, usual.get("encoding")) or UTF_8
    options = usual | options
    if "labelled" in known:
        options.setdefault("labelled", False)
    with inside(OPTIONS, options):
        return reader_class(path, **options)


def open_like(
    path: str | Path,
    data: DataSettings,
    input_kind: str,
    reader: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Reader:
    """Opens a file of unlabelled examples in a training file's format, where it looks the same.

    Args:
        path, input_kind, reader, options: see ``open_unlabelled``.
        data: section ``data`` of the config; its reader counts where ``path`` ends as its training
            file does, its options where the format has such ones.
    """
    alike = ending_of(path) == ending_of(data.train)
    reader = reader or (data.reader if alike else None)
    defaults = {**options_of_file(data, path), "max_line_bytes": data.max_line_bytes}
    return open_unlabelled(path, input_kind, reader, options, defaults)


def detect_format(path: str | Path, input_kind: str | None = None) -> str:
    """Returns the name of the format of ``path``: the readers are asked whether it is theirs.

    Args:
        path: a file, a folder or a pattern of tar shards.
        input_kind: see ``open_unlabelled``; None = the labels are needed.

    Raises:
        DataError: the file is missing or of no readable shape.

    Example:
        >>> detect_format("train.csv.gz")     # doctest: +SKIP
        'delimited'
    """
    probe = PathProbe(path, input_kind)
    if not (probe.is_pattern or probe.is_folder):
        existing_file(path)
    few = FORMATS_OF_ENDINGS.get(probe.suffix(compressed=True), ())
    for names in (few, registry.names(_KIND)):
        readers = _readers(input_kind, names)
        for name, reader in sorted(readers.items(), key=lambda item: -item[1].specificity):
            if reader.recognises(probe):
                return name
    if probe.is_file:
        with open(path, "rb") as raw, decompressed(raw, path):
            pass  # what cannot be unpacked here is refused, whatever is in it
    raise _unknown(probe, readers)


def encoding_of(
    path: str | Path,
    reader_class: type[Reader],
    given: Mapping[str, Any],
    usual: str | None = None,
) -> str | None:
    """Returns the encoding of a file that is in another than UTF-8, and says so in a line.

    Args:
        path: the file; of anything else there is none.
        reader_class: the class of the reader.
        given: options that the user has chosen; with ``encoding`` among them nothing is looked at.
        usual: encoding that counts where it can read the text, without a word.

    Returns:
        Its name; None where there is nothing to say to the reader.

    Example:
        >>> encoding_of("windows.csv", registry.get("reader", "delimited"), {})    # doctest: +SKIP
        'cp1252'
    """
    has_option = "encoding" in declared.arguments_of(reader_class)
    if not has_option or "encoding" in given or not os.path.isfile(path):
        return None
    found = detected_encoding(path, usual)
    if found is None:
        return None
    name, shown = found
    if name != usual:
        warn_once(
            f"{path}: the text is read as {name}, e.g. {shown!r}. If that is not right, name its "
            "encoding with --encoding (predict and others: --reader-option encoding=NAME)."
        )
    return name


def _unknown(probe: PathProbe, readers: Mapping[str, type[Reader]]) -> DataError:
    """Returns the error of what no reader recognises."""
    formats = ", ".join(readers)
    fix = f"rename it or give its format by name: {formats}"
    if probe.is_folder:
        names = sorted(probe.files)
        problem = f"the folder is of no known format; its files are {', '.join(names[:5])}"
        fix = "name one of its files"
        if not names:
            problem = "the folder has no files"
            fix = "check the folder"
    elif any(probe.suffix(reader.compressed) in reader.suffixes for reader in readers.values()):
        # Formats that share an ending differ in their first lines.
        line = (probe.first_line or b"")[:60].decode("utf-8", "replace")
        problem = f"the first line, {line!r}, is of no known format"
        fix = f"rename it, e.g. a table to .csv, or give its format by name: {formats}"
        ending = probe.suffix(compressed=True)
        readers = {
            n: reader for n, reader in readers.items() if ending in reader.summary_of_files()
        }
    elif probe.path.suffix:
        problem = f"the ending {probe.path.suffix} is of no known format"
    else:
        problem = "the name has no ending that shows the format"
    summaries = "; ".join(reader.summary_of_files() for reader in readers.values())
    return DataError(
        f"{problem}; supported are {summaries}; text files may be compressed "
        "(.gz, .xz, .bz2, .zst)",
        where=probe.path,
        fix=fix,
    )


@contextlib.contextmanager
def named_by_split(split: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Context manager: an error about an option of one split names it as the config does.

    Args:
        split: ``"train"``, ``"dev"`` or ``"test"``.
        options: those that ``data.split_options`` has for it.

    Example:
        >>> with named_by_split("dev", {"quotes": 1}):
        ...     raise ConfigError("must be true or false, not 1", where=f"{OPTIONS}.quotes")
        Traceback (most recent call last):
            ...
        tfxc.core.errors.ConfigError: data.split_options.dev.quotes: must be true or false, not 1
    """
    try:
        yield
    except ConfigError as error:
        key = str(error.where).removeprefix(f"{OPTIONS}.")
        if key == str(error.where) or re.split(r"[.\[]", key)[0] not in options:
            raise
        where = f"data.split_options.{split}.{key}"
        raise ConfigError(error.problem, where=where, fix=error.fix) from error


def _local(path: str | Path) -> str | Path:
    """Returns the path, or that of the copy of a remote file."""
    return stage(str(path)) if is_remote(path) else path


def _readers(input_kind: str | None, names: Iterable[str]) -> dict[str, type[Reader]]:
    """Those of the readers that come into question, by name."""
    readers = {name: registry.get(_KIND, name) for name in names}
    return {name: reader for name, reader in readers.items() if input_kind or reader.has_labels}


def check_options(
    reader_class: type[Reader],
    options: Mapping[str, Any],
    name: str,
    excluded: Collection[str] = (),
) -> None:
    """Refuses options that a reader has not, and values that are not as it declares.

    Args:
        reader_class: the class of the reader.
        options: its options.
        name: of the reader, for messages.
        excluded: options that do not apply.

    Raises:
        ConfigError: naming the option.
    """
    what = f"reader {name!r}"
    declared.check_section(reader_class, options, OPTIONS, what, excluded=("path", *excluded))
