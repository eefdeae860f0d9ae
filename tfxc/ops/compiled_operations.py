"""Operations in C++ that are compiled where they are used, and kept in the cache.

TensorFlow's operations are bound to the exact version they were compiled against, so they cannot
come with the package; a compiler on the machine makes them in about a quarter of a minute. Without
one, or with ``TFXC_COMPILE=0``, the callers use TensorFlow's own operations; results then differ
in the last bits. What does not compile is not tried again with the same compiler, flags and
TensorFlow, unless `tfxc doctor` is asked.

A compiled file's name holds a hash of its content. It is loaded only if that is right and no one
else could have written it: loading runs code, and a cut-off library ends the process.
"""

import fcntl
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import tensorflow as tf

from tfxc.core.errors import MachineError, UserError
from tfxc.core.messages import NOTES
from tfxc.core.resources import processor
from tfxc.core.storage.cache import cache_of
from tfxc.core.storage.files import atomic_file
from tfxc.core.storage.reading import checksum

_CLONES = Path(__file__).with_name("_clones.h")
# No loop with a comparison is vectorised where comparisons may trap, and no sum without OpenMP.
_LOOPS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd")
_FLAGS = ("-shared", "-fPIC", *_LOOPS, "-w", f"-I{_CLONES.parent}")


class CompiledOperation:
    """An operation in a C++ file, compiled when it is first asked for.

    Args:
        source: path of the file, whose name begins with ``_``.
        name: of the operation there.
        what: it is, for messages, e.g. "optimizer step".

    Attributes:
        problem: why there is no compiled operation, in one line; None if there is one, or if
            nobody has asked for it yet.
    """

    all: ClassVar[list["CompiledOperation"]] = []
    # By source: a second library, of another cache, would have operations of the same names.
    _loaded: ClassVar[dict[Path, Any]] = {}

    def __init__(self, source: Path, name: str, what: str) -> None:
        self.source = source
        self.what = what
        self._name = name
        self.requested = False
        self.problem: str | None = None
        self._operation: Callable[..., Any] | None = None
        self.all.append(self)

    def get(self, retry: bool = False) -> Callable[..., Any] | None:
        """Returns the operation as a function, or None if it cannot be made; always the same
        answer.

        Args:
            retry: whether to compile again what did not compile before.
        """
        if self.requested:
            return self._operation
        self.requested = True
        compiler = _compiler()
        if os.environ.get("TFXC_COMPILE") == "0":
            self.problem = "TFXC_COMPILE=0 says so"
        elif compiler is None:
            self.problem = "there is no C++ compiler: install g++, or name one in CXX"
        else:
            try:
                path = _library(compiler, self.source, self.what, retry)
                if self.source not in self._loaded:
                    self._loaded[self.source] = tf.load_op_library(str(path))
                self._operation = getattr(self._loaded[self.source], self._name)
            except (OSError, UserError, tf.errors.OpError) as error:
                self.problem = str(error).strip().splitlines()[0]
                NOTES.warning(
                    "using TensorFlow's %s instead of the faster compiled one: %s",
                    self.what,
                    self.problem,
                )
        return self._operation

    def forget(self) -> None:
        """Makes it as if this process had not asked for it yet."""
        self.requested = False
        self.problem = None
        self._operation = None


def _compiler() -> list[str] | None:
    """Returns the compiler's command as a list, of ``CXX`` as a shell would split it; None without
    one.
    """
    try:
        command = shlex.split(os.environ.get("CXX") or "g++")
    except ValueError:  # an open quotation mark
        return None
    return command if command and shutil.which(command[0]) else None


def _library(compiler: list[str], source: Path, what: str, retry: bool = False) -> Path:
    """Returns the path of the compiled file, made if it is not there or damaged.

    Raises:
        MachineError: it does not compile, now or when it was last tried.
    """
    folder = cache_of()
    name = f"{source.stem[1:]}-{_fingerprint(compiler, source)}"
    failure = folder / f"{name}.failed"
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    _refuse_others(folder)
    with open(folder / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for path in folder.glob(f"{name}-*.so"):
            _refuse_others(path)
            if path.stem == f"{name}-{checksum(path)[:32]}":
                return path
            path.unlink()
        if failure.exists() and not retry:
            raise MachineError(f"{failure.read_text()} (tfxc doctor tries it again)")
        NOTES.info("compiling the faster %s into %s, about 15 seconds ...", what, folder)
        with tempfile.TemporaryDirectory() as scratch:
            made = Path(scratch) / "made.so"
            done = subprocess.run(
                _command(compiler, source, made), capture_output=True, text=True, errors="replace"
            )
            if done.returncode:
                lines = done.stderr.strip().splitlines()
                errors = [line for line in lines if "error:" in line] or lines
                reason = errors[0] if errors else f"{compiler[0]} ended with {done.returncode}"
                with atomic_file(failure, "w") as stream:
                    stream.write(reason)
                raise MachineError(reason)
            path = folder / f"{name}-{checksum(made)[:32]}.so"
            with atomic_file(path, "wb") as stream:
                stream.write(made.read_bytes())
        failure.unlink(missing_ok=True)
        return path


def _command(compiler: list[str], source: Path, output: str | Path) -> list[str]:
    """Returns the command that compiles a source; the compiler may have its own ``-march``."""
    flags = [*tf.sysconfig.get_compile_flags(), *tf.sysconfig.get_link_flags()]
    return [*compiler, *_FLAGS, str(source), "-o", str(output), *flags]


def _refuse_others(path: Path) -> None:
    """Refuses a file or folder that another user may have changed.

    Raises:
        UserError: it is someone else's, or anybody may write to it.
    """
    status = path.stat()
    if status.st_uid not in (os.getuid(), 0):
        raise UserError("belongs to another user", where=path, fix="set TFXC_CACHE to your own")
    folder = stat.S_ISDIR(status.st_mode)
    # Who may write to a folder can replace a file, but not by one of ours; where the sticky bit is
    # set, as in /tmp, not even that.
    writers = stat.S_IWOTH if folder else stat.S_IWOTH | stat.S_IWGRP
    if status.st_mode & writers and not (folder and status.st_mode & stat.S_ISVTX):
        raise UserError("other users may write to it", where=path, fix=f"run chmod go-w {path}")


def _fingerprint(compiler: list[str], source: Path) -> str:
    """Changes with whatever the compiled file depends on."""
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True)
    parts = [
        source.read_text(),
        _CLONES.read_text(),
        *compiler,
        version.stdout,
        processor(),  # as CXX may hold -march=native
        *_FLAGS,
        tf.version.VERSION,
        tf.version.GIT_VERSION,
        *tf.sysconfig.get_compile_flags(),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
