"""The built-in stand-ins: sizes, purity of the blocks, and that something can be learned."""

import numpy as np
import pytest
import scipy.sparse

from tests.contracts.formats import assert_same, concatenated
from tfxc.core.errors import ConfigError
from tfxc.data.reading.builtin.synthetic.drawing import Drawing, word_of
from tfxc.data.reading.builtin.synthetic.shapes import SHAPES
from tfxc.data.reading.formats import open_reader


def read(shape, split="train", **options):
    return open_reader("builtin:synthetic", shape=shape, split=split, **options)


@pytest.fixture(scope="module")
def amazon():
    """A hundredth of a split of Amazon-670K."""
    return concatenated(read("amazon670k", share=0.01).chunks(3000))


def label_matrix(chunk, num_labels):
    rows = np.repeat(np.arange(len(chunk)), [len(labels) for labels in chunk.labels])
    ids = np.concatenate(chunk.labels)
    return scipy.sparse.csr_matrix((np.ones(len(ids)), (rows, ids)), (len(chunk), num_labels))


def test_sizes_are_those_of_the_shape(amazon):
    shape = SHAPES["amazon670k"].scaled(0.01)
    assert (shape.train, shape.test, shape.labels) == (4904, 1530, 6701)
    assert shape.features == 13_591  # a tenth of 135,909, rounded up
    assert amazon.features.shape == (shape.train, shape.features)
    lengths = [len(labels) for labels in amazon.labels]
    assert np.mean(lengths) == pytest.approx(shape.labels_per_example, rel=0.06)
    assert amazon.features.nnz / shape.train == pytest.approx(shape.nonzeros, rel=0.06)
    norms = scipy.sparse.linalg.norm(amazon.features, axis=1)
    assert np.allclose(norms, 1, atol=1e-5)


def test_every_label_occurs_in_training_and_a_few_are_frequent(amazon):
    counts = np.sort(np.bincount(np.concatenate(amazon.labels), minlength=6701))[::-1]
    assert counts[-1] >= 1
    assert counts[: 6701 // 10].sum() > 2 * 0.1 * counts.sum()


@pytest.mark.parametrize(
    ("shape", "examples", "features", "labels", "nonzeros", "positives"),
    [
        # the table of github.com/amzn/pecos, examples/spmm
        ("eurlex4k_pecos", 15_449, 186_104, 3_956, 4_194_123, 82_265),
        ("wiki10", 14_146, 101_938, 30_938, 9_526_572, 263_705),
        ("amazoncat13k", 1_186_239, 203_882, 13_330, 84_415_397, 5_979_439),
        ("amazon670k", 490_449, 135_909, 670_091, 37_119_040, 2_674_356),
        ("wiki500k", 1_779_881, 2_381_304, 501_070, 689_526_754, 8_446_236),
        ("amazon3m", 1_717_899, 337_067, 2_812_281, 84_600_285, 61_916_857),
    ],
)
def test_published_sizes(shape, examples, features, labels, nonzeros, positives):
    found = SHAPES[shape]
    assert (found.train, found.features, found.labels) == (examples, features, labels)
    assert found.nonzeros == pytest.approx(nonzeros / examples, rel=2e-3)
    assert found.labels_per_example == pytest.approx(positives / examples, rel=2e-3)


def test_a_small_share_keeps_enough_of_a_set():
    shape = SHAPES["eurlex57k"].scaled(0.001)
    assert (shape.train, shape.dev, shape.test, shape.labels) == (1024, 1024, 0, 256)
    assert SHAPES["cifar10"].scaled(0.001).labels == 10
    assert SHAPES["glint360k"].scaled(0.5).features == 512  # vectors stay as long as they are


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ("cooking", {"form": "both"}),
        ("glyph_features", {"share": 0.1}),
        ("glyphs", {"share": 0.05}),
    ],
)
def test_chunks_of_any_size_hold_the_same(shape, options):
    reader = read(shape, **options, examples=4500)
    assert reader.num_examples > reader._drawing.block  # several blocks
    whole = concatenated(reader.chunks(10**6))
    chunks = list(reader.chunks(700))
    assert [len(chunk) for chunk in chunks[:-1]] == [700] * (len(chunks) - 1)
    assert_same(concatenated(chunks), whole)
    assert [labels for part in reader.label_lists() for labels in part] == whole.labels


def test_a_block_is_drawn_from_its_number_alone():
    shape = SHAPES["amazon670k"].scaled(0.02)
    first, second = Drawing(shape, seed=3), Drawing(shape, seed=3)
    for number in (0, 1):
        first.labels("train", number)
    later, alone = first.labels("train", 1), second.labels("train", 1)
    assert np.array_equal(later.ids, alone.ids)
    words = [one.words("train", 1, alone).places for one in (first, second)]
    assert np.array_equal(*words)
    for other in (
        first.labels("train", 0), first.labels("test", 1), Drawing(shape, 4).labels("train", 1),
    ):  # fmt: skip
        assert not np.array_equal(other.ids[:1000], alone.ids[:1000])


def test_labels_follow_from_features(amazon):
    """Class means of the training examples find labels of other examples."""
    test = next(read("amazon670k", "test", share=0.01).chunks(300))
    labels = label_matrix(amazon, 6701)
    means = labels.T @ amazon.features
    scores = (test.features @ means.T).toarray() / np.maximum(labels.sum(0), 1)
    best = np.asarray(scores).argmax(axis=1)
    hits = np.mean([label in true for label, true in zip(best, test.labels, strict=True)])
    frequent = np.asarray(labels.sum(0)).argmax()
    base = np.mean([frequent in true for true in test.labels])
    assert hits > 0.4 and hits > 10 * base


def test_texts_have_the_words_of_the_features():
    reader = read("clinc150", form="both", examples=50)
    chunk = next(reader.chunks(50))
    for text, row in zip(chunk.texts, chunk.features, strict=True):
        words = {word_of(number) for number in row.indices.tolist()}
        assert set(text.split()) == words
    assert len({word_of(number) for number in range(20_000)}) == 20_000
    lengths = [len(text.split()) for text in chunk.texts]
    assert np.mean(lengths) == pytest.approx(8.5, rel=0.3)


def test_texts_of_characters_have_no_spaces():
    texts = next(read("duee", form="texts").chunks(20)).texts
    assert all("\u4e00" <= letter <= "\u9fff" for text in texts for letter in text)


def test_vectors_and_images_are_near_their_class():
    for shape, options in (
        ("omniglot_features", {"examples": 4000}), ("glyphs", {"share": 0.001}),
        ("cifar10", {"examples": 600}),
    ):  # fmt: skip
        chunk = concatenated(read(shape, **options).chunks(1000))
        given = chunk.features if chunk.features is not None else chunk.images
        vectors = np.reshape(given, (len(chunk), -1)).astype(np.float32)[:4000]
        vectors -= vectors.mean(axis=0)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        labels = np.concatenate(chunk.labels)[:4000]
        alike = vectors @ vectors.T
        np.fill_diagonal(alike, -1)
        found = labels[alike.argmax(axis=1)]
        several = np.isin(labels, np.flatnonzero(np.bincount(labels) > 1))
        assert np.mean(found[several] == labels[several]) > 0.6, shape


def test_image_files_are_decoded_to_the_images():
    import tensorflow as tf

    files = next(read("casia", form="files", examples=3).chunks(3)).images
    pixels = next(read("casia", examples=3).chunks(3)).images
    decoded = np.stack([tf.io.decode_jpeg(file).numpy() for file in files])
    assert pixels.shape == (3, 112, 112, 3)
    assert np.abs(decoded.astype(int) - pixels).mean() < 12


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"shape": "amazon670"}, r"unknown shape 'amazon670', did you mean 'amazon670k'"),
        ({"split": "tst"}, "split: must be one of train, dev, test, not 'tst'"),
        ({"split": "dev"}, "shape 'amazon670k' has no split 'dev'. Choose one of: train, test"),
        ({"share": 0}, r"share: must be a number above 0 and at most 1, not 0"),
        ({"form": "images"}, "shape 'amazon670k' has no form 'images', only features, texts, both"),
        ({"labels": 1}, "labels: must be an integer of at least 2, not 1"),
        ({"examples": 2.5}, "examples: must be an integer of at least 1, not 2.5"),
        ({"seed": -1}, "seed: must be an integer of at least 0, not -1"),
    ],
)
def test_bad_options(options, problem):
    with pytest.raises(ConfigError, match=problem):
        open_reader("builtin:synthetic", **{"shape": "amazon670k", **options})


def test_sizes_of_ones_own():
    reader = read("amazon670k", examples=100, labels=10**7)
    chunk = next(reader.chunks(100))
    assert reader.num_labels == 10**7 and reader.num_examples == len(chunk) == 100
    assert read("bibtex", examples=10**7).num_examples == 10**7
    assert max(map(max, chunk.labels)) > 10**6
    keys = {read("amazon670k", **one).source_fingerprint for one in ({}, {"seed": 1})}
    assert len(keys | {reader.source_fingerprint}) == 3
