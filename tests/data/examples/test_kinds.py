"""The contract of ``tfxc.data.examples.kinds``: what every kind of features has to do."""

import pickle

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

from tests.data.rows import read_shard
from tfxc.core.config import parse_config
from tfxc.core.errors import DataError
from tfxc.data.examples.chunk import Chunk
from tfxc.data.examples.kinds import (
    DENSE,
    IMAGE,
    INPUTS,
    JOINED,
    KINDS,
    ROW_KINDS,
    SPARSE,
    TEXT,
    TOKENS,
    Given,
    input_of,
    kind_of_features,
)
from tfxc.data.examples.rows import Rows
from tfxc.data.reading.parsing.record_layout import LAYOUTS
from tfxc.data.sources.base import ArraySource
from tfxc.data.sources.dataset import batch_signature, training_dataset
from tfxc.data.store.records.record_writer import write_shard
from tfxc.exports.savedmodel import from_features
from tfxc.exports.usage import inputs_of, numpy_inputs, served_call
from tfxc.model import build_model

SHAPE = (8, 6, 3)
SIZES = {"num_features": 24, "vocabulary_size": 11, "image_shape": SHAPE}
ENCODERS = {
    "bag_mlp": {"hidden": [5]},
    "precomputed": {},
    "textcnn": {"embedding_dim": 4, "num_filters": 3, "widths": [1, 2]},
    "resnet": {"depth": 10, "width": 4},
}


#: The features of rows in the form in which readers return them, for the kinds they do.
GIVEN = {
    "sparse": lambda rows: scipy.sparse.csr_matrix((rows.values, rows.indices, rows.indptr)),
    "dense": lambda rows: rows.matrix,
}


@pytest.fixture(params=ROW_KINDS.values(), ids=list(ROW_KINDS))
def kind(request):
    """Every kind that rows have."""
    return request.param


@pytest.fixture(params=KINDS.values(), ids=list(KINDS))
def model_kind(request):
    """Every kind that models are built for."""
    return request.param


def rows_of(kind, count=7):
    """Examples of a kind with two labels each."""
    width = int(np.prod(SHAPE)) if kind.is_image else SIZES["num_features"]
    labels = {"label_indptr": np.arange(count + 1) * 2, "label_ids": np.arange(2 * count) % 5}
    return Rows(kind, kind.example(SIZES, count), **labels, num_features=width)


def assert_same(found, expected):
    assert found.kind is expected.kind and found.num_features == expected.num_features
    for name, array in {**expected.labels, **expected.arrays}.items():
        assert getattr(found, name).dtype == array.dtype, name
        np.testing.assert_array_equal(getattr(found, name), array, err_msg=name)


def small_model(kind):
    config = parse_config(
        {
            "run": "unused",
            "data": {"name": "small", "train": "train.jsonl"},
            "encoder": {"name": kind.encoder, **ENCODERS.get(kind.encoder, {})},
            "head": {"name": "dense"},
            "objective": {"name": "sigmoid"},
        }
    )
    return build_model(config, feature_kind=kind.name, num_labels=5, **SIZES)


class TestRows:
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("count", [0, 7, 300])
    def test_come_back_from_records(self, kind, layout, count, tmp_path):
        rows = rows_of(kind, max(count, 1)).slice(0, count)
        write_shard(tmp_path / "shard", rows, layout)
        found = read_shard(tmp_path / "shard", layout, kind, rows.num_features, SHAPE)
        assert_same(found, rows)

    def test_of_another_kind_are_refused(self, kind, tmp_path):
        other = SPARSE if kind is DENSE else DENSE
        write_shard(tmp_path / "shard", rows_of(other))
        with pytest.raises(DataError, match="another one, or the shard is damaged"):
            read_shard(tmp_path / "shard", "blocks", kind, 24, (2, 2, 3))

    def test_are_cut_and_joined(self, kind):
        rows = rows_of(kind)
        assert_same(Rows.concatenate([rows.slice(0, 3), rows.slice(3, 7)]), rows)
        order = [6, 0, 3]
        assert_same(rows.select(order), Rows.concatenate([rows.slice(i, i + 1) for i in order]))

    def test_take_the_bytes_that_are_counted(self, kind):
        rows = rows_of(kind)
        counted = kind.memory_bytes(*rows.counts)
        assert 0 < counted <= rows.nbytes <= counted + 8 * (1 + len(kind.columns))

    def test_examples_are_a_function_of_the_draw(self, kind):
        first, again = (kind.example(SIZES, 5, np.random.default_rng(3)) for _ in range(2))
        other = kind.example(SIZES, 5, np.random.default_rng(4))
        assert all(np.array_equal(first[name], again[name]) for name in kind.arrays)
        assert not all(np.array_equal(first[name], other[name]) for name in kind.arrays)


class TestBatches:
    def test_fit_their_signature(self, kind):
        source = ArraySource(rows_of(kind), image_shape=SHAPE if kind.is_image else None)
        specs = batch_signature(source, 4)["features"]
        batch = source.batch(seed=0, step=0, batch_size=4)["features"]
        for values, spec in zip(tf.nest.flatten(batch), tf.nest.flatten(specs), strict=True):
            assert spec.is_compatible_with(tf.constant(values))

    def test_of_training_are_what_models_take(self, kind):
        source = ArraySource(rows_of(kind), image_shape=SHAPE if kind.is_image else None)
        (batch,) = training_dataset(source, batch_size=4, seed=0, num_steps=1)
        expected = kind.decoded.specs({**SIZES, **source.sizes}, 4)
        tf.nest.assert_same_structure(batch["features"], expected)
        shapes = zip(
            tf.nest.flatten(batch["features"]), tf.nest.flatten(expected), strict=True
        )  # fmt: skip
        assert all(spec.shape.is_compatible_with(tensor.shape) for tensor, spec in shapes)

    def test_are_packed_and_unpacked(self, kind):
        features = rows_of(kind).batch()["features"]
        tensors = kind.unpack(features)
        assert tuple(tensors) == kind.inputs == tuple(t.name for t in kind.tensors(SIZES))
        tf.nest.assert_same_structure(kind.pack(tensors), features)
        tf.nest.assert_same_structure(kind.select_features(features), features)

    def test_hold_the_parts(self):
        features = rows_of(JOINED).batch()["features"]
        assert SPARSE.select_features(features).keys() == set(SPARSE.inputs)
        assert TOKENS.select_features(features) is features["tokens"]
        assert JOINED.holds(TOKENS) and JOINED.holds(SPARSE) and not SPARSE.holds(JOINED)
        assert (JOINED.component_named("sparse"), SPARSE.component_named("sparse")) == (
            "terms",
            None,
        )


class TestGivenFeatures:
    def test_every_kind_is_tried(self):
        assert {name for name, kind in KINDS.items() if isinstance(kind, Given)} == set(GIVEN)

    @pytest.mark.parametrize("name", GIVEN)
    def test_become_rows_again(self, name):
        kind, rows = KINDS[name], rows_of(KINDS[name])
        features = GIVEN[name](rows)
        assert kind_of_features(features, "file") is kind
        assert kind.num_features(features) >= kind.width(features)
        assert kind.fits(kind.width(features), rows.num_features)
        assert not kind.fits(rows.num_features + 1, rows.num_features)
        assert kind.values(features).size == rows.nonzeros
        for name, array in kind.arrays_of(features).items():
            np.testing.assert_array_equal(array, rows.arrays[name])
        assert kind.given(Chunk([[]] * 7, features=features)).keys() == set(kind.inputs)

    @pytest.mark.parametrize("name", GIVEN)
    def test_nan_and_infinity_are_found(self, name):
        for bad in (np.nan, np.inf):
            rows = rows_of(KINDS[name])
            assert KINDS[name].first_not_finite(GIVEN[name](rows)) is None
            for array in rows.slice(4, 6).arrays.values():
                if array.dtype == np.float32:
                    array.ravel()[-1] = bad
            assert KINDS[name].first_not_finite(GIVEN[name](rows)) == 5

    @pytest.mark.parametrize("name", [name for name in GIVEN if KINDS[name].is_matrix])
    def test_are_normalised_as_in_the_graph(self, name):
        kind, features = KINDS[name], GIVEN[name](rows_of(KINDS[name]))
        found = kind.tensors_of(kind.arrays_of(kind.normalised(features, "l2")))
        tensors = kind.tensors_of(kind.arrays_of(features))
        expected = kind.unit_rows({key: tf.constant(values) for key, values in tensors.items()})
        for key, values in expected.items():
            np.testing.assert_allclose(found[key], values, rtol=1e-5)

    def test_other_forms_are_refused(self):
        for features in ([[1.0]], np.zeros((2, 3, 4), np.float32)):
            with pytest.raises(DataError, match="is neither sparse features nor dense"):
                kind_of_features(features, "file")
        sparse = GIVEN["sparse"](rows_of(SPARSE))
        for kind in (DENSE, TOKENS, JOINED, IMAGE):
            assert kind.given(Chunk([[]] * 7, features=sparse)) is None


class TestModels:
    def test_are_built_served_and_answer(self, model_kind, tmp_path):
        model, rows = small_model(model_kind), rows_of(model_kind)
        manifest = {**SIZES, "row_normalise": None}

        def answer(features):
            ids, scores = model.top_k(features, 3)
            return {"ids": ids, "scores": scores}

        function = from_features(answer, model_kind, manifest)
        module = tf.Module()
        module.weights = model.variables
        plain = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(module, str(tmp_path), function.get_concrete_function(), options=plain)
        served = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
        tensors = model_kind.tensors_of(rows.arrays)
        found = served(**{name: tf.constant(values) for name, values in tensors.items()})
        features = tf.nest.map_structure(tf.constant, rows.batch()["features"])
        np.testing.assert_array_equal(found["ids"], model.top_k(features, 3)[0])
        assert input_of(served.structured_input_signature[1]) is model_kind

    def test_unit_rows(self, model_kind):
        tensors = {
            name: tf.constant(values)
            for name, values in model_kind.tensors_of(rows_of(model_kind).arrays).items()
        }
        scaled = model_kind.unit_rows(tensors)
        assert scaled.keys() == tensors.keys()
        if model_kind.is_matrix and not model_kind.components:
            matrix = model_kind.matrix(model_kind.pack(scaled), SIZES["num_features"])
            dense = matrix.toarray() if model_kind is SPARSE else matrix
            lengths = np.linalg.norm(dense, axis=1)
            np.testing.assert_allclose(lengths, 1, rtol=1e-5)


class TestWords:
    @pytest.mark.parametrize("input_kind", INPUTS)
    def test_calls_that_are_shown_run(self, input_kind):
        tensors = INPUTS[input_kind].tensors(SIZES)
        called = eval(served_call(input_kind, SIZES), {"model": dict, "tf": tf})
        for tensor in tensors:
            assert tensor.spec().is_compatible_with(called[tensor.name])
            assert tensor.name in inputs_of(input_kind, SIZES)
        assert set(called) == set(INPUTS[input_kind].inputs) == {tensor.name for tensor in tensors}

    def test_arrays_that_are_shown_are_inputs(self, model_kind):
        exec(numpy_inputs(model_kind.name, SIZES), {"np": np}, shown := {})
        for tensor in model_kind.tensors(SIZES):
            assert tensor.spec().is_compatible_with(tf.constant(shown["inputs"][tensor.name]))

    def test_inputs_in_words(self):
        assert inputs_of("dense", SIZES) == "features: float32 (batch, 24)"
        assert inputs_of("tokens", SIZES) == "tokens: int32 (batch, length), padded with 0"
        assert inputs_of("text", SIZES) == "text: string (batch,)"

    def test_descriptions(self, kind):
        found = {kind.describe(SIZES), kind.description, repr(kind)}
        assert len(found) == 3 and all(found)

    def test_there_is_one_object_of_each(self, kind):
        assert pickle.loads(pickle.dumps(kind)) is kind

    def test_inputs_are_distinguished(self):
        for given in INPUTS.values():
            assert input_of(given.inputs) is given
        assert input_of(["other"]) is None

    def test_typed_lines_are_given(self):
        lines = {"text": "a fox", "sparse": "3:1 2:0.5", "dense": " ".join(["1"] * 24)}
        for name, line in lines.items():
            given = INPUTS[name]
            chunk = Chunk([[]], **given.typed([line], ["line:1"], 24))
            assert given.given(chunk).keys() == set(given.inputs) and given.prompt
            others = [INPUTS[other] for other in lines if other != name]
            assert [other.given(chunk) for other in others] == [None, None]
        assert TEXT.given(Chunk([], texts=[]))["text"].shape == (0,)
