"""Operations in C++ that are compiled once on the machine that uses them.

TensorFlow's operations are bound to the exact version they were compiled against, so they cannot
come with the package; a compiler on the machine makes them in about a quarter of a minute. Without
one, or with ``TFXC_COMPILE=0``, the callers use TensorFlow's own operations.
"""

import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import tensorflow as tf

_SOURCE = Path(__file__).with_name("_row_adam.cc")
_FLAGS = ("-shared", "-fPIC", "-O3", "-march=native", "-fno-math-errno", "-w")


@functools.cache
def row_adam():
    """The operation of ``_row_adam.cc``, compiled now if it has not been on this machine.

    ``row_adam()(variable, first_moment, second_moment, rows, gradient, rate, epsilon, share_1=,
    share_2=)`` takes three variables' handles, distinct int32 row numbers, their float32 gradients,
    two scalars and 1 - beta of both moments, and updates these rows as ``training.optimizers.Adam``
    does.

    Returns:
        The operation, or None where it cannot be made.
    """
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if os.environ.get("TFXC_COMPILE") == "0" or compiler is None:
        return None
    path = cache_folder() / f"row_adam-{_fingerprint(compiler)}.so"
    try:
        if not path.exists():
            _compile(compiler, path)
        return tf.load_op_library(str(path)).tfxc_row_adam
    except (OSError, subprocess.CalledProcessError, tf.errors.OpError) as error:
        reason = str(getattr(error, "stderr", None) or error).strip().splitlines()
        print(f"the faster optimizer step cannot be compiled: {reason[-1:]}", file=sys.stderr)
        return None


def cache_folder():
    """``TFXC_CACHE`` of the environment, or ``~/.cache/tfxc``."""
    return Path(os.environ.get("TFXC_CACHE") or "~/.cache/tfxc").expanduser()


def _compile(compiler, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        if path.exists():  # another process has made it while we waited
            return
        print("compiling the faster optimizer step, once on this machine ...", file=sys.stderr)
        flags = [*tf.sysconfig.get_compile_flags(), *tf.sysconfig.get_link_flags()]
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            scratch = Path(folder) / path.name
            command = [compiler, *_FLAGS, str(_SOURCE), "-o", str(scratch), *flags]
            subprocess.run(command, check=True, capture_output=True, text=True)
            scratch.rename(path)


@contextlib.contextmanager
def _alone(path):
    with open(path.with_suffix(".lock"), "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _fingerprint(compiler):
    """Changes with whatever the compiled file depends on."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True)
    processor = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line for line in lines if line.startswith("flags")), "")
    parts = [_SOURCE.read_text(), " ".join(_FLAGS), version.stdout, processor]
    parts += [tf.version.VERSION, tf.version.GIT_VERSION, *tf.sysconfig.get_compile_flags()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
