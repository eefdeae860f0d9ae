import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

import tfxc
from tests.contracts.layers import assert_equal
from tests.contracts.technique import NUM_FEATURES, NUM_LABELS, TinyTraining, tiny_source
from tfxc.core import registry
from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError
from tfxc.data.examples.kinds import DENSE
from tfxc.data.examples.rows import Rows
from tfxc.data.label_texts.keys import text_keys
from tfxc.data.label_texts.prepared import LabelTexts
from tfxc.encoders.bases.repeated import Repeated
from tfxc.model import build_model, example_features, make_components

SIZES = {"num_features": NUM_FEATURES, "num_labels": NUM_LABELS, "num_examples": 24}
# Arguments that a head cannot do without.
DIGITS = [3, -(-NUM_LABELS // 3)]
NEEDED = {
    "mach": {"num_buckets": 4, "num_repetitions": 3},
    "mhp": {"heads": DIGITS},
    "mhc": {"heads": DIGITS, "num_candidate_groups": 2},
    "mhs": {"heads": DIGITS, "num_sampled_heads": 2},
    "label_text": {"columns": "all"},
}


def config(encoder="bag_mlp", head="dense", objective="softmax", precision="float32", **more):
    """A config of the tiny source; sections may be names or dicts."""
    sections = {"encoder": encoder, "head": head, "objective": objective}
    methods = {key: {"name": v} if isinstance(v, str) else v for key, v in sections.items()}
    if methods["encoder"]["name"] == "bag_mlp":
        methods["encoder"].setdefault("hidden", [6])
    methods["head"] = {**NEEDED.get(methods["head"]["name"], {}), **methods["head"]}
    data = {"name": "unused", "train": "unused"}
    training = {"precision": precision}
    return parse_config({"run": "unused", "data": data, **methods, "training": training, **more})


def sizes_of(head):
    """``SIZES``, and what else a head learns from the data."""
    if head != "label_text":
        return SIZES
    texts = scipy.sparse.random(
        NUM_LABELS, NUM_FEATURES, 0.2, "csr", np.float32, np.random.default_rng(0)
    )
    rows = Rows.from_csr(texts, [[]] * NUM_LABELS)
    found = LabelTexts(rows, text_keys(map(str, range(NUM_LABELS))))
    return {**SIZES, "label_texts": found, "label_counts": np.ones(NUM_LABELS, int)}


def bags():
    """A batch of 8 bags."""
    return tiny_source().batch(seed=0, step=0, batch_size=8)


HEADS, OBJECTIVES = registry.names("head"), registry.names("objective")


@pytest.mark.parametrize(
    ("head", "objective"),
    [
        # Every third pair: each head has several objectives, and each objective several heads.
        pytest.param(head, objective, marks=() if (row + column) % 3 == 0 else pytest.mark.slow)
        for row, head in enumerate(HEADS)
        for column, objective in enumerate(OBJECTIVES)
    ],
)
def test_every_head_takes_every_objective(head, objective):
    model = build_model(config(head=head, objective=objective), **sizes_of(head))
    batch = bags()
    losses = model.losses_of(batch)
    assert losses.dtype == tf.float32 and losses.shape == (8,)
    assert np.isfinite(losses).all()
    ids, scores = model.top_k(batch["features"], 2)
    assert ids.shape == scores.shape == (8, 2)


@pytest.mark.parametrize("head", registry.names("head"))
def test_training_columns_are_those_of_the_groups(head):
    model = build_model(config(head=head), **sizes_of(head))
    vectors = model.encoder(bags()["features"])
    one_label = tf.range(8)[:, None] % NUM_LABELS
    (groups,) = model.groups_of_passes([vectors], one_label)
    assert model.head.num_groups == len(groups)
    assert model.head.training_columns == sum(group.logits.shape[1] for group in groups)


def test_a_table_of_dual_variables_per_group():
    model = build_model(config(head="mach", objective="scent"), **SIZES)
    assert [table.shape for table in model.objective.tables] == [(24,)] * 3
    with pytest.raises(ConfigError, match=r"objective: .*num_examples"):
        build_model(config(objective="scent"), num_features=NUM_FEATURES, num_labels=NUM_LABELS)


def test_losses_are_summed_over_groups():
    model = build_model(config(head="mach"), **SIZES)
    batch = bags()
    groups = model.head.training_groups(model.encoder(batch["features"]), batch["labels"])
    assert len(groups) == 3
    expected = np.sum([model.objective(group) for group in groups], axis=0)
    np.testing.assert_allclose(model.losses_of(batch, training=False), expected, rtol=1e-5)


def test_call_and_top_k_see_no_dropout():
    model = build_model(config({"name": "bag_mlp", "dropout": 0.5}), **SIZES)
    features = bags()["features"]
    assert_equal(model(features), model(features))
    assert_equal(model.top_k(features, 2), model.top_k(features, 2))
    losses = [model.losses_of(bags(), training=training).numpy() for training in (False, True)]
    assert (losses[0] != losses[1]).any()


@pytest.mark.parametrize(
    ("head", "precision"),
    [("dense", "float32"), ("dense", "mixed_float16"), ("mach", "mixed_bfloat16")],
)
def test_learns_in_any_precision(head, precision):
    settings = config(head=head, objective="sigmoid", precision=precision)
    model = build_model(settings, **SIZES)
    losses = TinyTraining(model=model, precision=precision).run(30)
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])
    assert all(variable.dtype == "float32" for variable in model.trainable_variables)


def test_keras_file(tmp_path):
    model = build_model(config(head="mach"), **SIZES)
    features = bags()["features"]
    model.save(tmp_path / "model.keras")
    loaded = tfxc.load_model(tmp_path / "model.keras")
    assert_equal(loaded.top_k(features, 3), model.top_k(features, 3))
    assert_equal(loaded.losses_of(bags(), training=False), model.losses_of(bags(), training=False))


def test_weights_file(tmp_path):
    one, other = (build_model(config(head="mach", seed=seed), **SIZES) for seed in (1, 2))
    features = bags()["features"]
    assert (one(features).numpy() != other(features).numpy()).any()
    one.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    assert_equal(one(features), other(features))


def test_the_seed_decides_the_start():
    one, same, other = (build_model(config(seed=s), **SIZES).get_weights() for s in (1, 1, 2))
    assert_equal(one, same)
    for first, second in zip(one, other, strict=True):
        assert first.ndim == 1 or (first != second).any()
    own = build_model(config({"name": "bag_mlp", "seed": 1}, seed=2), **SIZES).get_weights()
    np.testing.assert_array_equal(own[0], one[0])


def test_the_link_is_the_objectives():
    for objective, link in (("sigmoid", "sigmoid"), ("softmax", "softmax")):
        _, head, _ = make_components(config(head="mach", objective=objective), **SIZES)
        assert head.link == link
    head = {"name": "mach", "link": "sigmoid"}
    assert make_components(config(head=head, objective="softmax"), **SIZES)[1].link == "sigmoid"


def test_separate_trunks():
    head = {"name": "mach", "trunk": "separate"}
    encoder = {"name": "bag_mlp", "num_hashed_features": 7, "hash_seed": 5}
    built, _, _ = make_components(config(encoder, head), **SIZES)
    assert isinstance(built, Repeated)
    assert [part.hash_seed for part in built.encoders] == [5, 6, 7]
    assert len({part.seed for part in built.encoders}) == 3


def test_one_repetition():
    encoder, head, _ = make_components(config(head="mach"), **SIZES, repetition=2)
    assert (head.num_repetitions, head.first_repetition, head.trunk) == (1, 2, "shared")
    assert not isinstance(encoder, Repeated)


def test_dense_features():
    model = build_model(config("precomputed"), **SIZES, feature_kind="dense")
    assert model(tf.ones((3, NUM_FEATURES))).shape == (3, NUM_LABELS)
    assert example_features(DENSE, {"num_features": 7}).shape == (2, 7)


@pytest.mark.parametrize(
    ("sections", "sizes", "message"),
    [
        ({}, {"feature_kind": "dense"}, "encoder.name: .*'bag_mlp' reads sparse features"),
        ({"encoder": {"name": "bag_mlp", "num_features": 3}}, {}, "encoder.num_features: .*the da"),
        (
            {"encoder": {"name": "bag_mlp", "dropout": 2}},
            {},
            r"encoder\.dropout: must be a number of at least 0 and below 1, not 2",
        ),
        (
            {"head": {"name": "mach", "num_buckets": 6}},
            {},
            "6 buckets are more than the 5 labels, which makes hashing pointless",
        ),
        (
            {"head": {"name": "mach", "aggregate": "x"}},
            {},
            "one of logits, probabilities, log_probabilities, min, median, not 'x'",
        ),
        ({"head": {"name": "mach", "buckets": 6}}, {}, "head.buckets: .*no argument 'buckets'"),
        ({"head": "dens"}, {}, "unknown head 'dens', did you mean 'dense'"),
        (
            {"objective": {"name": "sigmoid", "reduction": "x"}},
            {},
            r"objective\.reduction: must be one of sum, mean, not 'x'",
        ),
    ],
)
def test_what_does_not_fit_is_named(sections, sizes, message):
    with pytest.raises(ConfigError, match=message):
        build_model(config(**sections), **SIZES, **sizes)


@pytest.mark.parametrize("head", sorted({*registry.names("head")} - {"label_text"}))
def test_every_head_has_other_starts(head):
    plain, other = (
        build_model(config(head={"name": head, **more}), **SIZES)
        for more in ({}, {"start": "xavier"})
    )
    kernels = [
        (before.numpy(), after.numpy())
        for before, after in zip(
            plain.head.trainable_weights, other.head.trainable_weights, strict=True
        )
    ]
    changed = [before.shape for before, after in kernels if not np.array_equal(before, after)]
    assert changed == [before.shape for before, _ in kernels if before.ndim > 1] != []
    again = build_model(config(head={"name": head, "start": "xavier"}), **SIZES)
    assert_equal(again.head.trainable_weights, other.head.trainable_weights)


def test_vectors_of_texts_have_no_start():
    with pytest.raises(
        ConfigError, match=r"head\.start: start 'xavier' has no effect on head 'label_text'"
    ):
        build_model(config(head={"name": "label_text", "start": "xavier"}), **SIZES)


@pytest.mark.parametrize("start", registry.STARTS)
def test_an_encoder_without_an_argument_start(start):
    section = {"name": "bag_mlp", "hidden": [60, 50]}
    plain, other = (
        build_model(config(encoder={**section, **more}), **SIZES).encoder
        for more in ({}, {"start": start})
    )
    np.testing.assert_array_equal(plain.kernels[0], other.kernels[0])  # the table
    assert (plain.kernels[1].numpy() != other.kernels[1].numpy()).mean() > 0.99
    largest = {"uniform": 60**-0.5, "xavier": (6 / 110) ** 0.5, "kaiming": (6 / 60) ** 0.5}
    if start in largest:
        assert abs(other.kernels[1].numpy()).max() == pytest.approx(largest[start], rel=0.02)


def test_starts_of_a_fused_head():
    section = {"name": "dense", "update": "fused"}
    plain, other, rounded = (
        build_model(config(head={**section, **more}), **SIZES).head.get_weights()[0]
        for more in ({}, {"start": "uniform"}, {"start": "uniform", "weights": "bfloat16"})
    )
    assert (plain != other).mean() > 0.99
    assert abs(other).max() <= other.shape[1] ** -0.5
    np.testing.assert_allclose(rounded.astype(np.float32), other, rtol=2**-8)
    with pytest.raises(ConfigError, match="start 'xavier' depends on the number of labels"):
        build_model(config(head={**section, "start": "xavier"}), **SIZES)


def test_a_wrong_start():
    with pytest.raises(
        ConfigError, match=r"kaiming, label_texts, not 'xavir', did you mean 'xavier'\? Change it"
    ):
        registry.check_section("head", {"name": "dense", "start": "xavir"}, "head")
    with pytest.raises(ConfigError, match=r"encoder.vectors: must be a text, not 3"):
        registry.check_section("encoder", {"name": "textcnn", "vectors": 3}, "encoder")
