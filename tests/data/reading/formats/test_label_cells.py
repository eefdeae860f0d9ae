"""What counts as a label in a row of a table, in all formats alike; several labels in a cell."""

import csv
import json

import pytest

from tfxc.core.errors import ConfigError, DataError
from tfxc.data.reading.formats import open_reader
from tfxc.data.reading.parsing.label_cells import are_lists, labels_of, split_labels


@pytest.mark.parametrize(
    ("cell", "separator", "labels"),
    [
        (" law, health ", None, ["law, health"]),
        ("law, health,,", ",", ["law", "health"]),
        (";law;;health; ;", ";", ["law", "health"]),
        ("法\uff1b健", "\uff1b", ["法", "健"]),
        ("['law', 'health']", "[]", ["law", "health"]),
        ('["it\'s", "a, b"]', "[]", ["it's", "a, b"]),
        (r'["caf\u00e9"]', "[]", ["café"]),
        ("[3, 17]", "[]", ["3", "17"]),
        ("[3.0, '3', None, True, '']", "[]", ["3", "3", "true"]),
        ("[]", "[]", []),
        (" ", "[]", []),
    ],
)
def test_labels_of_a_cell(cell, separator, labels):
    assert split_labels(cell, separator, "a.csv:2") == labels


@pytest.mark.parametrize(
    "cell", ["law", "['law' 'health']", "['law'", "{'law': 1}", "[['law']]", "[open('x')]", "[1.5]"]
)
def test_no_list(cell):
    with pytest.raises(DataError, match=r"a\.csv:2: .* is not a (list of labels|label)"):
        split_labels(cell, "[]", "a.csv:2")


def test_cells_that_look_like_lists():
    assert are_lists(["['law', 'health']", "[]", '["law"]', " [3, 4]"])
    for cells in ([], ["[draft]"], ["['law']", "law"], ["law [old]"]):
        assert not are_lists(cells)


def write_csv(path, rows):
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def write_jsonl(path, rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def write_table(path, rows):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    from tests.data.reading.formats.test_tables import saved, write

    columns = {key: [row[key] for row in rows] for key in rows[0]}
    write(path, pyarrow.table(columns)) if path.suffix else saved(path, [pyarrow.table(columns)])


FORMATS = {
    "a.csv": write_csv, "a.jsonl": write_jsonl, "a.parquet": write_table,
    "a.feather": write_table, "a.arrow": write_table, "saved": write_table,
}  # fmt: skip


def labels_in(path, **options):
    return [labels for chunk in open_reader(path, **options).chunks() for labels in chunk.labels]


@pytest.mark.parametrize("name", FORMATS)
def test_texts_are_labels_as_they_stand(tmp_path, name):
    """Without the white space around them; nothing is no label, in every format. A whole number has
    one name, also where pandas has written it as a float.
    """
    values = ["law", " law ", "3", "3.0", "-3.0", "3.10", "v3.0", "nan", "", " ", "law"]
    FORMATS[name](tmp_path / name, [{"text": "x", "label": value} for value in values])
    found = labels_in(tmp_path / name, labels_field="label")
    names = [["law"], ["law"], ["3"], ["3"], ["-3"], ["3.10"], ["v3.0"], ["nan"], [], [], ["law"]]
    assert found == names


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("separator", [";", "\uff1b", "#"])
def test_separators_in_every_format(tmp_path, name, separator):
    cells = ["a;b", "a;", ";;b;a;", ";"]
    rows = [{"text": "x", "tags": cell.replace(";", separator)} for cell in cells]
    FORMATS[name](tmp_path / name, rows)
    found = labels_in(tmp_path / name, labels_field="tags", label_separator=separator)
    assert found == [["a", "b"], ["a"], ["b", "a"], []]


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "a.csv"])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3, 0, 3], [[3], [0], [3]]),
        ([3.0, float("nan"), None, 2.0], [[3], [], [], [2]]),
        ([True, False, None], [["true"], ["false"], []]),
        ([[3.0, 3.0], [], [1.0]], [[3], [], [1]]),
    ],
)
def test_whole_numbers_of_any_type_are_one_label(tmp_path, name, values, expected):
    FORMATS[name](tmp_path / name, [{"text": "x", "label": value} for value in values])
    assert labels_in(tmp_path / name, labels_field="label") == expected


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "a.csv"])
def test_a_fraction_is_no_label(tmp_path, name):
    FORMATS[name](tmp_path / name, [{"text": "x", "label": value} for value in (1.0, 0.5)])
    with pytest.raises(DataError, match=r"(row 2|:2): 'label': '0\.5' is not a label\. "):
        labels_in(tmp_path / name, labels_field="label")


@pytest.mark.parametrize("name", FORMATS)
def test_a_column_for_each_label(tmp_path, name):
    flags = [(1, 0), (0, 0), (1, 1), (0, None)]
    rows = [{"text": "x", "rude": rude, "odd": odd, "very odd": 0} for rude, odd in flags]
    FORMATS[name](tmp_path / name, rows)
    columns = ["odd", "rude", "very odd"]
    reader = open_reader(tmp_path / name, labels_field=columns)
    assert reader.label_names == columns and reader.num_labels == 3
    assert labels_in(tmp_path / name, labels_field=columns) == [["rude"], [], ["odd", "rude"], []]
    for wrong in ([], ["odd", "odd"], ["odd", 3], 3):
        with pytest.raises(ConfigError, match=r"data\.reader_options\.labels_field: "):
            open_reader(tmp_path / name, labels_field=wrong)
    FORMATS[name](tmp_path / name, [*rows, rows[0] | {"odd": 2}])
    with pytest.raises(DataError, match=r"(row 5|csv:6|jsonl:5): column 'odd', .* contains '2'"):
        labels_in(tmp_path / name, labels_field=columns)


def test_one_name_for_a_number_in_a_file(tmp_path):
    """Whatever type each line gives it."""
    for values, expected in (
        ([3, "3", 3.0, "3.0", [4, "4"]], [[3], [3], [3], [3], [4]]),
        (["other", 3, 3.0, "3"], [["other"], ["3"], ["3"], ["3"]]),
    ):
        write_jsonl(tmp_path / "a.jsonl", [{"text": "x", "labels": value} for value in values])
        assert labels_in(tmp_path / "a.jsonl") == expected
    write_jsonl(tmp_path / "a.jsonl", [{"text": "x", "labels": value} for value in (3, "03")])
    with pytest.raises(
        DataError, match=r"a\.jsonl:2: the label '03' is not an id, as those before"
    ):
        labels_in(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"law": 1.0, "tax": 0.0, "art": True}, ["law", "art"]),
        ({"law": None, "tax": "1"}, ["tax"]),
        ({"choices": ["law", "tax"]}, ["law", "tax"]),
        ({}, []),
    ],
)
def test_objects_of_labels(value, expected):
    assert labels_of(value, "a.jsonl:1") == expected


@pytest.mark.parametrize("value", [{"law": 0.7}, {"law": {"tax": 1}}, {"choices": "law", "a": 1}])
def test_objects_that_are_no_labels(value):
    with pytest.raises(DataError, match="of an object of labels is"):
        labels_of(value, "a.jsonl:1")


@pytest.mark.parametrize("name", FORMATS)
def test_texts_of_several_columns(tmp_path, name):
    rows = [{"a": "x", "b": "y", "label": "l"}, {"a": "", "b": "y", "label": "l"}]
    FORMATS[name](tmp_path / name, rows)
    reader = open_reader(tmp_path / name, text_field=["b", "a"], labels_field="label")
    assert next(reader.chunks()).texts == ["y\nx", "y"]
    with pytest.raises((DataError, ConfigError), match=r"no (column|key) 'c'"):
        next(open_reader(tmp_path / name, text_field=["b", "c"], labels_field="label").chunks())
    for wrong in ([], ["a", "a"]):
        with pytest.raises(ConfigError, match="text_field"):
            open_reader(tmp_path / name, text_field=wrong, labels_field="label")


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_nothing_in_one_of_several_columns(tmp_path, name):
    rows = [{"a": None, "b": "y", "label": "l"}, {"a": "x", "b": "y", "label": "l"}]
    FORMATS[name](tmp_path / name, rows)
    reader = open_reader(tmp_path / name, text_field=["a", "b"], labels_field="label")
    assert next(reader.chunks()).texts == ["y", "x\ny"]
