"""The reader of feature sets, and catalogs of labels next to WebDataset shards."""

import numpy as np
import pytest

from tests.contracts.formats import ReaderContract, concatenated
from tests.data.reading.formats.test_webdataset import write_tar
from tests.data.store.feature_sets.examples import vectors, write_set
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.reading.formats import detect_format, open_reader, open_unlabelled
from tfxc.data.reading.parsing.catalogs import Catalog

CATALOG = """split,treeoflife_id,kingdom,species
train,a1,Plantae,Poa annua
val,b2,Animalia,"Ara, ararauna"
train,c3,Fungi,
train,d4,Plantae,Poa annua
train,e5,Plantae,Zea mays
"""


class TestFeatureSet(ReaderContract):
    format = "feature_set"
    label_type = int

    def write_sample(self, folder):
        return write_set(folder / "set")

    def write_compressed(self, folder):
        return ()

    def test_is_recognised_and_gives_the_rows(self, tmp_path):
        path = self.write_sample(tmp_path)
        assert detect_format(path) == "feature_set"
        chunk = concatenated(open_reader(path).chunks(10))
        np.testing.assert_array_equal(chunk.features, vectors(43))
        assert chunk.labels == [[i % 7] for i in range(43)]

    def test_names(self, tmp_path):
        path = write_set(tmp_path / "set", label_names=list("abcdefg"))
        assert concatenated(open_reader(path).chunks()).labels[:2] == [["a"], ["b"]]

    def test_an_empty_folder(self, tmp_path):
        with pytest.raises(DataError, match=r"this is not a feature set, .*: it is empty"):
            open_reader(tmp_path, "feature_set")


class TestCatalog:
    def write(self, folder, text=CATALOG):
        path = folder / "catalog.csv"
        path.write_text(text)
        return path

    def shards(self, folder, keys):
        return write_tar(folder / "a.tar", [(f"x/{key}.jpg", key.encode()) for key in keys])

    def read(self, folder, keys, **options):
        options.setdefault("catalog", str(self.write(folder)))
        return open_reader(self.shards(folder, keys), **options)

    def test_species_in_alphabetical_order(self, tmp_path):
        reader = self.read(tmp_path, ["e5", "c3", "a1", "b2"])
        assert reader.label_names == ["Ara, ararauna", "Poa annua", "Zea mays"]
        chunk = concatenated(reader.chunks(2))
        assert chunk.labels == [["Zea mays"], ["Poa annua"], ["Ara, ararauna"]]
        assert chunk.images == [b"e5", b"a1", b"b2"], "a row without a species is left out"
        assert [labels for part in reader.label_lists(2) for labels in part] == chunk.labels

    def test_other_columns(self, tmp_path):
        reader = self.read(tmp_path, ["a1", "c3"], label_column="kingdom")
        assert concatenated(reader.chunks()).labels == [["Plantae"], ["Fungi"]]

    def test_a_key_that_is_not_there(self, tmp_path):
        for key in ("a", "a11", "zz"):
            with pytest.raises(
                DataError, match=rf"sample 'x/{key}': .* has no row with the key '{key}'"
            ):
                list(self.read(tmp_path, ["a1", key]).chunks())

    def test_options_that_exclude_each_other(self, tmp_path):
        for options in ({"labelled": False}, {"label_key": "a"}):
            with pytest.raises(ConfigError, match="the labels come from the catalog"):
                self.read(tmp_path, ["a1"], **options)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "there is no column 'treeoflife_id', only an empty line"),
            ("id,species\n1,a\n", r"there is no column 'treeoflife_id', only id, species"),
            ("treeoflife_id,name\n1,a\n", "there is no column 'species'"),
            ("treeoflife_id,species\n1,a\n,b\n", r"catalog\.csv:3: the row '', 'b' does not have"),
            (
                "treeoflife_id,species\n1,a\n2\n",
                r"catalog\.csv:3: the row '2' does not have 2 values",
            ),
            ("treeoflife_id,species\n1,\n", "no row of the table has a label"),
            ("treeoflife_id,species\n", "no row of the table has a label"),
            ("treeoflife_id,species\n1,a\n2,b\n1,b\n", "the key '1' has two labels"),
            ('treeoflife_id,species\n1,"a\nb"\n', "the label name .* is not one non-empty line"),
        ],
    )
    def test_catalogs_that_cannot_be(self, tmp_path, text, message):
        with pytest.raises(DataError, match=message):
            Catalog(self.write(tmp_path, text), "treeoflife_id", "species")

    def test_no_catalog_and_no_text(self, tmp_path):
        with pytest.raises(DataError, match="no such file"):
            self.read(tmp_path, ["a1"], catalog=str(tmp_path / "absent.csv"))
        path = self.write(tmp_path)
        path.write_bytes(b"treeoflife_id,species\n1,\xff\n")
        with pytest.raises(DataError, match=r"catalog\.csv:2: the byte .* is not UTF-8"):
            Catalog(path, "treeoflife_id", "species")


def test_labels_of_shards_are_read_without_the_images(tmp_path):
    members = [("a.cls", b"3"), ("a.jpg", b"1"), ("b.jpg", b"2"), ("b.cls", b"5")]
    reader = open_reader(write_tar(tmp_path / "a.tar", members))
    assert list(reader.label_lists(1)) == [[[3]], [[5]]]


def test_a_catalog_for_training_is_not_asked_about_images_to_label(tmp_path):
    shards = write_tar(tmp_path / "a.tar", [("unknown.jpg", b"1")])
    options = {"catalog": str(tmp_path / "absent.csv"), "label_column": "genus"}
    reader = open_unlabelled(shards, "image", defaults=options)
    assert concatenated(reader.chunks(4)).images == [b"1"]
