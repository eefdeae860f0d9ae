"""Trackers: what training reports to each, and that a resumed run reports nothing twice."""

import json
import sys
import types
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow.core.util import event_pb2

from tests import tiny
from tfxc.commands import train
from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError
from tfxc.training.trackers import Trackers, check_trackers
from tfxc.training.trackers.base import Tracker, flattened, tag_of
from tfxc.training.trackers.tensorboard import TensorBoard

FILES = {"config.json", "summary.json", "metrics.jsonl", "log.txt"}


class Killed(Exception):
    """Stands in for a kill: nothing is cleaned up by what would catch an error."""


def killed_at(step):
    """A fault of ``tiny.train`` that ends training at a step, after it was reported."""

    def fault(trainer):
        evaluate = trainer._log

        def log(reporter, now, *rest):
            found = evaluate(reporter, now, *rest)
            if now == step:
                for tracker in reporter._trackers._active.values():
                    if isinstance(tracker, TensorBoard):
                        tracker._writer.flush()
                reporter.close = lambda failed: None
                raise Killed
            return found

        trainer._log = log

    return fault


def resumed(folder, report=None, **training):
    """A run that was killed at step 15, after its checkpoint of step 14, and went on to 39."""
    with pytest.raises(Killed):
        tiny.train(folder, fault=killed_at(15), training=training)
    if report:
        (folder / "run/report").mkdir()
        (folder / "run/report/report.md").write_text(report)
    tiny.train(folder, training=training)
    lines = (folder / "run/metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def expected(lines):
    """``{tag: {step: value}}`` of metrics.jsonl.

    The line of step 15 is that of the run that went on, and its loss the mean of fewer steps.
    """
    found = {}
    for line in lines:
        step = line.pop("step")
        for name, value in line.items():
            found.setdefault(tag_of(name), {})[step] = pytest.approx(value, rel=1e-5)
    return found


def test_tags_and_parameters():
    assert tag_of("test nDCG@3") == "test/nDCG@3" and tag_of("dev loss") == "dev/loss"
    tree = {"a": {"b": [1, 2]}, "c": [{"name": "x"}], "d": None, "e": True}
    assert flattened(tree) == {"a.b": "[1, 2]", "c.0.name": "x", "d": "null", "e": True}


def test_unknown_double_and_missing(monkeypatch):
    with pytest.raises(ConfigError, match=r"training\.trackers: unknown tracker 'mlfow'.*mlflow"):
        check_trackers(["mlfow"])
    with pytest.raises(ConfigError, match=r"training\.trackers: tracker 'mlflow' is named twice"):
        check_trackers(["mlflow", "mlflow"])
    for name in ("mlflow", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ConfigError, match=rf"{name} is not .* pip install 'tfxc\[{name}\]'"):
            check_trackers([name])


def test_a_missing_package_is_found_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = tiny.write_config(tmp_path, training={"trackers": ["wandb"]})
    arguments = ["--config", str(config), "--prepared", str(tmp_path / "prepared")]
    with pytest.raises(ConfigError, match="the package wandb is not installed"):
        train.main(arguments)
    assert not (tmp_path / "run").exists() and not (tmp_path / "prepared").exists()


def events(folder):
    """All events of a folder, in the order of its files."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            yield event_pb2.Event.FromString(record)


def test_tensorboard(tmp_path):
    wanted, found = expected(resumed(tmp_path)), {}
    descriptions = []
    for event in events(tmp_path / "run/tensorboard"):
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "hparams":
                descriptions.append(value)
                continue
            of_tag = found.setdefault(value.tag, {})
            assert event.step not in of_tag, "reported twice"
            of_tag[event.step] = value.simple_value or tf.make_ndarray(value.tensor).item()
    assert found == wanted
    assert {"train/loss", "train/learning_rate", "dev/P@1"} <= found.keys()
    start, end = descriptions
    assert (start.tag, end.tag) == ("_hparams_/session_start_info", "_hparams_/session_end_info")
    assert b"training.optimizer.learning_rate" in start.metadata.plugin_data.content


def test_hyperparameters_are_what_tensorboard_reads(tmp_path):
    data = pytest.importorskip("tensorboard.plugins.hparams.plugin_data_pb2")
    tiny.train(tmp_path, training={"epochs": 0.1})
    read = [
        data.HParamsPluginData.FromString(value.metadata.plugin_data.content)
        for event in events(tmp_path / "run/tensorboard")
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "hparams"
    ]
    values = read[0].session_start_info.hparams
    assert values["training.optimizer.learning_rate"].number_value == 0.02
    assert values["encoder.name"].string_value == "bag_mlp"
    assert read[0].session_start_info.group_name == "run"
    assert read[1].session_end_info.status == 1


def test_none(tmp_path):
    tiny.train(tmp_path, training={"epochs": 0.1, "trackers": []})
    assert not (tmp_path / "run/tensorboard").exists()


def test_mlflow(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    pytest.importorskip("sqlalchemy", reason="MLflow's local store needs it")
    from mlflow.tracking import MlflowClient

    address = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.chdir(tmp_path)
    wanted = expected(resumed(tmp_path, trackers=["mlflow"], report="# Results"))
    client = MlflowClient(address)
    (run,) = client.search_runs([client.get_experiment_by_name("tfxc").experiment_id])
    assert run.info.status == "FINISHED" and run.info.run_name == "run"
    assert run.data.params["training.optimizer.learning_rate"] == "0.02"
    for name, values in wanted.items():
        history = client.get_metric_history(run.info.run_id, name.replace("@", "_at_"))
        assert [metric.step for metric in history] == list(values)
        first, *rest = [(metric.step, metric.value) for metric in history if metric.step != 15]
        assert dict([first, *rest]) == {step: v for step, v in values.items() if step != 15}
    names = {found.path for found in client.list_artifacts(run.info.run_id)}
    assert names == FILES | {"report"}
    in_folder = [found.path for found in client.list_artifacts(run.info.run_id, "report")]
    assert in_folder == ["report/report.md"]
    (tmp_path / "run/trackers.json").write_text('{"mlflow": {"run_id": "gone"}}')
    with pytest.raises(ConfigError, match=r"there is no MLflow run gone"):
        tiny.train(tmp_path, training={"trackers": ["mlflow"]})


@pytest.fixture
def stand_in(monkeypatch):
    """A module in place of wandb, which keeps what it is called with."""
    module, errors = types.ModuleType("wandb"), types.ModuleType("wandb.errors")
    errors.Error = type("Error", (Exception,), {})
    module.calls, module.logged, module.saved = [], [], []

    def init(**options):
        module.calls.append(options)
        session = types.SimpleNamespace(id=options["id"] or "abc")
        session.log = lambda values, step: module.logged.append((step, values))
        session.finish = lambda exit_code: module.calls.append(exit_code)
        session.save = lambda path, base_path, policy: module.saved.append(
            str(Path(path).relative_to(base_path))
        )
        return session

    module.init, module.errors = init, errors
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setitem(sys.modules, "wandb.errors", errors)
    return module


def test_wandb_calls(tmp_path, stand_in):
    wanted, found = expected(resumed(tmp_path, trackers=["wandb"])), {}
    first, second, code = stand_in.calls
    assert (first["id"], second["id"], second["resume"], code) == (None, "abc", "allow", 0)
    assert first["config"]["training.optimizer.learning_rate"] == 0.02
    steps = [step for step, _ in stand_in.logged]
    assert steps == sorted(steps)
    for step, values in stand_in.logged:
        for name, value in values.items():
            found.setdefault(name, {})[step] = value
    assert found == wanted
    assert sorted(stand_in.saved) == sorted(FILES)


@pytest.mark.slow
def test_wandb_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    tiny.train(tmp_path, training={"epochs": 0.5, "trackers": ["wandb"]})
    assert list((tmp_path / "run/wandb").glob("offline-run-*/*.wandb"))
    (folder,) = (tmp_path / "run/wandb").glob("offline-run-*/files")
    assert {file.name for file in folder.iterdir()} >= FILES


def test_one_that_fails_is_left_out(tmp_path, monkeypatch):
    class Flaky(Tracker):
        failures = (OSError,)

        def begin(self, parameters, start_step):
            self.steps = []

        def scalars(self, step, values):
            self.steps.append(step)
            raise OSError("no answer")

        def finish(self, finished):
            raise AssertionError("it was left out")

    made = []
    monkeypatch.setattr(
        "tfxc.core.registry.get", lambda kind, name: lambda run: made.append(Flaky(run)) or made[-1]
    )
    config = parse_config(tiny.tiny_tree(tmp_path, training={"trackers": ["flaky"]}))
    lines = []
    trackers = Trackers(config, types.SimpleNamespace(chief=True), 0, lines.append)
    trackers.metrics(1, {"loss": 1.0})
    trackers.metrics(2, {"loss": 1.0})
    trackers.finish(True)
    assert made[0].steps == [1]
    assert lines == ["tracker 'flaky' failed, training goes on without it: no answer"]
    other = Trackers(config, types.SimpleNamespace(chief=False), 0, lines.append)
    other.metrics(1, {"loss": 1.0})
    assert len(made) == 1, "only the chief reports"
