"""What finds labels offers what the protocol says; recipes' own models are held to it by theirs."""

import inspect

import numpy as np
import pytest
import tensorflow as tf

from tfxc.core.errors import ConfigError
from tfxc.encoders.precomputed import Precomputed
from tfxc.heads.dense import Dense
from tfxc.heads.mach import MACH
from tfxc.inference.protocol import RankerModel, RunModel
from tfxc.inference.searcher import Searcher
from tfxc.model import XCModel
from tfxc.objectives.sigmoid import Sigmoid
from tfxc.objectives.softmax import Softmax
from tfxc.objectives.squared_hinge import SquaredHinge
from tfxc.recipes.memory.model import FusedModel
from tfxc.recipes.xr_linear.model import LinearModel
from tfxc.recipes.xr_transformer.model import EncoderRanker

METHODS = {
    name: member
    for name, member in vars(RunModel).items()
    if inspect.isfunction(member) and not name.startswith("_")
}
PROPERTIES = {name for name, member in vars(RunModel).items() if isinstance(member, property)}


@pytest.mark.parametrize("model", [XCModel, LinearModel, EncoderRanker, FusedModel])
def test_every_model_has_the_methods_with_their_arguments(model):
    assert METHODS and PROPERTIES
    for name, method in METHODS.items():
        expected = list(inspect.signature(method).parameters)
        assert list(inspect.signature(getattr(model, name)).parameters) == expected, name
    of_instances = {"num_labels"} if model is LinearModel else set()
    assert all(hasattr(model, name) for name in PROPERTIES - of_instances)


def model_of(head=None, objective=None):
    model = XCModel(Precomputed(4), head or Dense(10, initial_std=1.0), objective or Softmax())
    model(tf.zeros((2, 4)))
    return model


FEATURES = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def test_arrays_and_tensors_find_the_same():
    model = model_of()
    assert isinstance(model, RunModel)
    ids, scores = model.find_top_k(FEATURES, 3)
    in_graph = model.top_k(tf.constant(FEATURES), 3)
    np.testing.assert_array_equal(ids, in_graph[0])
    np.testing.assert_allclose(scores, in_graph[1], rtol=1e-6)
    expected = np.argsort(-model(FEATURES).numpy(), axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(ids, expected)


def test_similar_labels():
    kernel = np.random.default_rng(1).normal(size=(4, 10)).astype(np.float32)
    model = model_of()
    model.head.kernel.assign(kernel)
    unit = kernel / np.linalg.norm(kernel, axis=0)
    cosines = unit.T @ unit[:, 7]
    cosines[7] = -np.inf
    ids, scores = model.similar_labels(7, 3)
    np.testing.assert_array_equal(ids, np.argsort(-cosines)[:3])
    np.testing.assert_allclose(scores, np.sort(cosines)[::-1][:3], rtol=1e-5)
    assert len(model.similar_labels(7, 50)[0]) == 9
    hashed = MACH(10, num_buckets=4, num_repetitions=1, direct=True)  # the encoder has the weights
    assert model_of(hashed).similar_labels(0, 3) is None


def test_searches_of_other_sizes_and_settings_are_compiled_apart():
    model = model_of()
    _, scores = model.find_top_k(FEATURES, 10)
    _, chances = model.find_top_k(FEATURES, 10, probabilities=True)
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-5)
    assert model.find_top_k(FEATURES[:1], 2)[0].shape == (1, 2)
    np.testing.assert_array_equal(model.find_top_k(FEATURES, 10)[1], scores)


def test_new_weights_are_found_with():
    model = model_of()
    before, _ = model.find_top_k(FEATURES, 1)
    kernel = model.head.trainable_variables[0]
    kernel.assign(-kernel.numpy())
    after, _ = model.find_top_k(FEATURES, 1)
    assert (before != after).any()


def test_losses_are_those_of_all_labels():
    model, labels = model_of(), np.arange(6, dtype=np.int32)[:, None]
    ids, scores, losses = model.find_with_loss(FEATURES, labels, 3)
    np.testing.assert_array_equal(ids, model.find_top_k(FEATURES, 3)[0])
    logits = model(FEATURES).numpy().astype(np.float64)
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(6), np.arange(6)]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert scores.shape == (6, 3)


def test_native_searches_by_name():
    model = model_of(MACH(50, num_buckets=8, num_repetitions=3), Sigmoid())
    found = [model.find_top_k(FEATURES, 5, method=name) for name in ("auto", "brute", "threshold")]
    for ids, _ in found[1:]:
        np.testing.assert_array_equal(ids, found[0][0])
    with pytest.raises(ConfigError, match="the head MACH has no search 'fast'"):
        Searcher(model, 5, method="fast")


def test_margins_have_no_probabilities():
    model = model_of(objective=SquaredHinge())
    assert not model.has_probabilities
    with pytest.raises(ConfigError, match="the head Dense has no probabilities: its scores are ma"):
        Searcher(model, 1, probabilities=True)


class Ranker(RankerModel):
    num_labels = 4


def test_what_rankers_share():
    model = Ranker()
    assert not model.has_probabilities and model.decides_each_label and not model.search_methods
    with pytest.raises(ValueError, match=r"k: must be from 1 to 4, the number of labels, not 5"):
        Searcher(model, 5)
    with pytest.raises(ConfigError, match="are not calibrated"):
        Searcher(model, 1, probabilities=True)
    with pytest.raises(ConfigError, match="the model has no softmax over all labels"):
        Searcher(model, 1, full_loss=True)
    with pytest.raises(ConfigError, match=r"has no search 'brute'.*Leave it out"):
        Searcher(model, 1, method="brute")
