import itertools
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests import torch_files
from tests.contracts.layers import assert_close
from tests.contracts.token_encoder import VOCABULARY, TokenEncoderContract
from tests.encoders.hub_folders import (
    CONFIG,
    PIECES,
    attention,
    bert_states,
    gelu,
    normed,
    write_folder,
)
from tfxc.core.errors import ConfigError
from tfxc.data.text.subwords import PretrainedTokens
from tfxc.encoders.pretrained.encoder import Pretrained

TINY = {
    "family": "bert", "vocabulary_size": VOCABULARY, "embedding_dim": 6, "hidden_dim": 6,
    "num_layers": 2, "num_heads": 2, "feed_forward_dim": 10, "max_positions": 10,
    "initial_std": 0.3,
}  # fmt: skip
IDS = [[2, 8, 15, 9, 3], [2, 3, 0, 0, 0], [2, 6, 3, 0, 0]]


class TestPretrained(TokenEncoderContract):
    cls = Pretrained
    small = {"architecture": TINY, "body_dropout": 0.0}  # noqa: RUF012
    variants = (
        {"pooling": "mean"},
        {"pooling": "last_layers", "pooled_layers": 2},
        {"pooling": "pooler"},
        {"num_layers": 1},
        {"architecture": TINY | {"family": "albert", "shared_layers": 1, "embedding_dim": 4}},
    )
    dropping = {"dropout": 0.5, "word_dropout": 0.4, "body_dropout": 0.3}  # noqa: RUF012

    def oracle(self, weights, words, pooling="first", architecture=TINY, **variant):
        weights, wide = list(weights), 6
        pooler = [weights.pop(), weights.pop()] if pooling == "pooler" else []
        taken = weights.pop(0), weights.pop(0)
        x = normed(words + weights.pop(0)[: len(words)], *taken, 1e-12)
        if architecture["family"] == "albert":
            x = x @ weights.pop(0) + weights.pop(0)
        layers = [weights[i : i + 12] for i in range(0, len(weights), 12)]
        states = [x]
        for number in range(variant.get("num_layers", 2)):
            w = layers[number % len(layers)]
            x = states[-1]
            parts = np.split(x @ w[0] + w[1], 3, axis=1)
            x = normed(x + attention(*parts, 2) @ w[2] + w[3], w[4], w[5], 1e-12)
            inner = gelu(x @ w[6] + w[7])
            states.append(normed(x + inner @ w[8] + w[9], w[10], w[11], 1e-12))
        count = 2 if pooling == "last_layers" else 1
        if not len(words):
            return np.zeros(wide * count)
        if pooling == "mean":
            return states[-1].mean(axis=0)
        if pooler:
            return np.tanh(states[-1][0] @ pooler[1] + pooler[0])
        return np.concatenate([state[0] for state in states[-count:]])

    def test_takes_tokens(self):
        assert self.make().input_kind == "tokens"
        assert self.make().data_dependent_arguments == (
            "vocabulary_size",
            "text_features",
            "architecture",
        )

    def test_gradients_equal_differences_of_the_formula(self):
        """Of both families' layers; ``test_equals_numpy`` has all that is made of their states."""
        for variant in ({}, self.variants[-1]):
            self.check_gradients(variant)

    @pytest.mark.slow
    def test_gradients_of_every_variant(self):
        super().test_gradients_equal_differences_of_the_formula()

    def test_starts(self):
        table = self.built(seed=1).embedding.numpy()
        assert 0.2 < np.std(table[1:]) < 0.4

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (
                {"pooling": "best"},
                "pooling: must be one of first, mean, last_layers, pooler, not 'best'",
            ),
            (
                {"num_layers": 3},
                "num_layers: is 3, but the model has only 2 layers",
            ),
            (
                {"num_layers": 0},
                "num_layers: must be an integer of at least 1, not 0",
            ),
            (
                {"pooling": "last_layers"},
                "pooled_layers: is 4, but there are only 2 layers",
            ),
            ({"pooled_layers": 0}, "pooled_layers: must be .*integer of at least 1, not 0"),
        ],
    )
    def test_wrong_arguments(self, wrong, message):
        with pytest.raises(ValueError, match=message):
            self.make(**wrong)

    def test_hidden_states(self):
        encoder, ids = self.built(), self.features()
        states = encoder.hidden_states(encoder.embed(ids), ids != 0)
        assert [state.shape for state in states] == [(6, 7, 6)] * 3
        assert_close(states[-1][:3, 0], encoder(ids)[:3])

    def test_not_trainable(self):
        encoder = self.built(trainable=False)
        assert encoder.trainable_weights == [] and len(encoder.weights) == 28
        assert encoder.get_config()["trainable"] is False


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hidden_act": "gelu_new", "layer_norm_eps": 0.1},
        {"prefix": "bert."},
        {"model_type": "electra", "prefix": "electra."},
        {"model_type": "roberta", "pad_token_id": 1, "prefix": "roberta."},
        {"model_type": "xlm-roberta", "pad_token_id": 1},
    ],
    ids=["bert", "approximate", "prefix", "electra", "roberta", "xlm-roberta"],
)
def test_weights_of_a_folder(tmp_path, changes):
    arrays = write_folder(tmp_path / "model", **changes)
    config = CONFIG | changes
    padding = config["pad_token_id"]
    encoder = Pretrained(len(PIECES), str(tmp_path / "model"), pooling="last_layers",
                         pooled_layers=2)  # fmt: skip
    found = encoder(tf.constant(IDS))
    states = encoder.hidden_states(encoder.embed(tf.constant(IDS)), tf.constant(IDS) != 0)
    for row, ids in enumerate(IDS):
        theirs = [i for i in ids if i]
        first = padding + 1 if "roberta" in config["model_type"] else 0
        expected = bert_states(arrays, config, theirs, first)
        for ours, state in zip(states, expected, strict=True):
            np.testing.assert_allclose(ours[row, : len(theirs)], state, rtol=1e-4, atol=1e-5)
        joined = np.concatenate([state[0] for state in expected[-2:]])
        np.testing.assert_allclose(found[row], joined, rtol=1e-4, atol=1e-5)
    table = encoder.embedding.numpy()
    assert table.shape == (len(PIECES), 16) and not table[0].any()
    if padding:
        words = arrays["embeddings.word_embeddings.weight"]
        np.testing.assert_array_equal(table[padding], words[0])


def test_weights_in_several_files(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy", reason="the extra hub is not installed")
    arrays = write_folder(tmp_path / "model")
    whole = Pretrained(len(PIECES), tmp_path / "model")(tf.constant(IDS))
    (tmp_path / "model" / "model.safetensors").unlink()
    names, index = sorted(arrays), {}
    for part, some in enumerate((names[:9], names[9:])):
        file = f"model-{part}.safetensors"
        numpy.save_file({name: arrays[name] for name in some}, tmp_path / "model" / file)
        index |= dict.fromkeys(some, file)
    path = tmp_path / "model" / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": index}))
    assert_close(Pretrained(len(PIECES), tmp_path / "model")(tf.constant(IDS)), whole)
    (tmp_path / "model" / "model-1.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"the file model-1\.safetensors is missing"):
        Pretrained(len(PIECES), tmp_path / "model")
    for wrong in ([1], {}, {"a": 3}, {"a": ["x"]}, {"a": "../../x"}, {"a": "/etc/hostname"}):
        path.write_text(json.dumps({"weight_map": wrong}))
        with pytest.raises(
            ConfigError, match=r"safetensors\.index\.json: weight_map does not name"
        ):
            Pretrained(len(PIECES), tmp_path / "model")


def test_weights_of_pytorch(tmp_path):
    """``pytorch_model.bin`` holds the same as ``model.safetensors``, the pooler included."""
    arrays = write_folder(tmp_path / "model", prefix="bert.")
    pooler = {"pooler.dense.weight": np.random.default_rng(1).standard_normal((16, 16))}
    pooler["pooler.dense.bias"] = np.random.default_rng(2).standard_normal(16)
    expected = Pretrained(len(PIECES), tmp_path / "model")(tf.constant(IDS))
    expected = np.tanh(expected @ pooler["pooler.dense.weight"].T + pooler["pooler.dense.bias"])
    (tmp_path / "model" / "model.safetensors").unlink()
    written = {f"bert.{name}": np.float32(values) for name, values in {**arrays, **pooler}.items()}
    torch_files.save(tmp_path / "model" / "pytorch_model.bin", written)
    found = Pretrained(len(PIECES), tmp_path / "model", pooling="pooler")(tf.constant(IDS))
    assert_close(found, expected)
    names, index = sorted(written), {}
    for part, some in enumerate((names[:9], names[9:])):
        file = f"pytorch_model-{part}.bin"
        torch_files.save(tmp_path / "model" / file, {name: written[name] for name in some})
        index |= dict.fromkeys(some, file)
    (tmp_path / "model" / "pytorch_model.bin").unlink()
    path = tmp_path / "model" / "pytorch_model.bin.index.json"
    path.write_text(json.dumps({"weight_map": index}))
    found = Pretrained(len(PIECES), tmp_path / "model", pooling="pooler")(tf.constant(IDS))
    assert_close(found, expected)


def test_a_pooler_that_the_folder_lacks_starts_at_random(tmp_path, caplog):
    """As with ``transformers``: the folders of RoBERTa have none."""
    write_folder(tmp_path / "model", prefix="bert.")
    first = Pretrained(len(PIECES), tmp_path / "model")(tf.constant(IDS)).numpy()
    encoder = Pretrained(len(PIECES), tmp_path / "model", pooling="pooler")
    found = encoder(tf.constant(IDS)).numpy()
    assert f"{tmp_path / 'model'} has no pooler" in caplog.text
    kernel = encoder.pooler["pooler_kernel"].numpy()
    assert 0 < kernel.std() < 0.1 and not encoder.pooler["pooler_bias"].numpy().any()
    assert_close(found, np.tanh(first @ kernel))


def test_a_family_without_a_pooler(tmp_path):
    write_folder(tmp_path / "model", model_type="electra", prefix="electra.")
    with pytest.raises(ConfigError, match="a model of type electra has no pooler"):
        Pretrained(len(PIECES), tmp_path / "model", pooling="pooler")


@pytest.mark.golden
def test_embeddings_of_pecos(golden_folder, tmp_path):
    """The encoder of an XR-Transformer that PECOS has trained encodes as PECOS does."""
    pecos = golden_folder / "pecos_xtransformer"
    for name in ("text_encoder", "text_tokenizer"):
        for file in (pecos / "model" / "text_encoder" / name).iterdir():
            shutil.copy(file, tmp_path)
    texts = (pecos / "X.tst.txt").read_text(encoding="utf-8").splitlines()
    features = PretrainedTokens(str(tmp_path), max_length=24).fit([texts])
    rows = features.transform(texts)
    ids = np.zeros((len(texts), 24), np.int32)
    for row, (begin, end) in enumerate(itertools.pairwise(rows.indptr)):
        ids[row, : end - begin] = rows.tokens[begin:end]
    encoder = Pretrained(features.num_features, str(tmp_path), pooling="pooler")
    found = encoder(tf.constant(ids)).numpy()
    expected = np.load(pecos / "embeddings.npy")
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_longer_than_any_text(tmp_path):
    """A batch is filled up to a multiple of 8 whatever the model's positions."""
    write_folder(tmp_path / "model", max_position_embeddings=5)
    encoder = Pretrained(len(PIECES), tmp_path / "model")
    filled = tf.pad(tf.constant(IDS), [[0, 0], [0, 3]])
    assert_close(encoder(filled), encoder(tf.constant(IDS)))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt"])
def test_a_missing_file(tmp_path, name):
    write_folder(tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    settings = {"name": "pretrained", "checksum": "x", "max_length": 8}
    with pytest.raises(ConfigError, match=rf"{name}.* (missing|neither)"):
        Pretrained(len(PIECES), tmp_path / "model", text_features=settings)


def changed(**changes):
    def change(folder):
        write_folder(folder, **changes)

    return change


def without(name):
    def change(folder):
        config = {key: value for key, value in CONFIG.items() if key != name}
        (folder / "config.json").write_text(json.dumps(config))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(model_type="gpt2"), "cannot load a model of model_type 'gpt2'.*bert, .*xlnet"),
        (changed(hidden_act="mish"), "activation must be one of gelu, .*, not 'mish'"),
        (changed(num_attention_heads=3), "hidden size 16 is not a multiple of the 3 heads"),
        (changed(position_embedding_type="relative_key"), "only networks with 'absolute' can"),
        (changed(model_type="deberta-v2"), "the model lacks relative_attention: of DeBERTa"),
        (without("hidden_size"), "the key 'hidden_size' is missing"),
        (lambda folder: (folder / "config.json").write_text("{"), r"config\.json: damaged"),
        (lambda folder: (folder / "model.safetensors").write_text("version https"), "safetensors"),
        (changed(prefix="other."), "the weights lack .*, so they are not of model_type bert"),
    ],
    ids=["type", "activation", "heads", "positions", "deberta", "size", "json", "file", "names"],
)
def test_a_wrong_folder(tmp_path, change, message):
    write_folder(tmp_path / "model")
    change(tmp_path / "model")
    with pytest.raises(ConfigError, match=message):
        Pretrained(len(PIECES), tmp_path / "model")(tf.constant(IDS))


def test_weights_of_another_shape(tmp_path):
    write_folder(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text(json.dumps(CONFIG | {"intermediate_size": 20}))
    with pytest.raises(ConfigError, match=r"in_kernel has shape .* instead of \(16, 20\)"):
        Pretrained(len(PIECES), tmp_path / "model")(tf.constant(IDS))


def test_no_folder(tmp_path):
    with pytest.raises(ConfigError, match="'pretrained' has no folder of a model"):
        Pretrained(9)
    with pytest.raises(ConfigError, match=r"encoder\.folder: there is no folder .*absent"):
        Pretrained(9, str(tmp_path / "absent"))


def test_without_safetensors(tmp_path, monkeypatch):
    write_folder(tmp_path / "model")
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    with pytest.raises(ConfigError, match=r"the package safetensors is not installed.*pip install"):
        Pretrained(len(PIECES), tmp_path / "model")(tf.constant(IDS))


def test_texts_that_do_not_fit(tmp_path):
    write_folder(tmp_path / "model")
    write_folder(tmp_path / "other", pieces=[*PIECES[:-1], "x"])
    folder = tmp_path / "model"
    own, other = (
        {"name": "pretrained", **PretrainedTokens(tmp_path / name, 24).fit([]).settings()}
        for name in ("model", "other")
    )
    Pretrained(len(PIECES), folder, text_features=own)
    with pytest.raises(ConfigError, match="the texts were tokenised with another"):
        Pretrained(len(PIECES), folder, text_features=other)
    with pytest.raises(ConfigError, match=r"name: must be 'pretrained' .*, not 'words'"):
        Pretrained(len(PIECES), folder, text_features={"name": "words", "max_length": 9})
    with pytest.raises(ConfigError, match="texts have 21 ids, but the model only 20"):
        Pretrained(21, folder)
    with pytest.raises(ConfigError, match="max_length: is 25, but the model has only 24"):
        Pretrained(len(PIECES), folder, text_features=own | {"max_length": 25})
