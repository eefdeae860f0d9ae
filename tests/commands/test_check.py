"""The report about a data file, and the clean copy of it."""

import csv
import json

import pytest

from tests.commands.calls import call
from tests.data.reading.inspection.test_contents import pairs
from tfxc.commands import check, init

ODD = [
    "red blue fox,animal",
    "red blue fox,animal",
    "red blue fox,plant",
    " ,plant",
    "a fox without a label,",
    "a fox with another name,Animal",
]
LINES = [*pairs(94), *ODD]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "my.csv"
    rows = [[str(n), *line.rsplit(",", 1)] for n, line in enumerate(LINES)]
    with open(path, "w", newline="", encoding="utf-8-sig") as stream:
        csv.writer(stream, delimiter=";").writerows([["id", "text", "label"], *rows])
    return path


def test_all_is_said(table, capsys):
    outcome = call(capsys, check, table)
    assert outcome.code == 1
    lines = [line.strip() for line in outcome.out.splitlines()]
    assert "columns not used: 'id'" in lines
    assert "empty texts: 1 (row 98)" in lines
    assert "rows without a label: 1 (row 99), left out of training" in lines
    assert "duplicates (same text, same labels): 1 (row 96 as row 95)" in lines
    assert "contradictions (same text, other labels): 1 (rows 95 and 97)" in lines
    assert any(line.startswith("label names that look alike: 1: 'animal' (") for line in lines)


def test_the_clean_copy(table, tmp_path, capsys):
    """It has the columns, separator and byte order mark of the file; contradictions stay."""
    clean = tmp_path / "clean.csv"
    outcome = call(capsys, check, table, "--write-clean", clean)
    assert outcome.code == 1 and f"written: {clean}, 97 rows" in outcome.out
    assert outcome.out.splitlines()[-1].strip().startswith("contradictions")
    text = clean.read_bytes().decode("utf-8")
    assert text.startswith("\ufeffid;text;label\n")
    rows = list(csv.reader(text.splitlines()[1:], delimiter=";"))
    assert [row[0] for row in rows] == [str(n) for n in range(100) if n not in (95, 97, 98)]
    assert rows[-1] == ["99", "a fox with another name", "animal"]
    again = call(capsys, check, clean, "--json")
    record = json.loads(again.out)
    assert again.code == 1 and record["contradictions"]["count"] == 1
    assert not any(record[name]["count"] for name in ("empty", "unlabelled", "duplicates"))
    assert record["look_alikes"] == [] and record["examples"] == 97


@pytest.mark.parametrize(
    "options", [(), ("--text-column", "subject", "--text-column", "body"), ("--label-column", "id")]
)
@pytest.mark.parametrize("columns", ["id,subject,body,queue", "id,note,body,queue"])
def test_columns_are_those_of_training(tmp_path, capsys, columns, options):
    """Found, or refused, as ``init`` and so ``train`` do; titles of tickets repeat as labels do."""
    lines = pairs(60)
    path = tmp_path / "my.csv"
    rows = [f"{n % 40},{('Hello', 'Question')[n % 2]},{line}" for n, line in enumerate(lines)]
    path.write_text("\n".join([columns, *rows]))
    outcomes = [
        call(capsys, check, path, *options),
        call(capsys, init, path, *options, "--output", tmp_path / "c.json"),
    ]
    first, second = (outcome.out.partition("\n")[0] or outcome.err for outcome in outcomes)
    assert first == second and "my.csv" in first


def test_a_clean_file(tmp_path, capsys):
    (tmp_path / "my.csv").write_text("\n".join(["text,label", *pairs(60)]))
    outcome = call(capsys, check, tmp_path / "my.csv")
    assert outcome.code == 0 and "empty texts: 0" in outcome.out and "settle" not in outcome.out


def test_lists_of_labels_stay_lists(tmp_path, capsys):
    lines = [{"text": f"a b {n}", "labels": ["x", "y"][: n % 2 + 1], "n": n} for n in range(40)]
    lines += [{"text": "c", "labels": ["X", "x", "y"]}, {"text": "c", "labels": ["y", "x"]}]
    path = tmp_path / "my.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    clean = tmp_path / "clean.jsonl"
    outcome = call(capsys, check, path, "--write-clean", clean)
    assert outcome.code == 1 and "contradictions (same text, other labels): 1 (" in outcome.out
    assert call(capsys, check, clean).code == 0, "the names were all in which they differed"
    written = [json.loads(line) for line in clean.read_text().splitlines()]
    assert written == [*lines[:40], {"text": "c", "labels": ["x", "y"]}], "one set of labels"


def test_lines_of_fasttext_become_json(tmp_path, capsys):
    path = tmp_path / "my.txt"
    path.write_text("".join(f"__label__l{n % 2} some text {n % 30}\n" for n in range(60)))
    clean = tmp_path / "clean.jsonl"
    assert call(capsys, check, path, "--write-clean", clean).code == 0
    written = [json.loads(line) for line in clean.read_text().splitlines()]
    assert len(written) == 30 and written[0] == {"text": "some text 0", "labels": ["l0"]}


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("my.csv", "this file already exists. Choose another name"),
        ("my.parquet", "ends in .csv or .tsv. Name it e.g. my.csv"),
    ],
)
def test_names_of_the_copy(table, name, problem, capsys):
    outcome = call(capsys, check, table, "--write-clean", table.parent / name)
    assert problem in outcome.problem()
