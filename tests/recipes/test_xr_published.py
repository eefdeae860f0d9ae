"""The published configs of XR-Transformer on folders that look as PECOS's data sets do."""

import json

import numpy as np
import pytest
import scipy.sparse

from tests.commands.calls import call
from tests.encoders.hub_folders import PIECES, write_folder
from tests.source_tree import ROOT
from tfxc.commands import evaluate, predict, train
from tfxc.core import registry
from tfxc.data.reading.inspection.completion import load_config
from tfxc.data.store.manifest import Manifest
from tfxc.runs.writer import manifest_of, split_of

CONFIGS = sorted((ROOT / "configs" / "xr_transformer").glob("*.json"))
# Labels and features of the sets, and the fewest labels with trees of as many levels.
SETS = {
    "eurlex-4k": (3_956, 186_104, 1_030),
    "wiki10-31k": (30_938, 101_938, 4_100),
    "amazoncat-13k": (13_330, 203_882, 12_810),
    "amazon-670k": (670_091, 135_909, 102_410),
    "wiki-500k": (501_070, 2_381_304, 102_410),
    "amazon-3m": (2_812_281, 337_067, 204_810),
}
WORDS = [piece for piece in PIECES if piece.isalpha()]
NUM_FEATURES = 40


def set_of(config):
    """Name of the folder of a config's data."""
    return config.data.train.rsplit("/", 1)[1]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_settings_fit_the_published_trees(path):
    """Lists with a value for each level or layer have as many as the real sets have."""
    config = load_config(path, [])
    num_labels, num_features, _ = SETS[set_of(config)]
    manifest = manifest_of(
        "set", num_labels=num_labels, split=split_of([5] * 9), feature_kind="joined",
        num_features=num_features, vocabulary_size=9,
    )  # fmt: skip
    assert isinstance(manifest, Manifest)
    recipe = registry.create("recipe", config.recipe.section())
    found = recipe.planned(config, manifest)
    assert found.layers[-1] == num_labels and found.plan.count == len(recipe.steps)
    for steps, warmup in zip(found.plan.steps, found.plan.warmup_steps, strict=True):
        assert 0 < warmup < steps


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_encoders_pool_as_those_of_pecos(path):
    """The pooler; XLNet has none, and its last state is taken."""
    config = load_config(path, [])
    pooling = "first" if "xlnet" in config.encoder.section()["folder"] else "pooler"
    assert config.encoder.section()["pooling"] == pooling


def write_set(folder, num_labels, examples=(120, 20), seed=0):
    """A folder of the published shape: texts, labels and features of a split each."""
    (folder / "tfidf-attnxml").mkdir(parents=True)
    draw = np.random.default_rng(seed)
    used = draw.choice(num_labels, 30, replace=False)
    topics = draw.random((30, NUM_FEATURES)) * (draw.random((30, NUM_FEATURES)) < 0.2)
    for split, count in zip(("trn", "tst"), examples, strict=True):
        places = np.array([draw.choice(30, 2, replace=False) for _ in range(count)])
        rows = np.repeat(np.arange(count), 2)
        labels = (np.ones(2 * count, np.float32), (rows, used[places.ravel()]))
        labels = scipy.sparse.csr_matrix(labels, (count, num_labels))
        scipy.sparse.save_npz(folder / f"Y.{split}.npz", labels)
        features = scipy.sparse.csr_matrix(topics[places].sum(axis=1).astype(np.float32))
        scipy.sparse.save_npz(folder / "tfidf-attnxml" / f"X.{split}.npz", features)
        lines = [" ".join(draw.choice(WORDS, 5)) + "\n" for _ in range(count)]
        (folder / f"X.{split}.txt").write_text("".join(lines))
    return labels


def trained(path, folder, capsys, **changes):
    """Trains a published config with few steps; returns its run and the labels of its test set."""
    config = load_config(path, [])
    name = set_of(config)
    labels = write_set(folder / name, SETS[name][2])
    for encoder in ("bert-base-uncased", "roberta-base", "xlnet-base-cased"):
        write_folder(folder / encoder, prefix="bert.", max_position_embeddings=256)
    steps = [2] * len(config.recipe.section()["steps"])
    changes = {
        "run": folder / "run", "data.num_labels": SETS[name][2],
        "recipe.steps": steps, "recipe.warmup_steps": 1,
        "training.batch_size": 16, "training.accumulate": 1, "evaluation.k": [1, 3], **changes,
    }  # fmt: skip
    options = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    prepared = ("--prepared", folder / "prepared")
    outcome = call(capsys, train, "--config", path, *options, *prepared)
    assert outcome.code == 0, outcome.err
    return folder / "run", labels


def check(path, folder, capsys, monkeypatch, **changes):
    """Trains, measures and predicts."""
    pytest.importorskip("tensorflow_text", reason="the extra hub is not installed")
    for name in ("TFXC_DATA", "TFXC_MODELS"):
        monkeypatch.setenv(name, str(folder))
    run, labels = trained(path, folder, capsys, **changes)
    manifest = json.loads((run / "assets" / "manifest.json").read_text())
    assert manifest["num_features"] == NUM_FEATURES
    assert manifest["text_features"]["terms"] == {"name": "given", "num_features": NUM_FEATURES}
    prepared = ("--prepared", folder / "prepared")
    assert call(capsys, evaluate, "--run", run, "--split", "test", *prepared).code == 0
    precision = json.loads((run / "evaluation-test.json").read_text())["metrics"]["P@1"]
    assert precision > 0.8  # the features alone say which labels there are
    data = folder / set_of(load_config(path, []))
    asked = ("--run", run, data, "--reader-option", "split=tst", "--k", 1)
    lines = call(capsys, predict, *asked).out.splitlines()
    hits = [labels[row, int(json.loads(line)["labels"][0])] for row, line in enumerate(lines)]
    assert len(hits) == 20 and np.mean(hits) == pytest.approx(precision)


def test_a_published_config_on_given_features(tmp_path, capsys, monkeypatch):
    """Without the fine-tuning of the levels, which ``slow`` runs add."""
    (path,) = (path for path in CONFIGS if path.stem == "eurlex4k_bert")
    check(path, tmp_path, capsys, monkeypatch, **{"recipe.do_fine_tune": "false"})


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_published_configs_run(path, tmp_path, capsys, monkeypatch):
    check(path, tmp_path, capsys, monkeypatch)
