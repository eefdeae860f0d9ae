"""A reader outside of tfxc, named in a config."""

import json
import os

import numpy as np
import pytest

from tests import tiny
from tfxc.commands import evaluate, predict, train
from tfxc.core.errors import ConfigError
from tfxc.data.reading.formats import open_reader
from tfxc.data.reading.formats.base import TextReader

NAME = f"{__name__}:TextsAndLabels"


class TextsAndLabels(TextReader):
    """Lines of ``label label | text``."""

    def __init__(self, path, *, labelled=True, separator="|"):
        super().__init__(path)
        self._labelled, self._separator = labelled, separator

    def _examples(self):
        for _, line in self._lines.texts():
            labels, _, text = line.rpartition(self._separator)
            yield text, labels.split() if self._labelled else []


class NoReader:
    """Not derived from ``Reader``."""


def write_texts(path, count, seed):
    """Texts of which each label is a word of its own."""
    random = np.random.default_rng(seed)
    words = [f"w{number}" for number in range(12)]
    lines = []
    for _ in range(count):
        labels = random.choice(12, 2, replace=False)
        lines.append(f"{' '.join(f'l{label}' for label in labels)} # "
                     f"{' '.join(words[label] for label in labels)} noise\n")  # fmt: skip
    path.write_text("".join(lines))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on texts that only the reader of this module reads."""
    folder = tmp_path_factory.mktemp("outside")
    for split, count in (("train", 203), ("dev", 60)):
        write_texts(folder / f"{split}.notes", count, seed=count)
    data = {
        "train": str(folder / "train.notes"), "dev": str(folder / "dev.notes"), "normalise": None,
        "reader": NAME, "reader_options": {"separator": "#"}, "text_features": {"name": "tfidf"},
    }  # fmt: skip
    tree = tiny.tiny_tree(folder, data=data)
    (folder / "config.json").write_text(json.dumps(tree))
    command = ["--config", str(folder / "config.json"), "--prepared", str(folder / "prepared")]
    assert train.main(command) == 0
    return folder / "run"


def test_it_trains_a_run_that_finds_labels(run, capsys):
    assert json.loads((run / "summary.json").read_text())["dev"]["P@1"] > 0.9
    unlabelled = run.parent / "new.notes"
    unlabelled.write_text("w3 noise\n")
    capsys.readouterr()
    assert predict.main(["--run", str(run), "--trust", "--k", "1", str(unlabelled)]) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == ["l3"]
    assert evaluate.main(["--run", str(run), "--trust", "--split", "dev"]) == 0


def test_opening_the_run_needs_trust(run):
    for command, more in ((predict, [str(run.parent / "new.notes")]), (evaluate, [])):
        with pytest.raises(ConfigError, match=f"data.reader is {NAME!r}: opening .*--trust"):
            command.main(["--run", str(run), *more])


def test_options_of_a_reader_outside(tmp_path):
    (tmp_path / "a").write_text("one two|x\n")
    (chunk,) = open_reader(tmp_path / "a", NAME).chunks()
    assert (chunk.texts, chunk.labels) == (["x"], [["one", "two"]])
    with pytest.raises(ConfigError, match=r"TextsAndLabels' has no argument 'sep'.*'separator'"):
        open_reader(tmp_path / "a", NAME, sep="#")
    with pytest.raises(ConfigError, match="does not apply to TextsAndLabels, which reads no lines"):
        open_reader(tmp_path / "a", NAME, 100)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("no_such_module:Reader", "cannot load reader 'no_such_module:Reader'"),
        (f"{__name__}:Absent", "has no attribute 'Absent'"),
        (
            f"{__name__}:NoReader",
            "is not a class of this kind .reader.*tfxc.data.reading.formats.base.Reader",
        ),
    ],
)
def test_what_is_no_reader(tmp_path, name, problem):
    with pytest.raises(ConfigError, match=problem):
        open_reader(os.fspath(tmp_path), name)
