"""What is found in Parquet files, and in folders that hold several splits."""

import json

import numpy as np
import pytest
import scipy.sparse

pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
import pyarrow

from tests.data.reading.formats.test_tables import saved as saved_table
from tests.data.reading.formats.test_tables import table_of
from tests.data.reading.formats.test_tables import write as table_file
from tests.data.reading.inspection.test_contents import FIRST, rows, texts_and_labels
from tfxc.core.config import parse_config
from tfxc.core.errors import DataError
from tfxc.data.reading.inspection.completion import Choice, complete
from tfxc.data.reading.inspection.contents import inspect
from tfxc.data.reading.parsing.column_guess import Wanted
from tfxc.data.store.manifest import Manifest
from tfxc.data.store.preparation import ensure_prepared


def test_columns_of_parquet(tmp_path):
    texts, labels = zip(*rows(), strict=True)
    several = [[label, "red"][: 1 + n % 2] for n, label in enumerate(labels)]
    table = {"id": range(40), "q": texts, "kind": labels, "tags": several, "raw": [b"x"] * 40}
    path = str(
        table_file(tmp_path / "a.parquet", pyarrow.table({k: [*v] for k, v in table.items()}))
    )
    found = inspect(path, Wanted(labels="kind"))
    assert (found.format, found.kind, found.labels) == ("parquet", "text", 3)
    assert found.options == {"text_field": "q", "labels_field": "kind"}
    assert texts_and_labels(path, found) == (FIRST[0], [FIRST[1]])
    found = inspect(path)
    assert found.options["labels_field"] == "tags", "by its name"
    assert found.several_labels and found.labels == 4
    with pytest.raises(
        DataError, match=r"a.parquet: there is no column 'kin', only .*did you mean 'kind'"
    ):
        inspect(path, Wanted(labels="kin"))


@pytest.mark.parametrize(
    ("labels", "kind", "expected"),
    [
        ([float(n % 3) for n in range(40)], pyarrow.float64(), 3),
        ([float(n % 3) if n % 7 else None for n in range(40)], pyarrow.float32(), 3),
        ([n % 2 == 0 for n in range(40)], pyarrow.bool_(), 2),
        ([f"topic {n % 3}" for n in range(40)], pyarrow.string_view(), 3),
        ([[f"topic {n % 3}", "all"] for n in range(40)], pyarrow.list_(pyarrow.string(), 2), 4),
    ],
    ids=["float", "gaps", "bool", "string_view", "fixed_size_list"],
)
def test_labels_of_other_types(tmp_path, labels, kind, expected):
    texts = [text for text, _ in rows()]
    table = pyarrow.table({"text": texts, "label": pyarrow.array(labels, kind)})
    for name in ("a.arrow", "a.parquet"):
        found = inspect(str(table_file(tmp_path / name, table)))
        assert (found.options["labels_field"], found.labels) == ("label", expected)
        assert found.unlabelled == labels.count(None)


def test_columns_of_types_that_cannot_be_labels_are_named(tmp_path):
    texts = [text for text, _ in rows()]
    table = pyarrow.table(
        {"text": texts, "kind": [b"x"] * 40, "score": [n / 40 for n in range(40)]}
    )
    path = str(table_file(tmp_path / "a.parquet", table.drop_columns("score")))
    with pytest.raises(DataError, match=r"columns are 'text', besides 'kind' \(binary\), whose"):
        inspect(path)
    with pytest.raises(DataError, match="the column 'kind' is of type binary, which is neither"):
        inspect(path, Wanted(labels="kind"))
    path = str(table_file(tmp_path / "b.parquet", table))
    with pytest.raises(DataError, match=r"'score': '0\.025' is not a label"):
        inspect(path)
    table = table.append_column("tone", [["glad", "sad"] * 20])
    found = inspect(str(table_file(tmp_path / "c.parquet", table)))
    assert found.options["labels_field"] == "tone", "a column of fractions holds no labels"


@pytest.mark.parametrize("saved", [False, True], ids=["files", "save_to_disk"])
def test_splits_of_a_folder(tmp_path, saved):
    for split, count in (("train", 40), ("validation", 8), ("test", 9)):
        texts, labels = zip(*rows(count), strict=True)
        table = pyarrow.table({"text": texts, "intent": labels})
        if saved:
            saved_table(tmp_path / "set" / split, [table])
        else:
            table_file(tmp_path / "set" / f"{split}-00000-of-00001.parquet", table)
    if saved:
        splits = {"splits": ["train", "validation", "test"]}
        (tmp_path / "set/dataset_dict.json").write_text(json.dumps(splits))
    found = inspect(str(tmp_path / "set"))
    assert (found.examples, found.labels, found.options["labels_field"]) == (40, 3, "intent")
    assert found.splits == {"train": "train", "dev": "validation", "test": "test"}
    chosen = inspect(str(tmp_path / "set"), given={"split": "test"})
    assert chosen.examples == 9 and not chosen.splits


def test_splits_that_do_not_say_what_they_are_for(tmp_path):
    for name in ("en", "fr"):
        table = pyarrow.table({"text": ["a", "b"], "label": ["x", "y"]})
        table_file(tmp_path / f"{name}-00000-of-00001.parquet", table)
    with pytest.raises(DataError, match=r"none of the splits en, fr is called train or "):
        inspect(str(tmp_path))


def test_splits_of_pecos(tmp_path):
    for split, count in (("train", 40), ("tst", 8)):
        (tmp_path / f"X.{split}.txt").write_text("".join(f"{text}\n" for text, _ in rows(count)))
        labels = scipy.sparse.csr_matrix(np.eye(3)[np.arange(count) % 3])
        scipy.sparse.save_npz(tmp_path / f"Y.{split}.npz", labels)
    found = inspect(str(tmp_path))
    assert (found.format, found.examples, found.labels) == ("pecos", 40, 3)
    assert found.splits == {"train": "train", "test": "tst"}
    (tmp_path / "Y.tst.npz").unlink()
    (tmp_path / "Y.train.npz").rename(tmp_path / "Y.all.npz")
    (tmp_path / "X.train.txt").rename(tmp_path / "X.all.txt")
    assert inspect(str(tmp_path)).splits == {"train": "all"}


@pytest.mark.parametrize("prefix", ["", "hf:"])
def test_splits_of_one_folder(tmp_path, prefix):
    for split, count in (("train", 40), ("validation", 8), ("test", 9)):
        texts, labels = zip(*rows(count), strict=True)
        saved_table(tmp_path / "set" / split, [table_of(texts, labels)])
    splits = {"splits": ["train", "validation", "test"]}
    (tmp_path / "set/dataset_dict.json").write_text(json.dumps(splits))
    path = f"{prefix}{tmp_path}/set"
    found = complete({"data": {"train": path}}, Choice("fast"))
    config = parse_config(found.tree)
    assert config.data.sources() == {"train": path, "dev": path, "test": path}
    assert config.data.name == "set" and config.data.dev_share is None
    assert "splits train 'train', dev 'validation', test 'test'" in found.lines()[-1]
    folder = ensure_prepared(config.data, tmp_path / "prepared")
    sizes = {split: info.examples for split, info in Manifest.load(folder).splits.items()}
    assert sizes == {"train": 40, "dev": 8, "test": 9}
    tree = {"data": {"train": path, "dev_share": 0.2, "test": f"{tmp_path}/set"}}
    data = complete(tree, Choice("fast")).tree["data"]
    assert "dev" not in data and data["split_options"]["test"] == {"split": "test"}
