"""What is odd in a data file, by counting it in plain Python."""

import collections
import itertools
import json
import random

import pytest

from tests.data.reading.inspection.test_contents import pairs, write
from tfxc.core.config import parse_config
from tfxc.data.examples.chunk import Chunk
from tfxc.data.reading.held_out import open_split
from tfxc.data.reading.inspection.completion import Choice, complete
from tfxc.data.reading.inspection.contents import inspect
from tfxc.data.reading.inspection.findings import Found, Survey
from tfxc.data.reading.inspection.language import language_of


def surveyed(rows, size=7):
    survey = Survey()
    for start in range(0, len(rows), size):
        texts, labels = zip(*rows[start : start + size], strict=True)
        survey.add(Chunk(list(labels), texts=list(texts)))
    return survey.findings(collections.Counter(itertools.chain(*(labels for _, labels in rows))))


@pytest.mark.parametrize("seed", range(20))
def test_duplicates_and_contradictions(seed):
    draw = random.Random(seed)
    rows = [
        (draw.choice(["", " ", *"abcdefgh"]), draw.sample(["x", "y", "z"], draw.randrange(3)))
        for _ in range(40)
    ]
    found = surveyed(rows)
    first = {}
    sets = collections.defaultdict(dict)
    duplicates = []
    for number, (text, labels) in enumerate(rows, start=1):
        if not text.strip() or not labels:
            continue
        key = (text, frozenset(labels))
        if key in first:
            duplicates.append((number, first[key]))
        first.setdefault(key, number)
        sets[text].setdefault(frozenset(labels), number)
    assert found.duplicates == Found(len(duplicates), duplicates[:3])
    contradictions = sorted(tuple(each.values())[:2] for each in sets.values() if len(each) > 1)
    assert found.contradictions == Found(len(contradictions), contradictions[:3])
    empty = [(n,) for n, (text, _) in enumerate(rows, start=1) if not text.strip()]
    unlabelled = [(n,) for n, (_, labels) in enumerate(rows, start=1) if not labels]
    assert found.empty == Found(len(empty), empty[:3])
    assert found.unlabelled == Found(len(unlabelled), unlabelled[:3])


def test_names_and_lengths():
    rows = [("ab", ["Law"]), ("abcd", ["law"]), ("abc", ["law"]), ("x", ["caf\u00e9"])]
    found = surveyed([*rows, ("y", ["cafe\u0301"]), ("z", ["law\u200b"])])
    assert found.look_alikes[0] == {"law": 2, "Law": 1, "law\u200b": 1}
    assert list(found.look_alikes[0]) == ["law", "Law", "law\u200b"], "the most frequent first"
    assert found.look_alikes[1].keys() == {"caf\u00e9", "cafe\u0301"}
    assert (found.labels, found.once, found.few) == (5, 4, 5)
    assert found.longest == (4, 2)


def test_nothing_odd():
    found = surveyed([(f"text {n}", [f"label {n % 2}"]) for n in range(20)])
    assert not any(finding.count for finding in found.findings(False))


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("the cat is not in the house and that is for you", "English"),
        ("die Katze ist nicht im Haus und das ist für mich", "German"),
        ("le chat est dans la maison et ce est pour vous", "French"),
        ("el gato y los perros con una casa pero no es más", "Spanish"),
        ("кошка в доме", "Cyrillic script"),
        ("猫在房子里", "Chinese"),
        ("猫は家にいます", "Japanese"),
        ("고양이가 집에 있다", "Korean"),
        ("lorem ipsum dolor sit amet", None),
        ("12 345 §", None),
        ("w1 z2 i7 o9 word", None),
        ("", None),
    ],
)
def test_languages(text, language):
    assert language_of([text] * 30) == language


def test_a_few_empty_cells_do_not_make_several_labels(tmp_path):
    """They are left out of all splits, so that every example has one label."""
    lines = [*pairs(96), "no label here,", "nor here, "]
    path = write(tmp_path / "a.csv", "text,label", lines)
    found = inspect(path)
    assert not found.several_labels and found.skips_unlabelled and found.unlabelled == 2
    completed = complete({"data": {"train": path}}, Choice())
    assert any("rows without a label: 2 (rows 97, 98)" in line for line in completed.lines())
    config = parse_config(completed.tree)
    assert config.data.skip_unlabelled
    counts = []
    for split in ("train", "dev"):
        reader = open_split(config.data, split)
        labels = list(itertools.chain(*(chunk.labels for chunk in reader.chunks(5))))
        assert all(len(row) == 1 for row in labels)
        assert labels == list(itertools.chain(*reader.label_lists()))
        counts.append(len(labels))
    assert sum(counts) == 96


def test_many_empty_cells_mean_that_no_label_applies(tmp_path):
    lines = [*pairs(90), *(f"none {n}," for n in range(10))]
    found = inspect(write(tmp_path / "a.csv", "text,label", lines))
    assert found.several_labels and not found.skips_unlabelled


def test_columns_that_are_not_used(tmp_path):
    lines = [f"{n},{line},2024-01-01" for n, line in enumerate(pairs(60))]
    assert inspect(write(tmp_path / "a.csv", "id,text,label,day", lines)).unused == ["id", "day"]
    (tmp_path / "a.jsonl").write_text(
        "".join(f'{{"n": {n}, "text": "a b {n}", "labels": ["l{n % 3}"]}}\n' for n in range(60))
    )
    assert inspect(str(tmp_path / "a.jsonl")).unused == ["n"]

    nested = [
        {"doc": {"title": "t", "body": f"text {n} of them"}, "label": "ab"[n % 2]}
        for n in range(40)
    ]
    (tmp_path / "b.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in nested))
    assert inspect(str(tmp_path / "b.jsonl")).unused == ["doc.title"]
    folder = tmp_path / "parts"
    folder.mkdir()
    for part in range(2):
        write(folder / f"part-0000{part}.csv", "id,text,label,day", lines)
    assert inspect(str(folder)).unused == ["id", "day"]
