"""Files of remote storages (``s3://``, ``gs://``, ...), copied to this machine by fsspec."""

import contextlib
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.core.errors import ConfigError, DataError, MachineError, missing_package
from tfxc.core.progress import Progress
from tfxc.core.storage.cache import cache_of
from tfxc.core.storage.files import atomic_files, write_errors, write_json
from tfxc.core.storage.hub import builder_of, is_dataset, one_name, save, saved_folder
from tfxc.core.storage.ownership import MARKER

if TYPE_CHECKING:
    import fsspec

_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:/")
BLOCK = 8 << 20
_STATE = "remote.json"
_addresses: dict[str, str] = {}  # by the path of the copy
# What distinguishes one content from another where a storage knows no checksum.
_MARKS = ("ETag", "etag", "md5Hash", "checksum", "mtime", "LastModified", "created", "updated")
# What the packages of storages raise that is no OSError, where they have been imported.
_ERRORS = {
    "botocore.exceptions": "BotoCoreError", "google.auth.exceptions": "GoogleAuthError",
    "gcsfs.retry": "HttpError", "aiohttp": "ClientError",
}  # fmt: skip


def is_remote(path: str | Path) -> bool:
    """Tells whether a path is the address of a remote storage, or of a set for ``datasets``
    (``hf:``).

    Example:
        >>> is_remote("s3://bucket/train.jsonl"), is_remote("data/train.jsonl")
        (True, False)
    """
    return bool(_ADDRESS.match(str(path))) or is_dataset(str(path))


def staged_path(address: str) -> Path:
    """Returns where the copy of a remote file or folder is, or will be: in tfxc's cache.

    Args:
        address: e.g. ``"s3://bucket/train.jsonl.gz"``; the copy has its last name. A folder that
            ``datasets`` has saved needs no copy.
    """
    if is_dataset(address) and (folder := saved_folder(address)) is not None:
        return folder
    if is_dataset(address):
        address = one_name(address)
    name = address.rstrip("/").rpartition("/")[2] or "data"
    key = hashlib.sha256(address.encode()).hexdigest()[:16]
    return cache_of() / "remote" / key / name


def is_copy(path: Path, address: str) -> None:
    """Notes that messages about a path are about an address, see ``with_addresses``."""
    _addresses[str(path)] = address


def with_addresses(message: str) -> str:
    """Returns a message with addresses in place of the paths of their copies on this machine."""
    for path, address in _addresses.items():
        message = message.replace(path, address)
    return message


def stage(address: str, where: str | None = None) -> Path:
    """Copies a remote file or folder to this machine, unless the copy is there already.

    A copy is made again if the storage says that the original has changed since. It is there as a
    whole or not at all.

    Args:
        address: see ``staged_path``; its protocol is one of fsspec's.
        where: config key or option it was given in, for messages.

    Returns:
        ``staged_path(address)``.

    Raises:
        ConfigError: the package of the storage is not installed.
        DataError: there is nothing at the address, or less arrived than there is.
        MachineError: the storage cannot be reached, or refuses; or the disk is full.
    """
    if is_dataset(address):
        target = staged_path(address)
        if target == saved_folder(address):
            return target
        builder = builder_of(address, where)
        state = {"address": address, "version": builder.cache_dir}
        return _staged(target, state, lambda path: save(builder, address, path))
    storage, place = storage_of(address, where)
    with remote_errors(address):
        files = files_at(storage, place)
    if not files:
        raise _missing(address)
    target = staged_path(address)
    state = {"address": address, "files": {name: marks(info) for name, info in files.items()}}
    return _staged(target, state, lambda path: _copy(storage, address, files, path))


def _staged(target: Path, state: dict[str, Any], write: Callable[[Path], None]) -> Path:
    """Returns ``target``, written anew unless it is there in this state."""
    is_copy(target, state["address"])
    with contextlib.suppress(OSError, ValueError):
        written = json.loads((target.parent / _STATE).read_text("utf-8"))
        if written == state and target.exists():
            return target
    with atomic_files(target.parent) as scratch:
        write(scratch / target.name)
        write_json(scratch / _STATE, state)
        if target.is_dir():
            shutil.rmtree(target)  # a folder is not replaced by another one
    return target


def storage_of(address: str, where: str | None = None) -> "tuple[fsspec.AbstractFileSystem, str]":
    """Returns the fsspec file system of an address, and the path in it.

    Args:
        where: config key or option it was given in, for messages.

    Raises:
        ConfigError: the package of the storage is not installed, or it is no address.
        MachineError: the storage cannot be reached, or refuses.
    """
    with missing_package("remote", where=where or address):
        import fsspec
    protocol = address.partition(":")[0]
    if is_dataset(address):
        raise ConfigError(
            f"{address!r} is a data set, not a place to write to",
            where=where,
            fix="name one where files can be written, such as s3://bucket/run",
        )
    if not address.startswith(f"{protocol}://"):  # fsspec would take it for a folder here
        raise ConfigError(
            f"the address {address!r} does not begin with {protocol}://",
            where=where,
            fix="write both slashes",
        )
    try:
        with remote_errors(address):
            return fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise ConfigError(
            f"the package that reads {protocol}:// is not installed ({error})",
            where=where or address,
            fix="install it, or copy the data here",
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"fsspec knows no storage {protocol!r}",
            where=where or address,
            fix="correct the address, or copy the data here",
        ) from error


def files_at(storage: "fsspec.AbstractFileSystem", place: str) -> dict[str, Any]:
    """Returns {name relative to a place: what the storage says of the file}; of one file the name
    is empty.

    Hidden files are left out, except tfxc's marker of a folder.

    Args:
        storage, place: of ``storage_of``.
    """
    storage.invalidate_cache()
    info = storage.info(place)
    if info["type"] == "file":
        return {"": info}
    infos = storage.find(place, detail=True)
    root = place.rstrip("/") + "/"
    names = {path: path.removeprefix(root) for path in sorted(infos)}
    return {name: infos[path] for path, name in names.items() if not is_hidden(name)}


def is_hidden(name: str) -> bool:
    """Tells whether a file, or a folder it is in, is hidden; tfxc's marker of a folder is not.

    Example:
        >>> is_hidden("a/.cache/b"), is_hidden("a/.tfxc.json")
        (True, False)
    """
    *folders, file = name.split("/")
    return any(part.startswith(".") for part in folders) or (
        file.startswith(".") and file != MARKER
    )


def marks(info: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a storage says of a file that distinguishes one content from another."""
    known = {name: str(info[name]) for name in _MARKS if info.get(name) is not None}
    return {"size": info.get("size"), **known}


def _copy(
    storage: "fsspec.AbstractFileSystem", address: str, files: Mapping[str, Any], scratch: Path
) -> None:
    sizes = [info.get("size") for info in files.values()]
    total = None if None in sizes else sum(sizes)
    with Progress(f"copying {address}", total, "bytes") as progress:
        for name, info in files.items():
            target = scratch / name if name else scratch
            if not target.resolve().is_relative_to(scratch.parent.resolve()):
                raise DataError(
                    "the name of this file leads out of the folder", where=f"{address}/{name}"
                )
            with write_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
            copied = 0
            with (
                remote_errors(address),
                storage.open(info["name"], "rb") as source,
                write_errors(target),
                open(target, "wb") as copy,
            ):
                while block := source.read(BLOCK):
                    copy.write(block)
                    copied += len(block)
                    progress.advance(len(block))
            if info.get("size") not in (None, copied):
                raise DataError(
                    f"{copied:,} of {info['size']:,} bytes arrived",
                    where=f"{address}/{name}" if name else address,
                    fix="start again when nothing writes to it any more",
                )


@contextlib.contextmanager
def remote_errors(address: str, what: str = "read") -> Iterator[None]:
    """Turns what packages of storages raise into one clear line.

    Args:
        address: for the message.
        what: ``"read"`` or ``"write"``.

    Raises:
        ConfigError: such a storage cannot do that.
        DataError: there is nothing at the address.
        MachineError: the storage cannot be reached, or refuses.
    """
    # A generator: where an error comes, the storage's module is imported.
    known = (getattr(sys.modules.get(module), name, OSError) for module, name in _ERRORS.items())
    try:
        yield
    except FileNotFoundError as error:
        raise _missing(address) from error
    except NotImplementedError as error:
        raise ConfigError(
            f"this kind of storage cannot be used to {what}",
            where=address,
            fix="name a folder, or another storage such as s3:// or gs://",
        ) from error
    except (OSError, *known) as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise MachineError(
            f"cannot {what}: {reason}",
            where=address,
            fix="check the address, the network and your credentials for this storage",
        ) from error


def _missing(address: str) -> DataError:
    return DataError("no such file or folder", where=address, fix="check the address")
