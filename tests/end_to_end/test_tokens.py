"""Encoders of tokens from the command line to the SavedModel, the estimator and the predictor."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.commands.calls import call
from tests.data.sources.examples import write_jsonl
from tests.small_runs import config_tree
from tfxc.commands import predict, train
from tfxc.encoders.fasttext import FastText
from tfxc.estimator.classifier import XCClassifier
from tfxc.exports.savedmodel import export_savedmodel
from tfxc.heads.dense import Dense
from tfxc.inference.embedder import Embedder
from tfxc.inference.searcher import Searcher
from tfxc.model import XCModel
from tfxc.objectives.softmax import Softmax
from tfxc.runs.loaded import load_run

NAMES = ("fox", "hen", "owl", "cat")


def examples(count, seed):
    """Texts whose label is the animal that is said not to be absent."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        there, absent = random.choice(NAMES, 2, replace=False)
        text = f"no {absent} but a {there}" if random.random() < 0.5 else f"a {there}"
        yield text, [str(there)]


def config_of(folder, text_features, encoder):
    write_jsonl(folder / "train.jsonl", examples(300, 0))
    write_jsonl(folder / "dev.jsonl", examples(80, 1))
    path = folder / "config.json"
    tree = config_tree(folder, encoder, data={"name": "animals", "text_features": text_features})
    path.write_text(json.dumps(tree))
    return path


# Characters in Python and in the graph: tests/data/text/test_tokens.py.
@pytest.mark.parametrize(
    ("text_features", "encoder"),
    [
        ({"name": "words", "min_count": 1}, {"name": "textcnn", "num_filters": 16, "widths": [2]}),
        pytest.param(
            {"name": "characters", "max_length": 15},
            {"name": "textcnn", "num_filters": 48, "widths": [4]},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["words", "characters"],
)
def test_train_evaluate_predict_and_export(tmp_path, capsys, text_features, encoder):
    config = config_of(tmp_path, text_features, {**encoder, "embedding_dim": 24})
    options = ("--prepared", tmp_path / "prepared", "--json")
    outcome = call(capsys, train, "--config", config, *options)
    assert outcome.code == 0
    assert ("texts were cut off after 15 tokens" in outcome.err) == ("max_length" in text_features)
    summary = json.loads(outcome.out)
    assert summary["dev"]["P@1"] > 0.9, "which needs the order of the words"

    run = load_run(tmp_path / "run")
    exported = export_savedmodel(run, tmp_path / "served", k=2)
    assert exported.input_kind == "text" and exported.score_difference < 1e-5
    served = tf.saved_model.load(str(tmp_path / "served")).signatures
    answer = served["serving_default"](text=tf.constant(["No OWL but a fox", ""]))
    assert answer["labels"][0, 0] == b"fox"
    (tmp_path / "texts.txt").write_text("no fox but a owl\n")
    arguments = ("--run", tmp_path / "run", "--k", "1", tmp_path / "texts.txt")
    assert "owl" in call(capsys, predict, *arguments).out


def test_estimator():
    texts = [f"no {one} but a {other}" for one in NAMES for other in NAMES if one != other]
    labels = [text.split()[-1] for text in texts]
    model = XCClassifier(
        {"name": "textcnn", "embedding_dim": 16, "num_filters": 16, "widths": [2]},
        "dense",
        "softmax",
        text_features={"name": "words", "min_count": 1},
        epochs=40,
        batch_size=12,
        learning_rate=0.02,
    )
    assert (model.fit(texts, labels).predict(texts) == np.array(labels)).mean() > 0.9


def test_search_and_vectors_of_batches_of_any_length():
    model = XCModel(FastText(9, embedding_dim=4), Dense(5), Softmax())
    search, embed = Searcher(model, 2), Embedder(model)
    texts = np.array([[3, 4, 0, 0, 0, 0, 0, 0]], np.int32)
    longer = np.pad(texts, [[0, 0], [0, 8]])
    for other in (longer, texts):
        expected, found = (search({"features": tf.constant(ids)}) for ids in (texts, other))
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_allclose(embed(tf.constant(other)), embed(tf.constant(texts)), rtol=1e-5)


def test_an_encoder_of_something_else(tmp_path, capsys):
    config = config_of(tmp_path, {"name": "words"}, {"name": "bag_mlp"})
    command = ("--config", config, "--prepared", tmp_path / "prepared")
    problem = call(capsys, train, *command).problem()
    assert "reads sparse features, but the data have lists of tokens" in problem
    assert "textcnn" in problem
