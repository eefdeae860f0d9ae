"""Data files in Python: what ``tfxc.read`` returns for each kind of file."""

import numpy as np
import pytest
import scipy.sparse
from PIL import Image

import tfxc
from tests import tiny
from tfxc.core.errors import ConfigError, DataError
from tfxc.estimator import reading

TABLE = "id,comment,topic\n1,a red fox,animals\n2,a deep sea,water\n3,the red sea,water\n"


def write(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


def test_columns_are_found_or_named(tmp_path):
    path = write(tmp_path, "my.csv", TABLE)
    texts, labels = tfxc.read(path)
    assert texts == ["a red fox", "a deep sea", "the red sea"]
    assert labels.tolist() == ["animals", "water", "water"]
    swapped, numbers = tfxc.read(path, text_column="topic", label_column="id")
    assert swapped[0] == "animals" and numbers.tolist() == ["1", "2", "3"]


def test_several_labels_are_lists(tmp_path):
    lines = '{"text": "a", "labels": ["x", "y"]}\n{"text": "b", "labels": ["x"]}\n'
    texts, labels = tfxc.read(str(write(tmp_path, "my.jsonl", lines)))
    assert texts == ["a", "b"] and labels == [["x", "y"], ["x"]]
    assert tfxc.read(tmp_path / "my.jsonl", labels_field="labels")[1] == labels


def test_sparse_chunks_have_the_width_of_all(tmp_path, monkeypatch):
    tiny.write_split(tmp_path / "train.txt", 25, seed=0)
    whole, labels = tfxc.read(tmp_path / "train.txt")
    assert whole.shape == (25, tiny.NUM_FEATURES) and len(labels) == 25
    monkeypatch.setattr(reading, "_CHUNK", 10)
    parts, again = tfxc.read(tmp_path / "train.txt")
    assert (whole != parts).nnz == 0 and again == labels
    head, first = tfxc.read(tmp_path / "train.txt", limit=12)
    assert (head != whole[:12]).nnz == 0 and first == labels[:12]
    assert scipy.sparse.issparse(head)


def test_images_of_files_and_of_arrays(tmp_path):
    for name, value in (("cat", 9), ("dog", 200)):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.fromarray(np.full((4, 5, 3), value, np.uint8)).save(tmp_path / "set" / name / "1.png")
    images, labels = tfxc.read(tmp_path / "set")
    assert labels.tolist() == ["cat", "dog"] and images[0].startswith(b"\x89PNG")
    pixels = np.zeros((3, 4, 5, 3), np.uint8)
    np.savez(tmp_path / "set.npz", images=pixels, labels=[0, 1, 1])
    images, labels = tfxc.read(tmp_path / "set.npz", "image_arrays")
    assert images.shape == pixels.shape and images.dtype == np.uint8 and len(labels) == 3


def test_what_is_no_x_and_y(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        tfxc.read(tmp_path / "none.csv")
    path = write(tmp_path, "my.csv", TABLE)
    with pytest.raises(ConfigError, match="limit: the limit of 0 leaves no examples"):
        tfxc.read(path, limit=0)
    with pytest.raises(DataError, match="there are no examples"):
        tfxc.read(write(tmp_path, "empty.txt", "0 6 3\n"))
