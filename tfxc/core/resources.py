"""Threads, memory and processor of this machine."""

import contextlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tfxc.core.errors import ConfigError, MachineError

_limits: list[int | None] = []  # of this process, the latest last, see ``limited_threads``


@contextlib.contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """Inside, ``thread_count`` finds so many cores where nothing else is asked for.

    Args:
        threads: of the whole process; None for all that there are.

    Example:
        >>> with limited_threads(3):
        ...     thread_count()
        3
    """
    _limits.append(threads)
    try:
        yield
    finally:
        _limits.remove(threads)  # not the last one where blocks of two threads overlap


def thread_count(threads: int | None = None) -> int:
    """Returns ``threads``, or for None the cores this process may use.

    Raises:
        ConfigError: fewer than 1.
    """
    limit = _limits[-1] if _limits else None
    if threads is None and limit is not None:
        return limit
    if threads is None:
        affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
        return len(affinity(0)) if affinity else os.cpu_count() or 1
    if threads < 1:
        raise ConfigError(f"{threads} threads are too few", where="threads", fix="give 1 or more")
    return int(threads)


def wait_passively() -> None:
    """Lets OpenMP's threads sleep while they wait, unless ``OMP_WAIT_POLICY`` says otherwise.

    To be called before a native module is loaded. Threads that spin between two native searches
    take the processor from what prepares the next one.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


# What describes a processor in /proc/cpuinfo, of x86, ARM, POWER, RISC-V and MIPS.
_PROCESSOR_LINES = {
    "vendor_id", "cpu family", "model", "model name", "stepping", "flags",
    "cpu implementer", "cpu architecture", "cpu variant", "cpu part", "cpu revision", "features",
    "cpu", "revision", "isa", "uarch", "mvendorid", "marchid", "mimpid", "cpu model",
}  # fmt: skip


def processor() -> str:
    """Returns the kind of processor of this machine, on every architecture: a compiled file fits
    one kind.

    Returns:
        The architecture, and what the system says about the processors: one line each.
    """
    with contextlib.suppress(OSError):
        return _described(Path("/proc/cpuinfo").read_text())
    name = ""
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        with contextlib.suppress(OSError):
            name = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return f"{platform.machine()}\n{name or platform.processor()}"


def _described(cpuinfo: str) -> str:
    lines = {
        line
        for line in cpuinfo.splitlines()
        if line.partition(":")[0].strip().lower() in _PROCESSOR_LINES
    }
    return "\n".join([platform.machine(), *sorted(lines)])


def processor_name() -> str:
    """Returns what the system calls the processor, as one line."""
    lines = processor().splitlines()
    names = (
        line.partition(":")[2].strip()
        for line in lines
        if line.lower().startswith(("model name", "cpu part", "cpu\t"))
    )
    return ", ".join(names) or lines[0]


_UNKNOWN = 4 << 30
_GROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int:
    """Returns memory left to this process: of the machine, or of its container where that is
    smaller.

    4 GiB where neither says.
    """
    try:
        with open("/proc/meminfo", encoding="ascii") as stream:
            meminfo = dict(line.split(":", 1) for line in stream)
        machine = int(meminfo["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
        machine = pages * os.sysconf("SC_PAGE_SIZE") // 2 if pages else _UNKNOWN
    try:  # what the limit of the control group leaves; pages of files can be given back
        limit = int((_GROUP / "memory.max").read_text())
        used = int((_GROUP / "memory.current").read_text())
        fields = dict(line.split() for line in (_GROUP / "memory.stat").read_text().splitlines())
        return min(machine, max(0, limit - used + int(fields["inactive_file"])))
    except (OSError, ValueError, KeyError):  # no group, no limit ("max"), or an older kernel
        return machine


def peak_resident_bytes() -> int:
    """Returns the most memory that this process, or one that it has started and seen end, has
    held.
    """
    import resource

    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    most = max(resource.getrusage(kind).ru_maxrss for kind in kinds)
    return most if sys.platform == "darwin" else most * 1024  # there in bytes, here in KiB


def resident_bytes() -> int:
    """Returns the memory that this process holds now; the most it has held where only that is
    known.
    """
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux
        return peak_resident_bytes()


def require_memory(size: int, where: str | Path) -> None:
    """Refuses what needs more memory than is available, before any of it is read.

    Args:
        size: bytes it will take.
        where: the file, for the message.

    Raises:
        MachineError: less is available.
    """
    if size > (available := available_bytes()):
        raise MachineError(
            f"it needs {size / 1e9:,.1f} GB of memory, of which {available / 1e9:,.1f} GB are "
            "available",
            where=where,
            fix="check the file; if it is right, use a machine with more memory",
        )
