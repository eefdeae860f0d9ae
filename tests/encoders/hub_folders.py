"""Tiny folders of pretrained models with random weights, and BERT by NumPy."""

import json
import math

import numpy as np
import pytest

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "no", "but", "fox", "hen", "owl"]
PIECES += ["cat", "un", "##s", "##known", "red", "!", "日"]
CONFIG = {
    "model_type": "bert",
    "vocab_size": len(PIECES) + 2,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-3,
    "max_position_embeddings": 24,
    "type_vocab_size": 2,
    "pad_token_id": 0,
}
BERT = "attention.self.query attention.self.key attention.self.value attention.output.dense"


def write_folder(folder, *, prefix="", seed=0, pieces=PIECES, **changes):
    """Writes a folder of family BERT.

    Args:
        folder: made.
        prefix: in front of the weights' names.
        changes: of ``CONFIG``.

    Returns:
        dict of the arrays by their names without prefix.
    """
    numpy = pytest.importorskip("safetensors.numpy", reason="the extra hub is not installed")
    config = CONFIG | changes
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("".join(f"{p}\n" for p in pieces), encoding="utf-8")
    arrays = bert_arrays(config, seed)
    written = {prefix + name: values for name, values in arrays.items()}
    numpy.save_file(written, folder / "model.safetensors")
    return arrays


def bert_arrays(config, seed):
    """Random weights of BERT by their names."""
    rng = np.random.default_rng(seed)
    wide, inner = config["hidden_size"], config["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], wide),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], wide),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], wide),
        "embeddings.LayerNorm.weight": (wide,),
        "embeddings.LayerNorm.bias": (wide,),
    }
    for number in range(config["num_hidden_layers"]):
        start = f"encoder.layer.{number}."
        for name in BERT.split():
            shapes |= {f"{start}{name}.weight": (wide, wide), f"{start}{name}.bias": (wide,)}
        for name, shape in (("intermediate", (inner, wide)), ("output", (wide, inner))):
            shapes |= {f"{start}{name}.dense.weight": shape, f"{start}{name}.dense.bias": shape[:1]}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{start}{name}.weight": (wide,), f"{start}{name}.bias": (wide,)}
    return {
        name: rng.normal(0.8 if name.endswith("LayerNorm.weight") else 0, 0.3, shape).astype("f4")
        for name, shape in shapes.items()
    }


def bert_states(arrays, config, ids, first_position=0):
    """Hidden states of one text without padding, float64 (length, wide) each."""
    get = {name: values.astype(np.float64) for name, values in arrays.items()}
    places = first_position + np.arange(len(ids))
    x = get["embeddings.word_embeddings.weight"][ids]
    x = x + get["embeddings.position_embeddings.weight"][places]
    x = x + get["embeddings.token_type_embeddings.weight"][0]

    def linear(x, name):
        return x @ get[f"{name}.weight"].T + get[f"{name}.bias"]

    def norm(x, name):
        return normed(x, get[f"{name}.weight"], get[f"{name}.bias"], config["layer_norm_eps"])

    states = [norm(x, "embeddings.LayerNorm")]
    for number in range(config["num_hidden_layers"]):
        x, start = states[-1], f"encoder.layer.{number}."
        parts = [linear(x, start + name) for name in BERT.split()[:3]]
        mixed = attention(*parts, config["num_attention_heads"])
        added = linear(mixed, f"{start}attention.output.dense")
        x = norm(x + added, f"{start}attention.output.LayerNorm")
        inner = gelu(linear(x, f"{start}intermediate.dense"), config["hidden_act"])
        added = linear(inner, f"{start}output.dense")
        states.append(norm(x + added, f"{start}output.LayerNorm"))
    return states


def attention(query, key, value, num_heads):
    """Self-attention of one text, the heads one after the other."""
    parts = (np.split(matrix, num_heads, axis=1) for matrix in (query, key, value))
    found = []
    for q, k, v in zip(*parts, strict=True):
        scores = np.exp(q @ k.T / math.sqrt(q.shape[1]))
        found.append(scores / scores.sum(axis=1, keepdims=True) @ v)
    return np.concatenate(found, axis=1)


def normed(x, gamma, beta, epsilon):
    """Layer normalisation."""
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / np.sqrt(x.var(axis=1, keepdims=True) + epsilon) * gamma + beta


def gelu(x, name="gelu"):
    """The exact function, or its approximation by tanh (``"gelu_new"``)."""
    if name == "gelu_new":
        return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x / 2 * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2)))
