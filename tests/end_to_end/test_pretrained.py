"""A pretrained encoder from the command line to the SavedModel, without its folder at the end."""

import json
import pickle
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests.commands.calls import call
from tests.encoders.hub_folders import write_folder
from tests.end_to_end.test_tokens import config_of
from tfxc.commands import evaluate, export, predict, train
from tfxc.core.errors import ConfigError
from tfxc.estimator.classifier import XCClassifier
from tfxc.inference.savedmodel import _load
from tfxc.runs.loaded import load_run

pytest.importorskip("tensorflow_text", reason="the extra hub is not installed")


def start(folder, **encoder):
    model = folder / "model"
    write_folder(model, num_hidden_layers=1)
    features = {"name": "pretrained", "folder": str(model), "max_length": 12}
    section = {"name": "pretrained", "folder": str(model), "dropout": 0.0, "body_dropout": 0.0}
    return config_of(folder, features, section | encoder)


def test_train_and_go_on_without_the_folder(tmp_path, capsys):
    config = start(tmp_path, pooling="mean")
    options = ("--prepared", tmp_path / "prepared", "--json")
    outcome = call(capsys, train, "--config", config, *options)
    assert outcome.code == 0
    summary = json.loads(outcome.out)
    assert summary["dev"]["P@1"] > 0.9
    shutil.rmtree(tmp_path / "model")

    data = ("--data", tmp_path / "dev.jsonl")
    assert call(capsys, evaluate, "--run", tmp_path / "run", "--k", "1", *data).code == 0
    found = call(capsys, export, "--run", tmp_path / "run", "--output", tmp_path / "served")
    assert found.code == 0 and "import tensorflow_text" in found.out
    served = tf.saved_model.load(str(tmp_path / "served")).signatures
    answer = served["serving_default"](text=tf.constant(["No OWL but a fox", ""]))
    assert answer["labels"][0, 0] == b"fox"
    (tmp_path / "texts.txt").write_text("no fox but a owl\n")
    arguments = ("--run", tmp_path / "run", "--k", "1", tmp_path / "texts.txt")
    assert "owl" in call(capsys, predict, *arguments).out


def test_a_server_gets_the_ops_first(tmp_path, monkeypatch):
    (tmp_path / "saved_model.pb").touch()
    tries = []

    def load(folder):
        tries.append(folder)
        raise RuntimeError("Op type not registered 'NormalizeUTF8'" if len(tries) == 1 else "other")

    monkeypatch.setattr(tf.saved_model, "load", load)
    with pytest.raises(ConfigError, match=r"this SavedModel cannot be loaded \(other\)"):
        _load(tmp_path)
    assert len(tries) == 2
    with pytest.raises(ConfigError, match=r"this SavedModel cannot be loaded \(other\)"):
        _load(tmp_path)
    assert len(tries) == 3


@pytest.mark.slow
def test_with_techniques(tmp_path, capsys):
    config = start(tmp_path, dropout=0.1, body_dropout=0.1)
    techniques = [{"name": "fgm", "epsilon": 0.5}, {"name": "ema"}]
    changes = (
        "training.epochs=0.2",
        "training.accumulate=2",
        f"techniques={json.dumps(techniques)}",
    )
    changes = [part for change in changes for part in ("--set", change)]
    command = ("--config", config, "--prepared", tmp_path / "prepared")
    outcome = call(capsys, train, *command, *changes, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["loss"] > 0


@pytest.mark.slow  # a run without its folder: test_train_and_go_on_without_the_folder
def test_estimator_is_pickled_without_the_folder(tmp_path):
    write_folder(tmp_path / "model")
    folder = str(tmp_path / "model")
    model = XCClassifier(
        {"name": "pretrained", "folder": folder},
        "dense",
        "softmax",
        text_features={"name": "pretrained", "folder": folder, "max_length": 12},
        epochs=1,
        batch_size=4,
    )
    texts = ["a fox", "no hen", "red owl", "a cat"]
    model.fit(texts, ["fox", "hen", "owl", "cat"])
    _, expected = model.predict_top_k(texts, 4)
    shutil.rmtree(tmp_path / "model")
    _, found = pickle.loads(pickle.dumps(model)).predict_top_k(texts, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_frozen(tmp_path, capsys):
    config = start(tmp_path, trainable=False)
    command = ("--config", config, "--prepared", tmp_path / "prepared")
    assert call(capsys, train, *command, "--set", "training.epochs=1").code == 0
    before = write_folder(tmp_path / "again", num_hidden_layers=1)[
        "embeddings.word_embeddings.weight"
    ]
    table = load_run(tmp_path / "run").model.encoder.embedding.numpy()
    assert (table[1:] == before[1 : len(table)]).all()


def test_other_tokens(tmp_path, capsys):
    config = start(tmp_path)
    command = ("--config", config, "--prepared", tmp_path / "prepared")
    section = json.dumps({"name": "words"})
    problem = call(capsys, train, *command, "--set", f"data.text_features={section}").problem()
    assert "must be 'pretrained' with this encoder, not 'words'" in problem
