"""A linear ranker exported for NumPy alone answers as ``tfxc predict``."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse

from tests.commands.calls import call, listing
from tests.exports.test_bundle import alone
from tests.linear_runs import texts_of
from tfxc.commands import export, predict, train
from tfxc.core.storage import checksums
from tfxc.core.storage.ownership import check_own
from tfxc.decision.calibration import Calibration, Curve
from tfxc.decision.fitted import FittedDecision
from tfxc.exports.runtime import PROGRAMS, narrow
from tfxc.exports.standalone.predict import Predictor, Problem, open_ranker
from tfxc.ops.search.beam_search.beam_search import BeamSearch
from tfxc.ops.search.beam_search.chunked_layer import chunks_of
from tfxc.ops.search.beam_search.post_processors import POST_PROCESSORS
from tfxc.runs.writer import KIND

CURVE = Curve(np.array([0.05, 0.2, 0.5, 0.7]), np.array([0, 0.1, 0.6, 0.9]))
ODDS = Curve(np.array([-4.0, 0.0, 2.0]), np.array([0.01, 0.4, 0.95]))
CALIBRATIONS = {
    "logistic": Calibration(weights=np.array([-1.0, 3.0, 0.0, 0.0])),
    "isotonic": Calibration(CURVE),
    "rows": Calibration(CURVE, np.array([0.3, 0.9, -0.4, -0.2]), ODDS),
}


@pytest.fixture
def texts(run, tmp_path):
    """A file with the texts of the dev split, and some that no training text resembles."""
    path = tmp_path / "texts.txt"
    path.write_text("\n".join([*texts_of(run), "", "W1A w2b", "nothing known"]) + "\n")
    return path


def exported(capsys, run, *options):
    done = call(capsys, export, "--run", run, "--format", "runtime", *options)
    assert done.code == 0, done.err
    return done.out


def answers_of(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line["labels"] for line in lines], [line["scores"] for line in lines]


@pytest.mark.parametrize(
    ("exporting", "predicting"),
    [
        (("--k", 8), ("--k", 8, "--scores")),
        (("--k", 8, "--beam", 1), ("--k", 8, "--beam", 1, "--scores")),
        (
            ("--k", 8, "--post-processor", "log-sigmoid"),
            ("--k", 8, "--post-processor", "log-sigmoid", "--scores"),
        ),
    ],
)
def test_answers_are_those_of_predict(run, texts, tmp_path, capsys, exporting, predicting):
    exported(capsys, run, *exporting, "--output", tmp_path / "alone")
    done = alone(tmp_path / "alone", texts)
    assert done.returncode == 0, done.stderr
    (tmp_path / "alone.jsonl").write_text(done.stdout)
    output = ("--format", "jsonl", "--output", tmp_path / "tfxc.jsonl")
    assert call(capsys, predict, "--run", run, texts, *predicting, *output).code == 0
    labels, scores = answers_of(tmp_path / "alone.jsonl")
    right_labels, right_scores = answers_of(tmp_path / "tfxc.jsonl")
    assert labels == right_labels and len(labels) == 83
    assert ("--beam" in exporting) == any(len(row) < 8 for row in labels)
    for values, right in zip(scores, right_scores, strict=True):
        np.testing.assert_allclose(values, right, atol=2e-6)


@pytest.mark.parametrize("method", list(CALIBRATIONS))
def test_probabilities_are_those_of_predict(run, texts, tmp_path, capsys, method):
    shutil.copytree(run, tmp_path / "copy")
    FittedDecision(CALIBRATIONS[method]).save(tmp_path / "copy")
    checksums.add(tmp_path / "copy", "decision.json")
    exported(capsys, tmp_path / "copy", "--probabilities")
    answers = Predictor(tmp_path / "copy" / "runtime")(texts.read_text().split("\n")[:-1])
    output = ("--k", 5, "--format", "jsonl", "--output", tmp_path / "tfxc.jsonl")
    call(capsys, predict, "--run", tmp_path / "copy", texts, "--probabilities", *output)
    labels, scores = answers_of(tmp_path / "tfxc.jsonl")
    assert [answer.labels for answer in answers] == labels
    for answer, values in zip(answers, scores, strict=True):
        np.testing.assert_allclose(answer.scores, values, atol=2e-6)


@pytest.mark.parametrize("sparse", [True, False])
def test_given_features_are_scaled_as_in_training(tmp_path, capsys, sparse):
    random = np.random.default_rng(0)
    for split, count in (("train", 90), ("dev", 30)):
        labels = random.integers(0, 6, count)
        features = np.eye(6, 9)[labels] * random.uniform(1, 9, (count, 1))
        features = (features + (random.random((count, 9)) > 0.7)).astype(np.float32)
        if sparse:
            rows = (
                " ".join(f"{place}:{row[place]:g}" for place in np.flatnonzero(row))
                for row in features
            )
            lines = (f"{label} {row}\n" for label, row in zip(labels, rows, strict=True))
            (tmp_path / f"{split}.txt").write_text(f"{count} 9 6\n" + "".join(lines))
        else:
            np.savez(tmp_path / f"{split}.npz", features=features, labels=labels)
    ending = "txt" if sparse else "npz"
    files = {split: str(tmp_path / f"{split}.{ending}") for split in ("train", "dev")}
    data = {"name": "given", **files, "normalise": "l2"}
    tree = {"run": str(tmp_path / "run"), "data": data, "recipe": {"name": "xr_linear"}}
    (tmp_path / "given.json").write_text(json.dumps(tree))
    arguments = ("--config", tmp_path / "given.json", "--prepared", tmp_path / "prepared")
    assert call(capsys, train, *arguments).code == 0
    exported(capsys, tmp_path / "run", "--k", 3)
    if sparse:
        scipy.sparse.save_npz(tmp_path / "rows.npz", scipy.sparse.csr_matrix(features))
    else:
        np.save(tmp_path / "rows.npy", features)
    done = alone(tmp_path / "run" / "runtime", tmp_path / ("rows.npz" if sparse else "rows.npy"))
    assert done.returncode == 0, done.stderr
    (tmp_path / "alone.jsonl").write_text(done.stdout)
    options = ("--k", 3, "--scores", "--format", "jsonl", "--output", tmp_path / "tfxc.jsonl")
    call(capsys, predict, "--run", tmp_path / "run", files["dev"], *options)
    assert answers_of(tmp_path / "alone.jsonl")[0] == answers_of(tmp_path / "tfxc.jsonl")[0]


@pytest.mark.parametrize("nodes", [255, 256, 257])
def test_layers_of_as_many_nodes_as_a_byte_has_numbers(tmp_path, nodes):
    """Numbers of nodes are written as bytes where they fit."""
    random = np.random.default_rng(nodes)
    parents = [np.zeros(nodes, int), np.repeat(np.arange(nodes), 3)]
    layers = [
        chunks_of(
            scipy.sparse.random(9, len(places), 0.9, "csc", np.float32, random), places, above
        )
        for places, above in zip(parents, (1, nodes), strict=True)
    ]
    path = tmp_path / "ranker"
    for number, layer in enumerate(layers):
        (path / f"layer-{number}").mkdir(parents=True)
        for name, array in layer._asdict().items():
            np.save(path / f"layer-{number}" / f"{name}.npy", narrow(array))
    search = {"post_processors": ["sigmoid"] * 2, "beams": [nodes, 7], "calibration": None}
    about = {"num_features": 8, "bias": 1.0, "row_normalise": None, **search}
    (path / "ranker.json").write_text(json.dumps(about))
    for program in PROGRAMS:
        shutil.copy(program.__file__, path)
    features = random.random((5, 8), np.float32)
    ids, scores = open_ranker(path)({"features": features})
    rules = [POST_PROCESSORS["sigmoid"]] * 2
    right = BeamSearch(layers, 8, bias=1.0).top(features, [nodes, 7], rules)
    np.testing.assert_array_equal(ids, right[0])
    np.testing.assert_allclose(scores, right[1], rtol=1e-5)
    assert [part.shape for part in open_ranker(path)({"features": features[:0]})] == [(0, 7)] * 2


def test_the_code_that_is_printed_runs(run, tmp_path, capsys):
    printed = exported(capsys, run, "--output", tmp_path / "alone")
    code = printed.partition("\n\n")[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[['label ")


def test_the_folder_is_a_part_of_the_run(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "copy")
    exported(capsys, tmp_path / "copy")
    exported(capsys, tmp_path / "copy", "--quantize", "int8")
    check_own(tmp_path / "copy", KIND)  # what --fresh removes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table.csv"], "table.csv: this is a table. Give a file with one text per line"),
        (["--batch-size", "0", "-"], "--batch-size: 0 is less than 1. Give 1 or more"),
    ],
)
def test_what_the_program_refuses(run, tmp_path, capsys, arguments, message):
    exported(capsys, run, "--output", tmp_path / "alone")
    done = alone(tmp_path / "alone", *arguments)
    assert (done.returncode, done.stderr) == (2, f"predict.py: {message}\n")


def test_eight_bits(run, tmp_path, capsys):
    exported(capsys, run, "--output", tmp_path / "wide")
    printed = exported(capsys, run, "--output", tmp_path / "narrow", "--quantize", "int8")
    assert "with 8-bit weights the same best label for" in printed
    weights = np.load(tmp_path / "narrow" / "model" / "layer-1" / "values.npy")
    assert weights.dtype == np.int8 and np.abs(weights).max() == 127
    size = sum(size or 0 for size in listing(tmp_path / "narrow" / "model").values())
    assert size < sum(size or 0 for size in listing(tmp_path / "wide" / "model").values())
    texts = texts_of(run)
    wide = Predictor(tmp_path / "wide")(texts)
    narrow = Predictor(tmp_path / "narrow")(texts)
    assert np.mean([a.labels[0] == b.labels[0] for a, b in zip(wide, narrow, strict=True)]) > 0.95


def test_a_flipped_byte_is_noticed(run, tmp_path, capsys):
    exported(capsys, run, "--output", tmp_path / "alone")
    for name in ("labels.txt", "model/layer-1/values.npy", "model/beam_search_numpy.py"):
        path = tmp_path / "alone" / name
        content = bytearray(path.read_bytes())
        content[-2] ^= 1
        path.write_bytes(content)
        with pytest.raises(Problem, match=f"{path.name}: changed or damaged since the export"):
            Predictor(tmp_path / "alone")
        content[-2] ^= 1
        path.write_bytes(content)
    assert Predictor(tmp_path / "alone")(["w1a"])[0].labels
