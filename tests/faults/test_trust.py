"""Opening a run runs no code that its files name, unless the user says so."""

import json
import re
import sys

import keras
import numpy as np
import pytest

import tfxc
from tests.commands.calls import call
from tests.small_runs import make_run
from tests.source_tree import ROOT
from tfxc.commands import (
    add_labels,
    distill,
    encode,
    ensemble,
    evaluate,
    export,
    features,
    info,
    predict,
    prune,
    report,
    verify,
)
from tfxc.core import registry
from tfxc.core.errors import CheckpointError, ConfigError
from tfxc.runs.loaded import load_run
from tfxc.runs.writer import RunWriter

HELPER = """
import pathlib
pathlib.Path({mark!r}).write_text("code of the run was run")
from tfxc.encoders.bag_mlp import BagMLP


class E(BagMLP):
    pass
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run that names an encoder of ``helper.py``, which lies in the working directory."""
    folder = make_run(tmp_path / "run", encoder={"name": "bag_mlp", "hidden": [6]})
    rename(folder, "encoder", "helper:E")
    (tmp_path / "helper.py").write_text(HELPER.format(mark=str(tmp_path / "mark")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "helper", raising=False)
    yield folder
    sys.modules.pop("helper", None)


def rename(folder, section, name):
    path = folder / "config.json"
    tree = json.loads(path.read_text())
    tree[section] = [{"name": name}] if section == "techniques" else {**tree[section], "name": name}
    path.write_text(json.dumps(tree))


VERBS = {
    "info": (info, []),
    "predict": (predict, ["rows.svm"]),
    "two runs": (predict, ["--run", "other", "--top", "3", "rows.svm"]),
    "evaluate": (evaluate, ["--data", "rows.svm"]),
    "encode": (encode, ["rows.svm", "--output", "vectors.npy"]),
    "export": (export, []),
    "report": (report, ["--no-plots"]),
    "prune": (prune, ["--output", "small"]),
}


@pytest.mark.parametrize("command", VERBS)
def test_commands_refuse_to_import(run, command):
    module, more = VERBS[command]
    (run.parent / "rows.svm").write_text("0 1:1\n")
    with pytest.raises(ConfigError, match=r"encoder.name is 'helper:E'.*Give --trust") as caught:
        module.main(["--run", "run", *more])
    assert str(caught.value.where).endswith("run/config.json")
    assert not (run.parent / "mark").exists() and "helper" not in sys.modules


def test_verify_refuses_to_import(run):
    with pytest.raises(ConfigError, match=r"encoder.name is 'helper:E'"):
        verify._embed(verify.Options(run="run"), None)
    assert not (run.parent / "mark").exists()


def test_add_labels_refuses_to_import(run, capsys):
    (run.parent / "rows.svm").write_text("0 1:1\n")
    outcome = call(capsys, add_labels, "run", "--data", "rows.svm", "--output", "new")
    assert "encoder.name is 'helper:E'" in outcome.problem()
    assert not (run.parent / "mark").exists()


def test_ensemble_refuses_to_import(run, capsys):
    assert "encoder.name is 'helper:E'" in call(capsys, ensemble, "run", "other").problem()
    assert not (run.parent / "mark").exists()


def test_features_refuses_to_import(run, capsys):
    (run.parent / "rows.svm").write_text("0 1:1\n")
    command = ("extract", "rows.svm", "--run", "run", "--output", "set")
    assert "encoder.name is 'helper:E'" in call(capsys, features, *command).problem()
    assert not (run.parent / "mark").exists()


def test_python_refuses_and_trusts(run):
    with pytest.raises(ConfigError, match=r"encoder.name is 'helper:E'"):
        load_run(run)
    assert not (run.parent / "mark").exists()
    loaded = load_run(run, trust=True)
    assert type(loaded.model.encoder).__name__ == "E"
    assert (run.parent / "mark").exists()


def test_a_trusted_run_is_opened_by_commands(run, capsys):
    assert info.main(["--run", "run", "--trust"]) == 0
    assert "encoder helper:E" in capsys.readouterr().out
    assert export.main(["--run", "run", "--trust", "--k", "3"]) == 0
    assert (run / "savedmodel" / "saved_model.pb").exists()


def test_a_reader_is_looked_at(tmp_path):
    folder = make_run(tmp_path / "run")
    path = folder / "config.json"
    tree = json.loads(path.read_text())
    tree["data"]["reader"] = "no_such_module:Reader"
    path.write_text(json.dumps(tree))
    with pytest.raises(ConfigError, match=r"data.reader is 'no_such_module:Reader'.*--trust"):
        load_run(folder)
    assert load_run(folder, trust=True).config.data.reader == "no_such_module:Reader"


@pytest.mark.parametrize("section", ["encoder", "head", "objective", "recipe", "techniques"])
def test_every_section_is_looked_at(tmp_path, section):
    folder = make_run(tmp_path / "run", recipe={"name": "fit"})
    rename(folder, section, "no_such_module:Thing")
    with pytest.raises(ConfigError, match=rf"{section}.*name is 'no_such_module:Thing'"):
        load_run(folder)


def test_a_teacher_is_refused(run, tmp_path):
    from tests import tiny
    from tfxc.recipes.distill.recipe import Distill

    config = tiny.write_config(tmp_path / "student")
    command = ["--config", str(config), "--prepared", str(tmp_path / "prepared")]
    with pytest.raises(ConfigError, match=r"encoder.name is 'helper:E'"):
        distill.main([*command, "--teacher", "run"])
    assert not (tmp_path / "mark").exists()
    assert Distill(teachers="run", trust=True).trust


def test_configs_of_the_user_are_honoured(run):
    """What a config given to ``train`` names is the user's own choice."""
    assert registry.get("encoder", "helper:E").__name__ == "E"
    assert (run.parent / "mark").exists()


class Runs:
    """An object whose pickle writes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickled_arrays_are_not_run(tmp_path):
    folder = make_run(tmp_path / "run")
    array = np.array([Runs(tmp_path / "mark")], object)
    np.save(folder / "assets" / "label_counts.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        _ = load_run(folder).label_counts
    assert not (tmp_path / "mark").exists()


def test_keras_files_run_no_lambda(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x)])
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="unsafe"):
        tfxc.load_model(tmp_path / "model.keras")


def test_nothing_in_the_package_runs_what_it_reads():
    """Of what could, only the restricted reader of pickles is there."""
    risky = re.compile(
        r"allow_pickle=True|joblib\.load|pickle\.loads?\(|pickle\.Unpickler|marshal|dill|"
        r"safe_mode=False|weights_only=False|(?<![\w.])(eval|exec)\(|yaml\.(load|unsafe)|"
        r"enable_unsafe_deserialization|trust_remote_code|import_module\("
    )
    found = {
        str(path.relative_to(ROOT))
        for folder in ("tfxc", "tools")
        for path in (ROOT / folder).rglob("*.py")
        if risky.search(path.read_text(encoding="utf-8"))
    }
    assert found == {
        "tfxc/__init__.py",  # parts of tfxc by their names, as in the next ones
        "tfxc/__main__.py",
        "tfxc/commands/doctor.py",
        "tfxc/core/storage/compression.py",  # a part of Python 3.14
        "tfxc/data/text/names.py",  # its own modules, by a table
        "tfxc/exports/convert.py",
        "tfxc/exports/onnx.py",
        "tfxc/exports/standalone/predict.py",  # the tokenize.py next to it
        "tfxc/training/trackers/base.py",  # packages of trackers
        "tfxc/core/registry.py",  # methods and readers of a config, see above
        "tfxc/core/storage/pickles.py",  # arrays and plain values only
        "tfxc/parallel.py",  # the part of tfxc that a process begins a task with
        "tfxc/core/storage/spill.py",  # what the same process wrote to a file without a name
    }


def test_modules_of():
    tree = {"techniques": [{"name": "ema"}, {"name": "a.b:C"}], "data": {"x": {"name": "m:R"}}}
    assert registry.modules_of(tree) == {"techniques.1.name": "a.b:C", "data.x.name": "m:R"}
    tree = {"data": {"reader": "a.b:C", "train": "builtin:apidocs"}, "recipe": {"reader": None}}
    assert registry.modules_of(tree) == {"data.reader": "a.b:C"}


@pytest.fixture
def foreign(tmp_path):
    """A finished run, and a file of this machine that it should not show."""
    folder = make_run(tmp_path / "foreign")
    RunWriter(folder).write_summary({"dev": {}})
    secret = tmp_path / "secret.txt"
    secret.write_text("secret\n")
    return folder, secret


@pytest.mark.parametrize("name", ["assets/note.txt", "fold-1/assets/labels.txt"])
def test_links_in_assets_lead_nowhere_else(foreign, name):
    folder, secret = foreign
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).symlink_to(secret)
    with pytest.raises(CheckpointError, match=r"a link leads out of the run, to .*secret\.txt"):
        load_run(folder)
    assert load_run(folder, trust=True).folder.path == folder


def test_links_to_what_was_recorded_are_followed(foreign):
    """As in the cache of the Hub, where all files of a run are links."""
    folder, _ = foreign
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        blob = folder.parent / f"blob-{path.name}"
        path.rename(blob)
        path.symlink_to(blob)
    assert load_run(folder).manifest["num_labels"]
    (folder / "assets" / "own.txt").symlink_to("labels.txt")
    with pytest.raises(CheckpointError, match=r"own\.txt: a link leads out"):
        load_run(folder)


@pytest.mark.parametrize(
    ("command", "name", "options"),
    [
        (report, "report", ["--no-plots", "--no-page"]),
        (export, "savedmodel", []),
    ],
)
def test_nothing_is_written_through_a_link_out_of_a_run(foreign, capsys, command, name, options):
    folder, _ = foreign
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (folder / name).symlink_to(elsewhere)
    problem = call(capsys, command, "--run", folder, *options).problem()
    assert "a link leads out of the run" in problem and "--output" in problem
    assert not list(elsewhere.iterdir())
