"""Readers: one file per data format, each a stream of ``tfxc.data.chunk.Chunk``."""

import contextlib
import importlib
import inspect
from pathlib import Path

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.files import existing_file
from tfxc.core.registry import nearest
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.data.feature_sets.feature_set import is_feature_set
from tfxc.data.formats import cifar, image_folder
from tfxc.data.formats.archives import is_shard_pattern, is_tar, tar_members
from tfxc.data.formats.arrays import array_names
from tfxc.data.formats.base import Reader, TextReader
from tfxc.data.formats.lines import Lines

__all__ = ["FORMATS", "Reader", "TextReader", "detect_format", "open_reader"]

#: Names of the formats; the name is also the module's.
FORMATS = (
    "xc_repository", "svmlight", "jsonl", "delimited", "pecos", "matrix",
    "image_folder", "cifar", "image_arrays", "insightface", "webdataset",
    "feature_set",
)  # fmt: skip

_BUILTIN = "builtin:"
_COMPRESSED = {".gz", ".xz"}
_BY_SUFFIX = {
    ".jsonl": "jsonl",
    ".csv": "delimited",
    ".tsv": "delimited",
    ".svm": "svmlight",
    ".svmlight": "svmlight",
    ".libsvm": "svmlight",
    ".rec": "insightface",
}
_IMAGE_ARRAYS = {"images", "images_packed"}
_READABLE = (
    ".jsonl, .csv, .tsv, .svm, .svmlight, .libsvm and .txt with the header of the Extreme "
    "Classification Repository, each also as .gz or .xz; .npz; a PECOS folder; builtin:apidocs, "
    "builtin:glyphs; of images a folder per class, CIFAR's archives, .rec, and .tar or .tar.gz "
    "shards"
)


def open_reader(path, name=None, *, longest_line=MAX_LINE_BYTES, **options):
    """Opens a data file, a data folder or a built-in data set.

    Args:
        path: the file or folder, or ``"builtin:NAME"`` for a data set that comes with the package.
        name: a name of ``FORMATS``; None = decided by the file's shape (see ``detect_format``).
        longest_line: ``max_line_bytes`` of a reader that has this option and is not given it.
        **options: the reader's own options.

    Returns:
        A ``Reader``.

    Raises:
        ConfigError: an unknown format or option, or ``longest_line`` for a format without lines.
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
    known = inspect.signature(reader_class).parameters
    if "max_line_bytes" in known:
        options.setdefault("max_line_bytes", longest_line)
    elif longest_line != MAX_LINE_BYTES:
        raise ConfigError(
            f"means nothing to {reader_class.__name__}, which reads no lines",
            where="data.max_line_bytes",
            fix="remove it",
        )
    _check_options(reader_class, options, path)
    return reader_class(*arguments, **options)


def detect_format(path):
    """The name of the format of ``path``.

    It is told by the name's ending; for ``.txt`` by the first line, for ``.npz`` by the names of
    the arrays, for tar archives by the first member, for a folder by the files in it.

    Raises:
        DataError: the file is missing or of no readable shape.
    """
    if is_shard_pattern(path):
        return "webdataset"
    path = Path(path)
    if path.is_dir():
        return _detect_folder(path)
    existing_file(path)
    if path.suffix == ".npz":
        return _detect_arrays(path)
    if is_tar(path.name):
        return _detect_archive(path)
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


def _detect_folder(path):
    if is_feature_set(path):
        return "feature_set"
    entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    files = {entry.name for entry in entries if entry.is_file()}
    endings = {Path(name).suffix.lower() for name in files}
    if not files.isdisjoint(cifar.MARKERS):
        return "cifar"
    if ".rec" in endings:
        return "insightface"
    if any(map(is_tar, files)):
        return "webdataset"
    if any(name.startswith("Y.") for name in files):
        return "pecos"
    of_images = len(files) < len(entries) or not endings.isdisjoint(image_folder.EXTENSIONS)
    return "image_folder" if of_images else "pecos"


def _detect_arrays(path):
    try:
        names = array_names(path)
    except DataError:
        return "matrix"  # which says what is wrong with it
    return "matrix" if _IMAGE_ARRAYS.isdisjoint(names) else "image_arrays"


def _detect_archive(path):
    with contextlib.closing(tar_members(path)) as members:
        first = next((member.name for member, _ in members), "")
    return "webdataset" if set(Path(first).parts).isdisjoint(cifar.FOLDERS) else "cifar"


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
    known = sorted(file.parent.name for file in folder.glob("*/reader.py"))
    if name not in known:
        raise ConfigError(
            f"unknown built-in data set {name!r}{nearest(name, known)}",
            fix=f"choose one of: {', '.join(known)}",
        )
    return importlib.import_module(f"tfxc.data.builtin.{name}.reader").READER


def _check_options(reader_class, options, path):
    known = [name for name in inspect.signature(reader_class).parameters if name != "path"]
    for option in options:
        if option not in known:
            raise ConfigError(
                f"unknown option {option!r} of {reader_class.__name__}{nearest(option, known)}",
                where=path,
                fix=f"choose of: {', '.join(known)}" if known else "it has no options",
            )
