"""Readers: one file per data format, each a stream of ``tfxc.data.chunk.Chunk``."""

import importlib
import inspect
from pathlib import Path

from tfxc.data.formats.base import Reader, TextReader
from tfxc.data.formats.lines import Lines
from tfxc.errors import ConfigError, DataError
from tfxc.registry import nearest

__all__ = ["FORMATS", "Reader", "TextReader", "detect_format", "open_reader"]

#: Names of the formats; the name is also the module's.
FORMATS = ("xc_repository", "svmlight", "jsonl", "delimited", "pecos", "matrix")

_BUILTIN = "builtin:"
_COMPRESSED = {".gz", ".xz"}
_BY_SUFFIX = {
    ".jsonl": "jsonl",
    ".csv": "delimited",
    ".tsv": "delimited",
    ".svm": "svmlight",
    ".svmlight": "svmlight",
    ".libsvm": "svmlight",
}
_READABLE = (
    ".jsonl, .csv, .tsv, .svm, .svmlight, .libsvm and .txt with the header of the Extreme "
    "Classification Repository, each also as .gz or .xz; .npz; a PECOS folder; builtin:apidocs"
)


def open_reader(path, name=None, **options):
    """Opens a data file, a data folder or a built-in data set.

    Args:
        path: the file or folder, or ``"builtin:NAME"`` for a data set that comes with the package.
        name: a name of ``FORMATS``; None = decided by the file's shape (see ``detect_format``).
        **options: the reader's own options.

    Returns:
        A ``Reader``.

    Raises:
        ConfigError: an unknown format or option.
        DataError: the file is missing, or its format cannot be told from its name.

    Example:
        >>> reader = open_reader("train.jsonl.xz", labels_field="tags")   # doctest: +SKIP
        >>> for chunk in reader.chunks(1000):                             # doctest: +SKIP
        ...     print(len(chunk), chunk.texts[0], chunk.labels[0])
    """
    if str(path).startswith(_BUILTIN):
        reader_class, arguments = _builtin(str(path).removeprefix(_BUILTIN)), ()
    else:
        name = detect_format(path) if name is None else name
        if name not in FORMATS:
            raise ConfigError(
                f"unknown data format {name!r}{nearest(name, FORMATS)}",
                fix=f"choose one of: {', '.join(FORMATS)}",
            )
        module = importlib.import_module(f"{__name__}.{name}")
        reader_class, arguments = module.READER, (path,)
    _check_options(reader_class, options, path)
    return reader_class(*arguments, **options)


def detect_format(path):
    """The name of the format of ``path`` by its ending, or for ``.txt`` by its first line.

    Raises:
        DataError: the file is missing or of no readable shape.
    """
    path = Path(path)
    if not path.exists():
        raise DataError("no such file", where=path, fix="check the path")
    if path.is_dir():
        return "pecos"
    if path.suffix == ".npz":
        return "matrix"
    suffix = Path(path.stem).suffix if path.suffix in _COMPRESSED else path.suffix
    if suffix == ".txt":
        return _detect_text(path)
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    raise DataError(
        f"cannot tell the format from the name; readable are {_READABLE}",
        where=path,
        fix=f"rename it or give its format by name: {', '.join(FORMATS)}",
    )


def _detect_text(path):
    from tfxc.data.formats.xc_repository import parse_header

    if parse_header(Lines(path).first()) is not None:
        return "xc_repository"
    raise DataError(
        "a .txt file is expected to open with 'num_points num_features num_labels' (Extreme "
        "Classification Repository)",
        where=f"{path}:1",
        fix=f"add the header or give the format by name: {', '.join(FORMATS)}",
    )


def _builtin(name):
    folder = Path(__file__).parent.parent / "builtin"
    known = sorted(file.stem for file in folder.glob("[a-z]*.py"))
    if name not in known:
        raise ConfigError(
            f"unknown built-in data set {name!r}{nearest(name, known)}",
            fix=f"choose one of: {', '.join(known)}",
        )
    return importlib.import_module(f"tfxc.data.builtin.{name}").READER


def _check_options(reader_class, options, path):
    known = [name for name in inspect.signature(reader_class).parameters if name != "path"]
    for option in options:
        if option not in known:
            raise ConfigError(
                f"unknown option {option!r} of {reader_class.__name__}{nearest(option, known)}",
                where=path,
                fix=f"choose of: {', '.join(known)}" if known else "it has no options",
            )
