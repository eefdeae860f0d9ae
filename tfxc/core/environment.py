"""What a program runs on: its commit, versions of packages, the machine."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pydantic

from tfxc.core.resources import processor_name, thread_count
from tfxc.version import __version__

_PACKAGES = ("tensorflow", "keras", "numpy", "scipy")


class Environment(pydantic.BaseModel):
    """Versions and hardware.

    Attributes:
        finished: when the program was done: UTC, ISO 8601.
        tfxc, python: versions.
        commit: of tfxc's own source; None where it is not in a checkout of git.
        packages: {name: version}.
        system, processor, threads, memory_bytes: of the machine; None where it does not say.
        devices: names of its accelerators.
    """

    finished: str
    tfxc: str
    commit: str | None
    python: str
    packages: dict[str, str]
    system: str
    processor: str
    threads: int
    memory_bytes: int | None
    devices: list[str]

    @classmethod
    def now(cls, devices: Sequence[str] = ()) -> "Environment":
        """Describes the environment of this process.

        Args:
            devices: names of the accelerators.

        Example:
            >>> Environment.now().threads > 0
            True
        """
        packages = {}
        for name in _PACKAGES:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                packages[name] = importlib.metadata.version(name)
        memory = None
        with contextlib.suppress(ValueError, OSError, AttributeError):  # it does not say
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return cls(
            finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            tfxc=__version__,
            commit=source_commit(),
            python=platform.python_version(),
            packages=packages,
            system=platform.platform(),
            processor=processor_name(),
            threads=thread_count(),
            memory_bytes=memory,
            devices=list(devices),
        )

    def machine(self) -> dict[str, str]:
        """Returns commit and hardware as texts, {name: text}."""
        texts = {
            "commit": self.commit,
            "system": self.system,
            "processor": self.processor,
            "threads": str(self.threads),
            "memory": f"{self.memory_bytes / 1e9:,.1f} GB" if self.memory_bytes else None,
            "accelerators": ", ".join(self.devices),
        }
        return {name: text for name, text in texts.items() if text}


def source_commit(folder: str | Path | None = None) -> str | None:
    """Returns the commit of a folder of source files, with ``-dirty`` where tracked files have
    changed.

    Args:
        folder: default: where this package is.

    Returns:
        None where git does not track the folder, or is not installed.
    """
    place = str(folder or Path(__file__).resolve().parents[1])

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", place, *arguments], capture_output=True, text=True, timeout=20
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        # An environment inside somebody else's checkout is not tracked by it.
        if git("ls-files", "--error-unmatch", "."):
            return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or None
    return None
