"""Image folders and archives of pixels, against NumPy."""

import json

import numpy as np
import pytest

from tests.contracts.formats import ReaderContract, concatenated
from tests.folders import data_folder
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.reading.formats import open_reader

FILES = {
    "cat": ["10.jpg", "2.jpg", "a.JPEG", "deeper/b.png"],
    "Dog é": ["x.bmp", "y.Gif"],
    "eel": ["1.png", "2.PNG", "3.jpeg"],
}
COUNT = 11


class TestImageFolder(ReaderContract):
    format = "image_folder"

    def write_sample(self, folder):
        for label, files in FILES.items():
            for name in [*files, ".hidden.jpg", "notes.txt"]:
                path = folder / "set" / label / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(f"{label}/{name}".encode())
        (folder / "set" / ".cache").mkdir(exist_ok=True)
        (folder / "set" / "LICENSE").write_text("free")
        return folder / "set"

    def write_compressed(self, folder):
        return ()

    def test_examples(self, tmp_path):
        reader = open_reader(self.write_sample(tmp_path))
        chunk = concatenated(reader.chunks(2))
        expected = [(name, label) for label in sorted(FILES) for name in FILES[label]]
        assert chunk.names == [f"{label}/{name}" for name, label in expected]
        assert chunk.labels == [[label] for _, label in expected]
        assert chunk.images == [name.encode() for name in chunk.names]
        assert (reader.num_examples, reader.num_labels) == (9, 3)
        assert reader.label_names == ["Dog é", "cat", "eel"]

    def test_chosen_extensions(self, tmp_path):
        path = self.write_sample(tmp_path)
        reader = open_reader(path, extensions=["PNG", ".jpg"], skip_empty=True)
        assert reader.label_names == ["cat", "eel"]
        names = concatenated(reader.chunks()).names
        assert names == ["cat/10.jpg", "cat/2.jpg", "cat/deeper/b.png", "eel/1.png", "eel/2.PNG"]

    def test_without_labels(self, tmp_path):
        path = self.write_sample(tmp_path)
        (path / "z.png").write_bytes(b"flat")
        reader = open_reader(path, labelled=False)
        chunk = concatenated(reader.chunks())
        assert chunk.labels == [[]] * 10
        assert chunk.names[:2] == ["z.png", "Dog é/x.bmp"]
        assert (reader.num_examples, reader.num_labels) == (10, None)
        assert open_reader(path / "cat", labelled=False).num_examples == 4

    def test_empty_class(self, tmp_path):
        path = self.write_sample(tmp_path)
        (path / "fox").mkdir()
        (path / "fox" / "a.tif").touch()
        with pytest.raises(DataError, match=r"set/fox: .* class 'fox' has no image files"):
            open_reader(path)
        assert open_reader(path, skip_empty=True).label_names == ["Dog é", "cat", "eel"]

    def test_other_shapes(self, tmp_path):
        path = self.write_sample(tmp_path)
        with pytest.raises(DataError, match=r"the image 10\.jpg is not in the sub-folder"):
            open_reader(path / "cat")
        with pytest.raises(DataError, match="this is a file"):
            open_reader(path / "cat" / "2.jpg", "image_folder")
        (tmp_path / "none").mkdir()
        with pytest.raises(DataError, match="none: the folder has no image files"):
            open_reader(tmp_path / "none", "image_folder")
        for extensions, problem in (([], "must be a text or a list"), ([""], "an ending is empty")):
            with pytest.raises(ConfigError, match=f"extensions: {problem}"):
                open_reader(path, extensions=extensions)


class TestImageArrays(ReaderContract):
    format = "image_arrays"
    label_type = int
    images = np.random.default_rng(1).integers(0, 256, (COUNT, 5, 3), np.uint8)
    ids = np.arange(COUNT) % 4

    def write(self, path, **arrays):
        np.savez(path, **({"images": self.images, "labels": self.ids} | arrays))
        return path

    def write_sample(self, folder):
        return self.write(folder / "sample.npz")

    def write_compressed(self, folder):
        path = folder / "packed.npz"
        np.savez_compressed(path, images=self.images, labels=self.ids)
        yield path, path

    def test_grey_colour_and_inverted(self, tmp_path):
        path = self.write_sample(tmp_path)
        chunk = concatenated(open_reader(path).chunks(4))
        np.testing.assert_array_equal(chunk.images, self.images[..., None])
        assert chunk.labels == [[label] for label in self.ids.tolist()]
        assert chunk.names[10] == "images[10]"
        chunk = concatenated(open_reader(path, invert=True).chunks(4))
        np.testing.assert_array_equal(chunk.images, 255 - self.images[..., None])
        colour = np.stack([self.images] * 3, -1)
        chunk = concatenated(open_reader(self.write(path, images=colour)).chunks(4))
        np.testing.assert_array_equal(chunk.images, colour)

    @pytest.mark.parametrize("invert", [False, True])
    def test_packed(self, tmp_path, invert):
        ink = self.images > 127
        packed = np.packbits(ink.reshape(COUNT, 15), axis=1)
        assert packed.shape == (COUNT, 2)
        path = self.write(tmp_path / "a.npz", bits=packed)
        reader = open_reader(path, images="bits", packed_shape=[5, 3], invert=invert)
        expected = np.where(ink ^ invert, 255, 0)[..., None]
        np.testing.assert_array_equal(concatenated(reader.chunks(4)).images, expected)

    def test_classes(self, tmp_path):
        path = self.write_sample(tmp_path)
        (tmp_path / "names.json").write_text('["a", "b", "c", "d"]')
        kept = np.flatnonzero((self.ids >= 1) & (self.ids < 3))
        reader = open_reader(path, classes=[1, 3])
        chunk = concatenated(reader.chunks(4))
        assert (reader.num_examples, reader.num_labels, reader.label_names) == (6, 2, None)
        assert chunk.labels == [[label - 1] for label in self.ids[kept].tolist()]
        np.testing.assert_array_equal(chunk.images, self.images[kept][..., None])
        assert chunk.names == [f"images[{index}]" for index in kept]
        reader = open_reader(path, classes=[1, 3], class_names="names.json")
        assert reader.label_names == ["b", "c"]
        assert concatenated(reader.chunks()).labels == [["abcd"[i]] for i in self.ids[kept]]
        reader = open_reader(path, class_names=str(tmp_path / "names.json"))
        assert (reader.num_labels, reader.label_names) == (4, ["a", "b", "c", "d"])

    def test_names_and_no_labels(self, tmp_path):
        names = np.array(["cat", "é"])[self.ids % 2]
        path = self.write(tmp_path / "a.npz", tags=names)
        assert concatenated(open_reader(path, labels="tags").chunks()).labels[:2] == [
            ["cat"],
            ["é"],
        ]
        np.savez(path, images=self.images)
        assert concatenated(open_reader(path, labelled=False).chunks(4)).labels == [[]] * COUNT

    @pytest.mark.parametrize(
        ("options", "arrays", "message"),
        [
            (
                {},
                {"images": np.zeros((11, 4, 4))},
                r"images: the array is float64 \(11, 4, 4\) instead of uint8",
            ),
            (
                {},
                {"images": np.zeros((11, 4), np.uint8)},
                r"images: the array is .* instead of uint8",
            ),
            (
                {},
                {"images": np.zeros((11, 4, 4, 2), np.uint8)},
                "images: the array is .* instead of uint8",
            ),
            (
                {},
                {"images": np.zeros((11, 0, 4), np.uint8)},
                "images: the array is .* instead of uint8",
            ),
            ({}, {"images": np.asfortranarray(np.zeros((11, 2, 2), np.uint8))}, "Fortran order"),
            ({"packed_shape": [5, 4]}, {"images": np.zeros((11, 2), np.uint8)}, r"\(n, 3\)"),
            ({}, {"labels": np.zeros(10, int)}, r"labels: .* instead of .* of shape \(11,\)"),
            (
                {},
                {"labels": np.zeros(11)},
                "labels: the array is float64 .* instead of integers or strings",
            ),
            ({}, {"labels": np.full(11, -1)}, r"labels\[0\]: the label id -1 is not"),
            ({}, {"labels": np.array([None] * 11)}, "labels: "),
            ({}, {"labels": np.array(["a\nb"] * 11)}, "labels: the label name .* is not one"),
            ({"classes": [0, 2]}, {"labels": np.array(["a"] * 11)}, "instead of integers of shape"),
            ({"classes": [7, 9]}, {}, "no images of the classes 7 to 8"),
            ({"images": "pixels"}, {}, "no array 'pixels', only images, labels"),
            ({"labels": "label"}, {}, "no array 'label'"),
        ],
    )
    def test_bad_arrays(self, tmp_path, options, arrays, message):
        path = self.write(tmp_path / "a.npz", **arrays)
        with pytest.raises(DataError, match=rf"a\.npz: .*{message}|a\.npz: {message}"):
            open_reader(path, "image_arrays", **options)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("[", "not (JSON:|a JSON list of names)"),
            ('{"a": 0}', "not (JSON:|a JSON list of names)"),
            ("[1]", "not (JSON:|a JSON list of names)"),
            ('["a", ""]', r"names\.json\[1\]: the label name .* is not one"),
            ('["a", "b", "a"]', "label name 'a' occurs twice, as 0 and 2"),
        ],
    )
    def test_bad_names(self, tmp_path, content, message):
        path = self.write_sample(tmp_path)
        with pytest.raises(DataError, match=r"names\.json: no such file"):
            open_reader(path, class_names="names.json")
        (tmp_path / "names.json").write_text(content)
        with pytest.raises(DataError, match=message):
            open_reader(path, class_names="names.json")

    def test_labels_without_names(self, tmp_path):
        path = self.write_sample(tmp_path)
        (tmp_path / "names.json").write_text('["a", "b", "c"]')
        with pytest.raises(DataError, match=r"labels\[3\]: the label id 3 is not one of 0 to 2"):
            open_reader(path, class_names="names.json")
        with pytest.raises(DataError, match="names 3 classes, but classes goes up to 4"):
            open_reader(path, class_names="names.json", classes=[1, 5])

    @pytest.mark.parametrize(
        "options",
        [
            {"packed_shape": [5]},
            {"packed_shape": [0, 5]},
            {"packed_shape": 15},
            {"classes": [2, 2]},
            {"classes": [-1, 2]},
            {"classes": [0, True]},
            {"classes": [0, 2], "labelled": False},
        ],
    )
    def test_bad_options(self, tmp_path, options):
        with pytest.raises(ConfigError, match=list(options)[-1]):
            open_reader(self.write_sample(tmp_path), **options)

    @pytest.mark.parametrize("split", ["train", "dev"])
    def test_omniglot(self, split):
        path = data_folder("omniglot") / f"{split}.npz"
        options = {"images": "images_packed", "labels": "label", "packed_shape": [105, 105]}
        reader = open_reader(path, classes=[1400, 1623], class_names="class_names.json", **options)
        with np.load(path) as archive:
            packed, labels = archive["images_packed"], archive["label"]
        kept = labels >= 1400
        names = json.loads((path.parent / "class_names.json").read_text("utf-8"))
        chunk = concatenated(reader.chunks(1000))
        expected = np.unpackbits(packed[kept]).reshape(-1, 11032)[:, :11025]
        np.testing.assert_array_equal(chunk.images.reshape(-1, 11025), expected * 255)
        assert chunk.labels == [[names[label]] for label in labels[kept]]
        assert (reader.num_labels, reader.num_examples) == (223, kept.sum())

    def test_olivetti(self):
        path = data_folder("olivetti") / "faces.npz"
        chunk = concatenated(open_reader(path, labels="label").chunks(64))
        with np.load(path) as archive:
            np.testing.assert_array_equal(chunk.images[..., 0], archive["images"])
            assert chunk.labels == archive["label"][:, None].tolist()
