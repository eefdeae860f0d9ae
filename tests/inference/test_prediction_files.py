"""What predict writes into files, and that evaluate measures it as the run itself."""

import csv
import itertools
import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse

from tests.commands.calls import call
from tests.small_runs import NAMES, TEXTS, make_run
from tfxc.commands import evaluate, predict
from tfxc.data.examples.chunk import Chunk
from tfxc.data.reading.formats.delimited import Delimited
from tfxc.inference.prediction_files import ListedLabels, read_predictions, write_predictions
from tfxc.inference.predictors import RunPredictor
from tfxc.runs.loaded import load_run

LABELS = [["soup"], ["käse, alt"], ["soup", "tea"], ["tea"], ["unheard of"]]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "run"
    return make_run(path, text_features={"name": "tfidf"}, head={"name": "dense"})


@pytest.fixture(scope="module")
def best(run):
    """Ids and scores of the three best labels of ``TEXTS``."""
    return RunPredictor(load_run(run), 3, True).find(Chunk([[]] * len(TEXTS), texts=TEXTS))


@pytest.fixture
def examples(tmp_path):
    """A table with more than texts and labels."""
    path = tmp_path / "in.csv"
    rows = [
        [number, text, "|".join(labels), f'a "{number}", b\nc']
        for number, (text, labels) in enumerate(zip(TEXTS, LABELS, strict=True))
    ]
    with open(path, "w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(
            [["number", "text", "label", "more"], *rows]
        )
    return path


def predicted(run, examples, output, capsys, *more):
    arguments = ("--run", run, examples, "--k", 3, "--output", output, "--batch-size", 2, *more)
    outcome = call(capsys, predict, *arguments)
    assert outcome.code == 0, outcome.err
    return output


def test_the_matrix_of_pecos(run, best, examples, tmp_path, capsys):
    ids, scores = best
    matrix = scipy.sparse.load_npz(predicted(run, examples, tmp_path / "P.npz", capsys))
    assert (matrix.format, matrix.shape) == ("csr", (len(TEXTS), len(NAMES)))
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix.indptr, np.arange(0, 16, 3))
    np.testing.assert_array_equal(matrix.indices, ids.ravel())
    np.testing.assert_allclose(matrix.data, scores.ravel(), rtol=1e-5)
    assert (np.diff(matrix.data.reshape(-1, 3)) <= 0).all(), "the best first, as PECOS has them"
    least = float(scores[:, 1].max())
    some = predicted(run, examples, tmp_path / "P.npz", capsys, "--min-score", least)
    counts = (scores >= least).sum(axis=1).tolist()
    assert np.diff(scipy.sparse.load_npz(some).indptr).tolist() == counts


@pytest.mark.parametrize("source", ["in.csv", "in.jsonl", "in.parquet", "in.txt"])
def test_tables_repeat_the_columns(run, best, examples, tmp_path, capsys, source):
    """In the order of the rows, also of those that are no examples, with all their values."""
    import pyarrow.parquet

    path, numbers = tmp_path / source, list(range(len(TEXTS)))
    columns = {"number": numbers, "text": TEXTS, "tags": [["a", "b"]] * len(TEXTS)}
    if source == "in.jsonl":
        rows = zip(*columns.values(), strict=True)
        objects = [dict(zip(columns, row, strict=True)) for row in rows]
        objects[2]["late"] = None
        path.write_text("\n\n".join(map(json.dumps, objects)), "utf-8")
        columns["late"] = [None] * len(TEXTS)
    elif source == "in.parquet":
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    elif source == "in.txt":
        path.write_text("\n".join(TEXTS), "utf-8")
        columns = {"text": TEXTS}
    else:
        with open(path) as stream:
            _, *rows = csv.reader(stream)
        columns = dict(
            zip(["number", "text", "label", "more"], zip(*rows, strict=True), strict=True)
        )
    labels = [[NAMES[i] for i in row] for row in best[0]]

    found = pyarrow.parquet.read_table(predicted(run, path, tmp_path / "P.parquet", capsys))
    assert found.column_names == [*columns, "predicted_labels", "predicted_scores"]
    assert found["text"].to_pylist() == TEXTS
    if source == "in.parquet":
        assert found.schema.field("tags").type == pyarrow.list_(pyarrow.string())
        assert found.drop_columns(["predicted_labels", "predicted_scores"]).to_pydict() == columns
    assert found["predicted_labels"].to_pylist() == labels
    np.testing.assert_allclose(found["predicted_scores"].to_pylist(), best[1], rtol=1e-5)

    with open(predicted(run, path, tmp_path / "P.csv", capsys), newline="") as stream:
        header, *rows = csv.reader(stream)
    of_labels = [f"label_{place}" for place in (1, 2, 3)]
    of_scores = [f"score_{place}" for place in (1, 2, 3)]
    pairs = zip(of_labels, of_scores, strict=True)
    assert header == [*columns, *itertools.chain(*pairs)]
    cells = [dict(zip(header, row, strict=True)) for row in rows]
    assert [[row[name] for name in of_labels] for row in cells] == labels
    scores = [[float(row[name]) for name in of_scores] for row in cells]
    np.testing.assert_allclose(scores, best[1], atol=1e-6)
    as_text = {"tags": '["a", "b"]', "late": ""}
    for name, values in columns.items():
        expected = [as_text.get(name, str(value)) for value in values]
        assert [row[name] for row in cells] == expected, name


@pytest.mark.parametrize("suffix", [".npz", ".jsonl", ".csv", ".parquet"])
def test_evaluate_reads_all_that_predict_writes(run, examples, tmp_path, capsys, suffix):
    path = tmp_path / f"P{suffix}"
    predicted(run, examples, path, capsys)
    truth = ("--truth", examples, "--reader-option", "label_separator=|")
    names = ("--label-names", run / "assets" / "labels.txt") if suffix == ".npz" else ()
    measured = ("--k", "1,3", "--json")
    found = call(capsys, evaluate, "--predictions", path, *truth, *names, *measured)
    assert found.code == 0, found.err
    expected = call(capsys, evaluate, "--run", run, "--data", examples, *truth[2:], *measured,
                    "--output", tmp_path / "out")  # fmt: skip
    assert expected.code == 0, expected.err
    found, expected = (json.loads(outcome.out)["metrics"] for outcome in (found, expected))
    common = found.keys() & expected.keys()
    assert {"P@1", "P@3", "R@3", "nDCG@3"} <= common
    assert {name: found[name] for name in common} == {name: expected[name] for name in common}


@pytest.mark.parametrize(("suffix", "k"), [(".csv", None), (".csv", 3), (".parquet", 3)])
def test_any_name_of_a_label_is_read_as_it_was(tmp_path, suffix, k):
    names = ["a;b", '["x"]', "c,d", "e e", 'f "g"', "ü"]
    ids = np.array([[0, 1, 2], [3, 4, 5], [5, -1, -1], [-1, -1, -1]])
    scores = np.float32([[0.5, 0.25, 0.125]] * 4)
    expected = [[names[i] for i in row if i >= 0] for row in ids]
    for known in (names, names[2:]):  # without those that only a list can hold
        path = tmp_path / f"P{suffix}"
        shift = len(names) - len(known)
        kept = np.where(ids >= shift, ids - shift, -1)
        answers = [(Chunk([[]] * 2, texts=["p", "q"]), (kept[at], scores[at]))
                   for at in (slice(2), slice(2, 4))]  # fmt: skip
        write_predictions(path, known, None, answers, k)
        found = read_predictions(path)
        assert isinstance(found, ListedLabels)
        assert found.labels == [[n for n in row if n in known] for row in expected]
        assert list(map(len, found.scores)) == list(map(len, found.labels))


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_no_examples(tmp_path, suffix):
    path = tmp_path / f"P{suffix}"
    (tmp_path / "in.csv").write_text("text\n")
    write_predictions(path, ["a"], Delimited(tmp_path / "in.csv"), [], 1)
    found = read_predictions(path)
    assert found.shape == (0, 1) if suffix == ".npz" else found == ListedLabels([], [])


def test_lines_of_a_pipe(run, tmp_path, monkeypatch):
    (tmp_path / "in.txt").write_text("soup\n\ntea, tea\n")
    with open(tmp_path / "in.txt") as stream:
        monkeypatch.setattr("sys.stdin", stream)
        predict.main(["--run", str(run), "--k", "1", "--output", str(tmp_path / "P.csv")])
    with open(tmp_path / "P.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["text"] for row in rows] == ["soup", "", "tea, tea"]
    assert all(row["label_1"] in NAMES for row in rows)


def test_a_pipe_gets_lines(run, tmp_path, capsys):
    """Its name, as that of a device, says nothing of what is written."""
    (tmp_path / "in.txt").write_text("soup\ntea\n")
    command = ["--run", str(run), "--k", "2", str(tmp_path / "in.txt")]
    predict.main(command)
    lines = capsys.readouterr().out
    pipe = tmp_path / "answers"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_text)
        predict.main([*command, "--output", str(pipe)])
        assert read.result(timeout=60) == lines
    assert pipe.is_fifo()


@pytest.mark.parametrize("name", ["P.xlsx", "P.json", "P", "P.jsonl.gz"])
def test_another_ending_is_refused_before_any_work(name, capsys):
    outcome = call(capsys, predict, "--run", "no run", "no file", "--output", name)
    problem = f"--output: '{name}' does not end in .jsonl or .txt or .csv or .npz or .parquet"
    assert outcome.code == 2 and problem in outcome.err


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--output", "P.csv", "--format", "table"), "--format: the ending of P.csv asks"),
        (("--output", "P.jsonl", "--format", "table"), "--format: the ending of P.jsonl asks"),
        (("--output", "P.npz", "--with-id"), "--with-id: this option is for lines"),
    ],
)
def test_a_file_without_place_for_what_is_asked(options, problem, capsys):
    arguments = ("--run", "no run", "no file", *options)
    assert call(capsys, predict, *arguments).problem().startswith(problem)


def test_a_column_is_not_written_twice(run, examples, tmp_path, capsys):
    again = predicted(run, examples, tmp_path / "P.csv", capsys).rename(tmp_path / "again.csv")
    outcome = call(capsys, predict, "--run", run, again, "--k", 1, "--output", tmp_path / "P.csv")
    assert "the examples already have a column label_1" in outcome.problem()
    assert not (tmp_path / "P.csv").exists()


@pytest.mark.parametrize(
    ("encoding", "delimiter"), [("utf-8", ";"), ("utf-8-sig", ","), ("utf-8-sig", ";")]
)
def test_a_table_as_excel_writes_it_stays_one(run, tmp_path, capsys, encoding, delimiter):
    """It has the delimiter and byte order mark of the input, and is measured all the same."""
    path = tmp_path / "in.csv"
    lines = [["text", "label"], ["käse", "soup"], ["tea", "tea"]]
    path.write_text("".join(f"{delimiter.join(line)}\n" for line in lines), encoding)
    option = ("--reader-option", f"delimiter={delimiter}")
    output = predicted(run, path, tmp_path / "P.csv", capsys, *option)
    assert output.read_bytes().startswith(b"\xef\xbb\xbf") == (encoding == "utf-8-sig")
    header = output.read_text("utf-8-sig").splitlines()[0].split(delimiter)
    assert header[:4] == ["text", "label", "label_1", "score_1"]
    found = read_predictions(output)
    assert list(map(len, found.labels)) == [3, 3]


def test_the_number_of_labels_depends_on_the_example(run, examples, tmp_path, capsys):
    output = tmp_path / "P.csv"
    command = ("--run", run, examples, "--min-score", 0.05, "--output", output)
    assert call(capsys, predict, *command).code == 0
    header = output.read_text().splitlines()[0]
    assert header.endswith("more,predicted_labels,predicted_scores")


def test_a_minus_is_standard_output(run, examples, capsys):
    lines = call(capsys, predict, "--run", run, examples, "--output", "-", "--k", "1").out
    assert all(json.loads(line)["labels"] for line in lines.splitlines())


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"labels": ["a"], "scores": []}', "row 1: the labels of an example and their scores"),
        ('{"labels": ["a", "a"], "scores": [1, 2]}', "row 1: the labels of an example"),
        ('{"labels": ["a"], "scores": [null]}', "row 1: the labels of an example"),
        ('{"text": "a"}', "there are no columns labels and scores, but text"),
    ],
)
def test_files_that_hold_no_predictions(tmp_path, capsys, content, problem):
    (tmp_path / "P.jsonl").write_text(content + "\n")
    (tmp_path / "Y.jsonl").write_text('{"text": "a b", "labels": ["a"]}\n')
    files = ("--predictions", tmp_path / "P.jsonl", "--truth", tmp_path / "Y.jsonl")
    assert problem in call(capsys, evaluate, *files).problem()


def test_names_without_a_column(tmp_path, capsys):
    (tmp_path / "P.jsonl").write_text('{"labels": ["1", "0"], "scores": [0.5, 0.5]}\n')
    scipy.sparse.save_npz(tmp_path / "Y.npz", scipy.sparse.csr_matrix([[0, 1]]))
    files = ("--predictions", tmp_path / "P.jsonl", "--truth", tmp_path / "Y.npz")
    outcome = call(capsys, evaluate, *files, "--k", "1", "--json")
    assert json.loads(outcome.out)["metrics"]["P@1"] == 1, "the first of equal scores is the best"
    (tmp_path / "P.jsonl").write_text('{"labels": ["b"], "scores": [0.5]}\n')
    problem = call(capsys, evaluate, *files).problem()
    assert "the label 'b' has no column" in problem and "--label-names" in problem
    (tmp_path / "names.txt").write_text("a\nb\n")
    named = (*files, "--label-names", tmp_path / "names.txt", "--k", "1", "--json")
    assert json.loads(call(capsys, evaluate, *named).out)["metrics"]["P@1"] == 1
