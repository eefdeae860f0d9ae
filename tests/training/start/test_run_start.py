"""``recipe.start``: begins with another run's weights, or is refused before anything is done."""

import dataclasses
import shutil

import h5py
import numpy as np
import pytest

from tests import tiny
from tests.commands.calls import call, listing
from tests.commands.test_import import write_mach
from tfxc.commands import train
from tfxc.core import registry
from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError
from tfxc.core.storage.reading import read_json
from tfxc.data.sources.folds import Fold
from tfxc.data.store.preparation import ensure_prepared
from tfxc.imports.mach import import_mach
from tfxc.recipes.base import Context
from tfxc.recipes.distill.recipe import StudentJob
from tfxc.recipes.fit import Fit
from tfxc.recipes.kfold.recipe import FoldJob
from tfxc.runs.loaded import load_run
from tfxc.training.job import TrainingJob
from tfxc.training.start.run_start import RunStart
from tfxc.training.strategies import make_strategy

MACH = {"head": {"name": "mach", "num_buckets": 10, "num_repetitions": 2}}
SHORT = {"epochs": 0.2}


def context_of(folder, run, **changes):
    """What a recipe is given; the data of all runs in ``folder`` are the same."""
    tree = tiny.tiny_tree(folder, **{"training": SHORT, **changes, "run": str(folder / run)})
    config = parse_config(tree)
    return Context(config, ensure_prepared(config.data, folder / "prepared", jobs=1), folder / run)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a finished run ``first`` and a repetition of ``hashed``."""
    folder = tmp_path_factory.mktemp("start")
    context = context_of(folder, "first")
    Fit().run(context)
    context = context_of(folder, "hashed", recipe={"name": "repetitions"}, **MACH)
    recipe_of(context).run(dataclasses.replace(context, repetition=1))
    return folder


def recipe_of(context):
    return registry.create("recipe", context.config.recipe.section())


def started(job):
    """Encoder and head of a job before its first step."""
    model = job.trainer(make_strategy(job.config.training)).model
    return [weight.numpy() for weight in (*model.encoder.weights, *model.head.weights)]


def same(one, other):
    assert len(one) == len(other)
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["fit", "kfold", "distill"])
def test_begins_with_the_weights(folder, name):
    section = {"name": name, "start": str(folder / "first")}
    if name == "distill":
        section["teachers"] = [str(folder / "first")]
    context = context_of(folder, "second", seed=5, recipe=section)
    recipe = recipe_of(context)
    job = {
        "fit": lambda: TrainingJob(
            context.config, context.data_folder, context.run, start=recipe.run_start()
        ),
        "kfold": lambda: FoldJob(context, context.run, Fold(0, 5), recipe.run_start()),
        "distill": lambda: StudentJob(recipe, context, recipe.technique(context)),
    }[name]()
    first = load_run(folder / "first").model
    expected = [w.numpy() for w in (*first.encoder.weights, *first.head.weights)]
    same(started(job), expected)


def test_frequencies_are_those_of_the_own_data(folder, tmp_path):
    """What the kernel has learned is copied, what a head counts in the training split is not."""
    head = {"name": "sampled", "extra": "frequency", "num_extra": 3}
    more = {"head": head, "objective": {"name": "softmax"}}
    context = context_of(folder, "counted", **more)
    Fit().run(context)
    tiny.write_split(tmp_path / "train.txt", 150, seed=9)
    data = {"train": str(tmp_path / "train.txt")}
    config = parse_config(tiny.tiny_tree(folder, **more, data=data))
    prepared = ensure_prepared(config.data, tmp_path / "prepared", jobs=1)
    counts = np.maximum(np.load(prepared / "label_counts.npy"), 1)
    first = load_run(folder / "counted").model.head
    assert not np.array_equal(counts, first.frequencies.numpy())
    job = TrainingJob(config, prepared, tmp_path / "run", start=RunStart(folder / "counted"))
    head = job.trainer(make_strategy(config.training)).model.head
    np.testing.assert_array_equal(head.frequencies.numpy(), counts)
    np.testing.assert_array_equal(head.kernel.numpy(), first.kernel.numpy())


def test_the_encoder_alone_for_other_labels(folder):
    (folder / "names.txt").write_text("".join(f"label {n}\n" for n in range(tiny.NUM_LABELS)))
    data = {"label_names": str(folder / "names.txt")}
    section = {"name": "fit", "start": str(folder / "first")}
    context = context_of(folder, "named", seed=5, data=data, recipe=section)
    with pytest.raises(
        ConfigError, match=r"recipe.start: the data's 30 labels are not the 30 labels of .*first"
    ):
        recipe_of(context).run(context)
    assert not (folder / "named").exists()
    section["start_part"] = "encoder"
    context = context_of(folder, "named", seed=5, data=data, recipe=section)
    recipe_of(context).run(context)
    start = RunStart(folder / "first", "encoder")
    job = TrainingJob(context.config, context.data_folder, folder / "third", start=start)
    found, other = started(job), load_run(folder / "first").model
    same(found[:2], [weight.numpy() for weight in other.encoder.weights])
    assert not np.array_equal(found[2], other.head.weights[0].numpy())


def test_each_repetition_with_its_own(folder):
    start = RunStart(folder / "hashed", repetition=1)
    context = context_of(folder, "again", seed=5, **MACH)
    job = TrainingJob(context.config, context.data_folder, context.run, repetition=1, start=start)
    found = started(job)
    with h5py.File(folder / "hashed/repetition-01/model.weights.h5") as file:
        stored = []
        file.visititems(
            lambda name, node: stored.append(node[()]) if isinstance(node, h5py.Dataset) else None
        )
    stored = [array for array in stored if array.size > 1]
    assert len(stored) == len(found)
    for weight in found:  # names in the file are Keras' own: the same array is somewhere in it
        assert any(np.array_equal(weight, array) for array in stored)
    wrong = TrainingJob(context.config, context.data_folder, context.run, repetition=0, start=start)
    with pytest.raises(ConfigError, match=r"head hashes by seeds \[0\], but \[1\] in"):
        started(wrong)
    start = RunStart(folder / "hashed", repetition=0)  # others may have begun: it is still checked
    job = TrainingJob(context.config, context.data_folder, context.run, repetition=0, start=start)
    with pytest.raises(ConfigError, match=r"there is no finished run in .*repetition-00"):
        job.run()
    assert not context.run.exists()
    section = {"name": "repetitions", "start": str(folder / "hashed")}
    context = context_of(folder, "again", seed=5, recipe=section, **MACH)
    with pytest.raises(ConfigError, match=r"there is no finished run in .*repetition-00"):
        recipe_of(context).run(context)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"encoder": {"hidden": [8]}},
            r"encoder/table has shape \(60, 8\), but \(60, 32\) in .*first",
        ),
        ({"encoder": {"hidden": [32, 32]}}, r"encoder has weights: 4, but 2 in"),
        (
            {"head": {"name": "sampled"}, "objective": {"name": "softmax"}},
            r"head is Sampled, but Dense in",
        ),
    ],
)
def test_what_does_not_fit_is_named_before_anything_is_written(folder, changes, message):
    section = {"name": "fit", "start": str(folder / "first")}
    context = context_of(folder, "unfit", recipe=section, **changes)
    with pytest.raises(ConfigError, match=rf"recipe.start: {message}.*Copy encoder and"):
        recipe_of(context).run(context)
    assert not (folder / "unfit").exists()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"start": "{}/nothing"}, r"recipe.start: there is no finished run in"),
        ({"start": "{}/first"}, r"recipe.start: .*first is this run itself"),
        ({"start": "{}/first/inside"}, r"recipe.start: .*first/inside is inside this run"),
        ({"start": "{}/first", "start_part": "head"}, r"recipe.start_part"),
        (
            {"name": "distill", "teachers": "x", "start": "y", "start_layers": [1]},
            r"recipe.start_layers: start and start_layers exclude each other",
        ),
    ],
)
def test_starts_that_cannot_be(folder, section, message):
    section = {"name": "fit", **section, "start": section["start"].format(folder)}
    if section["start"].endswith("inside") and not (folder / "first/inside").exists():
        shutil.copytree(folder / "hashed/repetition-01", folder / "first/inside")
    context = dataclasses.replace(context_of(folder, "first", recipe=section), fresh=True)
    before = listing(folder / "first")
    with pytest.raises(ConfigError, match=message):
        recipe_of(context).run(context)
    assert listing(folder / "first") == before


def test_the_other_run_is_needed_for_the_start_only(folder, tmp_path, capsys):
    shutil.copytree(folder / "first", tmp_path / "other")
    recipe = {"name": "fit", "start": str(tmp_path / "other")}
    config = tiny.write_config(tmp_path, training=SHORT, recipe=recipe)
    command = ("--config", config, "--prepared", tmp_path / "prepared")
    assert call(capsys, train, *command).code == 0
    shutil.rmtree(tmp_path / "other")
    outcome = call(capsys, train, *command, "--set", "training.epochs=0.5")
    assert "extended from 0.2 to 0.5 epochs" in outcome.out
    before = listing(tmp_path / "run")
    assert "there is no finished run" in call(capsys, train, *command, "--fresh").problem()
    assert listing(tmp_path / "run") == before


def test_imported_weights_are_a_start(tmp_path):
    """Those of the original MACH code, each repetition with its own."""
    arguments = write_mach(tmp_path / "mach")
    import_mach(
        arguments[0], tmp_path / "imported", lookups=arguments[2], query_lookups=arguments[4]
    )
    lines = [f"{n} {n % 30}:1 {(n + 7) % 30}:2" for n in range(40)]
    (tmp_path / "train.txt").write_text("\n".join(["40 30 40", *lines]) + "\n")
    tree = read_json(tmp_path / "imported/config.json")
    tree["data"] = {"name": "own", "train": str(tmp_path / "train.txt")}
    tree["recipe"] = {"name": "repetitions", "start": str(tmp_path / "imported")}
    tree["run"] = str(tmp_path / "run")
    config = parse_config(tree)
    data = ensure_prepared(config.data, tmp_path / "prepared", jobs=1)
    context = Context(config, data, tmp_path / "run")
    recipe = recipe_of(context)
    recipe._check_start(context)
    for number in (0, 2):
        start = recipe.run_start(number)
        job = TrainingJob(config, data, context.run, repetition=number, start=start)
        stored = np.load(tmp_path / f"mach/r_{number}_epoch_10.npz")
        expected = [stored["W1"], stored["b1"], stored["W2"][None], stored["b2"][None]]
        same(started(job), expected)
