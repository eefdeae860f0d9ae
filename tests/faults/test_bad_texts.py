"""Texts as people have them: wrong columns and encodings, empty and endless ones, other classes."""

import csv
import json

import pytest

from tests import tiny
from tests.commands.calls import call
from tfxc.commands import predict, train
from tfxc.core.storage import checksums

ROWS = [(f"a {name} here{number}", name) for number, name in enumerate(("fox", "hen", "owl") * 8)]
WORDS = {"name": "words", "max_length": 4, "min_count": 1}


def csv_text(rows, header=("sentence", "label")):
    return "".join(",".join(row) + "\n" for row in (header, *rows))


def command(folder, content, encoding="utf-8", dev=None, **data):
    """Arguments of a training on a CSV file."""
    (folder / "train.csv").write_bytes(content.encode(encoding))
    data = {
        "name": "texts",
        "train": str(folder / "train.csv"),
        "dev": dev,
        "text_features": WORDS,
        "normalise": None,
        **data,
    }
    encoder = {"name": "textcnn", "embedding_dim": 4, "num_filters": 4}
    config = tiny.tiny_tree(folder, data=data, objective={"name": "softmax"})
    config |= {"encoder": encoder, "head": {"name": "dense"}, "training": {"epochs": 2}}
    (folder / "config.json").write_text(json.dumps(config))
    return ["--config", folder / "config.json", "--prepared", folder / "prepared"]


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (csv_text(ROWS, ("sentence", "class")), "utf-8", ":1: there is no column 'labels'"),
        (csv_text(ROWS, ("review", "label")), "utf-8", ":1: there is no column 'text'"),
        (csv_text([*ROWS, ("a fox",)]), "utf-8", ":26: the row has 1 cell, the header 2"),
        (
            csv_text([*ROWS, ("ein Füchslein", "fox")]),
            "latin-1",
            ":26: the byte 0xfc in column 6 is",
        ),
        (csv_text([*ROWS, ("狐狸", "fox")]), "gb18030", ":26: the byte 0xba in column 1 is not"),
        (csv_text(ROWS), "utf-16-le", ":1: the line contains zero bytes"),
    ],
)
def test_a_clear_message(tmp_path, capsys, content, encoding, message):
    problem = call(capsys, train, *command(tmp_path, content, encoding)).problem()
    assert problem.startswith(f"{tmp_path / 'train.csv'}{message}")
    assert not (tmp_path / "run").exists()


def test_a_class_outside_the_list(tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("fox\nhen\n")
    arguments = command(tmp_path, csv_text(ROWS), label_names=str(names))
    problem = call(capsys, train, *arguments).problem()
    assert "has the label 'owl', which is not among the label names" in problem
    assert not (tmp_path / "run").exists()


def test_empty_and_long_texts_are_trained_and_reported(tmp_path, capsys):
    """With the mark at the beginning that spreadsheets write; a class that only dev has counts."""
    long = " ".join(f"word{n}" for n in range(50))
    rows = [*ROWS, ("", "fox"), ("  ", "owl"), (long, "hen")]
    dev = tmp_path / "dev.csv"
    dev.write_text(csv_text([("a fox here1", "fox"), ("", "owl"), ("a yak", "yak")]))
    arguments = command(tmp_path, "\ufeff" + csv_text(rows), dev=str(dev))
    outcome = call(capsys, train, *arguments)
    assert outcome.code == 0
    assert "1 of 27 texts were cut off after 4 tokens" in outcome.err
    manifest = json.loads((tmp_path / "run/assets/manifest.json").read_text())
    assert manifest["num_unseen_labels"] == 1 and manifest["splits"]["dev"]["unseen_labels"] == 1
    (tmp_path / "asked.txt").write_text(f"\n{long}\n")
    found = call(capsys, predict, "--run", tmp_path / "run", "--k", "1", tmp_path / "asked.txt")
    assert found.code == 0 and len(list(csv.reader(found.out.splitlines()))) >= 2

    words = tmp_path / "run" / "assets" / "text_features" / "vocabulary.txt"
    first, *others = words.read_text().splitlines(keepends=True)
    words.write_text("".join([first, "another\n", *others]))
    checksums.add(tmp_path / "run", "assets/text_features/vocabulary.txt")
    asked = ("--run", tmp_path / "run", "--k", "1", tmp_path / "asked.txt")
    problem = call(capsys, predict, *asked).problem()
    assert "its num_features is" in problem and "in the run's manifest" in problem
