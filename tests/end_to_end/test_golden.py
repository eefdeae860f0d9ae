"""From the files of Bibtex to scores in the known range, by commands and the published configs."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.folders import data_folder
from tfxc.commands import evaluate, train
from tfxc.data.sources.shards import ShardSource
from tfxc.inference.searcher import Searcher
from tfxc.runs.loaded import load_run

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds the prepared records and the runs; the configs find the data."""
    data = data_folder("bibtex").parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFXC_DATA", str(data))
        yield tmp_path_factory.mktemp("bibtex")


def metrics_of(folder, config, *settings):
    """Trains a config and measures it on the test split, as a user does."""
    run = folder / config
    command = ["--config", str(CONFIGS / f"{config}.json"), "--prepared", str(folder / "prepared")]
    for setting in (f"run={run}", *settings):
        command += ["--set", setting]
    assert train.main(command) == 0
    assert evaluate.main(["--run", str(run), "--prepared", str(folder / "prepared")]) == 0
    record = json.loads((run / "evaluation-test.json").read_text())
    assert record["examples"] == 2515
    return record["metrics"]


@pytest.mark.golden
def test_golden_dense(folder):
    """XR-Linear reaches P@1 63.2 / P@5 28.1 on the same files; a few epochs come near it."""
    metrics = metrics_of(folder, "dense_bibtex", "training.epochs=9")
    assert metrics["P@1"] > 0.58
    assert metrics["P@5"] > 0.26
    assert metrics["R@5"] > metrics["R@1"] > 0.3


@pytest.mark.slow  # another head on the same data; its search: exports/test_savedmodel.py
@pytest.mark.golden
def test_golden_mach(folder):
    """Four hashed repetitions of 40 buckets for 159 labels lose some of it."""
    settings = ("training.epochs=12", "head.num_repetitions=4")
    assert metrics_of(folder, "mach_bibtex", *settings)["P@1"] > 0.52
    loaded = load_run(folder / "mach_bibtex")
    (records,) = (folder / "prepared").iterdir()
    searcher, count = Searcher(loaded.model, 10), 0
    for batch in ShardSource(records, "test").sequential(512):
        features = tf.nest.map_structure(tf.constant, batch["features"])
        ids, scores = searcher({"features": features})
        graph_ids, graph_scores = loaded.model.top_k(features, 10)
        np.testing.assert_array_equal(ids, graph_ids)
        np.testing.assert_allclose(scores, graph_scores, atol=1e-4)
        count += len(ids)
    assert count == 2515
