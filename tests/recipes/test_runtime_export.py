"""A linear ranker exported for NumPy alone answers as ``tfxc predict``."""

import json
import shutil

import numpy as np
import pytest
import scipy.sparse

from tests.commands.calls import call, listing
from tests.exports.test_bundle import alone
from tests.linear_runs import texts_of
from tests.small_runs import make_run
from tfxc.commands import export, predict, train
from tfxc.core.storage import checksums
from tfxc.exports.standalone.predict import Predictor, Problem
from tfxc.ranker.calibration import Calibration

CURVES = {
    "logistic": {"slope": 3.0, "intercept": -1.0},
    "isotonic": {"scores": [0.05, 0.2, 0.5, 0.7], "values": [0, 0.1, 0.6, 0.9]},
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


@pytest.mark.parametrize("method", list(CURVES))
def test_probabilities_are_those_of_predict(run, texts, tmp_path, capsys, method):
    shutil.copytree(run, tmp_path / "copy")
    Calibration(method, **CURVES[method]).save(tmp_path / "copy" / "calibration.json")
    checksums.add(tmp_path / "copy", "calibration.json")
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


def test_eight_bits(run, tmp_path, capsys):
    exported(capsys, run, "--output", tmp_path / "wide")
    printed = exported(capsys, run, "--output", tmp_path / "narrow", "--quantize", "int8")
    assert "with 8-bit weights the same best label for" in printed
    weights = np.load(tmp_path / "narrow" / "ranker" / "layer-1" / "values.npy")
    assert weights.dtype == np.int8 and np.abs(weights).max() == 127
    size = sum(size or 0 for size in listing(tmp_path / "narrow" / "ranker").values())
    assert size < sum(size or 0 for size in listing(tmp_path / "wide" / "ranker").values())
    texts = texts_of(run)
    wide = Predictor(tmp_path / "wide")(texts)
    narrow = Predictor(tmp_path / "narrow")(texts)
    assert np.mean([a.labels[0] == b.labels[0] for a, b in zip(wide, narrow, strict=True)]) > 0.95


def test_a_flipped_byte_is_noticed(run, tmp_path, capsys):
    exported(capsys, run, "--output", tmp_path / "alone")
    for name in ("labels.txt", "ranker/layer-1/values.npy", "ranker/beam_search_numpy.py"):
        path = tmp_path / "alone" / name
        content = bytearray(path.read_bytes())
        content[-2] ^= 1
        path.write_bytes(content)
        with pytest.raises(Problem, match=f"{path.name}: changed or damaged since the export"):
            Predictor(tmp_path / "alone")
        content[-2] ^= 1
        path.write_bytes(content)
    assert Predictor(tmp_path / "alone")(["w1a"])[0].labels


def test_networks_have_other_formats(tmp_path, capsys):
    run = make_run(tmp_path / "run")
    before = listing(tmp_path)
    problem = call(capsys, export, "--run", run, "--format", "runtime").problem()
    assert problem == (
        "--format: a run of recipe 'fit' is not a linear ranker. Choose onnx, litert or savedmodel."
    )
    assert listing(tmp_path) == before
