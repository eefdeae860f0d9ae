import itertools
import json
import re
import shutil
import unicodedata

import numpy as np
import pytest
import tensorflow as tf

from tests.encoders.hub_folders import PIECES, write_folder
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.examples.lists import pad_tokens
from tfxc.data.text.registry import build_text_features, load_text_features
from tfxc.ops.text.subwords_bpe import byte_letters
from tfxc.pretrained.folder import open_folder

pytest.importorskip("tensorflow_text", reason="the extra hub is not installed")

TEXTS = [
    "A red fox! no UNKNOWN hens",
    "",
    " \t\n",
    "Nö fóx,日a\u3000owls",
    "fox\x00fox \u200bcat\ufffd",
    "x" * 101 + " " + "a " * 30,
    "[SEP] [PAD] ΟΔΟΣ",
]


def lists(rows):
    return [part.tolist() for part in np.split(rows.tokens, rows.indptr[1:-1])]


def word_pieces(text, pieces, most, lowercase=True):
    """Ids of one text, a character at a time."""
    number = {piece: place for place, piece in enumerate(pieces)}
    cleaned = ""
    for c in text:
        if c in " \t\n\r" or unicodedata.category(c) == "Zs":
            cleaned += " "
        elif c == "\ufffd" or unicodedata.category(c)[0] == "C":
            continue
        elif 0x4E00 <= ord(c) <= 0x9FFF:
            cleaned += f" {c} "
        else:
            cleaned += "".join(letter.lower() for letter in c) if lowercase else c
    if lowercase:
        cleaned = unicodedata.normalize("NFD", cleaned)
        cleaned = "".join(c for c in cleaned if unicodedata.category(c) != "Mn")
    ids = []
    for word in re.findall(r"[^\W_]+|[^\w\s]|_", cleaned):
        found, rest, mark = [], word, ""
        while rest:
            end = next((e for e in range(len(rest), 0, -1) if mark + rest[:e] in number), None)
            if end is None:
                found = [number["[UNK]"]]
                break
            found.append(number[mark + rest[:end]])
            rest, mark = rest[end:], "##"
        ids += found
    return [number["[CLS]"], *ids[: most - 2], number["[SEP]"]]


@pytest.mark.parametrize("lowercase", [True, False])
def test_word_pieces(tmp_path, lowercase):
    write_folder(tmp_path / "model")
    options = {"do_lower_case": lowercase, "tokenizer_class": "BertTokenizer"}
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps(options))
    check(tmp_path, lambda text: word_pieces(text, PIECES, 10, lowercase))


def check(tmp_path, one_by_one, texts=TEXTS):
    """Ids equal those found one by one, from the folder and without it, here and in a graph."""
    section = {"name": "pretrained", "folder": str(tmp_path / "model"), "max_length": 10}
    features = build_text_features(section).fit([["unread"]])
    expected = [one_by_one(text) for text in texts]
    rows = features.transform(texts)
    assert lists(rows) == expected
    assert rows.tokens.dtype == np.int32 and rows.indptr.dtype == np.int64
    assert rows.shape == (len(texts), features.num_features)
    assert all(rows.tokens > 0)
    features.save(tmp_path / "saved")
    shutil.rmtree(tmp_path / "model")
    loaded = load_text_features(tmp_path / "saved")
    assert loaded.settings() == features.settings()
    assert loaded.vocabulary() == features.vocabulary()
    assert lists(loaded.transform(texts)) == expected
    found = tf.function(loaded.graph(), autograph=False)(tf.constant(texts))
    assert found.dtype == tf.int32
    np.testing.assert_array_equal(found, pad_tokens(rows.indptr, rows.tokens))
    return features


def test_cut_texts_are_counted(tmp_path):
    write_folder(tmp_path / "model")
    section = {"name": "pretrained", "folder": str(tmp_path / "model"), "max_length": 4}
    features = build_text_features(section).fit([])
    features.transform(["a fox", "a red fox", "a red fox !"])
    assert features.num_truncated == 2
    assert features.transform([]).shape == (0, len(PIECES))
    assert lists(features.transform(["a", "\ud800"]))[0] == [2, 5, 3]


def words_of_bpe(text):
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?[^\s\w]+|\s+(?!\S)|\s+"
    return re.findall(pattern, text)


def byte_pairs(text, pieces, merges, most):
    letters, ids = byte_letters(), []
    number = {piece: place for place, piece in enumerate(pieces)}
    for word in words_of_bpe(text):
        parts = [letters[byte] for byte in word.encode()]
        while True:
            pairs = [f"{a} {b}" for a, b in itertools.pairwise(parts)]
            known = [merges.index(pair) for pair in pairs if pair in merges]
            if not known:
                break
            place = pairs.index(merges[min(known)])
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        ids += [number[part] for part in parts]
    ids = [{0: 1, 1: 0}.get(i, i) for i in (0, *ids[: most - 2], 2)]
    return ids


def test_byte_pairs(tmp_path):
    write_folder(tmp_path / "model", model_type="roberta", pad_token_id=1)
    merges = ["f o", "Ġ a", "fo x", "x x", "o w", "Ġ fox", "ow l", "Ã ©", "f f", "a b", "b a"]
    joined = [merge.replace(" ", "") for merge in merges]
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *byte_letters(), *joined, "<mask>"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    (tmp_path / "model" / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "model" / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    texts = [
        "fox fox  a fox",
        "",
        "é\n\n a\t",
        "   ",
        "it's 'll 12ab!?",
        "xxx fffox ababa owl",
        "日",
    ]
    features = check(tmp_path, lambda text: byte_pairs(text, pieces, merges, 10), texts)
    assert features.vocabulary()[:3] == ["<pad>", "<s>", "</s>"], "padding and 0 change places"


def best_pieces(text, scores, unknown):
    """The pieces of best total score, by trying all ways."""
    text = "▁" + "▁".join(text.split()) if text.split() else ""
    least = min(score for _, score in scores) - 10

    def best(rest):
        if not rest:
            return 0.0, []
        ways = [(least, 1, unknown)]
        ways += [(s, len(p), i) for i, (p, s) in enumerate(scores) if rest.startswith(p) and i > 3]
        found = []
        for score, length, piece in ways:
            others = best(rest[length:])
            found.append((score + others[0], [piece, *others[1]]))
        return max(found)

    return best(text)[1]


def test_sentence_pieces_of_a_tokenizer_json(tmp_path):
    write_folder(tmp_path / "model", model_type="xlm-roberta", pad_token_id=1)
    scores = [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["▁", -3.0]]
    scores += [["▁fox", -2.0], ["▁f", -3.5], ["ox", -3.1], ["o", -5.0], ["x", -5.5], ["▁a", -2.5]]
    content = {
        "added_tokens": [{"content": name} for name, _ in scores[:4]],
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": ""},
        "model": {"type": "Unigram", "unk_id": 3, "vocab": scores},
    }
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(content))
    texts = ["fox a  ox", "", "fxo", "ax foxo"]

    def one(text):
        ids = [0, *best_pieces(text, scores, 3)[:8], 2]
        return [{0: 1, 1: 0}.get(i, i) for i in ids]

    check(tmp_path, one, texts)


def remove(*names):
    def change(folder):
        for name in names:
            (folder / name).unlink()

    return change


def write(name, content):
    def change(folder):
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("config.json"), "the file config.json is missing"),
        (remove("vocab.txt"), "the folder has neither vocab.txt nor tokenizer.json"),
        (write("vocab.txt", "a\nb\n"), r"the vocabulary lacks \[CLS\], \[SEP\], \[UNK\], \[PAD\]"),
        (write("config.json", {"model_type": "t5"}), "cannot load a model of model_type 't5'"),
        (write("config.json", {"model_type": "bert", "pad_token_id": 3}), "id 3, but .* the id 0"),
        (write("tokenizer_config.json", {"tokenizer_class": "T5Tokenizer"}), "class 'T5Tokenizer'"),
        (write("tokenizer_config.json", "[]"), "not a JSON object"),
        (write("config.json", {"model_type": "roberta"}), "neither vocab.json nor tokenizer.json"),
        (write("config.json", {"model_type": "albert"}), "bpe.model nor tokenizer.json"),
    ],
    ids=["config", "vocab", "special", "type", "padding", "class", "list", "bpe", "spm"],
)  # fmt: skip
def test_a_wrong_folder(tmp_path, change, message):
    write_folder(tmp_path / "model")
    change(tmp_path / "model")
    with pytest.raises(ConfigError, match=message):
        build_text_features({"name": "pretrained", "folder": str(tmp_path / "model")}).fit([])


def test_damaged_files(tmp_path):
    write_folder(tmp_path / "model", model_type="albert")
    features = {"name": "pretrained", "folder": str(tmp_path / "model")}
    (tmp_path / "model" / "spiece.model").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ConfigError, match="this is not a SentencePiece model"):
        build_text_features(features).fit([])
    write_folder(tmp_path / "model", model_type="roberta")
    (tmp_path / "model" / "vocab.json").write_text(json.dumps({"a": 0, "b": 1}))
    with pytest.raises(ConfigError, match=r"the file merges\.txt is missing"):
        build_text_features(features).fit([])
    (tmp_path / "model" / "merges.txt").write_text("a b\n")
    with pytest.raises(ConfigError, match="the vocabulary lacks 254 of the 256 bytes"):
        build_text_features(features).fit([])
    (tmp_path / "model" / "vocab.json").write_text(json.dumps({"a": 0, "b": 7}))
    with pytest.raises(ConfigError, match="the ids of the vocabulary are not 0, 1, 2"):
        build_text_features(features).fit([])


def test_settings(tmp_path):
    write_folder(tmp_path / "model")
    section = {"name": "pretrained", "folder": str(tmp_path / "model")}
    with pytest.raises(ConfigError, match="max_length: must be an integer of at least 3"):
        build_text_features(section | {"max_length": 2})
    with pytest.raises(ConfigError, match=r"the checksum .* instead of 00000000"):
        build_text_features(section | {"checksum": "00000000"}).fit([])
    with pytest.raises(ConfigError, match="have not been fitted"):
        build_text_features(section).transform(["a"])
    with pytest.raises(ConfigError, match=r"text_features\.folder: there is no folder .*absent"):
        build_text_features(section | {"folder": "absent"}).fit([])
    features = build_text_features(section).fit([])
    again = build_text_features({"name": "pretrained", **features.settings()}).fit([])
    assert again.settings() == features.settings()


def test_damaged_run(tmp_path):
    write_folder(tmp_path / "model")
    section = {"name": "pretrained", "folder": str(tmp_path / "model")}
    build_text_features(section).fit([]).save(tmp_path / "saved")
    path = tmp_path / "saved" / "subwords.json"
    text = path.read_text()
    path.write_text(text.replace("fox", "fix"))
    with pytest.raises(DataError, match="the vocabulary has the checksum"):
        load_text_features(tmp_path / "saved")
    path.write_text(text[:40])
    with pytest.raises(DataError, match="the saved text features are damaged"):
        load_text_features(tmp_path / "saved")


def test_variables_in_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("TFXC_MODELS", str(tmp_path))
    (tmp_path / "tiny").mkdir()
    assert open_folder("${TFXC_MODELS}/tiny", "folder") == tmp_path / "tiny"
    monkeypatch.delenv("TFXC_MODELS")
    with pytest.raises(ConfigError, match=r"pretrained model at models/tiny.*set TFXC_MODELS"):
        open_folder("${TFXC_MODELS}/tiny", "folder")


def test_without_tensorflow_text(tmp_path, monkeypatch):
    write_folder(tmp_path / "model")
    monkeypatch.setitem(__import__("sys").modules, "tensorflow_text", None)
    features = build_text_features({"name": "pretrained", "folder": str(tmp_path / "model")})
    with pytest.raises(ConfigError, match="the package tensorflow_text is not installed"):
        features.fit([]).transform(["a"])
