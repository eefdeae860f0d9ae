"""Static tables of pretrained models: against BERT by NumPy and scikit-learn."""

import json

import numpy as np
import pytest
from sklearn.decomposition import PCA

from tests.encoders.hub_folders import CONFIG, PIECES, bert_states, write_folder
from tfxc.commands import distill
from tfxc.core.errors import ConfigError
from tfxc.data.text.registry import build_text_features
from tfxc.data.text.static import zipf_weights
from tfxc.pretrained.static_tables import read_static_table

pytest.importorskip("tensorflow_text", reason="the extra hub is not installed")
pytest.importorskip("tokenizers", reason="tokenizers is not installed")


def unit(row):
    return row / np.linalg.norm(row)


def made(folder, *options):
    assert (
        distill.main([str(folder), "--to", "static", "--output", f"{folder}-table", *options]) == 0
    )
    return read_static_table(f"{folder}-table", 1, "here")


def test_principal_components_of_the_tokens_vectors(tmp_path, capsys):
    arrays = write_folder(tmp_path / "model")
    table = made(tmp_path / "model", "--dim", "3")
    assert "model-table: 3 values for each of 18 tokens" in capsys.readouterr().out
    means = np.array(
        [bert_states(arrays, CONFIG, [2, token, 3])[-1].mean(0) for token in range(len(PIECES))]
    )
    means[0] = means[1:].mean(0)  # padding
    expected = PCA(3, svd_solver="full").fit_transform(means) * zipf_weights(len(PIECES))[:, None]
    found = table.vectors.astype(np.float64)
    found *= np.abs(expected).max() / np.abs(found).max()
    signs = np.sign((found * expected).sum(0))  # each axis may point either way
    np.testing.assert_allclose(found * signs, expected, rtol=1e-3, atol=1e-8)
    rows = build_text_features({"name": "static", "table": str(tmp_path / "model-table")})
    row = rows.fit([[]]).transform(["the Fox, unknown zebras!"]).toarray()[0]
    used = [PIECES.index(piece) for piece in ("fox", "un", "##known", "!")]  # the rest is unknown
    np.testing.assert_allclose(row, found[used].sum(0) / np.linalg.norm(found[used].sum(0)), 1e-4)


def test_rows_follow_the_ids_of_a_tokenizer_json(tmp_path):
    """Where padding is not the first piece, text features change its place."""
    pieces = [*PIECES[1:], "[PAD]"]
    arrays = write_folder(tmp_path / "model", pieces=pieces, pad_token_id=len(pieces) - 1)
    plain = made(tmp_path / "model", "--dim", "2")
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    content = {**plain.tokenizer, "model": {**plain.tokenizer["model"], "vocab": vocabulary}}
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(content))
    named = made(tmp_path / "model", "--dim", "2")
    assert plain.tokenizer["model"]["vocab"]["[PAD]"] == 0
    assert named.tokenizer["model"]["vocab"]["[PAD]"] == len(pieces) - 1
    weights = zipf_weights(len(pieces))
    at = {kind: table.tokenizer["model"]["vocab"] for kind, table in (("p", plain), ("n", named))}
    for piece in ("fox", "hen", "[UNK]"):
        rows = [table.vectors[at[kind][piece]] / weights[at[kind][piece]]
                for kind, table in (("p", plain), ("n", named))]  # fmt: skip
        np.testing.assert_allclose(np.abs(unit(rows[0])), np.abs(unit(rows[1])), atol=2e-3)
    assert len(arrays["embeddings.word_embeddings.weight"]) >= len(pieces)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "a student needs both"),
        (["--config", "x.json"], "--teacher: a student needs both"),
        (["models/x"], "this belongs to --to static"),
        (["--to", "static"], "FOLDER: a static table needs"),
        (["models/x", "--to", "static"], "--output: a static table needs"),
        (["x", "--to", "static", "--teacher", "r"], "--teacher: this does not belong"),
    ],
)
def test_options_that_do_not_fit(arguments, problem):
    with pytest.raises(ConfigError, match=problem):
        distill.main(arguments)
