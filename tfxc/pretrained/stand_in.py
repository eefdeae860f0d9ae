"""Folders that stand in for pretrained models that are not here: their shape, random weights."""

import itertools
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfxc.core.errors import ConfigError, missing_package
from tfxc.core.storage.files import write_json
from tfxc.core.storage.ownership import atomic_folder
from tfxc.pretrained.weight_names import WORDS, layer_prefix, layer_weight_names

_BERT = {
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "pad_token_id": 0,
}
# config.json of the published models, as far as it says what a network looks like.
_MODELS: dict[str, dict[str, Any]] = {
    "bert-base-uncased": _BERT,
    "roberta-base": {
        **_BERT,
        "model_type": "roberta",
        "vocab_size": 50265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "pad_token_id": 1,
        "layer_norm_eps": 1e-5,
    },
    "xlnet-base-cased": {
        "model_type": "xlnet",
        "vocab_size": 32000,
        "d_model": 768,
        "n_layer": 12,
        "n_head": 12,
        "d_inner": 3072,
        "ff_activation": "gelu",
        "dropout": 0.1,
        "pad_token_id": 5,
    },
    "minilm": {**_BERT, "hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536},
}
_WIDTHS = ("hidden_size", "intermediate_size", "d_model", "d_inner")
_NARROW = 16  # how many times narrower a small one is
_SMALL_VOCABULARY = 1000
_STD = 0.02
_LETTERS = string.ascii_lowercase + string.digits
_BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
_XLNET_SPECIAL = ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>"]


def check_model(name: str, where: str) -> None:
    """Refuses the name of a model that nothing stands in for.

    Raises:
        ConfigError: with the known names.
    """
    if name not in _MODELS:
        raise ConfigError(
            f"there is no folder {name!r}, and there is no stand-in for a model of that name",
            where=where,
            fix=f"put the model there, or choose one of {', '.join(_MODELS)}",
        )


def write_stand_in(folder: Path, name: str, *, small: bool, syllables: list[str]) -> None:
    """Writes a folder as that of a pretrained model, with random weights.

    Args:
        folder: the folder to make.
        name: of the model, see ``check_model``.
        small: whether layers are 16 times narrower than the published ones, and the vocabulary has
            1,000 pieces. There are as many layers and heads.
        syllables: what words consist of, two letters each; all of them are pieces, and of two each
            as many as the vocabulary has room for.

    Raises:
        ConfigError: the extra ``hub`` is not installed.
    """
    with missing_package("hub", where="encoder"):
        import safetensors.numpy
    config = dict(_MODELS[name])
    if small:
        config |= {key: config[key] // _NARROW for key in _WIDTHS if key in config}
        config["vocab_size"] = _SMALL_VOCABULARY
    with atomic_folder(folder, "pretrained model") as scratch:
        write_json(scratch / "config.json", config)
        _TOKENISERS[config["model_type"]](scratch, config["vocab_size"], syllables)
        random = np.random.default_rng(0)
        arrays = {name: _values(name, shape, random) for name, shape in _shapes(config)}
        safetensors.numpy.save_file(arrays, scratch / "model.safetensors")


def _values(name: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Returns values of an untrained network: scales of norms 1, biases 0, the rest normal."""
    if name.endswith("bias"):
        return np.zeros(shape, np.float32)
    if "norm.weight" in name.lower():
        return np.ones(shape, np.float32)
    return random.standard_normal(shape, np.float32) * np.float32(_STD)


def _shapes(config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields names and shapes of all weights that are read."""
    family = config["model_type"]
    xlnet = family == "xlnet"
    wide = config["d_model" if xlnet else "hidden_size"]
    inner = config["d_inner" if xlnet else "intermediate_size"]
    layers = config["n_layer" if xlnet else "num_hidden_layers"]
    if xlnet:
        yield "word_embedding.weight", (config["vocab_size"], wide)
    else:
        yield WORDS, (config["vocab_size"], wide)
        yield "embeddings.position_embeddings.weight", (config["max_position_embeddings"], wide)
        yield "embeddings.token_type_embeddings.weight", (config["type_vocab_size"], wide)
        yield from _linear("embeddings.LayerNorm", (wide,))
        yield from _linear("pooler.dense", (wide, wide))
    shapes = {"feed_forward_in": (inner, wide), "feed_forward_out": (wide, inner)}
    for number in range(layers):
        start = layer_prefix(family, number)
        if xlnet:
            heads = config["n_head"]
            for letter in "qkvor":
                yield f"{start}rel_attn.{letter}", (wide, heads, wide // heads)
            for bias in ("r_w_bias", "r_r_bias"):
                yield f"{start}rel_attn.{bias}", (heads, wide // heads)
        for part, names in layer_weight_names(family).items():
            shape = (wide,) if part.endswith("norm") else shapes.get(part, (wide, wide))
            for name in names:
                yield from _linear(start + name, shape)


def _linear(name: str, shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _words(syllables: list[str]) -> Iterator[str]:
    """Returns the words of two syllables in the order of their numbers."""
    return map("".join, itertools.product(syllables, repeat=2))


def _write_word_pieces(folder: Path, size: int, syllables: list[str]) -> None:
    starts = [*_LETTERS, *syllables]
    pieces = [*_BERT_SPECIAL, *starts, *(f"##{piece}" for piece in starts)]
    pieces += itertools.islice(_words(syllables), size - len(pieces))
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")


def _write_byte_pairs(folder: Path, size: int, syllables: list[str]) -> None:
    from tfxc.ops.text.subwords_bpe import byte_letters

    letters = byte_letters()
    pieces = [*_ROBERTA_SPECIAL, *letters]
    merges = [f"{syllable[0]} {syllable[1]}" for syllable in syllables]
    room = (size - len(pieces) - len(merges)) // 2
    pairs = list(itertools.islice(itertools.product(syllables, repeat=2), room))
    merges += [f"{left} {right}" for left, right in pairs]
    merges += [f"{letters[32]} {left}{right}" for left, right in pairs]  # with a space before it
    pieces += [merge.replace(" ", "") for merge in merges]
    write_json(folder / "vocab.json", {piece: number for number, piece in enumerate(pieces)})
    lines = ["#version: 0.2", *merges]
    (folder / "merges.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _write_unigrams(folder: Path, size: int, syllables: list[str]) -> None:
    pieces = [*_XLNET_SPECIAL, "\u2581", *_LETTERS, *syllables]
    words = (f"\u2581{word}" for word in _words(syllables))
    pieces += itertools.islice(words, size - len(pieces))
    scores = [[piece, -float(len(pieces) - n)] for n, piece in enumerate(pieces)]
    model = {"type": "Unigram", "unk_id": 0, "vocab": scores}
    special = [{"content": piece, "id": n} for n, piece in enumerate(_XLNET_SPECIAL)]
    normalizer = {"type": "Precompiled", "precompiled_charsmap": ""}
    content = {"added_tokens": special, "normalizer": normalizer, "model": model}
    write_json(folder / "tokenizer.json", content)


_TOKENISERS = {"bert": _write_word_pieces, "roberta": _write_byte_pairs, "xlnet": _write_unigrams}
