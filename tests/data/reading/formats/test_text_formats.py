"""JSON lines and CSV/TSV, against ``json`` and ``csv``."""

import csv
import io
import json
import lzma

import pytest

from tests.contracts.formats import ReaderContract, compressed_texts, concatenated
from tests.data.reading.formats import data_folder
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.reading.formats import detect_format, open_reader, open_unlabelled

EXAMPLES = [
    ("plain", ["a"]),
    ("", ["b", "a"]),
    ("mehr\nals eine Zeile", []),
    ('comma, and "quotes"', ["Käse", "a,b"]),
    ("line separator \u2028 inside", ["中文"]),
    ("tab\there", ["a"]),
    ("six", ["#"]),
    ("seven", ["x y"]),
    ("eight", ["a"]),
]


class TextFileContract(ReaderContract):
    """Inherit, and define ``content``, the bytes of a file of at least 8 examples."""

    name = "sample.txt"

    def write_sample(self, folder):
        path = folder / self.name
        path.write_bytes(self.content())
        return path

    def write_compressed(self, folder):
        return compressed_texts(folder, self.name, self.content() + b"\n")


class TestJSONLines(TextFileContract):
    format, name = "jsonl", "sample.jsonl"

    def content(self):
        lines = (json.dumps({"text": t, "labels": n}, ensure_ascii=False) for t, n in EXAMPLES)
        return "\n".join(lines).encode("utf-8")

    def test_examples(self, tmp_path):
        chunk = concatenated(open_reader(self.write_sample(tmp_path)).chunks())
        assert list(zip(chunk.texts, chunk.labels, strict=True)) == EXAMPLES

    def test_fields_and_single_label(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_bytes(b'\xef\xbb\xbf{"body": "x", "tag": 7}\r\n\r\n{"body": "y", "tag": [1, 1]}')
        reader = open_reader(path, text_field="body", labels_field="tag")
        chunk = concatenated(reader.chunks())
        assert (chunk.texts, chunk.labels) == (["x", "y"], [[7], [1]])

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            (b'{"text": "x", "labels": ["a"]', "not a JSON object: Expecting .* in column 30"),
            (b"[1]", "not a JSON object: "),
            (b'{"text": "x"}', "no key 'labels', only 'text'. .*--reader-option labels_field=NAME"),
            (b'{"labels": ["a"]}', "no key 'text', only 'labels'"),
            (b'{"text": 3, "labels": ["a"]}', "'text' is 3, which is not a text.*text_field=NAME"),
            (b'{"text": "x", "labels": [1.5]}', "'labels': '1.5' is not a label"),
            (b'{"text": "x", "labels": {"a": 2}}', "the label 'a' of an object of labels is '2'"),
            (b'{"text": "x", "labels": ["a\\nb"]}', "one non-empty line"),
            (b'{"text": "x", "labels": [[3]]}', r"'\[3\]' is not a label"),
            (b'{"text": "\\ud800", "labels": []}', "lone surrogate"),
            (b'{"text": "caf\xe9", "labels": []}', "the byte 0xe9 in column 14 is not UTF-8"),
        ],
    )
    def test_errors_name_the_line(self, tmp_path, line, message):
        path = tmp_path / "a.jsonl"
        path.write_bytes(b'{"text": "x", "labels": ["a"]}\n\n' + line + b"\n")
        with pytest.raises(DataError, match=message) as caught:
            list(open_reader(path).chunks())
        assert str(caught.value).startswith(f"{path}:3: ")

    def test_an_object_over_several_lines(self, tmp_path):
        (tmp_path / "a.json").write_text('{\n"data": {}\n}')
        with pytest.raises(DataError, match=r"a.json:1: .*Write one object per line, ") as caught:
            list(open_reader(tmp_path / "a.json").chunks())
        assert "Expecting" not in str(caught.value)

    @pytest.mark.parametrize("indent", [None, 0, 2])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_a_list(self, tmp_path, indent, encoding):
        """As json.dump and pandas' to_json(orient="records") write one."""
        objects = [{"text": text, "labels": labels} for text, labels in EXAMPLES]
        content = json.dumps(objects, indent=indent, ensure_ascii=False)
        (tmp_path / "a.json").write_text(content, encoding=encoding)
        reader = open_reader(tmp_path / "a.json")
        chunk = concatenated(reader.chunks(3))
        assert list(zip(chunk.texts, chunk.labels, strict=True)) == EXAMPLES
        assert reader.bytes_read == reader.total_bytes

    def test_a_list_is_read_piece_by_piece(self, tmp_path):
        """On one line that is longer than any may be."""
        objects = [{"text": "é" * n, "labels": ["a"]} for n in range(2000)]
        (tmp_path / "a.json").write_text(json.dumps(objects, ensure_ascii=False), "utf-8")
        reader = open_reader(tmp_path / "a.json", max_line_bytes=5000)
        assert concatenated(reader.chunks()).texts == [each["text"] for each in objects]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ('[{"text": "x", "labels": []},\n\n {"text": }]', ":3: .* Expecting value"),
            ('[{"text": "x", "labels": []}\n{"text": "y"}]', ":2: .*but ',' is missing"),
            ('[{"text": "x", "labels": []},\n', ":2: .*the list has no end"),
            ('[{"text": "x", "labels": []},\n {"text": "', ":2: .* Unterminated string"),
            ('[{"text": "x", "labels": []}]\n{"text": "y"}', ":1: .*text follows the end"),
            ('[{"text": "x", "labels": []},\n3]', ":2: an element of the list is not a JSON obj"),
            ('[{"text": "x", "labels": []},\n{"text": "y"}]', ":2: there is no key 'labels'"),
            ("[" + "[" * 200_000, ":1: "),
            ('[{"text": "x", "labels": ' + "1" * 5000 + "}]", ":1: the list is no JSON"),
        ],
    )
    def test_a_damaged_list(self, tmp_path, content, message):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(DataError, match=rf"a\.json{message}"):
            list(open_reader(tmp_path / "a.json").chunks())

    def test_a_list_in_which_an_element_has_no_end(self, tmp_path):
        """It is refused before the whole file is in memory."""
        (tmp_path / "a.json").write_text('[{"text": "' + "x" * (4 << 20))
        reader = open_reader(tmp_path / "a.json", max_line_bytes=10_000)
        with pytest.raises(DataError, match="Unterminated string"):
            list(reader.chunks())
        assert reader.bytes_read < 3 << 20

    def test_a_line_of_a_list_that_is_not_utf_8(self, tmp_path):
        content = b'[{"text": "x", "labels": []},\n{"text": "caf\xe9", "labels": []}]'
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.json:2: the byte 0xe9 in column 14 is not UTF-8"):
            list(open_reader(tmp_path / "a.json").chunks())

    def test_negative_id(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_text('{"text": "x", "labels": [-1]}')
        with pytest.raises(DataError, match=r"a.jsonl:1: the label id -1 is not one of 0 to"):
            list(open_reader(path).chunks())

    def test_real_data(self):
        path = data_folder("cooking") / "train.jsonl.xz"
        reader = open_reader(path)
        with lzma.open(path, "rt", encoding="utf-8") as stream:
            expected = [json.loads(line) for line in stream]
        chunk = concatenated(reader.chunks(1000))
        assert len(expected) == 12404
        assert chunk.texts == [example["text"] for example in expected]
        assert chunk.labels == [example["labels"] for example in expected]
        assert reader.bytes_read == reader.total_bytes


class TestDelimited(TextFileContract):
    format, name = "delimited", "sample.csv"
    options = {"label_separator": ";"}  # noqa: RUF012

    def content(self, delimiter=","):
        stream = io.StringIO()
        writer = csv.writer(stream, delimiter=delimiter, lineterminator="\r\n")
        writer.writerow(["label", "extra", "sentence"])
        writer.writerows([";".join(labels), "-", text] for text, labels in EXAMPLES)
        return stream.getvalue().encode("utf-8")

    @pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.tsv", "\t")])
    def test_examples(self, tmp_path, name, delimiter):
        (tmp_path / name).write_bytes(self.content(delimiter))
        chunk = concatenated(open_reader(tmp_path / name, label_separator=";").chunks())
        assert list(zip(chunk.texts, chunk.labels, strict=True)) == EXAMPLES

    def test_one_label_a_cell(self, tmp_path):
        (tmp_path / "a.csv").write_text("x,y\nt, a;b \n\nu,\n")
        reader = open_reader(tmp_path / "a.csv", text_field="x", labels_field="y")
        assert concatenated(reader.chunks()).labels == [["a;b"], []]

    def test_without_quotes(self, tmp_path):
        (tmp_path / "a.tsv").write_text('text\tlabel\n"open\ta\n5" disk\tb\n')
        chunk = concatenated(open_reader(tmp_path / "a.tsv", quotes=False).chunks())
        assert chunk.texts == ['"open', '5" disk']

    def test_a_separator_as_excel_writes_it(self, tmp_path):
        (tmp_path / "a.csv").write_text("\ufeffsep=;\r\ntext;label\r\none, two;a\r\n")
        chunk = concatenated(open_reader(tmp_path / "a.csv", delimiter=";").chunks())
        assert (chunk.texts, chunk.labels) == (["one, two"], [["a"]])

    def test_long_cell(self, tmp_path):
        (tmp_path / "a.csv").write_text(f"text,label\n{'x' * 200_000},a\n")
        assert len(concatenated(open_reader(tmp_path / "a.csv").chunks()).texts[0]) == 200_000

    @pytest.mark.parametrize(
        ("content", "where", "message"),
        [
            ("text,tag\n", 1, "there is no column 'labels' or 'label', only 'text', 'tag'"),
            ("text,label,text\n", 1, "there is more than one column 'text' or 'sentence'"),
            ("", 1, "there is no column 'text' or 'sentence'. "),
            ('text,label\n"x\ny",a\nx,y,a\n', 4, "the row has 3 cells, the header 2"),
            (
                'text,label\nx,a\n"x,a\ny,b\n',
                3,
                "starts with a quotation mark that is never closed",
            ),
            ('text,label\n"x"y,a\n', 2, "is neither doubled nor at its end"),
            ('text,label\nx,"a\nb"\n', 2, "one non-empty line"),
            ("text,label\rx,a\r", 1, "a carriage return without a line feed"),
            ('sep=,\ntext,label\n"x,a\n', 3, "never closed.*data.reader_options.quotes=false"),
        ],
    )
    def test_errors_name_the_line(self, tmp_path, content, where, message):
        path = tmp_path / "a.csv"
        path.write_text(content)
        with pytest.raises(DataError, match=message) as caught:
            list(open_reader(path).chunks())
        assert str(caught.value).startswith(f"{path}:{where}: ")

    @pytest.mark.parametrize("options", [{"delimiter": ""}, {"label_separator": ""}])
    def test_bad_separators(self, tmp_path, options):
        with pytest.raises(ConfigError, match=next(iter(options))):
            open_reader(self.write_sample(tmp_path), **options)

    def test_real_data_with_several_labels(self):
        path = data_folder("duee") / "train.csv"
        chunk = concatenated(open_reader(path, label_separator=",").chunks())
        with open(path, encoding="utf-8", newline="") as stream:
            expected = list(csv.DictReader(stream))
        assert chunk.texts == [row["sentence"] for row in expected]
        assert chunk.labels == [row["label"].split(",") for row in expected]
        assert len({label for labels in chunk.labels for label in labels}) == 65


def test_the_longest_cell_of_other_readers_stays(tmp_path):
    """``csv`` has one limit for the whole process; installed packages are listed as CSV, too."""
    path = tmp_path / "a.csv"
    path.write_text("text,labels\n" + 3 * "one,a\n")
    before = csv.field_size_limit()
    reader = open_reader(path, max_line_bytes=50)
    for chunk in reader.chunks(1):
        assert len(chunk) == 1 and csv.field_size_limit() == before


class TestLibMultiLabel(TextFileContract):
    format = "libmultilabel"

    def content(self):
        lines = [f'{n}\ta b{n % 3}\ttext "{n}, 狐' for n in range(8)] + [
            "",
            "8\t\tnone",
            "9\tb b a\t",
        ]
        return "\n".join(lines).encode()

    def test_three_columns(self, tmp_path):
        chunk = concatenated(open_reader(self.write_sample(tmp_path)).chunks())
        assert chunk.texts == [f'text "{n}, 狐' for n in range(8)] + ["none", ""]
        assert chunk.labels == [["a", f"b{n % 3}"] for n in range(8)] + [[], ["b", "a"]]

    def test_two_columns(self, tmp_path):
        (tmp_path / "a.txt").write_text("x y\tone text\nz\tanother\n")
        chunk = concatenated(open_reader(tmp_path / "a.txt").chunks())
        assert (chunk.texts, chunk.labels) == (["one text", "another"], [["x", "y"], ["z"]])

    @pytest.mark.parametrize(
        ("second", "found"), [("z\tsome\ttext", 3), ("no tab", 1), ("a\tb\tc\td", 4)]
    )
    def test_another_number_of_columns(self, tmp_path, second, found):
        (tmp_path / "a.txt").write_text(f"x\tone\n{second}\n")
        with pytest.raises(
            DataError, match=rf"a.txt:2: .* between tabs is {found} instead of 2\. "
        ):
            list(open_reader(tmp_path / "a.txt").chunks())

    def test_texts_alone_are_read_if_the_format_is_named(self, tmp_path):
        path = self.write_sample(tmp_path)
        assert detect_format(path, "text") == "lines"
        chunk = concatenated(open_unlabelled(path, "text", "libmultilabel").chunks())
        assert chunk.texts[0] == 'text "0, 狐' and not any(chunk.labels)


class TestFastTextLines(TextFileContract):
    format, name = "fasttext_lines", "sample.train"

    def content(self):
        lines = (
            f"{' '.join(f'__label__{n}' for n in 'ab'[: 1 + k % 2])} text {k}" for k in range(9)
        )
        return "\n".join(lines).encode()

    def test_labels_may_stand_anywhere(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("one __label__x two __label__y __label__x\n\n__label__ three\n")
        chunk = concatenated(open_reader(path, "fasttext_lines").chunks())
        assert chunk.texts == ["one two", "__label__ three"]
        assert chunk.labels == [["x", "y"], []]

    def test_recognised_by_its_first_line(self, tmp_path):
        (tmp_path / "a.txt").write_text("__label__x text\n")
        assert detect_format(tmp_path / "a.txt") == "fasttext_lines"

    def test_texts_alone(self, tmp_path):
        (tmp_path / "a.txt").write_text("one\n\n__label__x two\n")
        reader = open_reader(tmp_path / "a.txt", "fasttext_lines", labelled=False)
        chunk = concatenated(reader.chunks())
        assert chunk.texts == ["one", "", "two"] and chunk.labels == [[], [], []]

    def test_another_prefix(self, tmp_path):
        (tmp_path / "a.txt").write_text("#x one\n")
        reader = open_reader(tmp_path / "a.txt", "fasttext_lines", prefix="#")
        assert concatenated(reader.chunks()).labels == [["x"]]
        with pytest.raises(ConfigError, match="prefix: '' is not a word"):
            open_reader(tmp_path / "a.txt", "fasttext_lines", prefix="")


def test_a_table_without_a_header(tmp_path):
    (tmp_path / "a.csv").write_text("a text,x\nanother,y\n")
    options = {"columns": ["text", "label"]}
    chunk = concatenated(open_reader(tmp_path / "a.csv", **options).chunks())
    assert (chunk.texts, chunk.labels) == (["a text", "another"], [["x"], ["y"]])
    with pytest.raises(ConfigError, match="columns: must be a list, each item a text, not 'text'"):
        open_reader(tmp_path / "a.csv", columns="text")


def test_a_table_without_labels(tmp_path):
    (tmp_path / "a.csv").write_text("text\nred\n")
    chunk = concatenated(open_reader(tmp_path / "a.csv", labelled=False).chunks())
    assert (chunk.texts, chunk.labels) == (["red"], [[]])
