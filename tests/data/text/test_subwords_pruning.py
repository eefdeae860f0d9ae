"""A pretrained model's vocabulary without its rare pieces."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.data.text.test_subwords import lists, word_pieces
from tests.encoders.hub_folders import PIECES, write_folder
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.examples.lists import pad_tokens
from tfxc.data.text.registry import build_text_features, load_text_features
from tfxc.encoders.pretrained.encoder import Pretrained
from tfxc.ops.text.subwords_bpe import byte_letters

pytest.importorskip("tensorflow_text", reason="the extra hub is not installed")

SEEN = [["a fox", "a fox but no hens"], ["no hen a red fox !"]]
NEW = ["a hen, no foxs", "owls but unknown red cat", "", "!!日 a no unknowns"]


def fitted(folder, **settings):
    section = {"name": "pretrained", "folder": str(folder), "max_length": 9, **settings}
    return build_text_features(section).fit(SEEN)


def again(features, folder):
    """The features, saved and loaded; they cut as before, in a graph as well."""
    features.save(folder)
    loaded = load_text_features(folder)
    rows = features.transform(NEW)
    assert lists(loaded.transform(NEW)) == lists(rows)
    assert loaded.settings() == features.settings()
    assert loaded.vocabulary() == features.vocabulary()
    found = tf.function(loaded.graph(), autograph=False)(tf.constant(NEW))
    np.testing.assert_array_equal(found, pad_tokens(rows.indptr, rows.tokens))
    return loaded


def names(features, texts):
    vocabulary = features.vocabulary()
    return [[vocabulary[i] for i in row] for row in lists(features.transform(texts))]


@pytest.mark.parametrize("min_count", [1, 2])
def test_word_pieces_are_cut_into_what_is_left(tmp_path, min_count):
    write_folder(tmp_path / "model")
    features = fitted(tmp_path / "model", min_count=min_count)
    counts = dict.fromkeys(PIECES, 0)
    for text in (text for texts in SEEN for text in texts):
        for number in word_pieces(text, PIECES, 9):
            counts[PIECES[number]] += 1
    special = PIECES[:5]
    left = [piece for piece in PIECES if piece in special or counts[piece] >= min_count]
    assert 5 < len(left) < len(PIECES) and features.num_features == len(left)
    assert features.vocabulary() == left
    assert lists(features.transform(NEW)) == [word_pieces(text, left, 9) for text in NEW]
    again(features, tmp_path / "saved")
    content = json.loads((tmp_path / "saved" / "subwords.json").read_text())
    assert content["pieces"] == left, "the file is smaller, too"


def test_words_without_a_dropped_piece_are_cut_as_before(tmp_path):
    """Of two ways to cut a word the longest first piece decides, and that is still there."""
    pieces = [*PIECES[:5], "fox", "fo", "##x", "##es", "##xes", "f", "##o", "a", "##e", "##s"]
    write_folder(tmp_path / "model", pieces=pieces)
    texts = ["fox", "foxes", "a fox", "fos", "foe"]
    features = build_text_features({"name": "pretrained", "folder": str(tmp_path / "model")})
    whole = names(features.fit([]), texts)
    pruned = build_text_features(
        {"name": "pretrained", "folder": str(tmp_path / "model"), "min_count": 1}
    ).fit([["foxes a fox"]])
    found = names(pruned, texts)
    gone = set(pieces) - set(pruned.vocabulary())
    assert gone == {"fo", "##x", "##xes", "f", "##o", "##e", "##s"}
    for one, other in zip(whole, found, strict=True):
        assert one == other or gone & set(one)
    assert found[3:] == [["[CLS]", "[UNK]", "[SEP]"]] * 2


def byte_pair_folder(folder):
    write_folder(folder, model_type="roberta", pad_token_id=1)
    merges = ["f o", "Ġ a", "fo x", "Ġ fox", "o w", "Ġ n", "h e", "he n"]
    joined = [merge.replace(" ", "") for merge in merges]
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *byte_letters(), *joined, "<mask>"]
    (folder / "vocab.json").write_text(json.dumps({p: n for n, p in enumerate(pieces)}))
    (folder / "merges.txt").write_text("\n".join(merges) + "\n")
    return ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]


def sentence_piece_folder(folder):
    """As XLNet has it: the unknown piece is id 0, padding 5."""
    write_folder(folder, model_type="xlnet", pad_token_id=5, d_model=16, n_layer=1, n_head=2)
    special = ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>"]
    scores = [[name, 0.0] for name in special]
    scores += [["▁fox", -2.0], ["▁no", -2.5], ["▁a", -2.6], ["▁hen", -2.7], ["s", -4.0]]
    scores += [["▁", -3.0], *([letter, -5.0] for letter in "abcdefhnortuwx!")]
    content = {
        "added_tokens": [{"content": name} for name in special],
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": ""},
        "model": {"type": "Unigram", "unk_id": 0, "vocab": scores},
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return ["<pad>", "<unk>", "<cls>", "<sep>", "<mask>"]


@pytest.mark.parametrize("make", [byte_pair_folder, sentence_piece_folder])
def test_other_pieces_become_unknown(tmp_path, make):
    special = make(tmp_path / "model")
    whole = fitted(tmp_path / "model")
    seen = {p for texts in SEEN for row in names(whole, texts) for p in row}
    features = fitted(tmp_path / "model", min_count=1)
    left = [p for p in whole.vocabulary() if p in seen or p in special]
    assert features.vocabulary() == left and left[0] == "<pad>"
    assert features.num_features == len(left) < whole.num_features
    texts = [*NEW, *(text for texts in SEEN for text in texts)]
    expected = [[p if p in left else "<unk>" for p in row] for row in names(whole, texts)]
    assert names(features, texts) == expected
    assert "<unk>" in expected[0] + expected[1] and not any("<unk>" in r for r in expected[4:])
    assert all(features.transform(texts).tokens > 0)
    again(features, tmp_path / "saved")


def test_cut_texts_are_not_counted_twice(tmp_path):
    write_folder(tmp_path / "model")
    features = fitted(tmp_path / "model", min_count=1, max_length=4)
    assert features.num_truncated == 0
    features.transform(["a red fox"])
    assert features.num_truncated == 1


def test_what_is_refused(tmp_path):
    write_folder(tmp_path / "model")
    for wrong in (-1, 1.5, True):
        with pytest.raises(ConfigError, match="min_count: must be an integer of at least 0"):
            fitted(tmp_path / "model", min_count=wrong)
    features = fitted(tmp_path / "model", min_count=1)
    settings = {"name": "pretrained", **features.settings()}
    with pytest.raises(ConfigError, match=r"the complete vocabulary.*: tfxc prune"):
        Pretrained(features.num_features, tmp_path / "model", text_features=settings)
    features.save(tmp_path / "saved")
    path = tmp_path / "saved" / "subwords.json"
    path.write_text(path.read_text().replace("fox", "fix"))
    with pytest.raises(DataError, match="the vocabulary has the checksum"):
        load_text_features(tmp_path / "saved")
