"""Whatever is wrong with the input, the command says so in one line and leaves nothing behind."""

import json

import numpy as np
import pytest

from tests import tiny
from tests.commands.calls import call, listing
from tfxc.commands import evaluate, train

MACH = {"name": "mach", "num_buckets": 8, "num_repetitions": 2}
TEXTS = {"text_features": {"name": "tfidf", "min_df": 1}, "normalise": None, "dev": None}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder for the records of the tiny set, shared by the tests that only read them."""
    return tmp_path_factory.mktemp("prepared")


def files(folder):
    return {name for name, size in listing(folder).items() if size is not None}


def command(folder, prepared=None, **changes):
    config = tiny.write_config(folder, **{"training": {"epochs": 0.2}, **changes})
    return ["--config", config, "--prepared", prepared or folder / "prepared"]


# File content, and what the message must say behind the file's name.
BAD_LINES = {
    "too few points": ("3 60 30\n1 2:1\n2 3:1\n", ":1: the header says 3 points"),
    "too many points": ("1 60 30\n1 2:1\n2 3:1\n", ":1: the header says 1 points"),
    "no header": ("1 2:1\n2 3:1\n", ":1: "),
    "a header of two numbers": ("2 60\n1 2:1\n2 3:1\n", ":1: "),
    "a negative header": ("2 60 -3\n1 2:1\n2 3:1\n", ":1: "),
    "a label beyond the header": ("2 60 30\n1 2:1\n30 3:1\n", ":3: the label id 30 is not one of"),
    "a negative label": ("2 60 30\n1 2:1\n-1 3:1\n", ":3: the label id -1"),
    "a feature beyond the header": ("2 60 30\n1 60:1\n2 3:1\n", ":2: the feature id 60 is"),
    "a feature twice": ("2 60 30\n1 2:1 2:3\n2 3:1\n", ":2: "),
    "a value that is not a number": ("2 60 30\n1 2:1\n2 3:x\n", ":3: "),
    "NaN": ("2 60 30\n1 2:1\n2 3:nan\n", ":3: "),
    "infinity": ("2 60 30\n1 2:1e99\n2 3:1\n", ":2: "),
    "a label that is not a number": ("2 60 30\n1 2:1\na,b 3:1\n", ":3: "),
    "no labels at all": ("2 60 30\n 2:1\n 3:1\n", ": no example of the training split has a label"),
    "no examples": ("0 60 30\n", ": the training split is empty"),
    "an empty file": ("", ":1: "),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_LINES)
def test_bad_lines_name_file_and_line(tmp_path, capsys, name):
    content, message = BAD_LINES[name]
    arguments = command(tmp_path, data={"dev": None, "reader": "xc_repository"})
    (tmp_path / "train.txt").write_text(content)
    before = files(tmp_path)
    problem = call(capsys, train, *arguments).problem()
    assert problem.startswith(f"{tmp_path / 'train.txt'}{message}")
    assert files(tmp_path) == before


BAD_TEXTS = {
    "no JSON": ('{"text": "a", "labels": ["x"]}\n{"text": \n', ":2: "),
    "no text": ('{"text": "a", "labels": ["x"]}\n{"labels": ["x"]}\n', ":2: "),
    "labels that are not list": ('{"text": "a", "labels": {"x": "y"}}\n', ":1: "),
    "bytes that are not UTF-8": ('{"text": "a", "labels": ["x"]}\n{"text": "\udcff"}\n', ":2: "),
}


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_bad_texts_name_file_and_line(tmp_path, capsys, name):
    content, message = BAD_TEXTS[name]
    path = tmp_path / "train.jsonl"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    arguments = command(tmp_path, data={**TEXTS, "train": str(path)})
    before = files(tmp_path)
    problem = call(capsys, train, *arguments).problem()
    assert problem.startswith(f"{path}{message}")
    assert files(tmp_path) == before


def test_unusual_but_right_input_is_trained(tmp_path, capsys):
    """Unsorted features, empty features, empty labels, labels twice, untidy line ends."""
    arguments = command(tmp_path, data={"dev": None}, training={"batch_size": 4, "epochs": 2})
    lines = ["7 60 30", "3,1,3 9:1 2:1", " 5:1", "4", "29 59:-2.5", "", "0 0:1e-3", "1\t2:1\r"]
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    assert call(capsys, train, *arguments).code == 0
    manifest = json.loads((tmp_path / "run/assets/manifest.json").read_text())
    split = manifest["splits"]["train"]
    assert (split["examples"], split["nonzeros"], split["labels"]) == (7, 6, 6)
    assert split["without_labels"] == 2


def test_label_names_survive_to_the_answers(tmp_path, capsys):
    names = ["a, b", "標籤", "naïve name", "q|r", '"', "plain"]
    path = tmp_path / "train.jsonl"
    rows = [{"text": f"word{i}", "labels": [names[i % 6], names[(i + 1) % 6]]} for i in range(24)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    arguments = command(tmp_path, data={**TEXTS, "train": str(path)})
    assert call(capsys, train, *arguments).code == 0
    from tfxc.runs.loaded import load_run

    assert sorted(load_run(tmp_path / "run").vocabulary.names) == sorted(names)
    outcome = call(capsys, evaluate, "--run", tmp_path / "run", "--data", path, "--k", 6)
    assert outcome.code == 0 and "unknown to the run" not in outcome.out
    assert (
        json.loads((tmp_path / "run/evaluation-train-jsonl.json").read_text())["metrics"]["R@6"]
        == 1
    )


# Config changes, and what the message must begin with and say.
BAD_CONFIGS = {
    "an unknown key": ({"traning": {}}, "unknown key 'traning', did you mean 'training'"),
    "an unknown training key": (
        {"training": {"epoch": 3}}, "unknown key 'training.epoch', did you mean 'epochs'"),
    "an unknown data key": ({"data": {"tran": "x"}}, "unknown key 'data.tran'"),
    "an unknown argument": (
        {"head": {**MACH, "num_bukets": 3}}, "head.num_bukets: "),
    "an unknown head": ({"head": {"name": "mash"}}, "did you mean 'mach'"),
    "more buckets than labels": ({"head": {**MACH, "num_buckets": 31}}, "num_buckets"),
    "no repetition": ({"head": {**MACH, "num_repetitions": 0}}, "num_repetitions"),
    "no bucket": ({"head": {**MACH, "num_buckets": 0}}, "num_buckets"),
    "a number that is none": ({"training": {"batch_size": "many"}}, "training.batch_size"),
    "no batch": ({"training": {"batch_size": 0}}, "training.batch_size"),
    "a batch that cannot be divided": (
        {"training": {"accumulate": 3}}, "is not a multiple of 3"),
    "no epochs": ({"training": {"epochs": 0}}, "training.epochs"),
    "a negative learning rate": (
        {"training": {"optimizer": {"name": "adam", "learning_rate": -1}}}, "learning_rate"),
    "an unknown optimizer": (
        {"training": {"optimizer": {"name": "adamm"}}}, "did you mean 'adam'"),
    "an unknown optimizer key": (
        {"training": {"optimizer": {"name": "adam", "lerning_rate": 1}}}, "'learning_rate'"),
    "an unknown schedule key": (
        {"training": {"schedule": {"name": "linear", "warmpu": 0.1}}}, "did you mean 'warmup'"),
    "a learning rate that is a text": (
        {"training": {"optimizer": {"name": "sgd", "learning_rate": "x"}}}, "not 'x'"),
    "an impossible momentum": (
        {"training": {"optimizer": {"name": "sgd", "momentum": -1}}},
        "training.optimizer.momentum: must be a number of at least 0 and below 1, not -1"),
    "a negative weight decay": (
        {"training": {"optimizer": {"name": "adam", "weight_decay": -1}}},
        "training.optimizer.weight_decay: must be a number of at least 0, not -1"),
    "an impossible schedule": (
        {"training": {"schedule": {"name": "exponential"}}}, "training.schedule.end: "),
    "dropout of all": (
        {"encoder": {"dropout": 1.0}}, "a number of at least 0 and below 1, not 1.0"),
    "no hidden width": ({"encoder": {"hidden": [0]}}, "hidden"),
    "an unknown activation": ({"encoder": {"activation": "relo"}}, "activation"),
    "an unknown technique": ({"techniques": [{"name": "emma"}]}, "did you mean 'ema'"),
    "an impossible technique": ({"techniques": [{"name": "ema", "decay": 2}]}, "decay"),
    "an unknown objective": ({"objective": {"name": "softmx"}}, "did you mean 'softmax'"),
    "an unknown recipe": ({"recipe": {"name": "fitt"}}, "did you mean 'fit'"),
    "vectors expected": (
        {"encoder": {"name": "precomputed", "hidden": None}}, "encoder.hidden"),
    "an unknown metric to stop by": (
        {"training": {"early_stopping": {"metric": "P@2"}}}, "unknown metric 'P@2'"),
    "texts expected": ({"data": TEXTS}, "the examples have no texts, but features"),
    "an unknown reader option": (
        {"data": {"reader_options": {"colour": 1}}}, "data.reader_options.colour: reader "),
    "an unknown reader option of a split": (
        {"data": {"split_options": {"dev": {"colour": 1}}}},
        "data.split_options.dev.colour: reader "),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_bad_configs_name_the_key(tmp_path, prepared, capsys, name):
    changes, message = BAD_CONFIGS[name]
    arguments = command(tmp_path, prepared, **changes)
    before = listing(tmp_path)
    for more in ([], ["--dry-run"]):
        problem = call(capsys, train, *arguments, *more).problem()
        assert message in problem
        assert listing(tmp_path) == before, "no run of a config that cannot be"


def test_unknown_text_features(tmp_path, capsys):
    (tmp_path / "train.jsonl").write_text('{"text": "a", "labels": ["x"]}\n')
    data = {"train": str(tmp_path / "train.jsonl"), **TEXTS, "text_features": {"name": "tfidff"}}
    arguments = command(tmp_path, data=data)
    assert "did you mean 'tfidf'" in call(capsys, train, *arguments).problem()
    assert not files(tmp_path / "prepared") and not (tmp_path / "run").exists()


def test_stopping_early_without_a_dev_split(tmp_path, capsys):
    changes = {"data": {"dev": None}, "training": {"early_stopping": {"metric": "P@1"}}}
    problem = call(capsys, train, *command(tmp_path, **changes)).problem()
    assert problem.startswith("training.early_stopping: it needs a dev split")
    assert not (tmp_path / "run").exists()


def test_one_label_is_nothing_to_choose_from(tmp_path, capsys):
    (tmp_path / "train.svm").write_text("0 1:1\n0 2:1\n")
    data = {"train": str(tmp_path / "train.svm"), "dev": None}
    arguments = command(tmp_path, data=data, objective={"name": "softmax"})
    for more in ([], ["--dry-run"]):
        problem = call(capsys, train, *arguments, *more).problem()
        assert problem.startswith(
            "data.train: there is one label only: the loss of objective 'softmax'"
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["{", "[1]", '{"run": }', "\udcff"])
def test_a_file_that_is_no_config(tmp_path, capsys, text):
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    problem = call(capsys, train, "--config", path).problem()
    assert problem.startswith(str(path))


def test_encoder_and_features_must_fit(tmp_path, prepared, capsys):
    sparse = command(tmp_path, prepared)
    tree = json.loads(sparse[1].read_text())
    tree["encoder"] = {"name": "precomputed"}
    sparse[1].write_text(json.dumps(tree))
    problem = call(capsys, train, *sparse).problem()
    assert problem.startswith(
        "encoder.name: encoder 'precomputed' reads dense vectors, but the data"
    )
    assert "Use encoder 'bag_mlp'" in problem
    features = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    np.savez(tmp_path / "dense.npz", features=features, labels=np.arange(20) % 4)
    tree["encoder"] = {"name": "bag_mlp"}
    tree["data"] |= {"train": str(tmp_path / "dense.npz"), "dev": None, "normalise": None}
    sparse[1].write_text(json.dumps(tree))
    problem = call(capsys, train, *sparse).problem()
    assert problem.startswith(
        "encoder.name: encoder 'bag_mlp' reads sparse features, but the data have"
    )
    assert not (tmp_path / "run").exists()
    recipe = ["--set", "recipe.name=repetitions", "--set", f"head={json.dumps(MACH)}"]
    problem = call(capsys, train, *sparse, *recipe, "--set", "head.num_buckets=3").problem()
    assert problem.startswith("encoder.name: ") and not (tmp_path / "run").exists()
