"""What a dry run says of the memory of a linear ranker."""

import re

import numpy as np
import pytest

from tests.commands.calls import call
from tests.linear_runs import command
from tfxc.commands import train
from tfxc.core.config import DataSettings
from tfxc.data.store.manifest import Manifest, SplitInfo
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.ranker.search import Ranker
from tfxc.recipes.xr_linear import memory
from tfxc.recipes.xr_linear.memory import clustering_bytes, kept_weights
from tfxc.recipes.xr_linear.settings import TreeSettings
from tfxc.training.memory.preparation import preparation_bytes


def manifest(examples=73_567, labels=100_514, features=52_638, kind="sparse"):
    """Of a share of 0.15 of Amazon-670K, unless another size is given."""
    split = SplitInfo(
        examples=examples, nonzeros=int(77.4 * examples), labels=int(5.61 * examples), min_labels=1,
        max_labels=9, without_labels=0, unseen_labels=0, shards=[],
    )  # fmt: skip
    return Manifest(
        name="x", settings_fingerprint="", layout="blocks", num_labels=labels, feature_kind=kind,
        num_features=features, num_unseen_labels=0, text_features=None, row_normalise=None,
        sources={}, splits={"train": split, "test": split},
    )  # fmt: skip


def test_weights_are_about_those_of_a_training():
    """Counted after rehearsals: a share of 0.15, and all of the set."""
    found = kept_weights(manifest(), [4, 64, 1024, 100_514])
    assert found.all == pytest.approx(11_616_758, rel=0.15)
    whole = manifest(examples=490_449, labels=670_091, features=135_909)
    found = kept_weights(whole, [2, 32, 512, 8192, 670_091])
    assert found.all == pytest.approx(95_082_971, rel=0.15)
    assert found.rows == pytest.approx(36_506_658, rel=0.25)
    assert found.most_rows == pytest.approx(22_446_592, rel=0.2)
    assert found.table == (2 + 32 + 512) * 135_909


def test_weights_of_labels_alone():
    found = kept_weights(manifest(labels=50), [50])
    assert 0 < found.most_rows == found.rows <= 52_638 < found.all * 2 < 50 * 52_638


def test_a_layer_has_no_more_rows_than_features_of_its_parents():
    found = kept_weights(manifest(), [512, 100_514])
    assert found.rows - found.most_rows == 52_638, "the first layer has one parent"


def test_sums_of_features_are_about_those_of_a_training():
    """Counted in the same rehearsal: 19,026,614 sums, of which half are the greatest 90."""
    bytes_of = {most: clustering_bytes(manifest(), TreeSettings({"max_nonzeros": most}))
                for most in (0, 90)}  # fmt: skip
    assert bytes_of[0] == pytest.approx(16 * 19_026_614, rel=0.1)
    assert bytes_of[90] == 16 * 90 * 100_514
    for other in ({"label_embedding": "pii"}, {"file": "tree.npz"}):
        assert clustering_bytes(manifest(), TreeSettings(other)) == 0
    dense = manifest(features=100, kind="dense")
    assert clustering_bytes(dense, TreeSettings()) == 8 * 100 * 100_514


def test_a_dry_run_says_what_each_phase_needs(tmp_path, capsys, monkeypatch):
    for module in ("tfxc.recipes.xr_linear.memory", "tfxc.recipes.xr_linear.stages"):
        monkeypatch.setattr(f"{module}.resident_bytes", lambda: 700 << 20)
    outcome = call(capsys, train, *command(tmp_path), "--dry-run")
    assert outcome.code == 0, outcome.err
    found = dict(re.findall(r"^  (\w+) +([\d,]+) MB", outcome.out, re.MULTILINE))
    assert {"total", "clustering", "preparation", "evaluation", "export"} <= found.keys()
    for name in ("preparation", "evaluation", "export"):
        assert 700 <= int(found[name]) < 705, "hardly more than the process itself"
    (said,) = re.findall(r"with about ([\d,]+) weights:", outcome.out)
    assert call(capsys, train, *command(tmp_path)).code == 0
    trained = Ranker.load(tmp_path / "run")
    weights = [np.load(path) for path in (tmp_path / "run/ranker").glob("*/values.npy")]
    assert 1 / 4 < int(said.replace(",", "")) / sum(map(len, weights)) < 4
    assert trained.sizes == ClusterTree.load(tmp_path / "run/tree.npz").sizes


def test_phases_grow_with_what_they_hold(monkeypatch):
    monkeypatch.setattr(memory, "resident_bytes", lambda: 0)
    sizes = [4, 64, 1024, 100_514]
    small, large = (kept_weights(one, sizes) for one in (manifest(), manifest(examples=147_134)))
    assert small.all < large.all < 2.5 * small.all
    evaluation = [memory.evaluation_bytes(manifest(), weights) for weights in (small, large)]
    export = [memory.export_bytes(manifest(), weights) for weights in (small, large)]
    # A weight, its column and its share of a row; while rows get places in a table, more.
    assert 6 < (evaluation[1] - evaluation[0]) / (large.all - small.all) < 20
    assert 20 < (export[1] - export[0]) / (large.all - small.all) < 60


def test_preparation_needs_little_more_for_more_examples():
    settings = DataSettings(name="x", train="x")
    few, many, more = (
        preparation_bytes(manifest(examples=count), settings) for count in (1_000, 10**6, 10**7)
    )
    assert few < many == more < 200 << 20
    names = preparation_bytes(manifest(labels=10**6), settings)
    assert names - preparation_bytes(manifest(labels=1), settings) == 100 * (10**6 - 1)
