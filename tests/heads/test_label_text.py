"""The head of labels with texts: its columns, its gradient, its search."""

import math

import keras
import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

from tfxc.core.errors import ConfigError
from tfxc.data.examples.rows import Rows
from tfxc.data.label_texts.keys import text_keys
from tfxc.data.label_texts.prepared import LabelTexts
from tfxc.encoders.bag_mlp import BagMLP
from tfxc.encoders.fasttext import FastText
from tfxc.heads.label_text.columns import columns_of, drawn_labels
from tfxc.heads.label_text.head import LabelText
from tfxc.heads.label_text.text_table import TextTable
from tfxc.heads.sampled.head import Sampled
from tfxc.model import XCModel, load_model
from tfxc.objectives.decoupled_softmax import DecoupledSoftmax
from tfxc.objectives.sigmoid import Sigmoid
from tfxc.ops.perturbations import perturbations
from tfxc.ops.randomness import examples_of, step_scope

N, DIM = 6, 5
COUNTS = np.array([3, 1, 0, 2, 4, 0])  # labels 2 and 5 have no training example


def bags(matrix):
    return Rows.from_csr(scipy.sparse.csr_matrix(np.float32(matrix)), [[]] * len(matrix))


def texts_of(matrix, own=None, texts=None):
    texts = texts or [f"label {number}" for number in range(len(matrix))]
    own = None if own is None else np.int32(own)
    return LabelTexts(bags(matrix), text_keys(texts), own)


def features_of(matrix):
    return bags(matrix).batch()["features"]


def model_of(own=None, counts=COUNTS, matrix=None, texts=None, objective=None, **arguments):
    """A built model whose label l has the only feature l, unless ``matrix`` says otherwise."""
    matrix = np.eye(N) if matrix is None else matrix
    given = texts_of(matrix, own, texts)
    head = LabelText(N, label_counts=counts, label_texts=given, **arguments)
    encoder = BagMLP(num_features=N, hidden=[DIM], activation="linear", residual=4, seed=3)
    model = XCModel(encoder, head, objective or DecoupledSoftmax())
    model(features_of(np.eye(N)[:2]))
    return model


def batch_of(rows, labels, examples=None):
    batch = {"features": features_of(rows), "labels": tf.constant(labels, tf.int32)}
    if examples is not None:
        batch["example_index"] = tf.constant(examples, tf.int64)
    return batch


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def encoded(model, matrix):
    return unit(model.encoder(features_of(matrix)).numpy().astype(np.float64))


def test_loss_is_that_of_the_formula():
    model = model_of(margin=0.1, temperature=0.2)
    rows, labels = np.eye(N)[[0, 1, 4]] + 0.3 * np.eye(N)[[3, 4, 0]], [[0, 1], [3, -1], [4, -1]]
    model.head.positives = None
    found = model.losses_of(batch_of(rows, labels), training=False).numpy()
    columns = [0, 1, 3, 4]
    cosines = encoded(model, rows) @ encoded(model, np.eye(N)[columns]).T
    for row, true in enumerate(labels):
        true = [columns.index(label) for label in true if label >= 0]
        scores = cosines[row].copy()
        scores[true] -= 0.1
        scores /= 0.2
        others = [scores[c] for c in range(len(columns)) if c not in true]
        total = math.log(sum(map(math.exp, others)))
        expected = np.mean([math.log1p(math.exp(total - scores[p])) for p in true])
        assert found[row] == pytest.approx(expected, rel=1e-5)


def test_equals_sampled_cosines_where_texts_are_one_hot():
    model = model_of(counts=np.ones(N, int), margin=0.0, temperature=0.25)
    other = Sampled(N, score="cosine", scale=4.0)
    vectors = model.encoder(features_of(np.eye(N)))
    other.build(vectors.shape)
    other.kernel.assign(vectors)
    rows, labels = np.eye(N)[[5, 2]] + np.eye(N)[[1, 0]], tf.constant([[5], [2]])
    features = model.encoder(features_of(rows))
    (groups,) = model.groups_of_passes([features], labels, training=False)
    expected = other.training_groups(features, labels)[0]
    np.testing.assert_allclose(groups[0].logits, expected.logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(groups[0].positives, expected.positives)
    model.refresh()
    for k in (1, 6):
        ids, scores = model.head.top_k(features, k)
        expected_ids, expected_scores = other.top_k(features, k)
        np.testing.assert_array_equal(ids, expected_ids)
        np.testing.assert_allclose(scores, expected_scores, rtol=1e-5, atol=1e-6)


def test_gradient_reaches_the_table_through_the_labels_texts_alone():
    """The features 4 and 5 are in no example of the batch."""
    matrix = np.eye(N) + np.eye(N)[[4, 5, 0, 1, 2, 3]]
    model = model_of(matrix=matrix)
    table = model.encoder.kernels[0].value
    batch = batch_of(np.eye(N)[[0, 1]], [[0], [1]])

    def loss():
        return tf.reduce_sum(model.losses_of(batch, training=False))

    with tf.GradientTape() as tape:
        value = loss()
    found = tf.convert_to_tensor(tape.gradient(value, table)).numpy()
    step = 1e-2
    for row, column in ((4, 0), (5, 2), (0, 1)):
        change = np.zeros(table.shape, np.float32)
        change[row, column] = step
        table.assign_add(change)
        above = float(loss())
        table.assign_sub(2 * change)
        below = float(loss())
        table.assign_add(change)
        assert found[row, column] == pytest.approx((above - below) / (2 * step), rel=2e-2, abs=1e-3)


def columns(labels, drawn, counts=COUNTS, more=None, always=None):
    found = columns_of(
        tf.constant(labels, tf.int64), tf.constant(drawn, tf.int64), tf.constant(counts > 0),
        None if more is None else tf.constant(more, tf.int64),
        None if always is None else tf.constant(always, tf.int64),
    )  # fmt: skip
    return found.ids.numpy().tolist(), found.positives.numpy().tolist(), found.valid.numpy()


def test_other_true_labels_do_not_count_as_wrong():
    ids, positives, valid = columns([[0, 3], [3, -1]], [[0], [3]])
    assert ids == [0, 3] and positives == [[0], [1]]
    assert valid.tolist() == [[True, False], [True, True]]


def test_an_untrained_label_is_a_column_of_its_own_example_only():
    ids, _, valid = columns([[0], [1]], [[0], [1]], more=[[2], [3]])
    assert ids == [0, 1, 2, 3]
    assert valid.tolist() == [[True, True, True, True], [True, True, False, True]]


def test_a_true_own_label_is_not_wrong():
    _, positives, valid = columns([[0, 3], [1, -1]], [[0], [1]], more=[[3], [-1]])
    assert positives == [[0], [1]]
    assert valid.tolist() == [[True, True, False], [True, True, True]]


def test_columns_of_all_steps_are_columns():
    ids, positives, _ = columns([[4]], [[4]], always=[0, 1, 3, 4])
    assert ids == [0, 1, 3, 4] and positives == [[3]]


def test_a_batch_without_labels_has_a_loss_of_zero():
    model = model_of()
    assert model.losses_of(batch_of(np.eye(N)[:2], [[-1], [-1]])).numpy().tolist() == [0, 0]


def test_all_columns_are_the_trained_labels():
    model = model_of(columns="all")
    found = model.head.columns_of(tf.constant([[3]]))
    assert found.ids.numpy().tolist() == np.flatnonzero(COUNTS > 0).tolist()
    assert model.head.training_columns == 4


def test_self_negatives_are_the_examples_own_labels():
    model = model_of(own=[2, 0, -1, 1], self_negatives=True)
    labels = tf.constant([[3], [4]])
    with examples_of({"example_index": tf.constant([0, 2], tf.int64)}):
        found = model.head.columns_of(labels)
    assert found.ids.numpy().tolist() == [2, 3, 4]
    assert found.valid.numpy().tolist() == [[True, True, True], [False, True, True]]
    assert model.head.columns_of(labels).ids.numpy().tolist() == [3, 4]  # outside of training


def test_drawn_labels_are_true_and_every_one_comes():
    labels = tf.constant([[1, 4, 7, -1]] * 300, tf.int64)
    bits = tf.constant(np.random.default_rng(0).integers(0, 2**32, (300, 4)), tf.uint32)
    one = drawn_labels(labels, bits, 1).numpy()
    shares = np.bincount(one.ravel(), minlength=8) / 300
    assert set(one.ravel()) == {1, 4, 7} and (shares[[1, 4, 7]] > 0.25).all()
    two = drawn_labels(labels, bits, 2).numpy()
    assert all(len(set(row)) == 2 for row in two.tolist())
    assert drawn_labels(labels, bits, 9).shape == (300, 4)


def test_the_draw_follows_the_step():
    model = model_of()
    labels = tf.constant([[0, 1, 3, 4]] * 40)

    def drawn(step):
        with step_scope(tf.constant(step, tf.int64), tf.constant(0)):
            return model.head.columns_of(labels).positives.numpy().tolist()

    assert drawn(1) == drawn(1) != drawn(2)


def test_masks_of_labels_are_not_those_of_examples_and_come_again():
    model = model_of(counts=np.ones(N, int))
    model.encoder.dropout = 0.5
    rows = np.eye(N)[[0, 1]]
    batch = batch_of(rows, [[0], [1]])
    losses = []
    for _ in range(2):
        with step_scope(tf.constant(7, tf.int64), tf.constant(0)):
            losses.append(model.losses_of(batch).numpy().tolist())
    assert losses[0] == losses[1]
    with step_scope(tf.constant(7, tf.int64), tf.constant(0)):
        vectors = model.encoder(batch["features"], training=True)
        (groups,) = model.groups_of_passes([vectors], batch["labels"])
    # With the same masks example and label, which have the same text, would have cosine 1.
    assert not np.allclose(np.diag(groups[0].logits), (1 - 0.02) / 0.05, atol=1e-2)


def test_untrained_labels_change_nothing():
    """The weights after some steps are the same with and without them in the file."""

    def trained(count):
        head = LabelText(
            count, label_counts=COUNTS[:count], label_texts=texts_of(np.eye(N)[:count])
        )
        encoder = BagMLP(num_features=N, hidden=[DIM], seed=3)
        model = XCModel(encoder, head, DecoupledSoftmax())
        model(features_of(np.eye(N)[:2]))
        optimizer = keras.optimizers.SGD(0.1)
        batch = batch_of(np.eye(N)[[0, 3, 4]], [[0, 1], [3, -1], [4, -1]])
        for step in range(3):
            with step_scope(tf.constant(step, tf.int64), tf.constant(0)), tf.GradientTape() as tape:
                loss = tf.reduce_sum(model.losses_of(batch))
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return [weight.numpy() for weight in model.trainable_variables]

    for one, other in zip(trained(5), trained(6), strict=True):
        np.testing.assert_array_equal(one, other)


def test_penalty_lowers_the_labels_of_training_alone():
    model = model_of(seen_penalty=0.3, temperature=0.5)
    model.refresh()
    features = model.encoder(features_of(np.eye(N)[[0]]))
    with_penalty = model.head.all_scores(features).numpy()
    model.head.penalty.assign(0.0)
    without = model.head.all_scores(features).numpy()
    np.testing.assert_allclose(without - with_penalty, [0.6 * (COUNTS > 0)], atol=1e-5)


def test_bias_is_added_to_all_scores_and_trained():
    options = {"temperature": 0.5, "seen_penalty": 0.3, "objective": Sigmoid()}
    without, model = (model_of(score_bias=bias, **options) for bias in (None, -4.0))
    for one in (without, model):
        one.refresh()
    features = model.encoder(features_of(np.eye(N)[[0, 2]]))
    expected = without.head.all_scores(features).numpy() - 4.0
    np.testing.assert_allclose(model.head.all_scores(features), expected, rtol=1e-5)
    search = model.head.inner_products()
    found = search.queries(features) @ tf.transpose(search.rows(0, N))
    np.testing.assert_allclose(found, expected, rtol=1e-5)

    batch = batch_of(np.eye(N)[[0, 1]], [[0, -1], [1, -1]])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model.losses_of(batch))
    cosines = encoded(model, np.eye(N)[[0, 1]]) @ encoded(model, np.eye(N)[[0, 1]]).T
    logits = 2.0 * (cosines - 0.02 * np.eye(2)) - 4.0
    expected = np.sum(np.logaddexp(0, logits) - logits * np.eye(2))
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    gradient = float(tape.gradient(loss, model.head.bias.value))
    assert gradient == pytest.approx(np.sum(1 / (1 + np.exp(-logits)) - np.eye(2)), rel=1e-4)
    assert without.head.bias is None and without.head.get_config()["score_bias"] is None
    assert LabelText.from_config(model.head.get_config()).score_bias == -4.0


def test_free_vectors_move_only_columns_and_labels_without_text_need_them():
    texts = ["a", "b", "c", "", "e", "f"]
    with pytest.raises(ConfigError, match="1 labels have neither a text nor a vector"):
        model_of(texts=texts)
    model = model_of(texts=texts, free_vectors=True)
    free = model.head.free.numpy()
    assert not free[[0, 1, 2, 4, 5]].any() and free[3].any()
    untrained = model_of(texts=[*"abcde", ""], free_vectors=True).head.free.numpy()
    assert not untrained.any()  # nothing would ever change it
    model.refresh()
    vectors = model.head.label_vectors.numpy()
    np.testing.assert_allclose(vectors[3], unit(free[[3]])[0], rtol=1e-5)
    np.testing.assert_allclose(vectors[:3], encoded(model, np.eye(N)[:3]), rtol=1e-4, atol=1e-6)
    batch = batch_of(np.eye(N)[[0, 4]], [[0], [3]])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model.losses_of(batch, training=False))
    gradient = tape.gradient(loss, model.head.free.value)
    assert sorted(set(gradient.indices.numpy().tolist())) == [0, 3]
    assert np.isfinite(gradient.values.numpy()).all()


def test_a_saved_model_searches_without_texts(tmp_path):
    model = model_of(seen_penalty=0.1)
    model.refresh()
    model.save(tmp_path / "model.keras")
    other = load_model(tmp_path / "model.keras")
    features = features_of(np.eye(N)[[1, 2]])
    for found, expected in zip(other.top_k(features, 4), model.top_k(features, 4), strict=True):
        np.testing.assert_array_equal(found, expected)
    other.refresh()  # there is nothing to read
    np.testing.assert_array_equal(other.head.label_vectors, model.head.label_vectors)
    with pytest.raises(TypeError, match="there are no label texts"):
        other.losses_of(batch_of(np.eye(N)[:1], [[0]]))


def test_refresh_follows_the_encoder_in_blocks(monkeypatch):
    monkeypatch.setattr("tfxc.heads.label_text.head._BLOCK", 4)
    monkeypatch.setattr("tfxc.heads.label_text.head._AT_ONCE", 3)
    model = model_of()
    for _ in range(2):
        model.refresh()
        expected = encoded(model, np.eye(N))
        np.testing.assert_allclose(model.head.label_vectors, expected, rtol=1e-4, atol=1e-6)
        model.encoder.kernels[0].assign(model.encoder.kernels[0] * 0.5 + 0.1)


def test_tokens_of_texts_are_padded_and_cut():
    from tfxc.data.examples.kinds import TOKENS
    from tfxc.data.text.tokens import TokenRows

    rows = Rows.of(
        TOKENS, TokenRows(np.array([0, 3, 3, 5]), np.int32([4, 5, 6, 7, 8]), 9), [[]] * 3
    )
    table = tf.function(TextTable(rows), input_signature=[tf.TensorSpec([None], tf.int64)])
    found = table(tf.constant([2, 0, 1], tf.int64)).numpy()
    assert found.tolist() == [[7, 8, *[0] * 6], [4, 5, 6, *[0] * 5], [0] * 8]
    assert table(tf.constant([1], tf.int64)).shape == (1, 8)
    cut = TextTable(rows, length=2)(tf.constant([0], tf.int64)).numpy()
    assert cut.tolist() == [[4, 5, *[0] * 6]]


def test_encoders_of_tokens_read_the_texts():
    from tfxc.data.examples.kinds import TOKENS
    from tfxc.data.text.tokens import TokenRows

    bounds = np.arange(0, 2 * N + 1, 2)
    rows = Rows.of(TOKENS, TokenRows(bounds, np.arange(2 * N, dtype=np.int32) % 7 + 1, 9), [[]] * N)
    texts = LabelTexts(rows, text_keys(map(str, range(N))))
    head = LabelText(N, label_counts=COUNTS, label_texts=texts)
    model = XCModel(FastText(9, embedding_dim=4, hidden_dim=DIM), head, DecoupledSoftmax())
    tokens = tf.constant([[1, 2], [3, 4]])
    model(tokens)
    batch = {"features": tokens, "labels": tf.constant([[0], [3]])}
    losses = tf.function(model.losses_of, autograph=False)(batch)
    np.testing.assert_allclose(losses, model.losses_of(batch), rtol=1e-5)
    assert (losses.numpy() > 0).all()


def test_a_low_temperature_is_refused():
    with pytest.raises(ConfigError, match=r"temperature: must be at least 0\.01, not 0\.001"):
        LabelText(3, temperature=0.001)


def test_gradient_of_the_temperature_stops_at_its_limit():
    model = model_of(temperature=0.011)
    model.head.log_scale.assign(9.0)
    assert float(model.head.scale) == pytest.approx(100)


@pytest.mark.parametrize(
    ("columns", "chunk"), [("batch", 1), ("batch", 4), ("all", 2), ("all", 4), ("all", 100)]
)
def test_chunks_of_texts_have_the_same_loss_and_gradients(columns, chunk):
    matrix = np.eye(N) + np.eye(N)[[4, 5, 0, 1, 2, 3]]
    batch = batch_of(np.eye(N)[[0, 1, 3]], [[0, 4], [1, -1], [3, -1]], [0, 1, 2])
    found = []
    for size in (0, chunk):
        model = model_of(
            own=[2, 0, 5], matrix=matrix, columns=columns, self_negatives=True, label_chunk=size
        )
        model.encoder.dropout = 0.3
        variables = [variable.value for variable in model.trainable_variables]

        def step(batch, model=model, variables=variables):
            with step_scope(tf.constant(5, tf.int64), tf.constant(0)), examples_of(batch):
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(variables)
                    loss = tf.reduce_sum(model.losses_of(batch))
                gradients = tape.gradient(loss, variables)
            return loss, list(map(tf.convert_to_tensor, gradients))

        found.append(tf.function(step, autograph=False)(batch))
    (loss, gradients), (other_loss, other_gradients) = found
    assert float(loss) == pytest.approx(float(other_loss), rel=1e-6)
    for one, other in zip(gradients, other_gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_number_of_chunks_follows_the_largest_number_of_columns():
    model = model_of(label_chunk=2, own=[0] * 4, self_negatives=True)
    assert [model.head.label_chunks(batch) for batch in (1, 2, 50, None)] == [1, 2, 3, 3]
    assert model_of(label_chunk=3, columns="all").head.label_chunks(50) == 2
    assert model_of().head.label_chunks(50) == 1


def test_labels_with_the_same_text_are_known():
    model = model_of(texts=["a", "b", "a", "", "b", "a"], free_vectors=True)
    groups, sizes = model.head.text_groups
    assert len({groups[0], groups[1], groups[3]}) == 3
    assert groups[0] == groups[2] == groups[5] and groups[1] == groups[4]
    assert sizes[groups].tolist() == [3, 2, 3, 1, 2, 3]


def test_a_label_with_the_text_of_a_true_one_is_not_wrong():
    model = model_of(
        own=[1, 4], counts=np.ones(N, int), texts=["a", "b", "a", "c", "a", "b"],
        self_negatives=True,
    )  # fmt: skip
    labels = tf.constant([[0, 5], [3, -1]])
    with examples_of({"example_index": tf.constant([0, 1], tf.int64)}):
        found = model.head.columns_of(labels)
    drawn = found.positives.numpy()[0, 0]
    assert found.ids.numpy().tolist() in ([0, 1, 3, 4], [1, 3, 4, 5])
    valid = dict(zip(found.ids.numpy().tolist(), found.valid.numpy()[0].tolist(), strict=True))
    # Label 1 has the text of 5, label 4 that of 0; both are true for the first example.
    assert valid == {label: label in (3, int(found.ids[drawn])) for label in valid}
    assert found.valid.numpy()[1].all()


def test_label_length_needs_tokens():
    with pytest.raises(ConfigError, match="only tokens can be cut off"):
        model_of(label_length=3)


def test_techniques_perturb_the_examples_alone():
    model = model_of(counts=np.ones(N, int))
    batch = batch_of(np.eye(N)[[0, 1]], [[0], [1]])
    table = model.encoder.kernels[0].value
    vectors = model.encoder(batch["features"])
    (plain,) = model.groups_of_passes([vectors], batch["labels"], training=False)
    with perturbations([(table, lambda ids: tf.ones([tf.size(ids), DIM]))]):
        (found,) = model.groups_of_passes([vectors], batch["labels"], training=False)
    np.testing.assert_array_equal(found[0].logits, plain[0].logits)


def test_mined_labels_are_columns_of_their_examples():
    model = model_of(counts=np.ones(N, int), mined=2, mined_candidates=3)
    candidates = tf.constant([[1, 2, 3], [-1, -1, -1], [5, -1, -1]])
    model.head.candidates = lambda examples: tf.gather(candidates, examples)
    labels = tf.constant([[0], [4]])

    def columns(step, examples):
        with (
            step_scope(tf.constant(step, tf.int64), tf.constant(0)),
            examples_of({"example_index": tf.constant(examples, tf.int64)}),
        ):
            return model.head.columns_of(labels)

    found = [columns(step, [0, 2]).ids.numpy().tolist() for step in range(12)]
    assert all(len(ids) == 5 and {0, 4, 5} < set(ids) for ids in found)
    assert {label for ids in found for label in ids} == set(range(6))
    assert columns(1, [1, 1]).ids.numpy().tolist() == [0, 4]
    assert columns(1, [0, 2]).valid.numpy().all()


@pytest.mark.parametrize("head", [{"mined": 1}, {"batching": "near"}])
def test_what_finds_columns_does_not_go_with_all_of_them(head):
    with pytest.raises(ConfigError, match=f"^{next(iter(head))}: has no effect with columns 'all'"):
        LabelText(N, columns="all", **head)


def test_more_mined_labels_than_candidates_are_refused():
    with pytest.raises(ConfigError, match="mined: must be at most mined_candidates, 3, not 4"):
        LabelText(9, mined=4, mined_candidates=3)


def kept_by_hand(steps, batches):
    """Label -> vector of the last ``batches`` steps, each by its newest one."""
    return {label: row for step in steps[-batches:] for label, row in step.items()}


@pytest.mark.parametrize("twins", [False, True])
def test_labels_of_the_last_batches_are_wrong_columns(twins):
    texts = ["a", "b", "c", "d", "e", "b"] if twins else None
    counts = np.where(np.arange(N) == 2, 0, 1)  # label 2 is an own label without an example
    model = model_of(
        own=[2, -1], counts=counts, texts=texts, pre_batch=2, self_negatives=True, margin=0.1
    )
    head = model.head
    head.keep_columns(2)
    batches = [[[0], [3]], [[0], [4]], [[5], [1]], [[1], [4]], [[0], [3]], [[3], [0]]]
    steps = []
    for number, labels in enumerate(batches):
        rows = np.eye(N)[np.ravel(labels)] + 0.1
        batch = batch_of(rows, labels, [0, 1])
        with step_scope(tf.constant(number, tf.int64), tf.constant(0)), examples_of(batch):
            vectors = model.encoder(batch["features"])
            for _ in range(2):  # a technique's second pass finds and keeps the same
                ((group,),) = model.groups_of_passes([vectors], batch["labels"], training=False)
                found = np.where(group.valid, group.logits, -np.inf)
                columns = head.columns_of(batch["labels"]).ids.numpy()
                kept = kept_by_hand(steps, 2)
                older = unit(vectors.numpy()) @ np.array(list(kept.values())).T if kept else None
                for row, (true,) in enumerate(labels):
                    same = {1, 5} if twins and true in (1, 5) else {true}
                    expected = [
                        10 * older[row][place]
                        for place, label in enumerate(kept)
                        if label not in columns and label not in same
                    ]
                    behind = found[row, len(columns) :]
                    np.testing.assert_allclose(
                        sorted(behind[np.isfinite(behind)]), sorted(expected), rtol=1e-5, atol=1e-5
                    )
        of_columns = encoded(model, np.eye(N)[columns])
        step = zip(columns.tolist(), of_columns, strict=True)
        steps.append({label: row for label, row in step if label != 2})
        model.encoder.kernels[0].assign(model.encoder.kernels[0] * 1.5 + 0.1)
    (outside,) = model.groups_of_passes([vectors], batch["labels"], training=False)
    assert outside[0].logits.shape[1] == 2  # neither own labels nor those kept


def test_gradients_do_not_reach_labels_of_the_last_batches():
    model = model_of(counts=np.ones(N, int), pre_batch=1)
    queue = model.head.keep_columns(2)
    found = []
    for number, labels in enumerate([[[2], [3]], [[0], [1]]]):
        batch = batch_of(np.eye(N)[[0, 1]], labels)
        with (
            step_scope(tf.constant(number, tf.int64), tf.constant(0)),
            tf.GradientTape() as tape,
        ):
            loss = tf.reduce_sum(model.losses_of(batch, training=False))
        table = model.encoder.kernels[0].value
        found.append(tf.convert_to_tensor(tape.gradient(loss, table)).numpy())
    assert found[0][[2, 3]].any(axis=1).all() and not found[1][[2, 3]].any()
    assert found[1][[0, 1]].any(axis=1).all()
    assert sorted(queue.ids.numpy().ravel().tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "found"), [({"columns": "all"}, "columns 'all'"), ({"positives": None}, "null")]
)
def test_a_queue_needs_columns_of_the_batch(arguments, found):
    with pytest.raises(ConfigError, match=f"pre_batch: does not go with .*{found}"):
        LabelText(9, pre_batch=1, **arguments)


def test_a_label_without_example_and_text_scores_nothing():
    model = model_of(texts=["a", "b", "", "c", "d", ""])  # counts of labels 2 and 5 are 0
    model.refresh()
    assert not model.head.label_vectors.numpy()[[2, 5]].any()
    scores = model.head.all_scores(model.encoder(features_of(np.eye(N)[[2]]))).numpy()[0]
    assert scores[2] == scores[5] == 0 and scores[[0, 1, 3, 4]].all()


def test_estimates_of_memory_know_how_many_texts_are_encoded():
    """Shapes of a padded batch follow from those of its numbers, for the walk over a graph."""
    from tfxc.data.examples.kinds import TOKENS
    from tfxc.data.text.tokens import TokenRows

    tokens = TokenRows(np.array([0, 3, 3, 20]), np.arange(20, dtype=np.int32) + 1, 30)
    table = TextTable(Rows.of(TOKENS, tokens, [[]] * 3))
    traced = tf.function(table, input_signature=[tf.TensorSpec([2], tf.int64)])
    assert traced.get_concrete_function().output_shapes[0] == 2
    assert traced(tf.constant([0, 2], tf.int64)).shape == (2, 24)
