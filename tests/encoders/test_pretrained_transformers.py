"""Folders of every family, written by transformers, give the same ids and states here."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfxc.data.text.subwords import PretrainedTokens
from tfxc.encoders.pretrained.encoder import Pretrained

pytest.importorskip("tensorflow_text", reason="the extra hub is not installed")
pytest.importorskip("safetensors", reason="the extra hub is not installed")
pytestmark = pytest.mark.slow

FAMILIES = ["bert", "bert-cased", "distilbert", "electra", "roberta", "xlm-roberta", "albert"]
FAMILIES += ["deberta-v2", "xlnet"]
LENGTH = 40


@pytest.fixture(scope="module")
def write():
    """Function that runs the script next to this file; skips where there is no transformers."""
    python = os.environ.get("TFXC_TRANSFORMERS", sys.executable)
    needs = "import transformers, torch, sentencepiece, tokenizers, google.protobuf"
    if subprocess.run([python, "-c", needs], capture_output=True).returncode:
        pytest.skip(f"{python} has no transformers (TFXC_TRANSFORMERS names another Python)")
    script = Path(__file__).with_name("write_hub_folders.py")
    return lambda *arguments: subprocess.run([python, script, *arguments], check=True)


@pytest.fixture(scope="module")
def folders(write, tmp_path_factory):
    """The folder of all folders."""
    out = tmp_path_factory.mktemp("hub")
    write(out)
    return out


def swapped(ids, padding):
    """Ids in which padding and 0 have changed places."""
    return np.where(ids == 0, padding, np.where(ids == padding, 0, ids)).astype(np.int32)


@pytest.mark.parametrize("family", FAMILIES)
def test_ids(folders, family):
    reference = np.load(folders / family / "reference.npz")
    tokens = PretrainedTokens(folders / family, max_length=LENGTH).fit([])
    texts = json.loads((folders / "texts.json").read_text())
    rows = tokens.transform(texts)
    # The fast tokenisers of these two differ from the original ones.
    kinds = ("slow",) if family in ("albert", "xlnet") else ("slow", "fast")
    for kind in kinds:
        np.testing.assert_array_equal(np.diff(rows.indptr), reference[f"{kind}_lengths"])
        padding = tokens.subwords.settings["padding"]
        np.testing.assert_array_equal(rows.tokens, swapped(reference[f"{kind}_ids"], padding))


@pytest.mark.parametrize("family", FAMILIES)
def test_tokenizer_json_alone(folders, tmp_path, family):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folders / f"{family}-json" / name, tmp_path)
    shutil.copy(folders / family / "config.json", tmp_path)
    texts = json.loads((folders / "texts.json").read_text())
    expected = PretrainedTokens(folders / family, max_length=LENGTH).fit([]).transform(texts)
    found = PretrainedTokens(tmp_path, max_length=LENGTH).fit([]).transform(texts)
    np.testing.assert_array_equal(found.indptr, expected.indptr)
    np.testing.assert_array_equal(found.tokens, expected.tokens)


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states(folders, family):
    reference = np.load(folders / family / "reference.npz")
    tokens = PretrainedTokens(folders / family, max_length=LENGTH).fit([])
    ids = swapped(reference["ids"], tokens.subwords.settings["padding"])
    encoder = Pretrained(tokens.num_features, folders / family)
    vectors, mask = encoder(tf.constant(ids)).numpy(), ids != 0
    states = encoder.hidden_states(encoder.embed(ids), tf.constant(mask))
    assert len(states) == 4
    for number, state in enumerate(states):
        expected = reference[f"state_{number}"]
        np.testing.assert_allclose(state.numpy()[mask], expected[mask], atol=1e-4)
        assert np.abs(expected[mask]).max() > 0.5
    last = mask.sum(axis=1) - 1 if family == "xlnet" else 0
    first = reference["state_3"][np.arange(len(ids)), last]
    np.testing.assert_allclose(vectors, first, atol=1e-4)


def test_real_weights(write, tmp_path):
    """all-MiniLM-L6-v2, as a folder minilm in the folder TFXC_MODELS."""
    folder = Path(os.environ.get("TFXC_MODELS", "models")) / "minilm"
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing (TFXC_MODELS names the folder above)")
    write(tmp_path, folder.resolve())
    reference = np.load(tmp_path / "reference.npz")
    tokens = PretrainedTokens(folder, max_length=LENGTH).fit([])
    rows = tokens.transform(json.loads((tmp_path / "texts.json").read_text()))
    for kind in ("slow", "fast"):
        np.testing.assert_array_equal(rows.tokens, reference[f"{kind}_ids"])
    ids = reference["ids"].astype(np.int32)
    found = Pretrained(tokens.num_features, folder, pooling="mean")(tf.constant(ids))
    mask = (ids != 0)[:, :, None]
    expected = (reference["state_6"] * mask).sum(axis=1) / mask.sum(axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(expected).max() > 1
