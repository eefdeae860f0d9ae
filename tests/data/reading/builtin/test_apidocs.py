"""The built-in data: the documentation of installed packages."""

import hashlib
import json
import sys
import textwrap

import pytest

from tests.contracts.formats import concatenated
from tfxc.core.errors import ConfigError
from tfxc.core.storage.ownership import MARKER
from tfxc.data.reading.builtin.apidocs.documents import describe, documents_of_file, words
from tfxc.data.reading.builtin.apidocs.reader import ApiDocs
from tfxc.data.reading.formats import open_reader

SOURCE = '''
"""A module."""


def area(width, height=1, *, unit="m", **kwargs):
    """area(width, height) -> float

    Returns the area.

    Parameters
    ----------
    width : float
    """


def undocumented(x):
    pass


def nothing():
    """Has no parameter."""


class FancyBox:
    """Holds things.

    Args:
        size: how many.
    """

    def __init__(self, size, _private=None, *args):
        """Makes a box."""

    @classmethod
    def from_file(cls, path, /):
        """Reads a box.

        :param path: the file
        """

        async def inner(x, *rest):
            """Waits."""

    if True:

        def copy(self, *, deep):
            """Copies. The args: are not a section.

            Arguments
            ---------
            deep: whether to copy
            """
'''


def test_documents_of_a_file(tmp_path):
    path = tmp_path / "shapes.py"
    path.write_text(SOURCE)
    assert documents_of_file(path, "pack.shapes") == [
        ("pack shapes area", "Returns the area.", ["width", "height", "unit"]),
        ("pack shapes fancy box", "Holds things.", ["size"]),
        ("pack shapes fancy box init", "Makes a box.", ["size"]),
        ("pack shapes fancy box from file", "Reads a box.", ["path"]),
        ("pack shapes fancy box from file inner", "Waits.", ["x", "rest"]),
        ("pack shapes fancy box copy", "Copies. The args: are not a section.", ["deep"]),
    ]


@pytest.mark.parametrize(
    "content", [b"def f(:\n", b"# \xff\n", b"x = '\0'\n", b"# coding: klingon\n"]
)
def test_files_that_do_not_parse_give_nothing(tmp_path, content):
    path = tmp_path / "broken.py"
    path.write_bytes(content)
    assert documents_of_file(path, "broken") == []


def test_describe_and_words():
    assert describe("Sums.\n\n    Keyword Arguments:\n      x: it") == "Sums."
    assert describe("Sums the parameters of x.") == "Sums the parameters of x."
    assert describe("np.f(x,\n     y)\n\nSums.") == "Sums."
    assert describe("@param x: it") == ""
    assert describe("half \ud800 pair") == "half ? pair"
    assert words("a_b.HTTPServer.__init__") == "a b httpserver init"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of 60 documented functions, one copied under another name, and a test folder."""
    folder = tmp_path / "site" / "tfxcsample"
    (folder / "tests").mkdir(parents=True)
    function = textwrap.dedent('''
        def number_{0}(first_{1}, common):
            """Does the thing {0}."""
    ''')
    source = "".join(function.format(number, number % 4) for number in range(60))
    (folder / "__init__.py").write_text(source)
    (folder / "copies.py").write_text(function.format(7, 3))
    (folder / "rare.py").write_text('def f(seen_once):\n    """Alone."""\n')
    (folder / "tests" / "more.py").write_text(function.format(99, 99))
    monkeypatch.syspath_prepend(folder.parent)
    return "tfxcsample"


def read(split, package, cache):
    options = {"split": split, "packages": [package], "cache_folder": cache, "jobs": 1}
    return open_reader("builtin:apidocs", **options)


def test_splits(package, tmp_path):
    readers = {name: read(name, package, tmp_path / "c") for name in ("train", "dev", "test")}
    chunks = {name: concatenated(reader.chunks(7)) for name, reader in readers.items()}
    assert sum(map(len, chunks.values())) == 60
    for place, (name, chunk) in enumerate(chunks.items()):
        assert len(chunk) == readers[name].num_examples > 0
        assert readers[name].num_labels == 5
        for text, labels in zip(chunk.texts, chunk.labels, strict=True):
            number = int(text.split()[-1].rstrip("."))
            assert text == f"tfxcsample number {number}. Does the thing {number}."
            assert labels == [f"first_{number % 4}", "common"]
            tenth = int(hashlib.sha1(text.encode()).hexdigest(), 16) % 10
            assert tenth in ([*range(8)], [8], [9])[place]


def test_cache(package, tmp_path, monkeypatch):
    monkeypatch.setenv("TFXC_CACHE", str(tmp_path / "cache"))
    first = ApiDocs("dev", [package], jobs=1)
    folder = tmp_path / "cache" / f"apidocs-{first.source_fingerprint}"
    assert sorted(path.name for path in folder.iterdir()) == [
        MARKER,
        "counts.json",
        "dev.jsonl",
        "test.jsonl",
        "train.jsonl",
    ]
    # What is in the cache is what is read.
    (folder / "dev.jsonl").write_text(json.dumps({"text": "cached", "labels": ["x"]}))
    again = ApiDocs("dev", [package], jobs=1)
    assert concatenated(again.chunks()).texts == ["cached"]
    assert again.source_fingerprint == first.source_fingerprint
    (tmp_path / "site" / package / "new.py").write_text("")
    assert ApiDocs("dev", [package], jobs=1).source_fingerprint != first.source_fingerprint


def test_processes_give_the_same(package, tmp_path, monkeypatch):
    monkeypatch.setattr("tfxc.data.reading.builtin.apidocs.reader._FILES_PER_TASK", 1)
    ApiDocs("train", [package], tmp_path / "one", jobs=1)
    ApiDocs("train", [package], tmp_path / "two", jobs=2)
    for path in (tmp_path / "one").rglob("*.json*"):
        assert (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes() == (
            path.read_bytes()
        )


def test_never_imports(package, tmp_path):
    (tmp_path / "site" / package / "__init__.py").write_text("raise SystemExit('imported')\n")
    ApiDocs("train", [package], tmp_path / "c", jobs=1)
    assert package not in sys.modules


def test_errors(tmp_path):
    with pytest.raises(ConfigError, match="split: must be one of train, dev, test, not 'trn'"):
        ApiDocs("trn", cache_folder=tmp_path)
    with pytest.raises(ConfigError, match="packages: package 'no_such_one' is not installed"):
        ApiDocs("train", ["no_such_one"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_real_package(tmp_path):
    """numpy alone: labels every array function has are there, examples are whole."""
    readers = [read(split, "numpy", tmp_path) for split in ("train", "dev", "test")]
    chunks = [concatenated(reader.chunks()) for reader in readers]
    assert len(chunks[0]) > 500
    assert {"axis", "dtype", "out"} <= {name for labels in chunks[0].labels for name in labels}
    texts = [text for chunk in chunks for text in chunk.texts]
    assert len(set(texts)) == len(texts)
    assert not any("Parameters ------" in text for text in texts)
