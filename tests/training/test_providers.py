"""Arguments that depend on the data: those of tfxc, and those of classes outside of it."""

import keras
import numpy as np
import pytest

from tests import tiny
from tests.commands.calls import call
from tests.data.sources.examples import write_jsonl
from tests.small_runs import config_tree
from tfxc.commands import train
from tfxc.core import registry
from tfxc.core.config import parse_config
from tfxc.core.declared import FromData
from tfxc.core.errors import ConfigError
from tfxc.data.examples.rows import Rows
from tfxc.data.sources.base import ArraySource
from tfxc.data.sources.providers import PROVIDERS
from tfxc.data.store.preparation import ensure_prepared
from tfxc.encoders.bag_mlp import BagMLP
from tfxc.estimator.classifier import XCClassifier
from tfxc.heads.dense import Dense
from tfxc.recipes.base import Context
from tfxc.recipes.fit import Fit
from tfxc.runs.loaded import load_run
from tfxc.training.data_dependent import data_dependent_arguments

HERE = "tests.training.test_providers"


def shares(data):
    """Share of the training examples that have each label, smoothed."""
    counts = data.source.label_counts()
    return (counts + data.settings["smoothing"]) / data.known["num_examples"]


def mean_length(data):
    """Mean number of terms of a training example."""
    return data.known["num_features"] / data.known["num_examples"]


@keras.saving.register_keras_serializable("tests")
class Popular(Dense):
    """Scores begin at the logarithm of how many training examples have the label."""

    providers = {"shares": shares}  # noqa: RUF012 (read only)

    def __init__(
        self,
        num_labels: FromData[int],
        *,
        smoothing: float = 1.0,
        seed: int = 0,
        shares: FromData[np.ndarray | None] = None,
        **kwargs,
    ):
        super().__init__(num_labels, seed=seed, **kwargs)
        self.smoothing, self.shares = smoothing, shares

    def build(self, input_shape):
        super().build(input_shape)
        if self.shares is not None:
            self.bias.assign(np.log(self.shares))


@keras.saving.register_keras_serializable("tests")
class Scaled(BagMLP):
    """Knows how long the examples are."""

    providers = {"mean_length": mean_length}  # noqa: RUF012 (read only)

    def __init__(
        self,
        num_features: FromData[int],
        *,
        hidden=(8,),
        mean_length: FromData[float | None] = None,
        **kwargs,
    ):
        super().__init__(num_features, hidden=hidden, **kwargs)
        self.mean_length = mean_length


def config_of(folder, head, encoder=None, **others):
    encoder = encoder or {"name": f"{HERE}:Scaled", "hidden": [8]}
    return parse_config(config_tree(folder, encoder, head=head, **others))


def source_of_labels(rows):
    """A source of dense features, whose label counts are known."""
    return ArraySource(Rows.from_dense(np.eye(len(rows)), rows), 4)


def test_head_and_encoder_outside_of_the_package(tmp_path):
    config = config_of(tmp_path, {"name": f"{HERE}:Popular", "smoothing": 0.5})
    source = source_of_labels([[0], [0, 2], [3], [0]])
    known = {"num_labels": 4, "num_features": 8, "num_examples": 4}
    found = data_dependent_arguments(config, source, **known)
    np.testing.assert_allclose(found.pop("shares"), [3.5 / 4, 0.5 / 4, 1.5 / 4, 1.5 / 4])
    assert found == {"mean_length": 2.0}
    assert set(registry.arguments(Popular)) == {"smoothing", "seed"}
    assert "shares" not in data_dependent_arguments(config, source, **known, shares=[1])


def test_a_config_cannot_set_them(tmp_path):
    section = {"name": f"{HERE}:Popular", "shares": [1]}
    with pytest.raises(ConfigError, match=r"head\.shares: .* is read from the data"):
        registry.check_section("head", section, where="head")


def test_nobody_is_asked_in_vain(tmp_path):
    """No pass over the data for a head that needs none."""
    digits = {"heads": [2, 2]}
    heads = [{"name": "mhp", **digits}, {"name": "mhc", **digits}, {"name": "sampled"}]
    for head in (*heads, {"name": "mhs", **digits, "num_sampled_heads": 1}):
        config = config_of(tmp_path, head, {"name": "precomputed"})
        known = {"num_labels": 4, "num_features": 4, "num_examples": 4}
        assert data_dependent_arguments(config, None, feature_kind="dense", **known) == {}


def test_every_provider_is_asked_for():
    heads = registry.register_all()["head"].values()
    wanted = {name for head in heads for name in head.data_dependent_arguments}
    assert set(PROVIDERS) <= wanted


def test_trains_and_is_read_again(tmp_path):
    names = [(f"word{number % 6} of them", [f"label{number % 6}"]) for number in range(60)]
    write_jsonl(tmp_path / "train.jsonl", names)
    config = config_of(
        tmp_path,
        {"name": f"{HERE}:Popular"},
        data={"dev": str(tmp_path / "train.jsonl"), "text_features": {"name": "tfidf"}},
        objective={"name": "softmax"},
        training={"batch_size": 12, "epochs": 30},
        evaluation={"k": [1]},
    )
    folder = ensure_prepared(config.data, tmp_path / "prepared")
    summary = Fit().run(Context(config, folder, tmp_path / "run"))
    assert summary["dev"]["P@1"] > 0.9
    loaded = load_run(tmp_path / "run", trust=True).model
    assert loaded.head.shares is None and loaded.encoder.mean_length is None
    assert np.abs(loaded.head.bias.numpy()).max() > 0


def test_the_config_of_a_run_shows_the_scale_of_the_rule(tmp_path, capsys):
    """Both of the command line and of the estimator; the same command resumes the run."""
    head = {"name": "margin"}
    training = {"epochs": 1, "evaluate_every": None, "checkpoint_every": None}
    config = tiny.write_config(
        tmp_path, head=head, objective={"name": "softmax"}, training=training
    )
    command = (train, "--config", config, "--prepared", tmp_path / "prepared")
    for _ in range(2):
        assert call(capsys, *command).code == 0
    run = load_run(tmp_path / "run")
    expected = np.log((tiny.NUM_LABELS - 1) * 0.9999 / 0.0001)
    assert run.config.head.section()["scale"] == pytest.approx(expected)
    assert run.model.head.scale == pytest.approx(expected)
    problem = call(capsys, *command, "--set", "head.scale=3.0").problem()
    assert "trained with other settings: head (" in problem and "'scale': 3.0" in problem

    features, labels = np.eye(5, dtype=np.float32), np.arange(5)
    model = XCClassifier({"name": "precomputed"}, head, epochs=1).fit(features, labels)
    model.save(tmp_path / "estimator")
    config = load_run(tmp_path / "estimator").config
    assert config.head.section()["scale"] == pytest.approx(np.log(4 * 0.9999 / 0.0001))
