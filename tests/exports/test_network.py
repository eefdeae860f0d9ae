"""Small networks exported for NumPy alone answer as the run's own model."""

import json

import numpy as np
import pytest

from tests.small_runs import make_run
from tfxc.core.errors import ConfigError
from tfxc.exports.convert import export_model
from tfxc.exports.standalone.predict import ACTIVATIONS, Predictor, open_arrays
from tfxc.inference.searcher import Searcher
from tfxc.runs.loaded import load_run

BAG = {"name": "bag_mlp", "hidden": [6]}
WORDS = {
    "kind": "tokens",
    "text_features": {"name": "words", "max_length": 16},
    "encoder": {"name": "fasttext", "embedding_dim": 8},
}
FUSED = {
    "head": {"name": "dense", "update": "fused"},
    "training": {"optimizer": {"name": "sgd", "learning_rate": 0.1}},
}


def bags(count=300, width=20):
    """Random bags, empty ones among them, as the data pipeline yields them."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(0, 9, count)
    return {
        "ids": draw.integers(0, width, lengths.sum()).astype(np.int32),
        "weights": draw.normal(size=lengths.sum()).astype(np.float32),
        "row_splits": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    }


def exported(folder, probabilities=False, int8=False, **parts):
    """A run of random weights, and its export."""
    run = load_run(make_run(folder / "run", **parts))
    model = run.model
    draw = np.random.default_rng(1)
    for weight in model.weights:  # all at work: also what starts as zero, or alike
        if weight.dtype == "float32":
            weight.assign(draw.normal(scale=0.5, size=weight.shape))
    kwargs = {"int8": int8, "min_agreement": 0.0, "probabilities": probabilities}
    return run, export_model(run, folder / "out", "runtime", 4, **kwargs).folder


LINKS = ["softmax", "sigmoid", None]
NETWORKS = {
    **{name: {"encoder": {**BAG, "activation": name, "hidden": [6, 5]}} for name in ACTIVATIONS},
    "hashed": {"encoder": {**BAG, "num_hashed_features": 7}},
    "fused": {"encoder": BAG, **FUSED},
}


# A link is taken of the scores, whatever has computed them.
@pytest.mark.parametrize(
    ("parts", "link"),
    [
        *(pytest.param({"encoder": BAG}, link, id=f"bag-{link}") for link in LINKS),
        *(
            pytest.param(parts, LINKS[number % 3], id=f"{name}-{LINKS[number % 3]}")
            for number, (name, parts) in enumerate(NETWORKS.items())
        ),
    ],
)
def test_same_answers(tmp_path, parts, link):
    run, folder = exported(
        tmp_path, probabilities=link is not None, objective={"name": link or "softmax"}, **parts
    )
    features = bags()
    right_ids, right = Searcher(run.model, 4, probabilities=link is not None)(
        {"features": features}
    )
    ids, scores = open_arrays(folder / "model")(features)
    np.testing.assert_allclose(scores, right, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(ids, right_ids)


def test_words_are_averaged(tmp_path):
    run, folder = exported(tmp_path, objective={"name": "softmax"}, **WORDS)
    tokens = (
        np.random.default_rng(0)
        .integers(1, run.manifest["vocabulary_size"], (50, 12))
        .astype(np.int32)
    )
    tokens[np.arange(12) >= np.arange(50)[:, None] % 13] = 0
    right_ids, right = Searcher(run.model, 4)({"features": tokens})
    ids, scores = open_arrays(folder / "model")({"tokens": tokens})
    np.testing.assert_allclose(scores, right, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(ids, right_ids)


def test_rows_are_scaled_as_in_training(tmp_path):
    run, folder = exported(tmp_path, encoder=BAG, normalise="l2")
    features = bags()
    lengths = np.diff(features["row_splits"])
    rows = np.repeat(np.arange(len(lengths)), lengths)
    norms = np.sqrt(np.bincount(rows, features["weights"] ** 2, minlength=len(lengths)))
    unit = features | {"weights": (features["weights"] / norms[rows]).astype(np.float32)}
    right_ids, right = Searcher(run.model, 4)({"features": unit})
    ids, scores = open_arrays(folder / "model")(features)
    np.testing.assert_allclose(scores, right, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(ids, right_ids)


def test_equal_scores_are_in_the_order_of_their_labels(tmp_path):
    run, folder = exported(tmp_path, encoder=BAG)
    path = folder / "model"
    np.save(path / "kernel-0.npy", np.zeros_like(np.load(path / "kernel-0.npy")))
    np.save(path / "bias-1.npy", np.float32([1, 2, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0]))
    assert open_arrays(path)(bags(1))[0].tolist() == [[1, 3, 0, 4]]
    assert run.manifest["num_labels"] == 12


@pytest.mark.parametrize("parts", [{"encoder": BAG}, WORDS], ids=["bag", "words"])
def test_eight_bits(tmp_path, parts):
    text_features = {"text_features": {"name": "tfidf"}, **parts}
    wide = exported(tmp_path / "wide", objective={"name": "softmax"}, **text_features)[1]
    narrow = exported(
        tmp_path / "narrow", int8=True, objective={"name": "softmax"}, **text_features
    )[1]
    about = json.loads((narrow / "model" / "network.json").read_text())
    for name in ("table", *(f"kernel-{place}" for place in range(len(about["activations"]) - 1))):
        weights = np.load(wide / "model" / f"{name}.npy")
        levels = np.load(narrow / "model" / f"{name}.npy")
        scales = np.load(narrow / "model" / f"{name}-scales.npy")
        assert levels.dtype == np.int8 and np.abs(levels).max() == 127
        assert (np.abs(levels * scales[:, None] - weights) <= 0.5001 * scales[:, None]).all()
    texts = ["butter and flour", "soup", "", "nothing known"]
    for one, other in zip(Predictor(wide)(texts), Predictor(narrow)(texts), strict=True):
        scores = dict(zip(other.labels, other.scores, strict=True))
        for label, score in zip(one.labels[:2], one.scores, strict=False):
            assert abs(scores.get(label, score) - score) < 0.1


def test_no_example(tmp_path):
    folder = exported(tmp_path, encoder=BAG)[1]
    assert [part.shape for part in open_arrays(folder / "model")(bags(0))] == [(0, 4)] * 2


@pytest.mark.parametrize(
    ("parts", "part"),
    [
        ({"encoder": {**BAG, "activation": "gelu"}}, "activation gelu"),
        ({"encoder": {**BAG, "residual": 4}}, "encoder BagMLP"),
        ({"encoder": BAG, "head": {"name": "mach", "num_buckets": 4}}, "head MACH"),
        ({**WORDS, "encoder": {"name": "textcnn", "embedding_dim": 8}}, "encoder TextCNN"),
    ],
)
def test_other_networks_are_refused(tmp_path, parts, part):
    run = load_run(make_run(tmp_path / "run", **parts))
    with pytest.raises(ConfigError, match=f"the format runtime has no {part}") as caught:
        export_model(run, tmp_path / "out", "runtime", 3)
    assert caught.value.fix == "choose onnx, litert or savedmodel"
    assert not (tmp_path / "out").exists()
