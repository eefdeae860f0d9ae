"""The table of docs/export.md is what tiny models give."""

import re

import pytest

from tests.exports.methods import FORMATS, measured
from tests.source_tree import ROOT
from tfxc.core import registry

ROW = re.compile(r"^\| (encoder|head) \| `(\w+)` \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
TEXT = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
CELLS = {
    (kind, name, form): cell.strip()
    for kind, name, *cells in ROW.findall(TEXT)
    for form, cell in zip(FORMATS, cells, strict=True)
}
METHODS = [(kind, name) for kind in ("encoder", "head") for name in registry.names(kind)]


def test_the_table_lists_every_method():
    listed = {(kind, name) for kind, name, _ in CELLS}
    assert listed == set(METHODS), "python -m tests.exports.methods prints the table"


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("kind", "name"), METHODS)
def test_cells(tmp_path, kind, name, form):
    if form == "onnx":
        pytest.importorskip("tf2onnx", reason="the extra onnx is not installed")
    assert measured(kind, name, form, tmp_path) == CELLS[kind, name, form]
