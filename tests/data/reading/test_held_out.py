"""A dev split held out of the training file."""

import itertools
import json

import numpy as np
import pytest

from tfxc.core.errors import DataError
from tfxc.data.examples.chunk import Chunk
from tfxc.data.reading import held_out
from tfxc.data.reading.held_out import held_out_examples, held_out_rows, open_split, titles_of
from tfxc.data.sources.shards import ShardSource
from tfxc.data.store.manifest import Manifest, fingerprint
from tfxc.data.store.preparation import DataSettings, prepare


def write_texts(folder, labels):
    lines = [
        json.dumps({"text": f"text w{number}", "labels": [f"l{label}" for label in row]}) + "\n"
        for number, row in enumerate(labels)
    ]
    (folder / "train.jsonl").write_text("".join(lines))


def settings_of(folder, **more):
    return DataSettings(name="held", train=str(folder / "train.jsonl"), **more)


def texts_of(reader, size=4096):
    return list(itertools.chain.from_iterable(chunk.texts for chunk in reader.chunks(size)))


def number_of(text):
    return int(text.split("w")[1])


@pytest.mark.parametrize("share", [0.15, 0.34, 0.9])
def test_any_example_is_as_likely_held_out(share):
    """As many are held out as were asked for, of a group of copies all or none."""
    counts = np.zeros(40, int)
    groups = np.arange(40)
    groups[:3] = 0  # three copies
    draws = 400
    for seed in range(draws):
        chosen = held_out_examples(groups, share, seed)
        assert chosen[0] == chosen[1] == chosen[2]
        assert abs(chosen.sum() - share * 40) <= 3
        counts += chosen
    deviation = np.sqrt(draws * share * (1 - share))
    np.testing.assert_allclose(counts / draws, share, atol=4.5 * deviation / draws)


def test_dev_is_like_a_random_part_whatever_the_labels():
    """Frequent pairs of labels with rare ones are no less likely to be held out."""
    chosen = held_out_examples(np.arange(5000), 0.2, seed=3)
    assert chosen.sum() == 1000 and (chosen != held_out_examples(np.arange(5000), 0.2, 4)).any()
    np.testing.assert_array_equal(chosen, held_out_examples(np.arange(5000), 0.2, seed=3))


@pytest.mark.parametrize(("count", "parts"), [(10, 5), (103, 4), (7, 7)])
def test_parts_are_folds(count, parts):
    groups = np.arange(count) // 2
    chosen = [held_out_examples(groups, 1 / parts, 1, part) for part in range(parts)]
    np.testing.assert_array_equal(np.sum(chosen, axis=0), np.ones(count))


def test_a_file_is_read_once_as_long_as_it_stays_the_same(tmp_path, monkeypatch):
    opened = []
    reader_of = held_out._reader_of
    monkeypatch.setattr(held_out, "_reader_of", lambda *args: opened.append(1) or reader_of(*args))
    write_texts(tmp_path, [[0]] * 20)
    parts = [settings_of(tmp_path, dev_share=0.5, dev_part=part) for part in range(2)]
    first, second = map(held_out_rows, parts)
    np.testing.assert_array_equal(first, ~second)
    assert len(opened) == 1
    write_texts(tmp_path, [[0]] * 30)
    assert len(held_out_rows(parts[0])) == 30
    other = settings_of(tmp_path, dev_share=0.5, reader_options={"text_field": "labels[0]"})
    with pytest.raises(DataError, match="too few"):  # one text in all rows
        held_out_rows(other)
    assert len(opened) == 3


def test_copies_of_a_text_stay_together(tmp_path):
    lines = [{"text": f"text w{number % 20}", "labels": [f"l{number % 3}"]} for number in range(60)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = settings_of(tmp_path, dev_share=0.25)
    train, dev = (texts_of(open_split(settings, split)) for split in ("train", "dev"))
    assert len(train) == 45 and len(dev) == 15 and not {*train} & {*dev}


def of_titles(folder, synonyms, label_texts=None):
    """Settings of a catalogue: each label's title, then synonyms of some labels."""
    texts = [(f"title of w{number}", number) for number in range(50)]
    texts += [(f"synonym w{number}", number % 50) for number in range(synonyms)]
    lines = [{"text": text, "labels": [f"title_of_W{label}_here"]} for text, label in texts]
    (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    entries = [{"label": f"title_of_W{n}_here", "text": f"group; Title of W{n}"} for n in range(50)]
    (folder / "texts.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    given = "names" if label_texts is None else str(folder / label_texts)
    return settings_of(folder, dev_share=0.25, label_texts=given, text_features={"name": "tfidf"})


@pytest.mark.parametrize("label_texts", [None, "texts.jsonl"])
def test_titles_of_labels_are_not_held_out(tmp_path, label_texts):
    settings = of_titles(tmp_path, 400, label_texts)
    held_out = [held_out_rows(settings.model_copy(update={"dev_part": part})) for part in range(4)]
    np.testing.assert_array_equal(np.sum(held_out, axis=0), [0] * 50 + [1] * 400)
    assert [rows.sum() for rows in held_out] == [100] * 4


def test_it_is_said_how_many_titles_there_are(tmp_path, caplog):
    caplog.set_level("INFO", "tfxc")
    settings = of_titles(tmp_path, 400)
    prepare(settings, tmp_path / "prepared")
    assert caplog.text.count("titles of labels among the examples: 50;") == 1
    assert fingerprint(settings) != fingerprint(settings.model_copy(update={"dev_share": None}))


def test_titles_where_there_is_little_else(tmp_path, caplog):
    """Nothing could be measured on a share of a few synonyms."""
    caplog.set_level("INFO", "tfxc")
    settings = of_titles(tmp_path, 99)
    rows = held_out_rows(settings)
    assert rows[:50].any() and rows.sum() == 37
    prepare(settings, tmp_path / "prepared")
    assert "50; they are held out, too, as only 99 examples are none" in caplog.text


def test_titles_of_numbered_labels(tmp_path):
    lines = [{"text": text, "labels": [1]} for text in ("a lost card", "lost card")]
    lines += [{"text": f"another {number}", "labels": [0]} for number in range(300)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "names.txt").write_text("red_fox\nlost_card\n")
    words = {"label_texts": "names", "text_features": {"name": "tfidf"}}
    names = {"label_names": str(tmp_path / "names.txt")}
    titles = titles_of(settings_of(tmp_path, **words, **names))
    assert np.flatnonzero(titles).tolist() == [1]
    assert not titles_of(settings_of(tmp_path)).any()


def test_a_title_is_the_longest_example_that_the_text_begins_or_ends_with(tmp_path):
    texts = ["Red", "RED__fox.", "a red fox", "fox red", "", "--", "red fox red fox red"]
    lines = [{"text": text, "labels": ["the_red_fox", "red-fox", "dog"]} for text in texts]
    lines += [{"text": "RED__fox.", "labels": ["dog"]}]  # a copy stays with the title
    lines += [{"text": f"another {number}", "labels": ["dog"]} for number in range(300)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = {"label_texts": "names", "text_features": {"name": "tfidf"}}
    rows = held_out_rows(settings_of(tmp_path, dev_share=0.9999, **words))
    assert np.flatnonzero(~rows).tolist() == [1, 7]


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_two_parts_in_the_order_of_the_file(tmp_path, size):
    write_texts(tmp_path, [[number % 3] for number in range(50)])
    settings = settings_of(tmp_path, dev_share=0.2)
    parts = {split: open_split(settings, split) for split in ("train", "dev")}
    found = {split: texts_of(reader, size) for split, reader in parts.items()}
    assert {split: len(texts) for split, texts in found.items()} == {"train": 40, "dev": 10}
    assert sorted(found["train"] + found["dev"]) == sorted(f"text w{n}" for n in range(50))
    for split, reader in parts.items():
        assert found[split] == sorted(found[split], key=number_of)
        sizes = [len(chunk) for chunk in reader.chunks(size)]
        assert set(sizes[:-1]) <= {size}
        assert reader.num_examples == len(found[split])
        lists = list(itertools.chain.from_iterable(reader.label_lists(size)))
        assert lists == [[f"l{number_of(text) % 3}"] for text in found[split]]


class Chunks:
    """A reader of given chunks."""

    num_examples = 6

    def __init__(self, *chunks):
        self._chunks = chunks

    def chunks(self, size=4096):
        yield from self._chunks

    def label_lists(self, size=4096):
        yield from (chunk.labels for chunk in self._chunks)


@pytest.mark.parametrize(
    "images",
    [np.arange(24, dtype=np.uint8).reshape(6, 2, 2, 1), [b"a", b"b", b"c", b"d", b"e", b"f"]],
    ids=["pixels", "files"],
)
def test_images_and_their_names(tmp_path, monkeypatch, images):
    labels, names = [[0], [0], [0], [1], [1], [1]], list("uvwxyz")
    halves = [
        Chunk(labels=labels[part], images=images[part], names=names[part])
        for part in (slice(0, 3), slice(3, 6))
    ]
    monkeypatch.setattr(
        "tfxc.data.reading.held_out.open_reader", lambda *given, **options: Chunks(*halves)
    )
    settings = settings_of(tmp_path, dev_share=0.34)
    seen = {}
    for split in ("train", "dev"):
        for chunk in open_split(settings, split).chunks(4):
            seen |= dict(zip(chunk.names, chunk.images, strict=True))
    assert sorted(seen) == names
    for name, image in zip(names, images, strict=True):
        np.testing.assert_array_equal(np.asarray(seen[name]), np.asarray(image))


def test_prepared_data(tmp_path):
    """The vocabulary is that of the training part, and each example is in one of the splits."""
    write_texts(tmp_path, [[number % 3] for number in range(60)])
    settings = settings_of(tmp_path, dev_share=0.25, text_features={"name": "tfidf"})
    manifest = prepare(settings, tmp_path / "out")
    assert {split: info.examples for split, info in manifest.splits.items()} == {
        "train": 45,
        "dev": 15,
    }
    assert manifest.num_features == 46, "each text has a word of its own, next to a common one"
    (batch,) = ShardSource(tmp_path / "out", "dev").sequential(100)
    assert len(batch["labels"]) == 15
    assert Manifest.load(tmp_path / "out").sources["dev"].path == settings.train


def test_bad_settings(tmp_path):
    write_texts(tmp_path, [[0], [1]])
    with pytest.raises(ValueError, match="dev and dev_share exclude each other"):
        settings_of(tmp_path, dev="dev.jsonl", dev_share=0.1)
    with pytest.raises(ValueError, match="less than 1"):
        settings_of(tmp_path, dev_share=1.0)
    with pytest.raises(ValueError, match="there is no part 5 of the share"):
        settings_of(tmp_path, dev_share=0.2, dev_part=5)
    settings_of(tmp_path, dev_share=0.2, dev_part=4)
    with pytest.raises(DataError, match=r"2 examples are too few to hold out 0.2"):
        open_split(settings_of(tmp_path, dev_share=0.2), "train")


def test_prepared_folders_without_keep_their_name(tmp_path):
    settings = settings_of(tmp_path)
    assert "dev_share" in settings.model_dump()
    shares = {fingerprint(settings_of(tmp_path, dev_share=x)) for x in (None, 0.1, 0.2)}
    shares.add(fingerprint(settings_of(tmp_path, dev_share=0.2, dev_part=1)))
    assert len(shares) == 4
