"""What every recipe must do: refuse, train, go on after a kill, and leave a run like any other."""

import dataclasses
import functools
import os
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.commands.calls import call
from tfxc.commands import evaluate
from tfxc.core import registry
from tfxc.core.config import parse_config
from tfxc.core.errors import CheckpointError, ConfigError, UserError
from tfxc.core.interrupts import Stopped
from tfxc.core.settings import Method
from tfxc.core.storage.reading import read_json
from tfxc.data.sources.shards import open_source
from tfxc.data.store.preparation import ensure_prepared
from tfxc.exports.savedmodel import export_savedmodel
from tfxc.inference.protocol import RunModel
from tfxc.recipes.base import Context, Recipe
from tfxc.recipes.fit import Fit
from tfxc.runs.folder import RunFolder
from tfxc.runs.loaded import load_run
from tfxc.training.step import TrainStep

K = 3


class Killed(BaseException):
    """Stands for SIGKILL."""


@dataclasses.dataclass
class Trained(Context):
    """A context, and the summary of its training once there is one."""

    summary: dict | None = None

    @functools.cached_property
    def answers(self):
        """Best ids and scores of the dev examples, by the model of the run as it is now."""
        model = load_run(self.run).model
        return model.find_top_k(dev_batch(self)["features"], K)


class RecipeContract:
    """Inherit, and give the name and arguments.

    Attributes:
        name: name in configs.
        arguments: further keys of its config section.
        trained: the keys that the trainings here take, see ``trained_with``.
        sections: sections of their config in place of those of ``tests.tiny``.
        work: class and method of a piece of its work, which is done again and again.
        pieces: after how many of them a training is killed or stopped here.
    """

    name = None
    arguments = {}  # noqa: RUF012 (read only)
    trained = {}  # noqa: RUF012 (read only)
    sections = {}  # noqa: RUF012 (read only)
    work = (TrainStep, "run")
    pieces = 9

    def make(self):
        """The recipe of the config section."""
        section = {"name": self.name, **self.arguments}
        registry.check_section("recipe", section, where="recipe")
        return registry.create("recipe", section)

    def test_is_a_recipe(self):
        recipe = self.make()
        assert isinstance(recipe, Recipe)
        assert type(recipe) is registry.get("recipe", self.name)
        for name, value in self.arguments.items():
            assert getattr(recipe, name) == value

    def test_owns_its_training(self):
        assert type(self.make()).train is not Recipe.train

    def test_defaults_suffice(self):
        registry.check_section("recipe", {"name": self.name}, where="recipe")
        registry.create("recipe", {"name": self.name})

    def test_unknown_argument_is_named(self):
        section = {"name": self.name, "colour": "red"}
        with pytest.raises(ConfigError, match=r"recipe.colour: .*has no argument 'colour'"):
            registry.check_section("recipe", section, where="recipe")

    def tree(self, folder):
        """The config of the trainings as a dict, on data that it writes into ``folder``."""
        training = {"epochs": 1, "checkpoint_every": 4}
        return tiny.tiny_tree(folder, **{"training": training, **self.sections})

    def trained_with(self, folder):
        """Keys of the recipe's section in the trainings; makes what they need in ``folder``."""
        return self.trained

    def fitted(self, folder, run):
        """The path, as text, of a run of recipe ``fit`` on the same data, trained once."""
        path = folder / run
        if not path.exists():
            config = parse_config({**self.tree(folder), "run": str(path)})
            data = ensure_prepared(config.data, folder / "prepared", jobs=1)
            Fit().run(Context(config, data, path))
        return str(path)

    def context(self, folder, run):
        """What the recipe is given to train ``folder/run``; all runs there read the same data."""
        path = folder / run
        recipe = {"name": self.name, **self.trained_with(folder)}
        config = parse_config({**self.tree(folder), "run": str(path), "recipe": recipe})
        registry.get("recipe", self.name).check_config(config)
        return Trained(config, ensure_prepared(config.data, folder / "prepared", jobs=1), path)

    def train(self, context):
        """Trains all of it; returns the summary."""
        return registry.create("recipe", context.config.recipe.section()).run(context)

    @pytest.fixture(scope="class")
    @classmethod
    def finished(cls, tmp_path_factory):
        """The context of a training that nothing has interrupted."""
        contract, folder = cls(), tmp_path_factory.mktemp(cls.name)
        context = contract.context(folder, "whole")
        context.summary = contract.train(context)
        return context

    def interrupted(self, finished, run, way):
        """The context of a training that was interrupted and gone on with."""
        context = self.context(finished.run.parent, run)
        kind, method = self.work
        original, calls = getattr(kind, method), []

        def counted(work, *arguments):
            calls.append(1)
            if len(calls) == self.pieces:
                way()
            return original(work, *arguments)

        with pytest.MonkeyPatch.context() as patch, pytest.raises((Killed, Stopped)):
            patch.setattr(kind, method, counted)
            self.train(context)
        assert not finished_at_all(context.run)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kind, method, counted)
            context.summary = self.train(context)
        return context, len(calls)

    def same(self, finished, other):
        """Compares two runs to the bit: what they find, and what was measured of them."""
        for ours, theirs in zip(finished.answers, other.answers, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        summaries = [
            {key: found.summary.get(key) for key in ("steps", "dev")} for found in (finished, other)
        ]
        assert summaries[0] == summaries[1]

    def test_killed_and_resumed(self, finished):
        def die():
            raise Killed

        killed, calls = self.interrupted(finished, "killed", die)
        self.same(finished, killed)
        assert calls > self.pieces

    @pytest.mark.slow
    def test_stopped_by_a_signal_and_resumed(self, finished):
        stopped, _ = self.interrupted(
            finished, "stopped", lambda: os.kill(os.getpid(), signal.SIGTERM)
        )
        self.same(finished, stopped)

    def test_a_finished_run_is_not_trained_again(self, finished, capsys):
        before = {path: path.stat().st_mtime_ns for path in finished.run.rglob("*.*")}
        again = self.train(dataclasses.replace(finished))
        assert again["dev"] == finished.summary["dev"]
        assert "already finished" in capsys.readouterr().out
        # Of a run that consists of runs.
        rewritten = {"summary.json", "checksums.json", "environment.json"}
        after = {path: path.stat().st_mtime_ns for path in finished.run.rglob("*.*")}
        changed = {path for path in after if after[path] != before.get(path)}
        assert {path.name for path in changed if path.parent == finished.run} <= rewritten
        assert not [path for path in changed if path.parent != finished.run]

    def test_another_config_is_refused(self, finished):
        config = finished.config.model_copy(update={"seed": 7})
        with pytest.raises(UserError, match=r"seed|other settings"):
            self.train(dataclasses.replace(finished, config=config))

    def longer(self, context, epochs=2, **training):
        """The context with more epochs, or with other keys of ``training``."""
        settings = context.config.training.model_copy(update={"epochs": epochs, **training})
        config = context.config.model_copy(update={"training": settings})
        return dataclasses.replace(context, config=config, summary=None)

    def test_more_epochs_extend_a_finished_run(self, finished, capsys):
        run = finished.run.parent / "extended"
        shutil.copytree(finished.run, run)
        epochs = finished.config.training.epochs
        context = self.longer(dataclasses.replace(finished, run=run), epochs=1.2 * epochs)
        if not registry.get("recipe", self.name).keeps_checkpoints:
            message = (
                f"extended: the run ends at epoch {epochs:g}.* extend it to epoch {1.2 * epochs:g}"
            )
            with pytest.raises(CheckpointError, match=message):
                self.train(context)
            return
        self.train(context)
        printed = capsys.readouterr().out
        name = finished.config.training.schedule.name
        assert f"extended from 1 to 1.2 epochs: schedule {name!r} is computed for" in printed
        assert "resumed at step" in printed
        summaries = [read_json(path) for path in run.rglob("summary.json")]
        assert summaries and all(one.get("epochs", 2) > 1.1 for one in summaries)
        self.train(context)
        assert "already finished" in capsys.readouterr().out

    @pytest.mark.slow
    def test_extended_is_bit_identical_to_trained_at_once(self, finished):
        constant = {"schedule": Method(name="constant")}
        made = [self.context(finished.run.parent, name) for name in ("in-two-parts", "at-once")]
        if registry.get("recipe", self.name).keeps_checkpoints:
            self.train(self.longer(made[0], 1, **constant))
            for context in made:
                context.summary = self.train(self.longer(context, 2, **constant))
            for ours, theirs in zip(made[0].answers, made[1].answers, strict=True):
                np.testing.assert_array_equal(ours, theirs)

    def test_assembles_a_model(self, finished):
        model = load_run(finished.run).model
        assert isinstance(model, RunModel)
        assert model.num_labels == finished.manifest.num_labels
        model.check_k(model.num_labels)
        with pytest.raises(ValueError, match=r"k: must be from 1 to "):
            model.check_k(model.num_labels + 1)
        features = dev_batch(finished)["features"]
        ids, scores = model.find_top_k(features, K)
        assert ids.dtype == np.int32 and scores.dtype == np.float32
        assert ids.shape == scores.shape and ids.shape[1] == K
        found = model.top_k(tf.nest.map_structure(tf.constant, features), K)
        np.testing.assert_array_equal(found[0], ids)
        np.testing.assert_allclose(found[1], scores, rtol=1e-4, atol=1e-5)

    def test_evaluates(self, finished, capsys):
        options = ("--run", finished.run, "--prepared", finished.data_folder.parent)
        outcome = call(capsys, evaluate, *options, "--split", "dev")
        assert outcome.code == 0, outcome.err
        labels, (ids, _) = dev_batch(finished)["labels"], finished.answers
        hits = (ids[:, :1] == labels).any(axis=1)
        found = read_json(finished.run / "evaluation-dev.json")["metrics"]
        assert found["P@1"] == pytest.approx(hits.mean(), abs=1e-6)

    def test_exports(self, finished, tmp_path):
        done = export_savedmodel(load_run(finished.run), tmp_path / "served", K)
        assert done.k == K and done.score_difference < 1e-3


def dev_batch(context):
    """All examples of the dev split."""
    return next(open_source(context.data_folder, "dev").sequential(1000))


def finished_at_all(run):
    """Whether a run says that it is finished."""
    return RunFolder(run).summary() is not None
