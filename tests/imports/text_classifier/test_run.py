"""``tfxc import text_classifier``: runs score texts as the original networks do."""

import importlib
import json

import numpy as np
import pytest
import tensorflow as tf

from tests.commands.calls import call
from tests.imports.text_classifier.project import (
    CLASSES,
    TEXTS,
    UNKNOWN,
    random_tensors,
    scores_by_numpy,
    tree_of,
    write_checkpoint,
    write_project,
)
from tfxc.commands import export, predict
from tfxc.core.errors import DataError
from tfxc.data.examples.chunk import Chunk
from tfxc.imports.text_classifier.run import read_token_file
from tfxc.runs.loaded import load_run

import_model = importlib.import_module("tfxc.commands.import")
NETWORKS = [
    ("FastText", False),
    ("TextCNN", False),
    ("TextRNN", False),
    ("TextRNN", True),
    ("TextRCNN", False),
]


def scores_of(run):
    """Scores (texts, classes) of the run's model."""
    loaded = load_run(run)
    features = loaded.features_of(Chunk(texts=TEXTS, labels=[[]] * len(TEXTS)))
    return loaded.model(tf.constant(features)).numpy()


def expected(model_type, tensors, **options):
    return np.array([scores_by_numpy(model_type, tensors, text, **options) for text in TEXTS])


@pytest.mark.parametrize(("model_type", "attention"), NETWORKS)
def test_scores_are_the_original_networks(tmp_path, capsys, model_type, attention):
    config = write_project(tmp_path, model_type, use_attention=attention)
    tensors, run = random_tensors(model_type, attention), tmp_path / "run"
    write_checkpoint(tmp_path / "checkpoints" / "model.bin", tensors)
    outcome = call(capsys, import_model, "text_classifier", config, "--run", run)
    assert outcome.out.splitlines()[-1] == f"{run}: {model_type}, 3 labels, 5 tokens"
    assert "no equivalent: use_cuda = True: tfxc uses the devices there are" in outcome.out
    own = expected(model_type, tensors, attention=attention)
    np.testing.assert_allclose(scores_of(run), own, rtol=1e-5, atol=1e-5)


def test_an_imported_model_is_served(tmp_path, capsys):
    write_project(tmp_path, "TextCNN")
    tensors, run = random_tensors("TextCNN"), tmp_path / "run"
    write_checkpoint(tmp_path / "checkpoints" / "model.bin", tensors)
    assert call(capsys, import_model, "text_classifier", tmp_path, "--run", run).code == 0
    own = expected("TextCNN", tensors)
    texts = [text for text in TEXTS if text.strip("\n\t") == text and text]
    best = [CLASSES[own[TEXTS.index(text)].argmax()] for text in texts]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    asked = ("--run", run, tmp_path / "texts.txt", "--k", 3, "--format", "jsonl")
    lines = call(capsys, predict, *asked).out.splitlines()
    assert [json.loads(line)["labels"][0] for line in lines] == best
    assert call(capsys, export, "--run", run).code == 0
    served = tf.saved_model.load(str(run / "savedmodel")).signatures["serving_default"]
    found = served(tf.constant(TEXTS))
    np.testing.assert_allclose(found["scores"], -np.sort(-own, axis=1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("flag", [(), ("--built-vocabulary",)])
def test_the_row_of_unknown_tokens(tmp_path, capsys, flag):
    config = write_project(tmp_path, "FastText")
    tensors, run = random_tensors("FastText"), tmp_path / "run"
    write_checkpoint(tmp_path / "other.pkl", tensors)
    arguments = (config, "--run", run, "--checkpoint", tmp_path / "other.pkl", *flag)
    assert call(capsys, import_model, "text_classifier", *arguments).code == 0
    own = expected("FastText", tensors, unknown=UNKNOWN + bool(flag))
    np.testing.assert_allclose(scores_of(run), own, rtol=1e-5, atol=1e-5)


def test_folds_are_averaged(tmp_path, capsys):
    config = write_project(tmp_path, "FastText", kfold=True, fold_splits=2)
    folds, run = [random_tensors("FastText", seed=seed) for seed in (1, 2)], tmp_path / "run"
    for number, tensors in enumerate(folds, 1):
        write_checkpoint(tmp_path / "checkpoints" / f"model.bin_{number}", tensors)
    assert call(capsys, import_model, "text_classifier", config, "--run", run).code == 0
    own = np.mean([expected("FastText", tensors) for tensors in folds], axis=0)
    np.testing.assert_allclose(scores_of(run), own, rtol=1e-5, atol=1e-5)
    (tmp_path / "checkpoints" / "model.bin_2").unlink()
    problem = call(capsys, import_model, "text_classifier", config, "--run", run).problem()
    assert "model.bin_2" in problem


def test_the_student_of_a_distillation(tmp_path, capsys):
    """The run is a finished network: it names no teacher, and folds taught one student."""
    config = write_project(tmp_path, "FastText", kfold=True, fold_splits=2)
    section = {"student_model_type": "FastText", "student_model_name": "student.bin",
               "teacher_model_name": "t.bin", "checkpoints_dir": "checkpoints"}  # fmt: skip
    text = config.read_text(encoding="utf-8").replace("'train_small_model'", "'distillation'")
    config.write_text(f"{text}distill_configure = {section!r}\n", encoding="utf-8")
    tensors, run = random_tensors("FastText"), tmp_path / "run"
    write_checkpoint(tmp_path / "checkpoints" / "student.bin", tensors)
    outcome = call(capsys, import_model, "text_classifier", config, "--run", run)
    assert outcome.code == 0, outcome.err
    np.testing.assert_allclose(scores_of(run), expected("FastText", tensors), rtol=1e-5, atol=1e-5)
    assert tree_of(run / "config.json")["recipe"]["name"] == "fit"


def test_a_checkpoint_of_averaged_weights(tmp_path, capsys):
    config, tensors = write_project(tmp_path, "FastText"), random_tensors("FastText")
    averaged = {f"module.{name}": values for name, values in tensors.items()}
    averaged["n_averaged"] = np.array(7, np.int64)
    write_checkpoint(tmp_path / "checkpoints" / "model.bin", averaged)
    run = tmp_path / "run"
    assert call(capsys, import_model, "text_classifier", config, "--run", run).code == 0
    np.testing.assert_allclose(scores_of(run), expected("FastText", tensors), rtol=1e-5, atol=1e-5)


def test_checkpoints_that_do_not_fit(tmp_path, capsys):
    config, tensors = write_project(tmp_path, "FastText"), random_tensors("FastText")
    path = tmp_path / "checkpoints" / "model.bin"
    arguments = (capsys, import_model, "text_classifier", config, "--run", tmp_path / "run")
    write_checkpoint(path, {**tensors, "fc3.bias": np.zeros(3, "f4")})
    assert (
        "these are not the tensors of the FastText of config.py (1 unknown: fc3.bias)"
        in call(*arguments).problem()
    )
    write_checkpoint(path, {**tensors, "fc1.bias": np.zeros(5, "f4")})
    assert "1 of another shape: fc1.bias (5,) for (4,)" in call(*arguments).problem()
    write_checkpoint(path, {**tensors, "word_embeddings.weight": np.zeros((9, 6), "f4")})
    assert "has 9 rows instead of 8, for the 5 tokens" in call(*arguments).problem()
    write_project(tmp_path, "Transformer", encoder_num=1, head_num=2)
    assert "runs over the texts of a batch" in call(*arguments).problem()
    write_project(tmp_path, "FastText", stop_words=True, stop_words_file="stop.txt")
    assert "tfxc cannot leave stop words out of texts" in call(*arguments).problem()
    assert not (tmp_path / "run").exists()


def test_a_config_to_train_with(tmp_path, capsys):
    config = write_project(tmp_path, "TextCNN", secret_key=3)
    file = tmp_path / "mine.json"
    arguments = (config, "--run", "runs/mine", "--write-config", file)
    outcome = call(capsys, import_model, "text_classifier", *arguments)
    assert outcome.out.splitlines()[-1] == f"{file}: the config of {config}, for tfxc train"
    assert "no equivalent: secret_key = 3: no such key" in outcome.out
    tree = tree_of(file)
    assert tree["run"] == "runs/mine" and tree["encoder"]["name"] == "textcnn"
    labels = (tmp_path / "mine.labels.txt").read_text(encoding="utf-8")
    assert labels.splitlines() == CLASSES
    written = config.read_bytes()
    for name in (file, config, tmp_path / "other.json"):
        (tmp_path / "other.labels.txt").write_text("")
        arguments = (config, "--run", "runs/mine", "--write-config", name)
        problem = call(capsys, import_model, "text_classifier", *arguments).problem()
        assert "the file already exists" in problem
    assert config.read_bytes() == written and not (tmp_path / "other.json").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\t1\nb\n[PAD]\t0\n[UNK]\t2\n", "token2id:2: the line 'b' is not of the form character"),
        ("a\t1\nbc\t2\n[PAD]\t0\n[UNK]\t3\n", "token2id:2: .* is not of the form character<TAB>id"),
        ("a\t1\na\t2\n[PAD]\t0\n[UNK]\t3\n", "token2id:2: an earlier line has the token or the id"),
        ("a\t1\n[PAD]\t0\n[UNK]\t3\n", r"the ids are not 0 to 2, from \[PAD\] to \[UNK\]"),
        ("", "the ids are not 0 to 0"),
    ],
)
def test_damaged_vocabularies(tmp_path, content, message):
    (tmp_path / "token2id").write_text(content)
    with pytest.raises(DataError, match=message):
        read_token_file(tmp_path / "token2id", one_character=True)


def test_words_may_be_longer(tmp_path):
    (tmp_path / "token2id").write_bytes("机器\t1\r\n学习\t2\r\n[PAD]\t0\r\n[UNK]\t3\r\n".encode())
    assert read_token_file(tmp_path / "token2id", one_character=False) == ["机器", "学习"]
