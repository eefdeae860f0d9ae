"""Small static tables as their programs write them."""

import json

import numpy as np
import pytest

WORDS = ["the", "red", "fox", "hen", "café", "हिन्दी"]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "fox", "hen", "un", "##s", "##known", "!"]


def vectors(count, dim=4):
    """Numbers that float16 holds."""
    return np.random.default_rng(0).integers(-32, 33, (count, dim)).astype(np.float32) / 16


def word_file(path, words=WORDS):
    """Writes the text format of word2vec."""
    table = vectors(len(words))
    lines = [f"{len(words)} {table.shape[1]}"]
    lines += [f"{word} {' '.join(map(str, row))}" for word, row in zip(words, table, strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def binary_file(path, words=WORDS):
    """Writes the binary format of word2vec, with a line break after each vector."""
    table = vectors(len(words))
    parts = [f"{len(words)} {table.shape[1]}\n".encode()]
    for word, row in zip(words, table, strict=True):
        parts += [word.encode(), b" ", row.astype("<f4").tobytes(), b"\n"]
    path.write_bytes(b"".join(parts))
    return path


def word_pieces():
    """A tokenizer.json as BERT has it."""
    return {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst",
                       "stride": 0},
        "padding": None,
        "added_tokens": [{"id": 3, "content": "[SEP]", "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False, "special": True}],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100,
                  "vocab": {piece: number for number, piece in enumerate(PIECES)}},
    }  # fmt: skip


def byte_pairs():
    """A tokenizer.json as Llama has it: merged pieces in order, single characters last."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    merged = ["▁▁", "en", "▁h", "▁hen", "ed", "▁red", "▁f", "ox", "▁fox", "ens"]
    pieces += [*merged, *"▁henrdfoxs"]
    pieces = list(dict.fromkeys(pieces))
    known = {piece: number for number, piece in enumerate(pieces)}
    merges = [
        [piece[:cut], piece[cut:]]
        for piece in merged
        for cut in range(1, len(piece))
        if piece[:cut] in known and piece[cut:] in known
    ]
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
               "special": True}  # fmt: skip
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": pieces[i], **special} for i in range(3)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "fuse_unk": True,
                  "byte_fallback": True, "ignore_merges": False, "vocab": known,
                  "merges": merges},
    }  # fmt: skip


def folder_of(path, tokenizer, **tensors):
    """Writes a folder as Model2Vec has it."""
    numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    path.mkdir()
    tensors = {"embeddings": vectors(len(tokenizer["model"]["vocab"])), **tensors}
    numpy.save_file(tensors, path / "model.safetensors")
    (path / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (path / "config.json").write_text(json.dumps({"normalize": True, "model_type": "model2vec"}))
    return path


def make_table(folder, name):
    """Writes a table of that kind; returns its path as a config has it."""
    make = {
        "words": lambda: word_file(folder / "x.vec"),
        "binary": lambda: binary_file(folder / "x.bin"),
        "word pieces": lambda: folder_of(folder / "pieces", word_pieces()),
        "byte pairs": lambda: folder_of(folder / "pairs", byte_pairs()),
    }
    return str(make[name]())


KINDS = ["words", "binary", "word pieces", "byte pairs"]
