"""Presets of keras-hub: the same vectors as its own networks give."""

import numpy as np
import pytest
import tensorflow as tf

from tests.encoders.hub_folders import PIECES
from tfxc.core.errors import ConfigError
from tfxc.data.text.subwords import PretrainedTokens
from tfxc.encoders.pretrained.encoder import Pretrained
from tfxc.pretrained.sentencepiece import model_of_pieces

pytest.importorskip("tensorflow_text", reason="the extra hub is not installed")
pytest.importorskip("safetensors", reason="the extra hub is not installed")

SIZES = {
    "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 24, "dropout": 0.1,
    "max_sequence_length": 20,
}  # fmt: skip
CLASSES = {
    "bert": ("Bert", {}), "distilbert": ("DistilBert", {}), "roberta": ("Roberta", {}),
    "electra": ("Electra", {"embedding_dim": 8}), "xlm-roberta": ("XLMRoberta", {}),
    "albert": ("Albert", {"embedding_dim": 8}), "deberta-v2": ("DebertaV3", {"bucket_size": 4}),
}  # fmt: skip
FAST = ["bert", "deberta-v2"]
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in CLASSES if name not in FAST]


@pytest.fixture
def keras_hub(tmp_path, monkeypatch):
    """keras-hub, and a cache of one's own."""
    monkeypatch.setenv("TFXC_CACHE", str(tmp_path / "cache"))
    return pytest.importorskip("keras_hub", reason="the extra hub is not installed")


def sentence_pieces(special, unknown):
    pieces = [*special, "▁", "▁fox", "o", "x", "f", "[MASK]"]
    content = {
        "added_tokens": [{"content": name} for name in (*special, "[MASK]")],
        "normalizer": {"precompiled_charsmap": ""},
        "model": {"vocab": [[p, -float(i)] for i, p in enumerate(pieces)], "unk_id": unknown},
    }
    return model_of_pieces(content, "here")


def tokens_of(keras_hub, family, name):
    cls = getattr(keras_hub.tokenizers, f"{name}Tokenizer")
    if family in ("bert", "distilbert", "electra"):
        return cls(vocabulary=PIECES, lowercase=True)
    if family == "roberta":
        from tfxc.ops.text.subwords_bpe import byte_letters

        pieces = ["<s>", "<pad>", "</s>", "<unk>", *byte_letters(), "fo", "fox", "<mask>"]
        vocabulary = {piece: number for number, piece in enumerate(pieces)}
        return cls(vocabulary=vocabulary, merges=["f o", "fo x"])
    special = {
        "xlm-roberta": (["<unk>", "<s>", "</s>"], 0),
        "albert": (["<pad>", "<unk>", "[CLS]", "[SEP]"], 1),
        "deberta-v2": (["[PAD]", "[CLS]", "[SEP]", "[UNK]"], 3),
    }
    return cls(proto=sentence_pieces(*special[family]))


@pytest.mark.parametrize("family", [*FAST, *SLOW])
def test_equals_keras_hub(tmp_path, keras_hub, family):
    name, more = CLASSES[family]
    made = tokens_of(keras_hub, family, name)
    size = {"vocab_size" if family == "electra" else "vocabulary_size": 300}
    body = getattr(keras_hub.models, f"{name}Backbone")(**size, **SIZES, **more)
    rng = np.random.default_rng(0)
    body.set_weights([w + rng.normal(0, 0.3, w.shape) for w in body.get_weights()])
    body.save_to_preset(str(tmp_path / "preset"))
    made.save_to_preset(str(tmp_path / "preset"))

    folder = f"keras_hub:{tmp_path / 'preset'}"
    tokens = PretrainedTokens(folder, max_length=16).fit([])
    ids = tokens.transform(["fox", "", "xof foxfox"])
    padding = tokens.subwords.settings["padding"]
    batch = tf.RaggedTensor.from_row_splits(ids.tokens, ids.indptr).to_tensor(0).numpy()
    settings = {"name": "pretrained", **tokens.settings()}
    encoder = Pretrained(tokens.num_features, folder, text_features=settings)
    found = encoder(tf.constant(batch)).numpy()

    theirs = np.where(batch == 0, padding, np.where(batch == padding, 0, batch))
    inputs = {"token_ids": theirs, "padding_mask": (batch != 0).astype("int32")}
    if family in ("bert", "albert", "electra"):
        inputs["segment_ids"] = np.zeros_like(theirs)
    expected = body(inputs)
    expected = expected["sequence_output"] if isinstance(expected, dict) else expected
    np.testing.assert_allclose(found, expected[:, 0], rtol=1e-4, atol=1e-4)


def test_a_wrong_preset(tmp_path, keras_hub, monkeypatch):
    with pytest.raises(ConfigError, match=r"text_features\.folder: keras-hub cannot load the pre"):
        PretrainedTokens("keras_hub:no_such_preset").fit([])
    monkeypatch.setitem(__import__("sys").modules, "keras_hub", None)
    with pytest.raises(ConfigError, match=r"the package keras_hub is not installed.*pip install"):
        Pretrained(9, "keras_hub:bert_tiny_en_uncased")
