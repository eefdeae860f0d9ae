"""Folders of tables: parts as Spark writes them, files of splits as Kaggle has them."""

import csv
import gzip
import json

import pytest

from tests.contracts.formats import ReaderContract, concatenated
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.reading.formats import detect_format, open_reader
from tfxc.data.reading.inspection.completion import Choice, complete
from tfxc.data.reading.inspection.contents import inspect

ROWS = [(f"text {n}, of a customer", ("cat", "dog", "owl")[n % 3]) for n in range(24)]
TOXIC = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")


def write_csv(path, header, rows, **options):
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", newline="", encoding="utf-8") as stream:
        csv.writer(stream, **options).writerows([header, *rows])


def write_json(path, rows):
    lines = (json.dumps({"text": text, "label": label}) for text, label in rows)
    path.write_text("".join(f"{line}\n" for line in lines))


def spark(folder, ending=".csv"):
    """What ``df.write.csv(folder, header=True)`` leaves."""
    folder.mkdir()
    (folder / "_SUCCESS").touch()
    for part in range(3):
        name = f"part-0000{part}-4b8e3c1a-5a0e-4d3c-9f5e-2f6a1d0c7b9e-c000{ending}"
        (folder / f".{name}.crc").write_bytes(b"crc\0\0\0\2\0")
        if ending.startswith(".json"):
            write_json(folder / name, ROWS[8 * part : 8 * part + 8])
        else:
            write_csv(folder / name, ("text", "label"), ROWS[8 * part : 8 * part + 8])
    return folder


class TestTableFolder(ReaderContract):
    format = "table_folder"

    def write_sample(self, folder):
        return spark(folder / "data.csv")

    def write_compressed(self, folder):
        path = spark(folder / "data", ".csv.gz")
        yield path, sorted(path.glob("part*"))[-1]

    def test_unknown_option(self, tmp_path):
        super().test_unknown_option(tmp_path)
        path = spark(tmp_path / "lines", ".json")
        with pytest.raises(ConfigError, match=r"delimiter: files that end in \.json have no such"):
            open_reader(path, delimiter=";")


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".json"])
def test_parts_of_spark(tmp_path, ending):
    path = spark(tmp_path / "set", ending)
    found = inspect(str(path))
    assert found.format == "table_folder" and found.examples == 24 and not found.splits
    chunk = concatenated(open_reader(path, **found.options).chunks(5))
    assert list(zip(chunk.texts, chunk.labels, strict=True)) == [(x, [y]) for x, y in ROWS]


def test_a_competition(tmp_path, capsys):
    """Its test file has no labels: it is not a test split, and that is said."""
    folder = tmp_path / "toxic"
    folder.mkdir()
    flags = [[int((n + k) % 5 == 0) for k in range(6)] for n in range(24)]
    rows = [(f"{n:016x}", text, *flags[n]) for n, (text, _) in enumerate(ROWS)]
    write_csv(folder / "train.csv", ("id", "comment_text", *TOXIC), rows)
    write_csv(folder / "test.csv", ("id", "comment_text"), [row[:2] for row in rows])
    write_csv(folder / "test_labels.csv", ("id", *TOXIC), [(row[0], *row[2:]) for row in rows])
    write_csv(folder / "sample_submission.csv", ("id", *TOXIC), [])
    data = complete({"data": {"train": str(folder)}}, Choice()).tree["data"]
    assert "test" not in data and data["split_options"] == {"train": {"split": "train"}}
    options = {"text_field": "comment_text", "labels_field": list(TOXIC)}
    assert data["reader_options"] == options and data["dev_share"]
    said = capsys.readouterr().err
    assert (
        f"{folder / 'test.csv'}: the file is not used: it has no column 'identity_hate', " in said
    )
    reader = open_reader(folder, split="train", **options)
    labels = [[name for name, flag in zip(TOXIC, row, strict=True) if flag] for row in flags]
    assert concatenated(reader.chunks()).labels == labels
    reader = open_reader(folder, split="test", text_field="comment_text", labelled=False)
    with pytest.raises(DataError, match=r"test_labels\.csv:1: there is no column 'comment_text'"):
        concatenated(reader.chunks())


def test_a_file_for_each_split(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for name, rows in (("train-0", ROWS[:8]), ("train-1", ROWS[8:16]), ("valid", ROWS[16:])):
        write_csv(folder / f"{name}.tsv", ("text", "label"), rows, delimiter="\t")
    data = complete({"data": {"train": str(folder)}}, Choice()).tree["data"]
    assert data["split_options"] == {"train": {"split": "train"}, "dev": {"split": "valid"}}
    assert data["dev"] == str(folder) and "dev_share" not in data
    reader = open_reader(folder, split="train")
    assert concatenated(reader.chunks()).texts == [text for text, _ in ROWS[:16]]
    with pytest.raises(DataError, match=r"there is no split 'test', only train, valid"):
        open_reader(folder, split="test")
    with pytest.raises(DataError, match=r"holds several splits: train, valid\. Choose one"):
        open_reader(folder)


def test_what_is_no_folder_of_tables(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    write_csv(folder / "a.csv", ("text", "label"), ROWS)
    write_json(folder / "b.jsonl", ROWS)
    write_json(folder / "settings.json", [])
    with pytest.raises(DataError, match=r"files of several formats: a\.csv, b\.jsonl\. Move"):
        inspect(str(folder))
    (folder / "b.jsonl").unlink()
    assert inspect(str(folder)).examples == 24
    (folder / "cat").mkdir()
    (folder / "cat" / "1.jpg").touch()
    assert detect_format(folder) == "image_folder"
    with pytest.raises(DataError, match=r"the folder has no \.csv, "):
        open_reader(folder / "cat", "table_folder")
