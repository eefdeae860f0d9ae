"""A project of text_classifier_torch: its config, vocabulary and networks, by NumPy alone."""

import json

import numpy as np

from tests import torch_files

CLASSES = ["bad", "good", "so, so"]
TOKENS = ["a", "b", "c", "D", "好"]
UNKNOWN = len(TOKENS) + 1
LENGTH = 8
TEXTS = ["abcD好aabbcc", "ab", "", "a  b ", "AcD", "好\u3000好!", "\tab\n"]
EMBEDDING, HIDDEN, FILTERS = 6, 4, 3


def settings_of(model_type, **changes):
    """``train_configure`` of a small network."""
    return {
        "train_file": "train.csv",
        "val_file": "",
        "token_level": "char",
        "token_file": "token2id",
        "classes": CLASSES,
        "checkpoints_dir": "checkpoints",
        "max_sequence_length": LENGTH,
        "dropout_rate": 0.5,
        "s_model_type": model_type,
        "s_model_name": "model.bin",
        "embedding_dim": EMBEDDING,
        "hidden_dim": HIDDEN,
        "num_filters": FILTERS,
        **changes,
    }


def write_project(folder, model_type, **changes):
    """``config.py`` and the vocabulary, which ends with its two special tokens."""
    settings = settings_of(model_type, **changes)
    lines = ["# -*- coding: utf-8 -*-", '"""The config."""', "stage = 'train_small_model'"]
    lines += ["use_cuda = True", f"train_configure = {settings!r}"]
    (folder / "config.py").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = [*enumerate(TOKENS, 1), (0, "[PAD]"), (UNKNOWN, "[UNK]")]
    text = "".join(f"{token}\t{number}\n" for number, token in rows)
    (folder / "token2id").write_text(text, encoding="utf-8")
    (folder / "checkpoints").mkdir(exist_ok=True)
    return folder / "config.py"


def random_tensors(model_type, attention=False, seed=0):
    """A state dict with the names and shapes of a network."""
    shapes = {"word_embeddings.weight": (len(TOKENS) + 3, EMBEDDING)}
    width = {"FastText": HIDDEN, "TextCNN": 3 * FILTERS, "TextRNN": 2 * HIDDEN}
    width = width.get(model_type, EMBEDDING + 2 * HIDDEN)
    if model_type == "FastText":
        shapes |= {"fc1.weight": (HIDDEN, EMBEDDING), "fc1.bias": (HIDDEN,)}
    elif model_type == "TextCNN":
        for number in (1, 2, 3):
            shapes[f"conv{number}.weight"] = (FILTERS, 1, number + 1, EMBEDDING)
            shapes[f"conv{number}.bias"] = (FILTERS,)
    else:
        for end in ("", "_reverse"):
            shapes[f"rnn.weight_ih_l0{end}"] = (4 * HIDDEN, EMBEDDING)
            shapes[f"rnn.weight_hh_l0{end}"] = (4 * HIDDEN, HIDDEN)
            shapes |= {f"rnn.bias_{kind}_l0{end}": (4 * HIDDEN,) for kind in ("ih", "hh")}
    if attention:
        shapes |= {"W_w": (2 * HIDDEN, 2 * HIDDEN), "u_w": (2 * HIDDEN, 1)}
    last = "fc2" if model_type == "FastText" else "fc"
    shapes |= {f"{last}.weight": (len(CLASSES), width), f"{last}.bias": (len(CLASSES),)}
    random = np.random.default_rng(seed)
    tensors = {name: random.normal(size=shape).astype("f4") for name, shape in shapes.items()}
    tensors["word_embeddings.weight"][0] = 0
    return tensors


def write_checkpoint(path, tensors):
    """A state dict as a file."""
    torch_files.save(path, tensors)
    return path


def scores_by_numpy(model_type, tensors, text, unknown=UNKNOWN, attention=False):
    """What the original network scores, padding and all, float64 (classes,)."""
    known = {token: number for number, token in enumerate(TOKENS, 1)}
    ids = [known.get(character, unknown) for character in text][:LENGTH]
    ids += [0] * (LENGTH - len(ids))
    t = {name: values.astype(float) for name, values in tensors.items()}
    x = t["word_embeddings.weight"][ids]
    if model_type == "FastText":
        hidden = np.maximum(x.mean(axis=0) @ t["fc1.weight"].T + t["fc1.bias"], 0)
        return hidden @ t["fc2.weight"].T + t["fc2.bias"]
    if model_type == "TextCNN":
        parts = []
        for number in (1, 2, 3):
            filters, bias = t[f"conv{number}.weight"][:, 0], t[f"conv{number}.bias"]
            windows = [x[place : place + number + 1] for place in range(LENGTH - number)]
            found = np.einsum("pwe,fwe->pf", np.array(windows), filters) + bias
            parts.append(np.maximum(found, 0).max(axis=0))
        vector = np.concatenate(parts)
    else:
        states = np.concatenate([_lstm(x, t, ""), _lstm(x[::-1], t, "_reverse")[::-1]], axis=1)
        if model_type == "TextRCNN":
            vector = np.concatenate([x, states], axis=1).max(axis=0)
        else:
            if attention:
                scores = np.tanh(states @ t["W_w"]) @ t["u_w"]
                states = states * (np.exp(scores) / np.exp(scores).sum())
            vector = states.sum(axis=0)
    return vector @ t["fc.weight"].T + t["fc.bias"]


def _lstm(x, t, end):
    state, cell, states = np.zeros(HIDDEN), np.zeros(HIDDEN), []
    for row in x:
        gates = row @ t[f"rnn.weight_ih_l0{end}"].T + t[f"rnn.bias_ih_l0{end}"]
        gates = gates + state @ t[f"rnn.weight_hh_l0{end}"].T + t[f"rnn.bias_hh_l0{end}"]
        enter, keep, entry, out = np.split(gates, 4)
        cell = _sigmoid(keep) * cell + _sigmoid(enter) * np.tanh(entry)
        state = _sigmoid(out) * np.tanh(cell)
        states.append(state)
    return np.array(states)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def tree_of(path):
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
