"""An ``.npy`` file that is being written row by row: its header, and how far it has come."""

import hashlib
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfxc.core.errors import DataError
from tfxc.core.storage.reading import existing_file


def array_header(shape: Sequence[int], dtype: np.dtype) -> bytes:
    """Returns the bytes that open an ``.npy`` file of that shape and type."""
    stream = io.BytesIO()
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def unfinished_files(path: str | Path) -> tuple[Path, Path]:
    """Returns the unfinished file of a ``RowWriter``, and the one that says which rows are in
    place.
    """
    path = Path(os.path.realpath(path))
    return path.with_name(f".{path.name}.unfinished"), path.with_name(f".{path.name}.progress")


def read_progress(path: str | Path) -> tuple[dict[str, Any], np.ndarray] | tuple[None, None]:
    """Returns how far a ``RowWriter`` that was stopped has come.

    Returns:
        Its description (dict) and bool (rows,), which rows are done; two times None if no
        writing of the file was stopped, or where nothing of it can be trusted.
    """
    try:
        progress = existing_file(unfinished_files(path)[1])
        check, _, content = progress.read_bytes().partition(b"\n")
    except DataError:
        return None, None
    if hashlib.sha256(content).hexdigest().encode() != check:
        return None, None
    text, _, bits = content.partition(b"\n")
    description = json.loads(text)
    count = description.pop("rows_done")
    return description, np.unpackbits(np.frombuffer(bits, np.uint8), count=count).astype(bool)
