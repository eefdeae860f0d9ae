"""Reading and drawing of verification sets."""

import os
import pickle

import numpy as np
import pytest

from tfxc.core.errors import ConfigError, DataError
from tfxc.data.verification.pairs import load_embeddings, open_pairs

FILES = [f"encoded {number}".encode() for number in range(6)]


def chunks_of(source, size=4):
    return list(source.chunks(size))


class Evil:
    """A pickle of it runs a command when it is loaded."""

    def __reduce__(self):
        return os.mkdir, ("run-by-a-pickle",)


# Python 2's protocol 2, written by hand: ([str, str], [True]).
PYTHON_2 = b"\x80\x02]q\x00(U\x02\xff\xd8q\x01U\x02\x89Pq\x02e]q\x03\x88a\x86q\x04."


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("as_arrays", [False, True])
def test_bin(tmp_path, protocol, as_arrays):
    images = [np.frombuffer(file, np.uint8) for file in FILES] if as_arrays else FILES
    path = tmp_path / "lfw.bin"
    path.write_bytes(pickle.dumps((images, [True, False, True]), protocol))
    found = open_pairs(path)
    assert found.pairs.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert found.same.tolist() == [True, False, True]
    chunks = chunks_of(found.source)
    assert [image for chunk in chunks for image in chunk.images] == FILES
    assert [len(chunk) for chunk in chunks] == [4, 2]


def test_bin_of_python_2(tmp_path):
    path = tmp_path / "old.bin"
    path.write_bytes(PYTHON_2)
    found = open_pairs(path)
    assert chunks_of(found.source)[0].images == [b"\xff\xd8", b"\x89P"]
    assert found.same.tolist() == [True]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        pickle.dumps((FILES, [True] * 3))[:-9],
        pickle.dumps(Evil()),
        pickle.dumps((FILES, [Evil()])),
        pickle.dumps((FILES, [True] * 2)),
        pickle.dumps((FILES, [True, False, 7])),
        pickle.dumps((["text"] * 6, [True] * 3)),
        pickle.dumps([FILES]),
        pickle.dumps(7),
    ],
)
def test_broken_pickles(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "broken.bin"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.bin"):
        open_pairs(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["broken.bin"]


def write_npz(path, **arrays):
    given = {"pairs": np.array([[0, 2], [1, 1]]), "same": np.array([True, False]), **arrays}
    np.savez(path, **{name: array for name, array in given.items() if array is not None})
    return path


def test_npz(tmp_path):
    images = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    found = open_pairs(write_npz(tmp_path / "a.npz", images=images))
    np.testing.assert_array_equal(chunks_of(found.source)[0].images, images[..., None])
    assert found.pairs.dtype == np.int64 and found.same.dtype == bool
    features = np.random.default_rng(0).normal(size=(3, 4))
    found = open_pairs(write_npz(tmp_path / "b.npz", features=features))
    parts = [chunk.features for chunk in found.source.chunks(2)]
    np.testing.assert_array_equal(np.concatenate(parts), features.astype(np.float32))
    found = open_pairs(write_npz(tmp_path / "c.npz", embeddings=features))
    assert found.source is None
    np.testing.assert_array_equal(found.embeddings, features)
    found = open_pairs(write_npz(tmp_path / "d.npz"), embeddings=features)
    assert found.embeddings is features


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "images, features or embeddings is missing; there are: pairs, same"),
        ({"embeddings": np.ones((3, 2)), "same": None}, "the array same is missing"),
        ({"embeddings": np.ones((2, 2))}, "name the rows 0 to 2, but there are rows 0 to 1"),
        (
            {"embeddings": np.ones((3, 2)), "same": np.array([0, 7])},
            "instead of integers and flags",
        ),
        ({"embeddings": np.ones((3, 2)), "same": np.ones(3)}, r"not \(2, 2\) and \(3,\)"),
        ({"embeddings": np.ones(3)}, r"embeddings: .* instead of numbers \(m, dim\)"),
        ({"images": np.ones((3, 4, 4))}, r"images is float64 \(3, 4, 4\) instead of uint8"),
        ({"embeddings": np.array([{}] * 3)}, "damaged, or of another format"),
        (
            {"embeddings": np.ones((3, 2)), "pairs": np.zeros((0, 2), int), "same": np.ones(0)},
            "there are no pairs",
        ),
        ({"embeddings": np.ones((3, 2)), "pairs": np.array(1)}, r"not \(\) and"),
    ],
)
def test_wrong_npz(tmp_path, arrays, message):
    path = write_npz(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(DataError, match=rf"wrong\.npz: .*{message}"):
        open_pairs(path)


def test_damaged_npz(tmp_path):
    path = write_npz(tmp_path / "cut.npz", embeddings=np.ones((3, 2)))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"damaged, or of another format"):
        open_pairs(path)
    with pytest.raises(DataError, match=r"absent\.npz: no such file"):
        open_pairs(tmp_path / "absent.npz")


@pytest.fixture
def images(tmp_path):
    """A folder of people: Ann has images 1 and 2, Bo has image 1, in two files."""
    folder = tmp_path / "images"
    names = ("Ann/Ann_0001.jpg", "Ann/Ann_0002.Png", "Bo/Bo_0001.BMP", "Bo/Bo_0001.JPG")
    for name in (*names, "Ann/Ann_0002.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_pairs_of_lfw(images, tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text("1\t1\nAnn\t1\t2\nBo\t1\tAnn\t2\n")
    found = open_pairs(path, images=images)
    assert found.same.tolist() == [True, False]
    contents = [content for chunk in found.source.chunks(2) for content in chunk.images]
    named = [[contents[row].decode() for row in pair] for pair in found.pairs]
    assert named == [
        ["Ann/Ann_0001.jpg", "Ann/Ann_0002.Png"],
        ["Bo/Bo_0001.JPG", "Ann/Ann_0002.Png"],
    ]
    assert len(contents) == 3


@pytest.mark.parametrize(
    "text",
    [
        "Ann/Ann_0001.jpg,Ann/Ann_0002.Png,1\nBo/Bo_0001.JPG,Ann/Ann_0001.jpg,0\n",
        "name1\tname2\tsame\nAnn/Ann_0001\tAnn/Ann_0002\tTrue\n\nBo/Bo_0001\tAnn/Ann_0001\tfalse\n",
        "Ann/Ann_0001 Ann/Ann_0002 1\nBo/Bo_0001.JPG   Ann/Ann_0001.jpg -1",
    ],
)
def test_lists_of_names(images, tmp_path, text):
    path = tmp_path / "list.txt"
    path.write_text(text)
    found = open_pairs(path, images=images)
    assert found.pairs.tolist() in ([[0, 1], [2, 0]], [[0, 1], [2, 3]])
    assert found.same.tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the list of pairs is empty"),
        ("10\nAnn 1 2\nAnn 3 1", r"list\.txt:3: there is no image 'Ann/Ann_0003' in .*images"),
        ("10 1\nCy 1 2", r"list\.txt:2: there is no folder 'Cy' in .*images"),
        ("10\nAnn 1", r"list\.txt:2: 'Ann 1' is not 'person n1 n2' or"),
        ("10\nAnn one 2", r"list\.txt:2: 'Ann one 2' is not 'person n1 n2' or"),
        ("Ann/Ann_0001 Ann/Ann_0002 maybe", r"list\.txt:1: .* is not 'name1 name2 same'"),
        ("Ann/Ann_0001,Ann/Ann_0002", r"list\.txt:1: .* is not 'name1 name2 same'"),
        ("10\n", r"list\.txt: the list has 0 pairs, but its first line \(10\) says 20"),
        ("2 1\nAnn 1 2\nBo 1 Ann 2\n", r"has 2 pairs, but its first line \(2 1\) says 4"),
        ("name1 name2 same\n", "there are no pairs"),
    ],
)
def test_wrong_lists(images, tmp_path, text, message):
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        open_pairs(path, images=images)
    with pytest.raises(DataError, match="no such folder"):
        open_pairs(path, images=tmp_path / "absent")


def test_lists_over_embeddings(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("0,2,1\n1,2,0\n")
    embeddings = np.ones((3, 2))
    assert open_pairs(path, embeddings=embeddings).pairs.tolist() == [[0, 2], [1, 2]]
    with pytest.raises(DataError, match=r"list\.csv:1: '2' is not a row number below 2"):
        open_pairs(path, embeddings=embeddings[:2])
    with pytest.raises(ConfigError, match="needs a folder of images"):
        open_pairs(path)
    path.write_text("1 1\nAnn 1 2\nAnn 1 Bo 1\n")
    names = ["Bo/Bo_0001.jpg", "Ann/Ann_0001.jpg", "Ann/Ann_0002.jpg"]
    found = open_pairs(path, embeddings=embeddings, names=names)
    assert found.pairs.tolist() == [[1, 2], [1, 0]]
    with pytest.raises(DataError, match=r"list\.csv:3: 'Bo/Bo_0001' is not a name of the emb"):
        open_pairs(path, embeddings=embeddings, names=["x", *names[1:]])
    with pytest.raises(DataError, match=r"rows 1 and 2 .* have the same name 'Ann/Ann_0001'"):
        open_pairs(path, embeddings=embeddings, names=[*names[:2], "Ann/Ann_0001.png"])


def test_embeddings(tmp_path):
    matrix = np.arange(6.0).reshape(3, 2)
    np.save(tmp_path / "a.npy", matrix)
    np.savez(tmp_path / "b.npz", embeddings=matrix, names=np.array(["x", "y", "z"]))
    found, names = load_embeddings(tmp_path / "a.npy")
    assert isinstance(found, np.memmap) and names is None
    np.testing.assert_array_equal(found, matrix)
    found, names = load_embeddings(tmp_path / "b.npz")
    np.testing.assert_array_equal(found, matrix)
    assert names.tolist() == ["x", "y", "z"]
    np.save(tmp_path / "c.npy", np.array([{}]), allow_pickle=True)
    for name in ("c.npy", "absent.npy", "absent.npz"):
        with pytest.raises(DataError, match=name):
            load_embeddings(tmp_path / name)
