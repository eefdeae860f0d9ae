"""Tests of the readers."""

import os
from pathlib import Path

import pytest


def data_folder(name):
    """The folder of a real data set; skips the test where there is none."""
    root = Path(__file__).resolve().parents[3]
    folder = Path(os.environ.get("TFXC_DATA", root.parent / "shared" / "data")) / name
    if not folder.is_dir():
        pytest.skip(f"needs the data set {name} (TFXC_DATA)")
    return folder
