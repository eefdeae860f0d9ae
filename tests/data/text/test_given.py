"""Features next to texts: through preparation, rows, and what serves them."""

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

from tfxc.core.config import DataSettings
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.examples.chunk import Chunk
from tfxc.data.examples.kinds import JOINED, TEXT_AND_FEATURES, input_of
from tfxc.data.reading.formats import open_reader
from tfxc.data.reading.given_features import WithFeatures
from tfxc.data.sources.shards import open_source
from tfxc.data.store.manifest import Manifest
from tfxc.data.store.preparation import prepare
from tfxc.data.text.registry import build_text_features, load_text_features

COUNT, WIDTH = 30, 7
WORDS = {"name": "words", "min_count": 1}
GIVEN = {"name": "joined", "tokens": WORDS, "terms": {"name": "given"}}


def features_of(count=COUNT, seed=0):
    rng = np.random.default_rng(seed)
    found = scipy.sparse.random(count, WIDTH, 0.4, "csr", np.float32, rng=rng)
    found.data *= 9  # far from length 1
    return found


def write_folder(folder, dense=False):
    """A PECOS folder of texts with given features; returns these."""
    (folder / "given").mkdir(parents=True)
    found = {}
    for seed, split in enumerate(("trn", "tst")):
        found[split] = features_of(seed=seed)
        text = "".join(f"w{row} w{row % 3}\n" for row in range(COUNT))
        (folder / f"X.{split}.txt").write_text(text)
        scipy.sparse.save_npz(folder / f"Y.{split}.npz", scipy.sparse.eye(COUNT, format="csr"))
        if dense:
            np.save(folder / "given" / f"X.{split}.npy", found[split].toarray())
        else:
            scipy.sparse.save_npz(folder / "given" / f"X.{split}.npz", found[split])
    return found


def settings_of(folder, dense=False, **changes):
    file = f"given/X.{{split}}.{'npy' if dense else 'npz'}"
    values = {
        "name": "set", "train": str(folder), "test": str(folder), "reader": "pecos",
        "reader_options": {"features": file}, "split_options": {"test": {"split": "tst"}},
        "text_features": GIVEN, **changes,
    }  # fmt: skip
    return DataSettings(**values)


@pytest.mark.parametrize("dense", [False, True])
def test_records_hold_the_features_as_they_are(tmp_path, dense, capsys):
    expected = write_folder(tmp_path / "set", dense)
    manifest = prepare(settings_of(tmp_path / "set", dense), tmp_path / "prepared")
    assert manifest.kind is JOINED and manifest.num_features == WIDTH
    assert manifest.vocabulary_size == COUNT + 2
    assert "are not used" not in capsys.readouterr().err
    for split, name in (("train", "trn"), ("test", "tst")):
        rows = open_source(tmp_path / "prepared", split).rows()
        order = rows.label_ids  # each example has a label of its own; training is shuffled
        parts = (rows.values, rows.indices, rows.indptr)
        found = scipy.sparse.csr_matrix(parts, (COUNT, WIDTH)).toarray()
        np.testing.assert_array_equal(found, expected[name].toarray()[order])
        assert rows.num_tokens == 2 * COUNT
    saved = load_text_features(tmp_path / "prepared" / "text_features")
    assert saved.given.num_features == WIDTH == saved.num_features


def test_changed_features_are_noticed(tmp_path):
    from tfxc.data.store.preparation import ensure_prepared

    write_folder(tmp_path / "set")
    settings = settings_of(tmp_path / "set")
    folder = ensure_prepared(settings, tmp_path / "prepared")
    assert Manifest.load(folder).num_features == WIDTH
    file = tmp_path / "set" / "given" / "X.trn.npz"
    scipy.sparse.save_npz(file, features_of(seed=5))
    with pytest.raises(DataError, match="has changed since it was prepared"):
        ensure_prepared(settings, tmp_path / "prepared")


def test_sets_that_are_refused(tmp_path):
    write_folder(tmp_path / "set")
    plain = settings_of(tmp_path / "set", reader_options={})
    with pytest.raises(DataError, match=r"have no features, but texts\. Name"):
        prepare(plain, tmp_path / "prepared")
    narrow = {**GIVEN, "terms": {"name": "given", "num_features": 3}}
    with pytest.raises(DataError, match=f"there are {WIDTH} features, but .*num_features is 3"):
        prepare(settings_of(tmp_path / "set", text_features=narrow), tmp_path / "prepared")
    wide = scipy.sparse.hstack([features_of(), features_of()])
    scipy.sparse.save_npz(tmp_path / "set" / "given" / "X.tst.npz", wide)
    with pytest.raises(DataError, match=f"but {WIDTH} in the training split"):
        prepare(settings_of(tmp_path / "set"), tmp_path / "prepared")
    assert not (tmp_path / "prepared").exists()


def test_rows_of_texts_and_features():
    texts = ["red fox", ""]
    joined = build_text_features(GIVEN)
    with pytest.raises(ConfigError, match="have not been fitted"):
        joined.transform(texts, features=features_of(2))
    joined.fit([texts])
    joined.given.take_width(WIDTH, "X")
    rows = joined.transform(texts, features=features_of(2))
    assert (rows.terms != features_of(2)).nnz == 0 and rows.shape == (2, WIDTH)
    narrow = features_of(2)[:, : WIDTH - 1]
    assert joined.transform(texts, features=narrow).shape == (2, WIDTH)
    with pytest.raises(
        DataError, match=f"X: there are {WIDTH - 1} dense features, but {WIDTH} in the"
    ):
        joined.transform(texts, features=narrow.toarray(), where="X")
    with pytest.raises(DataError, match="the texts have no features next to them"):
        joined.transform(texts)
    with pytest.raises(ConfigError, match=r"^data\.text_features\.tokens: unknown kind"):
        build_text_features({"name": "joined", "tokens": {"name": "given"}, "terms": WORDS})
    with pytest.raises(ConfigError, match="unknown kind of text features 'given'"):
        build_text_features({"name": "given"})


@pytest.mark.parametrize("dense", [False, True])
def test_the_same_in_the_graph(tmp_path, dense):
    texts = ["red fox", ""]
    joined = build_text_features(GIVEN).fit([texts])
    joined.given.take_width(WIDTH, "X")
    joined.save(tmp_path / "saved")
    features = features_of(2).toarray() if dense else features_of(2)
    given = TEXT_AND_FEATURES.given(Chunk([[]] * 2, texts=texts, features=features))
    assert input_of(given) is TEXT_AND_FEATURES
    assert [tensor.name for tensor in TEXT_AND_FEATURES.tensors({})] == list(given)
    graph = load_text_features(tmp_path / "saved").graph(tmp_path / "saved")
    found = graph(*(tf.constant(values) for values in given.values()))
    expected = JOINED.tensors_of(JOINED.arrays_of(joined.transform(texts, features=features)))
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    assert TEXT_AND_FEATURES.given(Chunk([[]] * 2, texts=texts)) is None


def test_features_of_a_file_next_to_another(tmp_path):
    (tmp_path / "texts.jsonl").write_text('{"text": "a", "labels": ["x"]}\n' * COUNT)
    scipy.sparse.save_npz(tmp_path / "X.npz", features_of())
    both = WithFeatures(open_reader(tmp_path / "texts.jsonl"), tmp_path / "X.npz")
    chunks = list(both.chunks(8))
    assert [len(chunk) for chunk in chunks] == [8, 8, 8, 6] and both.num_examples == COUNT
    found = scipy.sparse.vstack([chunk.features for chunk in chunks])
    assert (found != features_of()).nnz == 0 and chunks[0].labels[0] == ["x"]
    scipy.sparse.save_npz(tmp_path / "X.npz", features_of(COUNT - 1))
    with pytest.raises(DataError, match=r"there are 29 rows for the 30 examples of .*texts\.jsonl"):
        WithFeatures(open_reader(tmp_path / "texts.jsonl"), tmp_path / "X.npz")
