"""Files of lines that a server, and others beside it, append to."""

import contextlib
import json
import os
from pathlib import Path

from tfxc.core.escaping import one_line
from tfxc.core.messages import NOTES
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.core.storage.files import write_errors
from tfxc.core.storage.locks import locked


def lock_of(path: Path) -> contextlib.AbstractContextManager[None]:
    """Holds off other servers, which need the file for milliseconds."""
    return locked(path.with_name(f".{path.name}.lock"), busy=lambda _: None)


def unended_line(path: Path) -> bytes:
    """Returns what stands behind the last line break: a line that was cut off, or never ended."""
    if not path.exists():
        return b""
    with path.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - MAX_LINE_BYTES))
        return stream.read().rpartition(b"\n")[2]


def is_cut(line: bytes) -> bool:
    """Tells whether a line that never ended was cut off: it is not JSON, unlike one by hand."""
    if not line.strip():
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return True
    return False


def drop_cut_line(path: Path) -> None:
    """Removes a last line that a killed server has not written to its end."""
    rest = unended_line(path)
    if is_cut(rest):
        NOTES.warning(
            f"{path}: the last line ends in the middle and is dropped: "
            f"{one_line(rest[:60].decode(errors='replace'))}"
        )
        os.truncate(path, path.stat().st_size - len(rest))


def append_line(path: Path, line: bytes) -> None:
    """Appends a line as a whole, or nothing of it."""
    separator = b"\n" if unended_line(path) else b""
    with write_errors(path), path.open("ab") as stream:
        size = stream.tell()
        try:
            stream.write(separator + line)
            stream.flush()
            os.fsync(stream.fileno())
        except OSError:
            os.truncate(path, size)
            raise
