"""Where the real data sets and the golden results are; checksums of changed folders."""

import os
from pathlib import Path

import pytest

from tfxc.core.storage import checksums

_SHARED = Path(__file__).resolve().parents[2] / "shared"


def data_folder(name):
    """The folder of a real data set; skips the test where there is none."""
    folder = Path(os.environ.get("TFXC_DATA", _SHARED / "data")) / name
    if not folder.is_dir():
        pytest.skip(f"needs the data set {name} (TFXC_DATA)")
    return folder


def golden_folder():
    """The folder of golden results; skips the test where there is none."""
    folder = Path(os.environ.get("TFXC_GOLDEN", _SHARED / "golden"))
    if not folder.is_dir():
        pytest.skip("needs the golden results (TFXC_GOLDEN)")
    return folder


def record_again(*folders):
    """Takes files as they are now into ``checksums.json``, as if they had been written so."""
    for folder in folders:
        checksums.record(folder, checksums.entries_of(folder, ""))
