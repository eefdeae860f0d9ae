"""Workbooks of Excel, whose parts are written as Excel writes them."""

import sys
import zipfile
from xml.sax.saxutils import escape

import pytest

from tests.contracts.formats import ReaderContract, concatenated
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.reading.formats import open_like, open_reader
from tfxc.data.reading.inspection.completion import Choice, complete
from tfxc.data.reading.inspection.contents import inspect

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
PARTS = {
    "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types">'
    '<Default Extension="rels" '
    'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Override PartName="/xl/workbook.xml" ContentType='
    '"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>{types}</Types>',
    "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="rId1" '
    f'Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets>{{sheets}}</sheets>'
    "</workbook>",
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{PACKAGE}/relationships">{{rels}}'
    "</Relationships>",
}
SHEET_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"
ROWS = [(f"text {n} & more", ("cat", "dog")[n % 2]) for n in range(20)]


def cell(place, value):
    if value is None:
        return ""
    if isinstance(value, bool):
        return f'<c r="{place}" t="b"><v>{int(value)}</v></c>'
    if isinstance(value, (int, float)):
        return f'<c r="{place}"><v>{value}</v></c>'
    return f'<c r="{place}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'


def write(path, **sheets):
    """A workbook of ``{name of a sheet: rows}``."""
    names = list(enumerate(sheets, 1))
    types = [
        f'<Override PartName="/xl/worksheets/sheet{n}.xml" ContentType="{SHEET_TYPE}"/>'
        for n, _ in names
    ]
    listed = [f'<sheet name="{name}" sheetId="{n}" r:id="rId{n}"/>' for n, name in names]
    rels = [
        f'<Relationship Id="rId{n}" Type="{OFFICE}/worksheet" Target="worksheets/sheet{n}.xml"/>'
        for n, _ in names
    ]
    parts = {"types": "".join(types), "sheets": "".join(listed), "rels": "".join(rels)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in PARTS.items():
            archive.writestr(name, part.format(**parts))
        for number, name in names:
            rows = [
                f'<row r="{at}">'
                + "".join(cell(f"{'ABCDEF'[place]}{at}", value) for place, value in enumerate(row))
                + "</row>"
                for at, row in enumerate(sheets[name], 1)
                if row
            ]
            # Excel's dimension of a sheet may be that of another program's, and wrong.
            sheet = f'<worksheet xmlns="{MAIN}"><dimension ref="A1"/><sheetData>{"".join(rows)}'
            archive.writestr(f"xl/worksheets/sheet{number}.xml", f"{sheet}</sheetData></worksheet>")
    return path


@pytest.fixture(autouse=True)
def _needs_openpyxl():
    pytest.importorskip("openpyxl", reason="the extra excel is not installed")


class TestWorkbook(ReaderContract):
    format = "workbook"
    options = {"labels_field": "label"}  # noqa: RUF012

    def write_sample(self, folder):
        return write(folder / "a.xlsx", data=[("label", "text"), *((y, x) for x, y in ROWS)])

    def write_compressed(self, folder):
        return ()


def test_a_workbook_as_people_fill_it_in(tmp_path):
    """An empty row first and in between, cells without a value, numbers and formulas' values."""
    table = [
        (), ("id", None, "Description", "Category"), (1, "x", "first text", "7"), (),
        (2, None, "second text", 7), (3, None, "third text", None), (4, None, None, 8.0),
        (5, None, "fifth text", True), (6, None, 12.5, 8),
    ]  # fmt: skip
    path = write(tmp_path / "Tickets.XLSX", Sheet1=table, other=[("a",)])
    found = inspect(str(path))
    assert found.format == "workbook" and found.examples == 6
    assert found.options == {"text_field": "Description", "labels_field": "Category"}
    chunk = concatenated(open_reader(path, **found.options).chunks())
    texts = ["first text", "second text", "third text", "", "fifth text", "12.5"]
    assert chunk.texts == texts
    assert chunk.labels == [["7"], ["7"], [], ["8"], ["true"], ["8"]]


def test_a_sheet_that_is_named(tmp_path):
    path = write(tmp_path / "a.xlsx", notes=[("hello",)], data=[("text", "label"), *ROWS])
    with pytest.raises(DataError, match=r"is missing: the columns are 'hello'"):
        inspect(str(path))
    tree = {"data": {"train": str(path), "reader_options": {"sheet": "data"}}}
    options = complete(tree, Choice()).tree["data"]["reader_options"]
    assert options == {"sheet": "data", "text_field": "text", "labels_field": "label"}
    with pytest.raises(DataError, match=r"no sheet 'x', only 'notes', 'data'\. Name one of these"):
        open_reader(path, sheet="x")


def test_several_columns_of_texts_and_one_for_each_label(tmp_path):
    table = [("title", "body", "rude", "odd"), *(("t", None, 1, n % 2) for n in range(4))]
    path = write(tmp_path / "a.xlsx", data=table)
    options = {"text_field": ["title", "body"], "labels_field": ["rude", "odd"]}
    chunk = concatenated(open_reader(path, **options).chunks())
    assert chunk.texts == ["t"] * 4 and chunk.labels == [["rude"], ["rude", "odd"]] * 2
    from tfxc.core.settings import DataSettings

    data = DataSettings(name="a", train="old.xlsx", reader_options=options)
    assert len(concatenated(open_like(path, data, "text").chunks())) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 and no archive", "the file is no workbook, or is protected by a password"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "no workbook, or is protected by a password"),
        (b"", "no workbook"),
    ],
)
def test_what_is_no_workbook(tmp_path, content, message):
    (tmp_path / "a.xlsx").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.xlsx: .*{message}"):
        open_reader(tmp_path / "a.xlsx")


def test_sheets_that_are_no_table(tmp_path):
    with pytest.raises(DataError, match="the sheet is empty"):
        inspect(str(write(tmp_path / "a.xlsx", data=[(), ()])))
    with pytest.raises(DataError, match="2 columns have the name 'text'"):
        inspect(str(write(tmp_path / "b.xlsx", data=[("text", "label", "text")])))


def test_without_the_package(tmp_path, monkeypatch):
    path = write(tmp_path / "a.xlsx", data=[("text", "label"), *ROWS])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(
        ConfigError, match=r"pip install 'tfxc\[excel\]', or save the workbook as C"
    ):
        inspect(str(path))
