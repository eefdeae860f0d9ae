"""The source files of a data set: found or missed in one message, described, compared."""

import hashlib
import os
import re
from pathlib import Path

from tfxc.data.formats.archives import is_shard_pattern, shard_files
from tfxc.data.manifest import SourceInfo
from tfxc.errors import DataError
from tfxc.files import check_local, checksum

_BUILTIN = "builtin:"


def find_sources(settings):
    """The sources of the given splits with ``~`` and ``${VAR}`` expanded.

    Returns:
        dict: split → ``Path``, or ``str`` for ``"builtin:…"``.

    Raises:
        DataError: one or more are missing; the one message names them all, says where the set
            comes from and how to point elsewhere.
    """
    sources, missing = {}, []
    for split, written in settings.sources().items():
        sources[split] = expand(written)
        absent = None if is_builtin(written) else _absent(sources[split])
        if absent is not None:
            missing.append((split, written, absent))
    if missing:
        raise _missing(settings, missing)
    return sources


def expand(written):
    """A source with ``~`` and ``${VAR}`` expanded; unknown variables stay as they are.

    ``${TFXC_DATA}`` is the folder ``data`` unless the environment says otherwise.
    """
    if is_builtin(written):
        return written
    if "TFXC_DATA" not in os.environ:
        written = written.replace("${TFXC_DATA}", "data")
    written = os.path.expandvars(written)
    check_local(written)
    return Path(written).expanduser()


def is_builtin(source):
    """Whether a source is a set that comes with the package."""
    return str(source).startswith(_BUILTIN)


def describe_sources(settings, sources, fingerprints):
    """What every source was when it was read, as ``{split: SourceInfo}``.

    Args:
        fingerprints: those of the built-in sets, by split.
    """
    known, described = {}, {}
    for split, written in settings.sources().items():
        if is_builtin(written):
            described[split] = SourceInfo(path=written, fingerprint=fingerprints[split])
            continue
        if written not in known:
            path = sources[split]
            known[written] = SourceInfo(path=written, bytes=_size(path), sha256=_checksum(path))
        described[split] = known[written]
    return described


def refuse_changed_sources(manifest, folder):
    """Compares the sizes of the sources that still exist with those of the prepared ones.

    Raises:
        DataError: a file has another size than when it was prepared.
    """
    for split, info in manifest.sources.items():
        if info.bytes is None:
            continue
        path = expand(info.path)
        if _absent(path) is None and _size(path) != info.bytes:
            raise DataError(
                f"{path} has changed since it was prepared: {info.bytes:,} bytes then, "
                f"{_size(path):,} now",
                where=f"data.{split}",
                fix=f"run prepare again, or delete {folder}",
            )


def _missing(settings, missing):
    expected = ", ".join(f"{path} ({split})" for split, _, path in missing)
    written = " ".join(text for _, text, _ in missing)
    variables = sorted(set(re.findall(r"\$\{?(\w+)\}?", written)))
    elsewhere = f"set data.{missing[0][0]} to its path"
    if variables:
        unset = [name for name in variables if name not in os.environ]
        state = f" ({', '.join(unset)} is not set)" if unset else ""
        elsewhere += f" or the environment variable {', '.join(variables)}{state}"
    origin = f" {settings.where.rstrip('.')}" if settings.where else ""
    return DataError(
        f"the data set {settings.name!r} is not complete: no file {expected}.{origin}",
        where=", ".join(f"data.{split}" for split, _, _ in missing),
        fix=f"put the data there; if it is elsewhere, {elsewhere}",
    )


def _absent(path):
    """What is missing of a file, a folder or a pattern of shards; None where all is there."""
    try:
        if is_shard_pattern(path):
            shard_files(path)
            return None
    except DataError as error:
        return error.where
    return None if path.exists() else path


def _files(path):
    if is_shard_pattern(path):
        return shard_files(path)
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _size(path):
    return sum(file.stat().st_size for file in _files(path))


def _checksum(path):
    if path.is_file():
        return checksum(path)
    files = (
        (file.relative_to(path) if path.is_dir() else file.name, file) for file in _files(path)
    )
    lines = (f"{name} {checksum(file)}\n" for name, file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def state_of(source):
    """Text that changes when a source is written to: names, sizes and times of its files.

    Args:
        source: as a user writes it; a built-in set is its name.
    """
    path = expand(str(source))
    if is_builtin(path) or _absent(path) is not None:
        return str(source)
    states = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in _files(path)]
    return hashlib.sha256(repr(states).encode()).hexdigest()
