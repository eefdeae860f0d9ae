"""Parquet, Arrow and saved data sets, written by pyarrow as others write them."""

import json

import pytest

pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
from tests.contracts.formats import ReaderContract, concatenated
from tfxc.core.errors import DataError
from tfxc.data.reading.formats import detect_format, open_reader, open_unlabelled
from tfxc.data.reading.inspection.contents import inspect
from tfxc.data.reading.parsing.column_guess import Wanted

TEXTS = [f"text {n} 狐" for n in range(10)]
NAMES = [["a"], ["b", "a"], [], ["c"], ["a"], ["b"], ["c", "c"], ["a"], ["b"], ["é, x"]]
LABELS = [list(dict.fromkeys(names)) for names in NAMES]


def table_of(texts=TEXTS, labels=NAMES, **columns):
    import pyarrow

    return pyarrow.table({"text": texts, "labels": labels, **columns})


def write(path, table, **options):
    """Writes a table as the ending of the file says."""
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path, **options)
        return path
    kind = pyarrow.ipc.new_file if path.suffix == ".feather" else pyarrow.ipc.new_stream
    with kind(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return path


def classes(names, several=True):
    """Features of a column of classes, as ``datasets`` writes them."""
    one = {"names": names, "_type": "ClassLabel"}
    return {"text": {"dtype": "string", "_type": "Value"},
            "labels": {"feature": one, "_type": "Sequence"} if several else one}  # fmt: skip


def with_classes(table, names):
    metadata = {"huggingface": json.dumps({"info": {"features": classes(names)}})}
    return table.replace_schema_metadata(metadata)


def saved(folder, tables, features=None):
    """A folder as ``Dataset.save_to_disk`` writes it."""
    names = [f"data-{n:05}-of-{len(tables):05}.arrow" for n in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        write(folder / name, table)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "f",
             "_format_columns": None, "_format_kwargs": {}, "_format_type": None,
             "_output_all_columns": False, "_split": None}  # fmt: skip
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features or {}}))
    return folder


class TableContract(ReaderContract):
    format = "parquet"
    suffix = ".parquet"

    def write_sample(self, folder):
        return write(folder / f"sample{self.suffix}", table_of())

    def write_compressed(self, folder):
        path = self.write_sample(folder)
        yield path, path

    def test_examples(self, tmp_path):
        reader = open_reader(self.write_sample(tmp_path))
        assert reader.num_examples in (None, 10)
        chunk = concatenated(reader.chunks(4))
        assert chunk.texts == TEXTS and chunk.labels == LABELS
        assert reader.bytes_read == reader.total_bytes


class TestParquet(TableContract):
    def test_row_groups(self, tmp_path):
        path = write(tmp_path / "a.parquet", table_of(), row_group_size=3)
        reader = open_reader(path)
        chunks = reader.chunks(2)
        next(chunks)
        assert 0 <= reader.bytes_read < reader.total_bytes
        assert concatenated(reader.chunks(4)).labels == LABELS
        assert reader.num_examples == 10


class TestArrow(TableContract):
    suffix = ".arrow"


class TestFeather(TableContract):
    suffix = ".feather"


class TestFolderOfFiles(ReaderContract):
    format = "parquet"

    def write_sample(self, folder):
        write(folder / "set/part-1.parquet", table_of(TEXTS[:4], NAMES[:4]))
        write(folder / "set/part-2.arrow", table_of(TEXTS[4:], NAMES[4:]))
        return folder / "set"

    def write_compressed(self, folder):
        yield self.write_sample(folder), folder / "set/part-2.arrow"

    def test_examples(self, tmp_path):
        chunk = concatenated(open_reader(self.write_sample(tmp_path)).chunks(3))
        assert chunk.texts == TEXTS and chunk.labels == LABELS


class TestSavedDataset(ReaderContract):
    format = "huggingface"

    def write_sample(self, folder):
        ids = [[{"a": 0, "b": 1, "c": 2, "é, x": 3}[name] for name in names] for names in NAMES]
        tables = [table_of(TEXTS[a:b], ids[a:b]) for a, b in ((0, 6), (6, 10))]
        write(folder / "saved/cache-1234.arrow", table_of())  # left there by .map()
        return saved(folder / "saved", tables, classes(["a", "b", "c", "é, x", "unused"]))

    def write_compressed(self, folder):
        yield self.write_sample(folder), folder / "saved/data-00001-of-00002.arrow"

    def test_examples(self, tmp_path):
        path = self.write_sample(tmp_path)
        assert detect_format(path) == "huggingface"
        reader = open_reader(path)
        chunk = concatenated(reader.chunks(3))
        assert chunk.texts == TEXTS and chunk.labels == LABELS
        assert reader.label_names == ["a", "b", "c", "é, x", "unused"]

    def test_a_dict_of_splits(self, tmp_path):
        saved(tmp_path / "all/train", [table_of()])
        saved(tmp_path / "all/test", [table_of(["x"], [["b"]])])
        (tmp_path / "all/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
        reader = open_reader(tmp_path / "all", split="test")
        assert concatenated(reader.chunks()).texts == ["x"]
        with pytest.raises(DataError, match=r"several splits: train, test\. "):
            open_reader(tmp_path / "all")

    def test_what_is_not_as_datasets_writes_it(self, tmp_path):
        path = self.write_sample(tmp_path)
        (path / "data-00001-of-00002.arrow").unlink()
        with pytest.raises(DataError, match=r"data-00001-of-00002\.arrow: state.json names this"):
            open_reader(path)
        state = json.loads((path / "state.json").read_text())
        (path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../x.arrow"}]}))
        with pytest.raises(DataError, match="is not a list of data files"):
            open_reader(path)
        indices = {"_indices_data_files": [{"filename": "i.arrow"}]}
        (path / "state.json").write_text(json.dumps(state | indices))
        with pytest.raises(DataError, match=r"flatten_indices\(\)"):
            open_reader(path)


def test_columns_and_kinds_of_labels(tmp_path):
    import pyarrow

    table = pyarrow.table({
        "body": TEXTS[:3],
        "tags": ["b; a", "", None],
        "number": pyarrow.array([4, None, 4], pyarrow.int32()),
        "coded": pyarrow.array(["x", "y", "x"]).dictionary_encode(),
    })  # fmt: skip
    path = write(tmp_path / "a.parquet", table)
    for options, expected in [
        ({"labels_field": "tags", "label_separator": ";"}, [["b", "a"], [], []]),
        ({"labels_field": "tags"}, [["b; a"], [], []]),
        ({"labels_field": "number"}, [[4], [], [4]]),
        ({"labels_field": "coded"}, [["x"], ["y"], ["x"]]),
    ]:
        assert concatenated(open_reader(path, text_field="body", **options).chunks()).labels == (
            expected
        )
    with pytest.raises(DataError, match=r"there is no column 'text' or 'sentence', only 'body'"):
        open_reader(path)
    with pytest.raises(DataError, match=r"there is no column 'tag', only .*labels_field"):
        open_reader(path, text_field="body", labels_field="tag")
    texts = open_unlabelled(path, "text", options={"text_field": "body"})
    assert concatenated(texts.chunks()).texts == TEXTS[:3]


@pytest.mark.parametrize("ending", [".parquet", ".arrow", ".feather"])
def test_every_type_that_can_hold_texts_or_labels(tmp_path, ending):
    """Polars writes views, pandas floats for numbers with gaps; lists have five types."""
    import pyarrow as pa

    texts, lists = ["a", "b"], [["x", "y"], ["y", "z"]]
    columns = {
        "view": (pa.array(texts, pa.string_view()), [["a"], ["b"]]),
        "large": (pa.array(texts, pa.large_string()), [["a"], ["b"]]),
        "coded": (pa.array(texts, pa.large_string()).dictionary_encode(), [["a"], ["b"]]),
        "fixed": (pa.array(lists, pa.list_(pa.string_view(), 2)), lists),
        "large_list": (pa.array(lists, pa.large_list(pa.string())), lists),
        "list_view": (pa.array(lists, pa.list_view(pa.string())), lists),
        "large_list_view": (pa.array(lists, pa.large_list_view(pa.string())), lists),
        "gaps": (pa.array([3.0, None], pa.float64()), [[3], []]),
        "decimal": (pa.array([3, 2], pa.decimal128(9, 2)), [[3], [2]]),
        "bool": (pa.array([True, False]), [["true"], ["false"]]),
        "unsigned": (pa.array([3, 2], pa.uint8()), [[3], [2]]),
    }
    table = pa.table({name: array for name, (array, _) in columns.items()})
    path = write(tmp_path / f"a{ending}", table)
    for name, (_, expected) in columns.items():
        for text in ("view", "large", "coded"):
            reader = open_reader(path, text_field=text, labels_field=name)
            chunk = concatenated(reader.chunks())
            assert (chunk.texts, chunk.labels) == (texts, expected), name


def test_classes_by_the_metadata_of_the_file(tmp_path):
    """As ``Dataset.to_parquet`` and the Hub write it; -1 is what test sets without labels have."""
    table = with_classes(table_of(TEXTS[:3], [[1], [-1], [0, 1]]), ["no", "yes"])
    for name in ("a.parquet", "a.arrow"):
        reader = open_reader(write(tmp_path / name, table))
        assert reader.label_names == ["no", "yes"]
        assert concatenated(reader.chunks()).labels == [["yes"], [], ["no", "yes"]]
    table = with_classes(table_of(TEXTS[:1], [[2]]), ["no", "yes"])
    with pytest.raises(
        DataError,
        match=r"row 1: column 'labels' contains '2', which is not the number of one of 2 classes",
    ):
        list(open_reader(write(tmp_path / "b.parquet", table)).chunks())


def test_splits_of_a_folder_do_not_mix(tmp_path):
    for name, texts in {
        "data/train-00000-of-00002": ["a"], "data/train-00001-of-00002": ["b"],
        "data/test-00000-of-00001": ["c"], "data/hard/validation": ["d"],
    }.items():  # fmt: skip
        write(tmp_path / f"{name}.parquet", table_of(texts, [["x"]] * len(texts)))
    for split, texts in {"train": ["a", "b"], "test": ["c"], "validation": ["d"]}.items():
        reader = open_reader(tmp_path / "data", split=split)
        assert concatenated(reader.chunks()).texts == texts
    with pytest.raises(DataError, match="several splits: test, train, validation"):
        open_reader(tmp_path / "data")
    with pytest.raises(DataError, match="there is no split 'dev', only test"):
        open_reader(tmp_path / "data", split="dev")


def test_folders_as_the_hub_has_them(tmp_path):
    write(tmp_path / "set/data/train-00000-of-00001.parquet", table_of(["a"], [["x"]]))
    (tmp_path / "set/README.md").write_text("a card")
    assert detect_format(tmp_path / "set") == "parquet"
    assert concatenated(open_reader(tmp_path / "set").chunks()).texts == ["a"]
    write(tmp_path / "set/small/train-00000-of-00001.parquet", table_of(["b"], [["x"]]))
    with pytest.raises(DataError, match=r"several data sets: .* in data and in small\. Name"):
        open_reader(tmp_path / "set")
    assert concatenated(open_reader(tmp_path / "set/small").chunks()).texts == ["b"]


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (["a", None], [["x"], ["y"]], r"row 2: column 'text' contains 'None', which is not a text"),
        (["a"], [[0.5]], r"row 1: 'labels': '0.5' is not a label"),
        (["a"], [["x\ny"]], r"row 1: the label name .* is not one non-empty line"),
        ([1], [["x"]], r"row 1: column 'text' contains '1', which is not a text"),
        (["a"], [[-3]], "row 1: the label id -3 is not one of 0 to"),
    ],
)
def test_wrong_values(tmp_path, texts, labels, message):
    path = write(tmp_path / "a.parquet", table_of(texts, labels))
    with pytest.raises(DataError, match=message):
        list(open_reader(path).chunks())


def test_structures(tmp_path):
    """A column of each field, also of those in others, in both kinds of files."""
    values = [{"body": f"text {n}", "more": {"queue": "ab"[n % 2]}} for n in range(20)]
    values[3] = {"body": "x", "more": None}
    import pyarrow

    more = pyarrow.struct([("queue", pyarrow.string())])
    schema = pyarrow.schema(
        [
            ("id", pyarrow.int64()),
            ("doc", pyarrow.struct([("body", pyarrow.string()), ("more", more)])),
            ("m", pyarrow.map_(pyarrow.string(), pyarrow.int32())),
        ]
    )
    columns = {"id": list(range(20)), "doc": values, "m": [[("a", 1)]] * 20}
    table = pyarrow.table(columns, schema=schema)
    for name in ("a.parquet", "a.arrow"):
        write(tmp_path / name, table)
        found = inspect(str(tmp_path / name))
        assert found.options == {"text_field": "doc.body", "labels_field": "doc.more.queue"}
        chunk = concatenated(open_reader(tmp_path / name, **found.options).chunks())
        assert chunk.texts[:4] == ["text 0", "text 1", "text 2", "x"]
        assert chunk.labels[:4] == [["a"], ["b"], ["a"], []]
        with pytest.raises(DataError, match=r"the column 'm' is of type map<string, int32"):
            inspect(str(tmp_path / name), Wanted(labels="m"))
