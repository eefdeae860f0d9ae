"""The source files of a data set: found or missed in one message, described, compared."""

import contextlib
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pydantic

from tfxc.core.errors import DataError, MachineError
from tfxc.core.storage import checksums
from tfxc.core.storage.files import check_local, expanded, write_json
from tfxc.core.storage.reading import checksum, read_json
from tfxc.core.storage.remote import is_remote, stage, staged_path
from tfxc.data.reading.parsing.archives import is_shard_pattern, shard_files
from tfxc.pretrained.static_tables import WORDLLAMA

if TYPE_CHECKING:
    from tfxc.core.settings import DataSettings


# In a prepared folder: sizes and times of the sources when their content was last compared.
STAMPS_FILE = "sources.json"
BUILTIN = "builtin:"
#: In place of a file of texts of labels: the names of the labels.
NAMES = "names"


class SourceInfo(pydantic.BaseModel):
    """One source as the settings name it.

    Attributes:
        bytes, sha256: size and checksum of the file or folder; None for a built-in set. Of a
            feature set the checksum is ``tfxc.core.storage.checksums.identity``, and the size None.
        fingerprint: what a built-in set was made from; None for a file.
    """

    model_config = pydantic.ConfigDict(extra="forbid")

    path: str
    bytes: Annotated[int, pydantic.Field(ge=0, lt=1 << 63)] | None = None
    sha256: str | None = None
    fingerprint: str | None = None


def find_sources(settings: "DataSettings") -> dict[str, str | Path]:
    """Returns the sources of the given splits with ``~`` and ``${VAR}`` expanded, remote ones
    copied here.

    Returns:
        dict: split → ``Path``, or ``str`` for ``"builtin:…"``.

    Raises:
        DataError: one or more are missing; the one message names them all, says where the set
            comes from and how to point elsewhere.
    """
    sources: dict[str, str | Path] = {}
    missing: list[tuple[str, str, str | Path]] = []
    for key, written in _files_of_labels(settings).items():
        staged(written, f"data.{key}")
    for split, written in settings.sources().items():
        sources[split] = staged(written, f"data.{split}")
        absent = None if is_builtin(written) else _absent(sources[split])
        if absent is not None:
            missing.append((split, written, absent))
    if missing:
        raise _missing(settings, missing)
    return sources


def expand(written: str) -> str | Path:
    """Returns a file with ``~`` and ``${VAR}`` expanded, see ``tfxc.core.storage.files.expanded``.

    Raises:
        ConfigError: it is on a remote storage.
    """
    if is_builtin(written):
        return written
    path = expanded(written)
    check_local(path)
    return Path(path).expanduser()


def source_path(written: str) -> str | Path:
    """As ``expand``; of a remote source the place of its copy, which ``find_sources`` makes."""
    address = expanded(written)
    return staged_path(address) if is_remote(address) else expand(written)


def options_of_file(settings: "DataSettings", written: str | Path) -> dict[str, Any]:
    """Returns the reader's options for a file that may be one of the sources, written in its own
    way.

    Returns:
        dict: ``reader_options``, and those of the one split whose source the file is. A folder that
        holds several splits is the source of none of them.
    """

    def place(source: str | Path) -> Path:
        return Path(source_path(str(source))).absolute()

    places = {split: place(source) for split, source in settings.sources().items()}
    splits = [split for split, source in places.items() if source == place(written)]
    split_options: dict[Any, dict[str, Any]] = {**settings.split_options}
    options = split_options.get(splits[0], {}) if len(splits) == 1 else {}
    return {**settings.reader_options, **options}


def staged(written: str, where: str) -> str | Path:
    """As ``expand``; a remote source is copied first if it has changed, or is not here yet.

    Args:
        where: config key or option it was given in, for messages.

    Raises:
        ConfigError, DataError, MachineError: as ``tfxc.core.storage.remote.stage``.
    """
    address = expanded(written)
    return stage(address, where) if is_remote(address) else expand(written)


def local_copy(written: str) -> str | Path:
    """As ``source_path``; a remote source is copied first if it is not on this machine any more.

    Raises:
        ConfigError, DataError, MachineError: as ``tfxc.core.storage.remote.stage``.
    """
    path = source_path(written)
    address = expanded(written)
    if is_remote(address) and _absent(path) is not None:
        stage(address)
    return path


def is_builtin(source: str | Path) -> bool:
    """Tells whether a source is a set that comes with the package."""
    return str(source).startswith(BUILTIN)


def describe_sources(
    settings: "DataSettings",
    sources: Mapping[str, str | Path],
    fingerprints: Mapping[str, str],
    stamps: Mapping[str, str],
) -> dict[str, SourceInfo]:
    """Returns what every source was when it was read, as ``{split: SourceInfo}``.

    Files of label names and label texts are described as well, as ``label_names`` and
    ``label_texts``, and a static table of words as ``text_features.table``.

    Args:
        fingerprints: those of the built-in sets, by split.
        stamps: of ``stamps_of`` before the sources were read.

    Raises:
        DataError: a source has changed in the meantime.
    """
    known: dict[str, SourceInfo] = {}
    described: dict[str, SourceInfo] = {}
    for key, written in _written(settings).items():
        if is_builtin(written):
            described[key] = SourceInfo(path=written, fingerprint=fingerprints[key])
            continue
        if written not in known:
            path = sources.get(key) or source_path(written)
            known[written] = SourceInfo(path=written, bytes=_size(path), sha256=_checksum(path))
            if _stamp(path) != stamps[written]:
                raise DataError(
                    f"{path} has changed while it was being prepared",
                    where=f"data.{key}",
                    fix="run prepare again once nothing writes to it",
                )
        described[key] = known[written]
    return described


def stamps_of(settings: "DataSettings") -> dict[str, str]:
    """Returns {source as it is written: text that changes with the names, sizes and times of its
    files}.
    """
    written = {text for text in _written(settings).values() if not is_builtin(text)}
    return {text: _stamp(source_path(text)) for text in written}


def save_stamps(folder: str | Path, stamps: Mapping[str, str]) -> None:
    """Keeps what ``stamps_of`` gave for ``changed_source``."""
    write_json(Path(folder) / STAMPS_FILE, stamps, indent=1)


def changed_source(sources: Mapping[str, SourceInfo], folder: str | Path) -> DataError | None:
    """Compares the sources that still exist with those that were prepared.

    A source with the size and time that it had then counts as the same. Where the size is the
    same and the time another one, the content is compared, once.

    Args:
        sources: what the prepared folder's manifest says of them.
        folder: the prepared folder.

    Returns:
        The error that names a source which is another one than when it was prepared; or None.
    """
    try:
        old = read_json(Path(folder) / STAMPS_FILE)
    except (OSError, ValueError):
        old = {}
    stamps = old
    for key, info in sources.items():
        path = source_path(info.path)
        if info.bytes is None or _absent(path) is not None:
            continue
        stamp = _stamp(path)
        size = _size(path)
        if size == info.bytes and stamp == stamps.get(info.path):
            continue
        if size != info.bytes or _checksum(path) != info.sha256:
            if size != info.bytes:
                change = f"{info.bytes:,} bytes then, {size:,} now"
            else:
                change = "the same size, other content"
            return DataError(
                f"{path} has changed since it was prepared: {change}",
                where=f"data.{key}",
                fix="put the old file back, or take the changed one: tfxc prepare with --force, "
                "tfxc train with --fresh, which replaces the run, or into another one with "
                "--run OTHER --prepared OTHER",
            )
        stamps = {**stamps, info.path: stamp}
    if stamps != old:
        with contextlib.suppress(MachineError):  # someone else's folder: compared again next time
            save_stamps(folder, stamps)
    return None


def _written(settings: "DataSettings") -> dict[str, str]:
    """Returns the sources as the settings name them, by split, and the files about labels and words
    by their keys.
    """
    files = {**settings.sources(), **_files_of_labels(settings)}
    features = settings.text_features or {}
    table = features.get("table")
    if features.get("name") == "static" and isinstance(table, str) and table != WORDLLAMA:
        files["text_features.table"] = table
    return files


def _files_of_labels(settings: "DataSettings") -> dict[str, str]:
    files = {"label_names": settings.label_names, "label_texts": settings.label_texts}
    return {key: path for key, path in files.items() if path is not None and path != NAMES}


def _stamp(path: str | Path) -> str:
    if _absent(path) is not None:
        return ""  # whoever reads it says so
    files = ((file, file.stat()) for file in _files(path))
    lines = (f"{file} {stat.st_size} {stat.st_mtime_ns}\n" for file, stat in files)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _missing(settings: "DataSettings", missing: list[tuple[str, str, str | Path]]) -> DataError:
    files = ", ".join(f"{path} ({split})" for split, _, path in missing)
    written = " ".join(text for _, text, _ in missing)
    variables = sorted(set(re.findall(r"\$\{?(\w+)\}?", written)))
    elsewhere = f"set data.{missing[0][0]} to its path"
    if variables:
        unset = [name for name in variables if name not in os.environ]
        state = f" ({', '.join(unset)} is not set)" if unset else ""
        elsewhere += f" or the environment variable {', '.join(variables)}{state}"
    origin = f" {settings.where.rstrip('.')}" if settings.where else ""
    return DataError(
        f"the data set {settings.name!r} is not complete: no file {files}.{origin}",
        where=", ".join(f"data.{split}" for split, _, _ in missing),
        fix=f"put the data there; if it is elsewhere, {elsewhere}",
    )


def _absent(path: str | Path) -> str | Path | None:
    """Returns what is missing of a file, a folder or a pattern of shards; None if all is there."""
    try:
        if is_shard_pattern(path):
            shard_files(path)
            return None
    except DataError as error:
        return error.where
    return None if Path(path).exists() else path


def _files(path: str | Path) -> list[Path]:
    """Returns the files of a source; not hidden ones in a folder, nor tfxc's own outputs."""
    if is_shard_pattern(path):
        return shard_files(path)
    path = Path(path)
    if not path.is_dir():
        return [path]
    files = []
    for folder, inner, names in os.walk(path):
        if checksums.FILE in names and Path(folder) != path:
            inner.clear()
            continue
        inner[:] = [name for name in inner if not name.startswith(".")]
        files += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(files)


def _size(path: str | Path) -> int:
    return sum(file.stat().st_size for file in _files(path))


def _checksum(path: str | Path) -> str:
    path = Path(path)
    if path.is_file():
        return checksum(path)
    files = (
        (file.relative_to(path) if path.is_dir() else file.name, file) for file in _files(path)
    )
    lines = (f"{name} {checksum(file)}\n" for name, file in files)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def state_of(source: str | Path) -> str:
    """Returns the text that changes when a source is written to: names, sizes and times of its
    files.

    Args:
        source: as a user writes it; a built-in set is its name.
    """
    path = source_path(str(source))
    if is_builtin(path) or _absent(path) is not None:
        return str(source)
    return _stamp(path)
