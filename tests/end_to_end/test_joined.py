"""One prepared set of joined texts through the commands, with an encoder of either part."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests.commands.calls import call
from tests.data.sources.examples import write_jsonl
from tests.encoders.hub_folders import write_folder
from tests.small_runs import TEXTS, config_tree, make_run
from tfxc.commands import evaluate, export, info, predict, prepare, train
from tfxc.core.config import parse_config
from tfxc.core.errors import CheckpointError, ConfigError
from tfxc.data.examples.chunk import Chunk
from tfxc.data.examples.lists import pad_tokens
from tfxc.data.sources.shards import open_source
from tfxc.data.store.manifest import Manifest
from tfxc.data.text.registry import load_text_features
from tfxc.estimator.classifier import XCClassifier
from tfxc.exports import convert, litert, onnx
from tfxc.inference.savedmodel import SavedModelPredictor
from tfxc.inference.searcher import Searcher
from tfxc.model import build_model
from tfxc.runs.loaded import load_run

JOINED = {
    "name": "joined",
    "tokens": {"name": "words", "min_count": 1, "max_length": 6},
    "terms": {"name": "pecos_tfidf"},
}
TEXTCNN = {"name": "textcnn", "embedding_dim": 8, "num_filters": 8, "widths": [1, 2]}
BAG = {"name": "bag_mlp", "hidden": [16]}
ENCODERS = {"textcnn": TEXTCNN, "bag_mlp": BAG}
ANIMALS = ["fox", "hen", "cat", "dog", "owl", "emu"]


def examples(count, seed):
    """Texts with two animals, which are the labels, among other words."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        labels = rng.choice(ANIMALS, 2, replace=False).tolist()
        yield " ".join(rng.permutation([*labels, *rng.choice(["a", "The", "red"], 3)])), labels


def config_of(folder, encoder, **training):
    optimizer = {"name": "adam", "learning_rate": 0.03}
    return config_tree(
        folder,
        encoder,
        run=f"run-{encoder['name']}",
        data={"name": "animals", "text_features": JOINED},
        objective={"name": "sigmoid"},
        training={"batch_size": 16, "epochs": 12, "optimizer": optimizer, **training},
        evaluation={"k": [1, 2]},
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The runs of both encoders on one prepared set."""
    folder = tmp_path_factory.mktemp("joined")
    write_jsonl(folder / "train.jsonl", examples(160, 0))
    write_jsonl(folder / "dev.jsonl", examples(40, 1))
    for name, encoder in ENCODERS.items():
        grouped = {"group_by_length": True} if name == "textcnn" else {}
        path = folder / f"{name}.json"
        path.write_text(json.dumps(config_of(folder, encoder, **grouped)))
        arguments = ["--config", str(path), "--prepared", str(folder / "prepared")]
        assert train.main(arguments) == 0
    assert len(list((folder / "prepared").glob("animals-*"))) == 1
    return folder


BOTH = pytest.mark.parametrize("name", ENCODERS)
# Exports of a bag of words alone: exports/test_savedmodel.py, exports/test_convert.py.
TOKENS = pytest.mark.parametrize(
    "name", ["textcnn", pytest.param("bag_mlp", marks=pytest.mark.slow)]
)


def model_of_part(run, name):
    """The run's weights in a model built for the part's own kind of features."""
    kind = {"textcnn": "tokens", "bag_mlp": "sparse"}[name]
    features = run.text_features
    width = features.vocabulary_size if kind == "tokens" else features.num_features
    sizes = {"num_features": width, "num_labels": len(ANIMALS), "num_examples": 160}
    model = build_model(run.config, feature_kind=kind, **sizes)
    run.folder.load_weights(model)
    return model


@BOTH
def test_a_run_is_that_of_its_part_alone(trained, name, capsys):
    run = load_run(trained / f"run-{name}")
    rows = run.text_features.transform(TEXTS + ANIMALS)
    tokens = pad_tokens(rows.tokens.indptr, rows.tokens.tokens)
    bag = {"ids": rows.terms.indices, "weights": rows.terms.data}
    bag = {**bag, "row_splits": np.int64(rows.terms.indptr)}
    own = tf.nest.map_structure(tf.constant, tokens if name == "textcnn" else bag)
    ids, scores = Searcher(model_of_part(run, name), 6)({"features": own})
    (trained / "texts.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in TEXTS + ANIMALS)
    )
    source = ("--run", run.folder.path, trained / "texts.jsonl")
    outcome = call(capsys, predict, *source, "--k", 6, "--scores")
    found = [json.loads(line) for line in outcome.out.splitlines()]
    names = run.vocabulary.names
    assert [line["labels"] for line in found] == [[names[i] for i in row] for row in ids]
    np.testing.assert_allclose([line["scores"] for line in found], scores, rtol=1e-5, atol=1e-6)


@BOTH
def test_evaluate_prepared_and_raw_texts(trained, name, capsys):
    run = trained / f"run-{name}"
    prepared = call(capsys, evaluate, "--run", run, "--prepared", trained / "prepared")
    raw = call(capsys, evaluate, "--run", run, "--data", trained / "dev.jsonl")
    assert prepared.code == raw.code == 0, prepared.err + raw.err
    tables = [output.out.splitlines()[1:6] for output in (prepared, raw)]
    assert tables[0] == tables[1] and tables[0][1].startswith("P  ")
    assert json.loads((run / "summary.json").read_text())["dev"]["P@2"] > 0.95


@TOKENS
def test_the_exported_model_equals_the_run(trained, name, tmp_path, capsys):
    run = load_run(trained / f"run-{name}")
    outcome = call(capsys, export, "--run", run.folder.path, "--output", tmp_path / "served")
    assert outcome.code == 0 and "inputs   text: string (batch,)" in outcome.out, outcome.err
    texts = [*TEXTS, *ANIMALS, "", "The fox\nred  owl"]
    rows = next(run.rows(_Texts(texts)))
    ids, scores = Searcher(run.model, 5)({"features": rows.batch()["features"]})
    served = tf.saved_model.load(str(tmp_path / "served")).signatures
    found = served["serving_default"](text=tf.constant(texts))
    np.testing.assert_array_equal(found["ids"], ids)
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-5, atol=1e-6)
    features = {key: tf.constant(values) for key, values in rows.batch()["features"].items()}
    by_features = served["features"](**features)
    np.testing.assert_array_equal(by_features["ids"], ids)
    assert SavedModelPredictor(tmp_path / "served").input_kind == "text"


class _Texts:
    """A reader of given texts."""

    path = "texts"

    def __init__(self, texts):
        self._texts = texts

    def chunks(self, size):
        yield Chunk([[] for _ in self._texts], texts=self._texts)


@TOKENS
@pytest.mark.parametrize("form", ["onnx", "litert"])
def test_converted_models_take_the_part_of_the_encoder(trained, name, form, tmp_path):
    if form == "onnx":
        for package in ("tf2onnx", "onnx", "onnxruntime"):
            pytest.importorskip(package, reason="the extra onnx is not installed")
    run = load_run(trained / f"run-{name}")
    done = convert.export_model(run, tmp_path / "out", form, 3)
    assert done.input_kind == {"textcnn": "tokens", "bag_mlp": "sparse"}[name]
    rows = load_text_features(tmp_path / "out/text_features").transform([ANIMALS[0]])
    if done.input_kind == "tokens":
        raw = {"tokens": pad_tokens(rows.indptr, rows.tokens)}
    else:
        raw = {"ids": rows.indices, "weights": rows.data, "row_splits": np.int64(rows.indptr)}
    model = {"onnx": onnx, "litert": litert}[form].FORMAT.open(tmp_path / "out" / done.file)
    whole = next(run.rows(_Texts([ANIMALS[0]]))).batch()["features"]
    expected = Searcher(run.model, 3)({"features": tf.nest.map_structure(tf.constant, whole)})
    np.testing.assert_allclose(model(raw)[1], expected[1], rtol=1e-4, atol=1e-5)


def test_what_is_reported(trained, capsys):
    arguments = ["--config", trained / "textcnn.json", "--prepared", trained / "prepared"]
    features = load_run(trained / "run-textcnn").text_features
    output = call(capsys, prepare, *arguments).out
    sizes = (features.vocabulary_size, features.num_features)
    assert "texts of {:,} different tokens and {:,} features (sparse)".format(*sizes) in output
    assert call(capsys, info, "--run", trained / "run-bag_mlp").code == 0
    assert "tried one batch" in call(capsys, train, *arguments, "--fresh", "--dry-run").out


def test_every_pass_reads_its_part(trained):
    """Techniques that look into the encoder get joined batches as well."""
    (data,) = (trained / "prepared").glob("animals-*")
    batch = open_source(data, "train").batch(0, 0, 8)
    for encoder in (TEXTCNN, BAG, {"name": "transformer", "num_layers": 1, "num_heads": 2}):
        config = parse_config(config_of(trained, encoder))
        model = build_model(config, **Manifest.load(data).dimensions)
        own = model.encoder.select_features(batch["features"])
        vectors = model.encoder(own)
        np.testing.assert_array_equal(model.encoder(batch["features"]), vectors)
        if encoder["name"] == "transformer":
            watched = model.encoder.watched(batch["features"])
            np.testing.assert_allclose(watched.vectors, vectors, rtol=1e-6)


def test_other_encoders_are_refused(trained):
    config = parse_config(config_of(trained, {"name": "precomputed"}))
    with pytest.raises(
        ConfigError, match="'precomputed' reads dense vectors, but the data have te"
    ):
        build_model(config, feature_kind="joined", num_features=9, num_labels=6)


def test_a_vocabulary_that_is_not_the_runs_is_refused(trained, tmp_path):
    folder = shutil.copytree(trained / "run-textcnn", tmp_path / "run")
    run = load_run(folder)
    run.manifest["vocabulary_size"] += 1
    with pytest.raises(CheckpointError, match="its vocabulary_size is"):
        _ = run.text_features


def test_a_pretrained_encoder_checks_its_own_part(tmp_path):
    pytest.importorskip("tensorflow_text", reason="the extra hub is not installed")
    write_folder(tmp_path / "model")
    model = {"name": "pretrained", "folder": str(tmp_path / "model")}
    texts = {**JOINED, "tokens": {**model, "max_length": 12}}
    run = load_run(make_run(tmp_path / "run", kind="joined", encoder=model, text_features=texts))
    size = run.text_features.vocabulary_size
    assert run.model.encoder.vocabulary_size == size
    sizes = {"num_features": 9, "vocabulary_size": size, "num_labels": 6}
    texts = {"name": "joined", **run.text_features.settings()}
    texts["tokens"]["max_length"] = 4096
    with pytest.raises(ConfigError, match="is 4096, but the model has only 24 positions"):
        build_model(run.config, feature_kind="joined", text_features=texts, **sizes)


@TOKENS
def test_the_estimator_takes_them(name):
    labels = [[text.split()[0]] for text in TEXTS]
    estimator = XCClassifier(text_features=JOINED, encoder=ENCODERS[name], epochs=2, batch_size=2)
    found, scores = estimator.fit(TEXTS, labels).predict_top_k(TEXTS, k=2)
    assert found.shape == scores.shape == (5, 2)
