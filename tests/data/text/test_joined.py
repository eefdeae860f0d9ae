"""Joined text features against their two parts alone."""

import copy
import json

import numpy as np
import pytest
import tensorflow as tf

from tests.data.sources.examples import texts_set, write_jsonl
from tests.encoders.hub_folders import write_folder
from tests.small_runs import TEXTS
from tfxc.core.config import DataSettings
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.examples.lists import pad_tokens
from tfxc.data.sources.shards import ShardSource
from tfxc.data.store.manifest import Manifest
from tfxc.data.store.preparation import prepare
from tfxc.data.text.registry import build_text_features, load_text_features

WORDS, TFIDF = {"name": "words", "min_count": 1}, {"name": "tfidf", "ngram_range": [1, 2]}
PAIRS = {
    "words": (WORDS, {**TFIDF, "max_features": 9}),
    "characters": ({"name": "characters", "max_length": 12}, {"name": "pecos_tfidf"}),
    "hashing": ({"name": "words", "max_length": 4}, {"name": "hashing", "num_features": 64}),
    "pretrained": ({"name": "pretrained", "max_length": 9}, TFIDF),
    "rare": ({"name": "pretrained", "min_count": 2}, {"name": "hashing", "num_features": 64}),
}


# Rare pieces are dropped from tokens alone in data/text/test_subwords_pruning.py.
SLOW = {"rare": pytest.mark.slow}


@pytest.fixture(
    params=[pytest.param(name, marks=SLOW.get(name, ())) for name in PAIRS], ids=list(PAIRS)
)
def sections(request, tmp_path):
    """Config sections of the two parts."""
    tokens, terms = PAIRS[request.param]
    if tokens["name"] == "pretrained":
        pytest.importorskip("tensorflow_text", reason="the extra hub is not installed")
        write_folder(tmp_path / "model")
        tokens = {**tokens, "folder": str(tmp_path / "model")}
    return {"tokens": tokens, "terms": terms}


def built(sections):
    return build_text_features({"name": "joined", **sections})


def plain(settings):
    return json.loads(json.dumps(settings))


def assert_rows(found, terms, tokens):
    assert (found.terms != terms).nnz == 0 and found.shape == terms.shape
    assert found.terms.dtype == np.float32
    np.testing.assert_array_equal(found.tokens.indptr, tokens.indptr)
    np.testing.assert_array_equal(found.tokens.tokens, tokens.tokens)


def test_parts_are_as_if_alone(sections, tmp_path):
    lists = [TEXTS[:2], TEXTS[2:4], TEXTS[4:]]
    terms, tokens = (build_text_features(sections[name]).fit(lists) for name in ("terms", "tokens"))
    joined = built(sections).fit(iter(lists))  # which can be read once only
    assert joined.num_features == terms.num_features
    assert joined.vocabulary_size == tokens.num_features
    assert joined.terms.vocabulary() == terms.vocabulary()
    assert joined.tokens.vocabulary() == tokens.vocabulary()
    texts = [*TEXTS, "", "unheard-of words"]
    rows = [part.transform(texts) for part in (terms, tokens)]
    assert_rows(joined.transform(texts), *rows)
    assert joined.num_truncated == tokens.num_truncated

    joined.save(tmp_path / "saved")
    loaded = load_text_features(tmp_path / "saved")
    assert plain(loaded.settings()) == plain(joined.settings())
    assert_rows(loaded.transform(texts), *rows)
    assert_rows(copy.deepcopy(loaded).transform(texts), *rows)

    found = loaded.graph(tmp_path / "saved")(tf.constant(texts))
    np.testing.assert_array_equal(found["tokens"], pad_tokens(rows[1].indptr, rows[1].tokens))
    np.testing.assert_array_equal(found["ids"], rows[0].indices)
    np.testing.assert_array_equal(found["row_splits"], rows[0].indptr)
    np.testing.assert_allclose(found["weights"], rows[0].data, rtol=1e-6)


def test_one_list_at_a_time_reaches_both_parts():
    """No part runs ahead: neither list is read before the one before it was counted by both."""
    joined, order = built({"tokens": WORDS, "terms": TFIDF}), []
    for name in ("tokens", "terms"):
        part = getattr(joined, name)
        learner = part.learner()

        def add(cut, learner=learner, name=name):
            order.append(name)
            learner.add(cut)

        part.learner = lambda learner=learner, add=add: learner._replace(add=add)

    def stream():
        for text in TEXTS[:2]:
            order.append("read")
            yield [text]

    joined.fit(stream())
    assert order == ["read", "tokens", "terms"] * 2


def test_nothing_to_learn_reads_nothing(tmp_path):
    pytest.importorskip("tensorflow_text", reason="the extra hub is not installed")
    write_folder(tmp_path / "model")
    tokens = {"name": "pretrained", "folder": str(tmp_path / "model")}
    lists = iter([TEXTS])
    built({"tokens": tokens, "terms": {"name": "hashing"}}).fit(lists)
    assert next(lists) == TEXTS


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"terms": TFIDF}, r"^data.text_features: .* 'joined' needs tokens"),
        ({"tokens": WORDS}, r"^data.text_features: .* needs terms\. Add 'terms'"),
        (
            {"tokens": "words", "terms": TFIDF},
            r"^data.text_features.tokens: must be a section, not 'words'",
        ),
        ({"tokens": {}, "terms": TFIDF}, r"^data.text_features.tokens: the section names no kind"),
        (
            {"tokens": TFIDF, "terms": TFIDF},
            r"^data.text_features.tokens: unknown kind of text features 'tfidf'.*characters, words",
        ),
        ({"tokens": WORDS, "terms": WORDS}, r"^data.text_features.terms: unknown .* 'words'"),
        (
            {"tokens": WORDS, "terms": {"name": "tfidff"}},
            r"^data.text_features.terms: unknown kind of text features 'tfidff'.*tfidf",
        ),
        (
            {"tokens": {**WORDS, "length": 3}, "terms": TFIDF},
            r"^data.text_features.tokens.length: text features 'words' has no argument 'length'",
        ),
        (
            {"tokens": {**WORDS, "max_length": 0}, "terms": TFIDF},
            r"^data.text_features.tokens.max_length: must be an integer of at least 1, not 0",
        ),
        (
            {"tokens": WORDS, "terms": {**TFIDF, "min_df": -1}},
            r"^data.text_features.terms.min_df: must be an integer of at least 1 or a number",
        ),
        ({"tokens": WORDS, "terms": TFIDF, "bags": TFIDF}, "'joined' has no argument 'bags'"),
        (
            {"tokens": {"name": "pretrained", "folder": "absent"}, "terms": TFIDF},
            r"^data.text_features.tokens.folder: ",
        ),
        (
            {"tokens": {**WORDS, "min_count": 99}, "terms": TFIDF},
            r"^data.text_features.tokens: none of \d+ tokens is left",
        ),
        (
            {"tokens": WORDS, "terms": {**TFIDF, "min_df": 99}},
            r"^data.text_features.terms: max_df means|^data.text_features.terms: none of",
        ),
    ],
)
def test_errors_name_the_part(sections, message):
    with pytest.raises((ConfigError, DataError), match=message):
        built(sections).fit([TEXTS])


def test_parts_of_different_runs_are_refused(tmp_path):
    for name, tokens in (("one", WORDS), ("two", {**WORDS, "max_length": 7})):
        built({"tokens": tokens, "terms": TFIDF}).fit([TEXTS]).save(tmp_path / name)
    (tmp_path / "one/tokens/features.json").unlink()
    with pytest.raises(DataError, match="no such file"):
        load_text_features(tmp_path / "one")
    swapped = (tmp_path / "two/tokens/features.json").read_text()
    (tmp_path / "one/tokens/features.json").write_text(swapped)
    with pytest.raises(DataError, match=r"these are not the tokens that .* describes"):
        load_text_features(tmp_path / "one")


@pytest.mark.parametrize("layout", ["blocks", "examples"])
def test_prepared_rows_are_those_of_the_texts(tmp_path, layout, capsys):
    examples = texts_set()
    tokens = {"name": "words", "max_length": 5}
    settings = DataSettings(
        name="toy", train=write_jsonl(tmp_path / "train.jsonl", examples), layout=layout,
        dev=write_jsonl(tmp_path / "dev.jsonl", examples[:20]), shard_examples=25,
        text_features={"name": "joined", "tokens": tokens, "terms": TFIDF},
    )  # fmt: skip
    manifest = prepare(settings, tmp_path / "set", jobs=1)
    output = capsys.readouterr().err
    assert (
        "train: 60 of 60 texts were cut off after 5 tokens (data.text_features.tokens.m" in output
    )
    texts = [text for text, _ in examples]
    parts = [build_text_features(section).fit([texts]) for section in (TFIDF, tokens)]
    features = load_text_features(tmp_path / "set" / "text_features")
    expected = [part.transform(texts[:20]) for part in parts]
    assert_rows(features.transform(texts[:20]), *expected)
    assert manifest == Manifest.load(tmp_path / "set") and manifest.feature_kind == "joined"
    assert manifest.num_features == parts[0].num_features
    assert manifest.vocabulary_size == parts[1].num_features
    assert manifest.text_features == {"name": "joined", **plain(features.settings())}
    dev = ShardSource(tmp_path / "set", "dev").rows()
    np.testing.assert_array_equal(dev.tokens, expected[1].tokens)
    np.testing.assert_array_equal(dev.values, expected[0].data)
    again = prepare(settings, tmp_path / "again", jobs=2)
    digests = [[s.sha256 for s in m.splits["train"].shards] for m in (manifest, again)]
    assert digests[0] == digests[1] and len(digests[0]) == 3
