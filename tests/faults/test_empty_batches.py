"""Exports answer batches of no examples: in a process of its own, which such a batch may end."""

import numpy as np
import pytest
import scipy.sparse

from tests.exports.answer import answers
from tests.exports.methods import head_of, parts_of
from tests.linear_runs import command
from tests.small_runs import make_run
from tfxc.commands import train
from tfxc.core import registry
from tfxc.data.examples.chunk import Chunk
from tfxc.exports.convert import export_model
from tfxc.exports.savedmodel import export_savedmodel
from tfxc.inference.predictors import RunPredictor
from tfxc.runs.loaded import load_run

HEADS = registry.names("head")
SLOW_ENCODERS = ("iresnet", "keras_application", "mobilefacenet", "pretrained", "resnet")
QUICK = sorted(set(registry.names("encoder")) - set(SLOW_ENCODERS))
PAIRS = [(QUICK[n % len(QUICK)], HEADS[n % len(HEADS)]) for n in range(max(len(QUICK), len(HEADS)))]
TFIDF = {"name": "tfidf"}
JOINED = {"name": "joined", "tokens": {"name": "words", "min_count": 1}, "terms": TFIDF}


def run_of(folder, encoder, head="dense", **changes):
    folder.mkdir(parents=True, exist_ok=True)
    parts = {**parts_of("encoder", encoder, folder), "head": head_of(head), **changes}
    return load_run(make_run(folder / "run", **parts))


def check(found, models, sizes, k=3):
    assert {model for model, *_ in found} == set(models)
    for (_, signature, size), shape in found.items():
        if signature == "encode":  # vectors, as long as the encoder's
            assert shape.startswith(f"({size}, ")
        else:
            assert shape == f"({size}, {k})"
    assert {size for *_, size in found} == set(sizes)


@pytest.mark.parametrize(
    "pairs",
    [
        [("textcnn", "mhc")],
        pytest.param(PAIRS, marks=pytest.mark.slow),
    ],
    ids=["one", "every head"],
)
def test_savedmodels_of_quick_encoders(tmp_path, pairs):
    for encoder, head in pairs:
        run = run_of(tmp_path / f"{encoder}-{head}", encoder, head)
        export_savedmodel(run, tmp_path / "served" / f"{encoder}-{head}", 3)
    texts = run_of(tmp_path / "texts", "bag_mlp", text_features=TFIDF, normalise="l2")
    export_savedmodel(texts, tmp_path / "served" / "texts", 3, probabilities=True)
    names = [f"{encoder}-{head}" for encoder, head in pairs] + ["texts"]
    check(answers(tmp_path / "served", 0, 1, 1000), names, (0, 1, 1000))


@pytest.mark.slow  # of bags and of tokens alone: above
def test_savedmodels_of_joined_texts(tmp_path):
    run = run_of(tmp_path / "joined", "textcnn", text_features=JOINED, kind="joined")
    export_savedmodel(run, tmp_path / "served" / "joined", 3)
    check(answers(tmp_path / "served", 0, 1, 1000), ["joined"], (0, 1, 1000))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("encoder", registry.names("encoder"))
def test_savedmodels_of_every_encoder_with_every_head(tmp_path, encoder, head):
    export_savedmodel(run_of(tmp_path / head, encoder, head), tmp_path / "served" / head, 3)
    sizes = (0, 1, 1000) if encoder not in SLOW_ENCODERS or head == "dense" else (0, 1)
    check(answers(tmp_path / "served", *sizes), [head], sizes)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("encoder", registry.names("encoder"))
def test_onnx_models_of_every_encoder(tmp_path, encoder):
    pytest.importorskip("tf2onnx", reason="the extra onnx is not installed")
    heads = HEADS if encoder == "precomputed" else ["dense"]
    for head in heads:
        export_model(run_of(tmp_path / head, encoder, head), tmp_path / "out" / head, "onnx", 3)
    check(answers(tmp_path / "out", 0, 1, 64), heads, (0, 1, 64))


# LiteRT itself has no empty tensors, whatever the encoder.
@pytest.mark.parametrize("encoder", ["bag_mlp", pytest.param("textcnn", marks=pytest.mark.slow)])
def test_litert_refuses_them(tmp_path, encoder):
    run = run_of(tmp_path / encoder, encoder)
    export_model(run, tmp_path / "out" / encoder, "litert", 3)
    found = answers(tmp_path / "out", 1, 0)
    assert found[encoder, "litert", 1] == "(1, 3)"
    assert found[encoder, "litert", 0] == "refused"


@pytest.mark.slow  # behind an encoder: recipes/test_xr_exports.py
def test_linear_rankers(tmp_path):
    train.main(list(map(str, command(tmp_path))))
    run = load_run(tmp_path / "run")
    export_savedmodel(run, tmp_path / "served" / "calibrated", 3, probabilities=True)
    check(answers(tmp_path / "served", 0, 1, 1000), ["calibrated"], (0, 1, 1000))
    found = RunPredictor(run, 3)(Chunk(labels=[], texts=[]))
    assert found.labels == [] and found.scores.shape == (0, 3)


@pytest.mark.parametrize("encoder", ["bag_mlp", "textcnn"])
def test_predicting_and_encoding_in_python(tmp_path, encoder):
    run = run_of(tmp_path, encoder)
    tokens = encoder == "textcnn"
    chunk = (
        Chunk(labels=[], texts=[])
        if tokens
        else Chunk(labels=[], features=scipy.sparse.csr_matrix((0, 20), dtype=np.float32))
    )
    found = RunPredictor(run, 3)(chunk)
    assert found.labels == [] and found.scores.shape == (0, 3)
    vectors = run.embedder("test")(run.features_of(chunk))
    assert vectors.shape == (0, run.model.encoder(run.features_of(chunk)).shape[1])
