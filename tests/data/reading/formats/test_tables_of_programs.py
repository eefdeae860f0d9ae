"""Tables as Excel, pandas, Spark and MySQL write them, and quotes that are broken or mean none."""

import pytest

from tests.contracts.formats import concatenated
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.reading.formats import open_reader
from tfxc.data.reading.inspection.completion import Choice, complete
from tfxc.data.reading.inspection.contents import inspect

QUOTED = 'He said "no", and left'
TEXTS = ["a plain text", QUOTED, "C:\\temp\\new", 'ends with "yes"', "two\nlines", "semi;colon", ""]
ROWS = [(text, ("cat", "dog")[number % 2]) for number, text in enumerate(TEXTS * 6)]


def read(path, **given):
    """The examples, and the options that were found for the file."""
    found = inspect(str(path), given=given)
    chunk = concatenated(open_reader(path, found.format, **found.options).chunks())
    return list(zip(chunk.texts, (label for (label,) in chunk.labels), strict=True)), found.options


def cell(text, escaped='""', always=False):
    """As RFC 4180 quotes it, or with quotes and backslashes escaped by one."""
    if not always and not any(sign in text for sign in ',"\n;\\'):
        return text
    if escaped != '""':
        text = text.replace("\\", "\\\\")
    return '"' + text.replace('"', escaped) + '"'


def table(rows, separator=",", **quoting):
    lines = [separator.join(cell(each, **quoting) for each in row) for row in rows]
    return "\n".join([separator.join(("text", "label")), *lines]) + "\n"


def mysql(text):
    """As ``SELECT ... INTO OUTFILE`` writes a value."""
    for sign in "\\\t\n":
        text = text.replace(sign, f"\\{sign}")
    return text


def test_every_cell_is_quoted(tmp_path):
    (tmp_path / "a.csv").write_text(table(ROWS, always=True))
    found, options = read(tmp_path / "a.csv")
    assert found == ROWS and options == {"text_field": "text", "labels_field": "label"}


def test_excel(tmp_path):
    """Semicolons, the encoding of Windows and carriage returns; a mark where it writes UTF-8."""
    rows = [*ROWS, ("5 € für “Öl”", "cat")]
    content = "sep=;\n" + table(rows, ";")
    (tmp_path / "a.csv").write_bytes(content.replace("\n", "\r\n").encode("cp1252"))
    found, options = read(tmp_path / "a.csv")
    expected = [(text.replace("\n", "\r\n").replace("\r\n", "\n"), label) for text, label in rows]
    assert found == expected and options["delimiter"] == ";" and options["encoding"] == "cp1252"
    (tmp_path / "a.csv").write_text(content, encoding="utf-8-sig")
    assert read(tmp_path / "a.csv")[0] == rows


@pytest.mark.parametrize("always", [False, True])
def test_spark(tmp_path, always):
    (tmp_path / "a.csv").write_text(table(ROWS, escaped=r"\"", always=always))
    found, options = read(tmp_path / "a.csv")
    assert found == ROWS and options["escape"] == "\\" and "quotes" not in options
    with pytest.raises(DataError, match=r"a\.csv:3: .*reader_options\.escape=\\'; else repair"):
        list(open_reader(tmp_path / "a.csv").chunks())


def test_backslashes_that_escape_nothing_stay(tmp_path):
    """Spark does not double them, and a text may end in one."""
    (tmp_path / "a.csv").write_text('text,label\n"say \\"hi\\" to C:\\temp",a\nb\\c,\\N\n')
    chunk = concatenated(open_reader(tmp_path / "a.csv", escape="\\").chunks())
    assert chunk.texts == ['say "hi" to C:\\temp', "b\\c"] and chunk.labels == [["a"], []]
    rows = [(f"the folder C:\\{number}\\", "ab"[number % 2]) for number in range(8)]
    (tmp_path / "b.csv").write_text(table(rows, always=True))
    found, options = read(tmp_path / "b.csv")
    assert found == rows and "escape" not in options


def test_mysql(tmp_path):
    lines = ["\t".join(map(mysql, row)) for row in [("text", "label"), *ROWS]]
    (tmp_path / "a.tsv").write_text("\n".join(lines) + "\n")
    found, options = read(tmp_path / "a.tsv")
    assert found == ROWS and options["escape"] == "\\"
    rows = [('"lonely', "cat"), ("tab\tand \\", "dog"), ("\\N", "cat")] * 4
    lines = ["\t".join(map(mysql, row)) for row in [("text", "label"), *rows]]
    (tmp_path / "a.tsv").write_text("\n".join(lines) + "\n")
    found, options = read(tmp_path / "a.tsv")
    assert found == rows and options["quotes"] is False


def test_pandas(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS, columns=["text", "label"])
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert read(tmp_path / "a.csv")[0] == ROWS
    frame.to_csv(tmp_path / "b.csv", index=False, doublequote=False, escapechar="\\", quoting=1)
    assert read(tmp_path / "b.csv")[0] == ROWS
    frame.to_csv(tmp_path / "c.tsv.bz2", index=False, sep="\t", encoding="utf-8-sig")
    assert read(tmp_path / "c.tsv.bz2")[0] == ROWS


def test_blanks_behind_commas(tmp_path):
    lines = [f'"{text}, indeed", "{label}"' for text, label in zip("abcd", "xyxy", strict=True)]
    (tmp_path / "a.csv").write_text("\n".join(['"text", "label"', *lines]) + "\n")
    found, options = read(tmp_path / "a.csv")
    assert found == [(f"{t}, indeed", x) for t, x in zip("abcd", "xyxy", strict=True)]
    assert options == {"text_field": "text", "labels_field": "label"}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ('"never closed,cat', "starts with a quotation mark that is never closed"),
        ('"an "inner" one","cat"', "a quotation mark in a quoted cell is neither doubled nor at"),
        ('"text" left,"cat"', "a quotation mark in a quoted cell is neither doubled nor at its e"),
    ],
)
@pytest.mark.parametrize("place", [0, 40, 1900])
def test_a_broken_row_is_named(tmp_path, broken, message, place):
    """It is no reason to take the quotes of all others for a part of their labels."""
    lines = [f'"text {number}","{("cat", "dog")[number % 2]}"' for number in range(2000)]
    lines.insert(place, broken)
    (tmp_path / "a.csv").write_text("\n".join(['"text","label"', *lines]) + "\n")
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / "a.csv")
    assert str(caught.value).startswith(f"{tmp_path / 'a.csv'}:{place + 2}: ")
    assert "--set data.reader_options.quotes=false" in str(caught.value)
    found, _ = read(tmp_path / "a.csv", quotes=False)
    assert ('"text 7"', '"dog"') in found, "that is what was asked for"


def test_a_quote_that_is_not_closed_until_the_end(tmp_path):
    (tmp_path / "a.csv").write_text('text,label\na,x\n"b,y\n' + "c,x\n" * 400)
    with pytest.raises(DataError, match=r"a\.csv:3: a cell starts with a quotation mark that is n"):
        list(open_reader(tmp_path / "a.csv").chunks())
    with pytest.raises(
        DataError, match=r"a\.csv:3: a cell is longer than max_line_bytes \(99\): p"
    ):
        list(open_reader(tmp_path / "a.csv", max_line_bytes=99).chunks())


def test_the_null_of_mysql_is_no_label(tmp_path):
    """Also where no other backslash shows who has written the file."""
    lines = ["text\tlabel", *(f"{word}\t{label}" for word, label in ROWS[:2]), "nothing\t\\N"]
    (tmp_path / "a.tsv").write_text("\n".join(lines) + "\n")
    found = inspect(str(tmp_path / "a.tsv"))
    assert found.options["escape"] == "\\"
    chunk = concatenated(open_reader(tmp_path / "a.tsv", found.format, **found.options).chunks())
    assert chunk.labels[-1] == []


def test_quotes_that_are_text(tmp_path):
    """Most cells that begin with one do not end with one."""
    rows = [('"Well', "cat"), ('"Yes" she said', "dog"), ("nothing", "cat"), ('"all"', "dog")] * 9
    lines = ["\t".join(row) for row in [("text", "label"), *rows]]
    (tmp_path / "a.tsv").write_text("\n".join(lines) + "\n")
    found, options = read(tmp_path / "a.tsv")
    assert found == rows and options["quotes"] is False


@pytest.mark.parametrize("escape", ["", "ab", '"', ",", "\n"])
def test_a_character_that_cannot_escape(tmp_path, escape):
    (tmp_path / "a.csv").write_text("text,label\n")
    with pytest.raises(ConfigError, match=r"escape: .* cannot escape other characters"):
        open_reader(tmp_path / "a.csv", escape=escape)


def test_each_split_is_read_as_it_is_written(tmp_path):
    """What was found for the training file is not said of another one."""
    (tmp_path / "train.csv").write_text(table(ROWS, ";", escaped=r"\""))
    (tmp_path / "dev.csv").write_text(table(ROWS, always=True))
    data = {"train": str(tmp_path / "train.csv"), "dev": str(tmp_path / "dev.csv")}
    found = complete({"data": data}, Choice()).tree["data"]
    options = {**found["reader_options"], **found["split_options"]["dev"]}
    chunk = concatenated(open_reader(tmp_path / "dev.csv", **options).chunks())
    assert chunk.texts == [text for text, _ in ROWS] and chunk.labels[1] == ["dog"]


def test_quotes_that_come_late(tmp_path):
    """Where the first lines said that quotes are text, the message says how to have them quote."""
    lines = ['"Well, I,cat', *(f"text {number},dog" for number in range(9)), '"a, b",cat']
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    with pytest.raises(
        DataError, match=r"csv:2: the row has 3 cells, the header 2\. .*quotes=true"
    ):
        list(open_reader(tmp_path / "a.csv", quotes=False).chunks())


def test_quotes_around_every_cell_are_quotes(tmp_path):
    """However many rows are broken: else every label would be one with quotation marks."""
    broken = [f'"a "bad" text {n}","cat"' for n in range(30)]
    rows = [f'"a good text {n}","dog"' for n in range(3)]
    (tmp_path / "a.csv").write_text("\n".join(['"text","label"', *rows, *broken]) + "\n")
    message = r"a\.csv:5: a quotation mark in a quoted cell is neither doubled nor at its end"
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.csv")
    columns = {"text_field": '"text"', "labels_field": '"label"'}
    found, options = read(tmp_path / "a.csv", quotes=False, **columns)
    assert found[0] == ('"a good text 0"', '"dog"') and options["quotes"] is False


def test_a_malformed_row_among_the_first(tmp_path):
    """It is named, wherever it is; quotes stay quotes."""
    for place in (0, 3, 99):
        lines = [f'"a text, {n}","{"cat" if n % 2 else "dog"}"' for n in range(120)]
        lines[place] = '"a "bad text","cat"'
        (tmp_path / "a.csv").write_text("\n".join(["text,label", *lines]) + "\n")
        with pytest.raises(DataError, match=rf"a\.csv:{place + 2}: a quotation mark"):
            read(tmp_path / "a.csv")


@pytest.mark.parametrize("separator", [", ", "; "])
def test_a_blank_in_front_of_a_quote(tmp_path, separator):
    lines = [separator.join(cell(each, always=True) for each in row) for row in ROWS]
    (tmp_path / "a.csv").write_text("\n".join([f'"text"{separator}"label"', *lines]) + "\n")
    assert read(tmp_path / "a.csv")[0] == ROWS


def test_unicode_text_of_excel(tmp_path):
    """The kind of file that "Save as, Unicode Text" makes."""
    content = table(ROWS, "\t").replace("\n", "\r\n").encode("utf-16")
    (tmp_path / "a.txt").write_bytes(content)
    found, options = read(tmp_path / "a.txt")
    assert found == ROWS and options["delimiter"] == "\t"


@pytest.mark.parametrize("separator", [";", "|", "\uff1b", "\u3001", "#"])
def test_separators_as_written(tmp_path, separator):
    """With one at the end, and two in the middle."""
    cells = ["law", f"law{separator}tax{separator}", f"tax{separator}{separator}law", "tax"] * 6
    lines = [f"a text of {n},{cell}" for n, cell in enumerate(cells)]
    (tmp_path / "a.csv").write_text("\n".join(["text,topics", *lines]) + "\n", encoding="utf-8")
    found = inspect(str(tmp_path / "a.csv"))
    assert found.options["label_separator"] == separator and found.labels == 2
    labels = concatenated(open_reader(tmp_path / "a.csv", **found.options).chunks()).labels
    assert labels[:4] == [["law"], ["law", "tax"], ["tax", "law"], ["tax"]]


def test_whole_numbers_of_pandas_with_an_empty_cell(tmp_path):
    """pandas holds them as floats then, and writes 3 as 3.0."""
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame({"text": [f"text {n}" for n in range(9)], "label": [3, 4, None] * 3})
    frame.to_csv(tmp_path / "a.csv")
    frame.to_parquet(tmp_path / "a.parquet", index=False)
    frame.dropna().astype({"label": int}).to_csv(tmp_path / "whole.csv", index=False)
    for name in ("a.csv", "a.parquet", "whole.csv"):
        found = inspect(str(tmp_path / name))
        labels = concatenated(open_reader(tmp_path / name, **found.options).chunks()).labels
        assert {str(label) for each in labels for label in each} == {"3", "4"}, name


def test_excel_of_an_old_macintosh(tmp_path):
    """It ends lines with a carriage return alone."""
    content = "\n".join(['"text","label"', *('"one, two","cat"' for _ in range(9))]) + "\n"
    (tmp_path / "a.csv").write_bytes(content.replace("\n", "\r").encode())
    with pytest.raises(DataError, match=r"a\.csv:1: the line contains a carriage return without a"):
        read(tmp_path / "a.csv")
