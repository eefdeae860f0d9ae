"""What is found in a training file, good or bad."""

import json

import numpy as np
import pytest

from tests import tiny
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.reading.formats import open_reader
from tfxc.data.reading.inspection import contents
from tfxc.data.reading.inspection.completion import describe, oddities
from tfxc.data.reading.inspection.contents import inspect
from tfxc.data.reading.parsing.column_guess import Wanted

WORDS = ["red", "blue", "fox", "sea", "rose", "owl", "tree", "stone"]


def rows(count=40, labels=("animal", "plant", "water")):
    """(text, label) pairs, the texts distinct."""
    for number in range(count):
        words = [WORDS[(number + step) % len(WORDS)] for step in range(5)]
        yield f"{' '.join(words)} number {number}", labels[number % len(labels)]


def write(path, header, lines, separator=",", encoding="utf-8"):
    text = "\n".join([*([header] if header else []), *lines]) + "\n"
    path.write_text(text.replace(",", separator), encoding=encoding)
    return str(path)


def pairs(count=40, **options):
    return [f"{text},{label}" for text, label in rows(count, **options)]


def texts_and_labels(path, found):
    """The first example, read as the options say."""
    chunk = next(open_reader(path, found.format, **found.options).chunks(100))
    return chunk.texts[0], chunk.labels[0]


FIRST = next(rows())
# One pixel.
GIF = bytes.fromhex("47494638396101000100800000000000ffffff2c00000000010001000002024401003b")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize(
    ("name", "header", "separator"),
    [
        ("a.csv", "text,label", ","),
        ("a.csv", "Question,Topic", ","),
        ("a.csv", "text,label", ";"),
        ("a.csv", "one,other", ";"),
        ("a.tsv", "text,label", "\t"),
        ("a.csv", None, ","),
        ("a.csv", None, ";"),
    ],
)
def test_tables(tmp_path, name, header, separator, encoding):
    path = write(tmp_path / name, header, pairs(), separator, encoding)
    found = inspect(path)
    assert (found.format, found.kind, found.examples, found.labels) == ("delimited", "text", 40, 3)
    assert not found.several_labels and found.complete and found.tokens == "words"
    assert found.length == 7
    assert texts_and_labels(path, found) == (FIRST[0], [FIRST[1]])


def test_the_columns_of_a_wide_table(tmp_path):
    lines = [f"{n},en,{text},{label}" for n, (text, label) in enumerate(rows())]
    path = write(tmp_path / "a.csv", "id,language,words,kind", lines)
    with pytest.raises(
        DataError, match=r"several columns could be the labels: 'language', 'kind'\. "
    ):
        inspect(path)
    found = inspect(path, Wanted(labels="kind"))
    assert (found.options["text_field"], found.options["labels_field"]) == ("words", "kind")
    subjects = write(tmp_path / "b.csv", "id,subject,words,kind", lines)
    assert inspect(subjects).options == {"text_field": "words", "labels_field": "kind"}
    with pytest.raises(DataError, match=r"there is no column 'kid', only .*did you mean 'kind'"):
        inspect(path, Wanted(labels="kid"))


def test_several_labels_in_a_cell(tmp_path):
    cells = ["animal|red", "red", "water", "animal", "animal|water"] * 6
    lines = [f"{text},{cell}" for (text, _), cell in zip(rows(30), cells, strict=True)]
    found = inspect(write(tmp_path / "a.csv", "text,tags", lines))
    assert found.options["label_separator"] == "|" and found.labels == 3
    assert found.several_labels and found.labels_each == pytest.approx(1.4)


@pytest.mark.parametrize(
    "form",
    ["{};", "{};;{}", "; {} ;", "{}\uff1b{}", "{}\u3001{}", "{}\uff0c{}", "{}#{}"],
    ids=["behind", "doubled", "around", "full-width semicolon", "ideographic", "comma", "doccano"],
)
def test_separators_as_people_write_them(tmp_path, form):
    """One behind the last label, doubled ones, those of other scripts, doccano's export."""
    separator = form.replace("{}", "").strip()[:1]
    joiner = form.split("{}")[1] if form.count("{}") > 1 else separator
    chosen = [[0, 1], [1], [2], [0], [0, 2, 3], [3]] * 6
    cells = [joiner.join(f"l{label}" for label in labels) for labels in chosen]
    if form.count("{}") == 1:
        cells = [form.replace("{}", cell) for cell in cells]
    lines = [f"{text}\t{cell}" for (text, _), cell in zip(rows(36), cells, strict=True)]
    (tmp_path / "a.tsv").write_text("\n".join(["text\ttags", *lines]), encoding="utf-8")
    found = inspect(str(tmp_path / "a.tsv"))
    assert found.options["label_separator"] == separator and found.labels == 4
    examples = [
        {"text": text, "tags": cell} for (text, _), cell in zip(rows(36), cells, strict=True)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(each) + "\n" for each in examples))
    found = inspect(str(tmp_path / "a.jsonl"))
    assert found.options["label_separator"] == separator and found.labels == 4


@pytest.mark.parametrize("names", [("Issue #1", "Issue #2", "Task #1", "Task #2"), ("C#", "F#")])
def test_a_sign_in_names_is_no_separator(tmp_path, names):
    found = inspect(write(tmp_path / "a.csv", "text,label", pairs(labels=names)))
    assert "label_separator" not in found.options and found.labels == len(names)


def test_a_column_of_0_and_1_for_each_label(tmp_path):
    """As of Jigsaw's toxic comments; a label that the first rows do not have is one, too."""
    lines = [
        f"{number},{text},{number % 2},{int(number % 6 == 1)},0"
        for number, (text, _) in enumerate(rows())
    ]
    path = write(tmp_path / "a.csv", "id,text,toxic,obscene,threat", lines)
    found = inspect(path)
    labels = ["toxic", "obscene", "threat"]
    assert found.options == {"text_field": "text", "labels_field": labels}
    assert found.several_labels and found.unlabelled == 20
    assert "labels in 3 columns of 0 and 1, 'toxic' to 'threat'" in describe(found)
    one = inspect(path, Wanted(labels="toxic"))
    assert one.options["labels_field"] == "toxic" and one.labels == 2
    empty = write(tmp_path / "c.csv", "id,text,toxic,obscene,threat,note", [f"{x}," for x in lines])
    assert inspect(empty).options["labels_field"] == labels, "an empty column is not a label"
    lines = [f"{line},{'ab'[n // 7 % 2]}" for n, line in enumerate(lines)]
    path = write(tmp_path / "b.csv", "id,text,toxic,obscene,threat,site", lines)
    message = r"'site', or 3 columns of 0 and 1 \('toxic', .*labels_field=\["
    with pytest.raises(DataError, match=message):
        inspect(path)
    given = {"labels_field": labels}
    assert inspect(path, given=given).options["labels_field"] == labels


def test_a_wrong_delimiter_is_what_the_message_names(tmp_path):
    path = write(tmp_path / "a.csv", "text;kind", [f"{text};{kind}" for text, kind in rows()])
    message = r"no column 'kind', only 'text;kind'\. Check what separates the cells, .* delimiter\."
    with pytest.raises(DataError, match=message):
        inspect(path, Wanted(labels="kind"), given={"delimiter": ","})


def test_dates_are_no_labels(tmp_path):
    """As of tables of a help desk: a day and a time that repeat."""
    lines = [
        f"{n},{n % 6 + 1:02d}.03.2024,2024-03-{n % 6 + 1:02d}T10:00:00Z,{text},{'ab'[n % 2]}"
        for n, (text, _) in enumerate(rows())
    ]
    path = write(tmp_path / "a.csv", "id,day,time,note,kind", lines)
    assert inspect(path).options == {"text_field": "note", "labels_field": "kind"}
    assert inspect(path, Wanted(labels="day")).labels == 6, "unless they are named"


def test_objects_within_objects(tmp_path):
    """Their keys are paths; what has no tool's shape and could be several things is asked for."""
    examples = [
        {"doc": {"text": text, "queue": "ab"[n % 2], "state": "cd"[n % 2]}, "more": [{"x": {}}]}
        for n, (text, _) in enumerate(rows())
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in examples))
    message = r"several keys could be the labels: 'doc\.queue', 'doc\.state'\. Pick one"
    with pytest.raises(DataError, match=message):
        inspect(str(path))
    found = inspect(str(path), Wanted(labels="doc.queue"))
    assert found.options == {"text_field": "doc.text", "labels_field": "doc.queue"}
    with pytest.raises(
        DataError, match=r"there is no key 'doc\.queu', .* did you mean 'doc.queue'"
    ):
        inspect(str(path), Wanted(labels="doc.queu"))


def test_labels_that_may_be_several(tmp_path):
    """Names look the same; so it is only said, and not where the user has settled it."""
    cells = ["animal", "animal|red", "water", "water|deep"] * 10
    lines = [f"{text},{cell}" for (text, _), cell in zip(rows(40), cells, strict=True)]
    path = write(tmp_path / "a.csv", "text,tags", lines)
    found = inspect(path)
    assert found.labels == 4 and "label_separator" not in found.options
    assert "a.csv: every example has one label, but 2 of 4 label names" in found.warning
    settled = inspect(path, given={"label_separator": None})
    assert settled.warning is None and "separator" not in describe(settled)
    split = inspect(path, given={"label_separator": "|"})
    assert split.labels == 4 and split.warning is None
    lines = [f"__label__{cell} {text}" for (text, _), cell in zip(rows(40), cells, strict=True)]
    assert "list the labels one by one" in inspect(write(tmp_path / "a.txt", None, lines)).warning


def test_many_labels_may_be_numbers(tmp_path):
    """Ids are no texts whose words could be labels of their own."""
    path = tmp_path / "a.jsonl"
    examples = [{"text": text, "tag": number % 30} for number, (text, _) in enumerate(rows(60))]
    path.write_text("".join(json.dumps(example) + "\n" for example in examples))
    seen = inspect(str(path))
    assert (seen.labels, seen.warning) == (30, None)


def test_lists_in_a_cell(tmp_path):
    cells = ["['animal', 'red']", "['red']", "['water']", "[]"] * 5
    lines = [f'{text};"{cell}"' for (text, _), cell in zip(rows(20), cells, strict=True)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["text;tags", *lines]))
    found = inspect(str(path))
    assert found.options["label_separator"] == "[]" and found.labels == 3
    assert found.unlabelled == 5 and oddities(found)[1].startswith("rows without a label: 5 (e.g.")
    assert texts_and_labels(path, found)[1] == ["animal", "red"]


def test_quoted_line_breaks(tmp_path):
    lines = [f'"{text}\nsecond line, too",{label}' for text, label in rows()]
    path = tmp_path / "a.csv"
    path.write_text("\r\n".join(["text,label", *lines]) + "\r\n")
    found = inspect(str(path))
    assert found.examples == 40 and "second line, too" in texts_and_labels(path, found)[0]


def test_objects_and_their_keys(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [{"q": text, "n": n, "tags": [label]} for n, (text, label) in enumerate(rows())]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = inspect(str(path))
    assert (found.format, found.options) == ("jsonl", {"text_field": "q", "labels_field": "tags"})
    path.write_text("".join(f'{{"text": "{t}", "labels": ["{name}"]}}\n' for t, name in rows()))
    assert inspect(str(path)).options == {}, "the reader's own names need not be said"


def test_lines_of_fasttext(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("".join(f"__label__{label} {text}\n" for text, label in rows()))
    found = inspect(str(path))
    assert (found.format, found.labels, found.examples) == ("fasttext_lines", 3, 40)
    assert texts_and_labels(path, found) == (FIRST[0], [FIRST[1]])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("这件衣服质量很好,我很喜欢。穿起来很舒服。", "characters"),
        ("とても良い商品でした。また買います。", "characters"),
        ("这 件 衣服 质量 很 好 我 很 喜欢", "words"),
        ("이 제품은 정말 좋습니다 다시 사겠습니다", "words"),
        ("ordinary words with one 字 in them", "words"),
    ],
)
def test_script(tmp_path, text, expected):
    lines = [f"{text.replace(',', ' ')} {n}\t{'ab'[n % 2]}" for n in range(20)]
    found = inspect(write(tmp_path / "a.tsv", "text\tlabel", lines))
    assert found.tokens == expected


def test_sparse_features(tmp_path):
    tiny.write_split(tmp_path / "train.txt", 50, seed=0)
    found = inspect(str(tmp_path / "train.txt"))
    assert (found.format, found.kind, found.examples) == ("xc_repository", "sparse", 50)
    assert found.several_labels
    (tmp_path / "a.svm").write_text("0 1:1 7:2\n1,2 3:1\n" * 20)
    found = inspect(str(tmp_path / "a.svm"))
    assert found.options == {"zero_based": False, "num_features": 7}, "of all splits"
    with pytest.raises(
        ConfigError, match=r"--text-column: files of this format .* have no columns"
    ):
        inspect(str(tmp_path / "a.svm"), Wanted(text="text"))


def test_dense_vectors(tmp_path):
    arrays = {"features": np.eye(30, 4), "labels": np.arange(30) % 3}
    np.savez(tmp_path / "a.npz", **arrays)
    found = inspect(str(tmp_path / "a.npz"))
    assert (found.kind, found.examples, found.labels, found.several_labels) == (
        "dense", 30, 3, False
    )  # fmt: skip


def test_folder_of_images(tmp_path):
    import tensorflow as tf

    for number in range(12):
        folder = tmp_path / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        pixels = tf.zeros((200, 300 + number, 3), tf.uint8)
        (folder / f"{number}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    found = inspect(str(tmp_path))
    assert (found.format, found.kind, found.examples, found.labels) == (
        "image_folder", "image", 12, 2
    )  # fmt: skip
    assert found.image_shape == (96, 146, 3), "the shorter side is at most 96"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "a column of texts or one of labels is missing: there are no columns"),
        (b"text,label\n", "there are no examples"),
        (b"text\none\ntwo\n", "one of labels is missing: the columns are 'text'"),
        (b"text,label,text\na b,x,c d\n", "2 columns have the name 'text'"),
        (b"text,label\na b,x\nc d,x\n", "the only label in 'label' of all 2 examples is 'x'"),
        (b"text,label\na b,\nc d,\n", "there are no labels in 'label' in 2 examples"),
        (
            b"a,b,label\n1,-2.5,x\n3,1e9,y\n",
            "no column of texts accompanies the labels in 'label'",
        ),
        ("text,label\na,x\n".encode("utf-16-le"), "the only label in 'label' of all 1 examples"),
        (b"text,label\n\xe9t\xe9,x\n", "the only label in 'label' of all 1 examples is 'x'"),
        (b"text,label\n\x81t\0\xff,x\n", "zero bytes"),
    ],
)
def test_one_clear_error(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        inspect(str(path))
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [(["refund", "lost_card"], True), (["A01.2", "GO:17"], False), (["12", "Preis"], False)],
)
def test_labels_that_have_words_for_names(tmp_path, labels, expected):
    lines = [f"text number {i},{labels[i % 2]}" for i in range(40)]
    assert inspect(write(tmp_path / "a.csv", "text,label", lines)).named_labels is expected


def test_a_column_of_ids_is_no_column_of_labels(tmp_path):
    lines = [f"{text},{number}" for number, (text, _) in enumerate(rows())]
    path = write(tmp_path / "a.csv", "text,label", lines)
    with pytest.raises(
        DataError, match=r"label in 'label' occurs twice: 40 different ones in 40 examples"
    ):
        inspect(path)


def test_a_column_of_texts_is_no_column_of_labels(tmp_path):
    """Even if a few of them occur twice."""
    numbers = [0, 0, 1, 1, *range(2, 38)]
    lines = [f"{text},text {number}" for number, (text, _) in zip(numbers, rows(), strict=True)]
    with pytest.raises(
        DataError, match=r"label in 'label' occurs twice: 38 different ones in 40 examples"
    ):
        inspect(write(tmp_path / "a.csv", "text,label", lines))


def test_lines_of_vowpal_wabbit(tmp_path):
    path = tmp_path / "a.vw"
    path.write_text("".join(f"{n % 3 + 1} | {n % 5}:1 7\n" for n in range(40)))
    found = inspect(str(path))
    assert found.options == {"num_features": 8} and found.labels == 3
    path.write_text("".join(f"{n % 3} |text red:{n} fox\n" for n in range(40)))
    found = inspect(str(path))
    assert found.options == {"label_base": 0, "num_hashed_features": 1 << 18}
    assert (found.kind, found.labels, found.examples) == ("sparse", 3, 40)


def test_a_folder_of_images_per_split(tmp_path, capsys):
    for split, count in (("train", 12), ("val", 4)):
        for number in range(count):
            folder = tmp_path / "set" / split / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}.gif").write_bytes(GIF)
            (folder / "one.webp").write_bytes(b"RIFF")
    found = inspect(str(tmp_path / "set"))
    assert (found.format, found.examples, found.labels) == ("image_folder", 12, 2)
    assert found.splits == {"train": "train", "dev": "val"} and found.image_shape == (1, 1, 3)
    assert "train: 2 .webp files are skipped" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"several splits: train, val\. "):
        open_reader(tmp_path / "set")


def test_a_large_file_of_features_is_read_in_part(tmp_path, monkeypatch):
    """Its number of examples is an estimate, and what only its end may show is not refused."""
    monkeypatch.setattr(contents, "MOST_EXAMPLES", 5000)
    lines = [f"1 {n % 90 + 1}:0.5 {n % 7 + 100}:1" for n in range(20_000)]
    (tmp_path / "a.svm").write_text("\n".join([*lines, "2 1:1"]))
    read = []
    count = contents._Sample._add
    monkeypatch.setattr(
        contents._Sample, "_add", lambda self, chunk: (read.append(len(chunk)), count(self, chunk))
    )
    found = inspect(str(tmp_path / "a.svm"))
    assert not found.complete and sum(read) < 10_000
    assert found.examples == pytest.approx(20_001, rel=0.1)


def test_a_large_file_of_texts_is_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "MOST_EXAMPLES", 5000)
    lines = [*pairs(20_000, labels=("only",)), "the last one,other"]
    found = inspect(write(tmp_path / "a.csv", "text,label", lines))
    assert found.complete and found.examples == 20_001 and found.labels == 2
