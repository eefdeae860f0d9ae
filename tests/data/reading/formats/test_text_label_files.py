"""Folders of texts and labels in two files, line by line."""

import bz2
import gzip

import pytest

from tests.commands.calls import call
from tests.contracts.formats import ReaderContract, concatenated
from tfxc.commands import init
from tfxc.core.errors import DataError
from tfxc.data.reading.formats import detect_format, open_reader, open_unlabelled
from tfxc.data.reading.inspection.completion import Choice, complete

TEXTS = [
    "one, two",
    "",
    'a "quote',
    "tab\there",
    "Käse 中文",
    "six",
    "seven ",
    "\u2028 eight",
    "ix",
]
LABELS = ["a b", "b", "", "a a", "Öl,1", "a", "__x", "b  a ", "a"]
SETS = [["a", "b"], ["b"], [], ["a"], ["Öl,1"], ["a"], ["__x"], ["b", "a"], ["a"]]


def write(folder, split="train", texts=TEXTS, labels=LABELS, name="texts"):
    for kind, lines in ((name, texts), ("labels", labels)):
        content = "".join(f"{line}\n" for line in lines)
        (folder / f"{split}_{kind}.txt").write_text(content, encoding="utf-8", newline="")


class TestTextLabelFiles(ReaderContract):
    format = "text_label_files"

    def write_sample(self, folder):
        write(folder)
        write(folder, "test", TEXTS[:3], LABELS[:3])
        return folder

    def write_compressed(self, folder):
        for ending, pack in ((".gz", gzip.compress), (".bz2", bz2.compress)):
            where = folder / ending
            where.mkdir()
            write(where)
            for kind in ("texts", "labels"):
                path = where / f"train_{kind}.txt"
                packed = where / f"{path.name}{ending}"
                packed.write_bytes(pack(path.read_bytes()))
                path.unlink()
                yield where, packed

    def test_examples(self, tmp_path):
        folder = self.write_sample(tmp_path)
        chunk = concatenated(open_reader(folder).chunks())
        assert chunk.texts == TEXTS and chunk.labels == SETS
        chunk = concatenated(open_reader(folder, split="test").chunks())
        assert chunk.texts == TEXTS[:3] and chunk.labels == SETS[:3]


def test_raw_texts_come_first(tmp_path):
    write(tmp_path)
    write(tmp_path, texts=[f"Raw {text}" for text in TEXTS], name="raw_texts")
    assert concatenated(open_reader(tmp_path).chunks()).texts[0] == "Raw one, two"


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (9, 6, r"train_texts\.txt has 9 lines, train_labels\.txt 6\. Restore"),
        (5, 9, r"train_texts\.txt has 5 lines, train_labels\.txt 9\. Restore"),
        (1, 0, r"train_texts\.txt has 1 lines, train_labels\.txt 0\. Restore"),
    ],
)
def test_different_numbers_of_lines(tmp_path, texts, labels, message):
    write(tmp_path, texts=TEXTS[:texts], labels=LABELS[:labels])
    with pytest.raises(DataError, match=message):
        list(open_reader(tmp_path).chunks(2))


def test_missing_files(tmp_path):
    write(tmp_path)
    with pytest.raises(
        DataError, match=r"no file dev_texts\.txt, only train_labels\.txt, train_te"
    ):
        open_reader(tmp_path, split="dev")
    with pytest.raises(DataError, match=r"this is not a folder"):
        open_reader(tmp_path / "train_texts.txt", "text_label_files")
    (tmp_path / "train_labels.txt").unlink()
    with pytest.raises(DataError, match=r"no file train_labels\.txt, only train_texts\.txt\. Set"):
        open_reader(tmp_path, "text_label_files")
    with pytest.raises(DataError, match="the folder is of no known format"):
        detect_format(tmp_path)
    chunk = concatenated(open_unlabelled(tmp_path, "text").chunks())
    assert chunk.texts == TEXTS and not any(chunk.labels)


def test_a_folder_is_all_that_training_needs(tmp_path, capsys):
    write(tmp_path, texts=TEXTS * 6, labels=LABELS * 6)
    write(tmp_path, "test")
    found = complete({"data": {"train": str(tmp_path)}}, Choice())
    data = found.tree["data"]
    assert (found.contents.format, found.contents.examples) == ("text_label_files", 54)
    assert data["test"] == str(tmp_path) and data["dev_share"] == 0.15
    assert data["split_options"] == {"train": {"split": "train"}, "test": {"split": "test"}}
    assert call(capsys, init, tmp_path, "--output", tmp_path / "config.json").code == 0
