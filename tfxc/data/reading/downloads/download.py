"""Downloads of files: resumed after a stop, verified, there as a whole or not at all."""

import contextlib
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tfxc.core.errors import DataError, MachineError
from tfxc.core.progress import Progress
from tfxc.core.storage.files import make_folder, regular_target, write_errors, write_json
from tfxc.core.storage.reading import checksum

_BLOCK = 1 << 20
_SECONDS = 60  # without any byte


def download(url: str, path: str | Path, sha256: str | None = None) -> str:
    """Downloads a file, unless it is there.

    What an interrupted download has left, ``.NAME.part``, is continued if the server still has the
    same file; a file with another checksum than ``sha256`` is removed.

    Args:
        url: http or https.
        path: the file to write.
        sha256: its checksum, hexadecimal; None if it is not known.

    Returns:
        The checksum.

    Raises:
        DataError: the server has no such file, or another one than expected.
        MachineError: it cannot be reached, or the disk is full; the same command continues.
    """
    path = Path(path)
    make_folder(path.parent)
    if regular_target(path).is_file():
        return _verified(path, url, sha256)
    part = path.with_name(f".{path.name}.part")
    resumed = _fetch(url, part)
    if resumed and sha256 is not None and checksum(part) != sha256:
        part.unlink()  # perhaps of an older file: once more from the beginning
        _fetch(url, part)
    digest = _verified(part, url, sha256)
    with write_errors(path):
        os.replace(part, regular_target(path))
        _validator_file(part).unlink(missing_ok=True)
    return digest


def _verified(path: Path, url: str, sha256: str | None) -> str:
    digest = checksum(path)
    if sha256 is not None and digest != sha256:
        path.unlink()
        _validator_file(path).unlink(missing_ok=True)
        raise DataError(
            f"the file's SHA-256 is {digest} instead of {sha256}; it was removed",
            where=url,
            fix="start again; if that does not help, the file at this address has been replaced",
        )
    return digest


def _fetch(url: str, part: Path) -> bool:
    """Downloads what is missing of a file; whether there was something to continue."""
    have = 0
    validator = ""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        saved = json.loads(_validator_file(part).read_text("utf-8")).get("validator")
        # A weak validator is not of the same bytes.
        if isinstance(saved, str) and not saved.startswith("W/"):
            validator = saved
            have = part.stat().st_size
    request = urllib.request.Request(url, headers={"User-Agent": "tfxc"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", validator)
    try:
        with _errors(url), urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            resumed = answer.status == http.HTTPStatus.PARTIAL_CONTENT
            have = have if resumed else 0
            length = answer.headers.get("Content-Length")
            total = None if length is None else have + int(length)
            with write_errors(part):
                new = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
                write_json(_validator_file(part), {"validator": new})
            with (
                Progress(f"downloading {url}", total, "bytes", start=have) as progress,
                write_errors(part),
                open(part, "ab" if have else "wb") as stream,
            ):
                while block := answer.read(_BLOCK):
                    stream.write(block)
                    have += len(block)
                    progress.advance(len(block))
            if total is not None and have != total:
                raise http.client.IncompleteRead(b"", total - have)
        return resumed
    except _NothingLeft:
        part.unlink()  # it has all the bytes there are, or more
        return _fetch(url, part)


class _NothingLeft(Exception):
    """The server has no byte behind those that are there."""


def _validator_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


@contextlib.contextmanager
def _errors(url: str) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _NothingLeft from error
        if error.code in (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.GONE):
            raise DataError(
                f"the server has no such file ({error.code} {error.reason})",
                where=url,
                fix="look for its new place, and put the file there by hand",
            ) from error
        raise _unreachable(url, f"{error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _unreachable(url, error.reason) from error
    except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise _unreachable(url, str(error) or type(error).__name__) from error


def _unreachable(url: str, reason: object) -> MachineError:
    return MachineError(
        f"cannot be downloaded: {reason}",
        where=url,
        fix="check the network and start again: what was received is kept",
    )
