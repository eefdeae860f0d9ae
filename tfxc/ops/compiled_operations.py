"""Operations in C++ that are compiled once on the machine that uses them.

TensorFlow's operations are bound to the exact version they were compiled against, so they cannot
come with the package; a compiler on the machine makes them in about a quarter of a minute. Without
one, or with ``TFXC_COMPILE=0``, the callers use TensorFlow's own operations; results then differ
in the last bits.

A compiled file's name holds a hash of its content. It is loaded only if that is right and no one
else could have written it: loading runs code, and a cut-off library ends the process.
"""

import contextlib
import fcntl
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import tensorflow as tf

from tfxc.core.errors import UserError
from tfxc.core.resources import processor
from tfxc.core.storage.cache import cache_of
from tfxc.core.storage.files import atomic_file
from tfxc.core.storage.reading import checksum

_FLAGS = ("-shared", "-fPIC", "-O3", "-march=native", "-fno-math-errno", "-w")


class CompiledOperation:
    """An operation in a C++ file, compiled when it is first asked for on this machine.

    Args:
        source: path of the file, whose name begins with ``_``.
        name: of the operation there.
        what: it is, for messages, e.g. "optimizer step".
    """

    all: ClassVar[list["CompiledOperation"]] = []

    def __init__(self, source: Path, name: str, what: str) -> None:
        self._source, self._name, self._what = source, name, what
        self._found: list[Callable[..., Any] | None] = []
        self.all.append(self)

    def get(self) -> Callable[..., Any] | None:
        """The operation as a function, or None if it cannot be made; always the same answer."""
        if not self._found:
            library = self._load()
            self._found.append(None if library is None else getattr(library, self._name))
        return self._found[0]

    @property
    def requested(self) -> bool:
        """Whether this process has asked for it."""
        return bool(self._found)

    def forget(self) -> None:
        """As if this process had not asked for it yet."""
        self._found.clear()

    def _load(self) -> Any | None:
        compiler = _compiler()
        if os.environ.get("TFXC_COMPILE") == "0" or compiler is None:
            return None
        try:
            return tf.load_op_library(str(_library(compiler, self._source, self._what)))
        except (OSError, UserError, subprocess.CalledProcessError, tf.errors.OpError) as error:
            reason = str(getattr(error, "stderr", None) or error).strip().splitlines()[-1:]
            print(f"using TensorFlow's {self._what} instead of the faster compiled one: "
                  f"{''.join(reason)}", file=sys.stderr)  # fmt: skip
            return None


def _compiler():
    """The compiler's command as a list, of ``CXX`` as a shell would split it; None without one."""
    try:
        command = shlex.split(os.environ.get("CXX") or "g++")
    except ValueError:  # an open quotation mark
        return None
    return command if command and shutil.which(command[0]) else None


def _library(compiler, source, what):
    """Path of the compiled file, made if it is not there or damaged."""
    folder, name = cache_of(), f"{source.stem[1:]}-{_fingerprint(compiler, source)}"
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    _refuse_others(folder)
    with _alone(folder / f"{name}.lock"):
        return _intact(folder, name) or _compiled(compiler, source, folder, name, what)


def _intact(folder, name):
    """The file whose content is what its name says, or None; damaged ones are removed."""
    for path in folder.glob(f"{name}-*.so"):
        _refuse_others(path)
        if path.stem == f"{name}-{checksum(path)[:32]}":
            return path
        path.unlink()
    return None


def _compiled(compiler, source, folder, name, what):
    print(f"compiling the faster {what}, once on this machine ...", file=sys.stderr)
    flags = [*tf.sysconfig.get_compile_flags(), *tf.sysconfig.get_link_flags()]
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "made.so"
        command = [*compiler, *_FLAGS, str(source), "-o", str(made), *flags]
        subprocess.run(command, check=True, capture_output=True, text=True)
        path = folder / f"{name}-{checksum(made)[:32]}.so"
        with atomic_file(path, "wb") as stream:
            stream.write(made.read_bytes())
    return path


def _refuse_others(path):
    """Refuses a file or folder that another user may have changed.

    Raises:
        UserError: it is someone else's, or anybody may write to it.
    """
    found = path.stat()
    if found.st_uid not in (os.getuid(), 0):
        raise UserError("belongs to another user", where=path, fix="set TFXC_CACHE to your own")
    folder = stat.S_ISDIR(found.st_mode)
    # Who may write to a folder can replace a file, but not by one of ours; where the sticky bit is
    # set, as in /tmp, not even that.
    others = stat.S_IWOTH if folder else stat.S_IWOTH | stat.S_IWGRP
    if found.st_mode & others and not (folder and found.st_mode & stat.S_ISVTX):
        raise UserError("other users may write to it", where=path, fix=f"run chmod go-w {path}")


@contextlib.contextmanager
def _alone(path):
    with open(path, "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _fingerprint(compiler, source):
    """Changes with whatever the compiled file depends on."""
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True)
    parts = [source.read_text(), " ".join(_FLAGS), version.stdout, processor()]
    parts += [tf.version.VERSION, tf.version.GIT_VERSION, *tf.sysconfig.get_compile_flags()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
