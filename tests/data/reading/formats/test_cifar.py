"""CIFAR's four sets, rebuilt small in the form their authors give them."""

import io
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest

from tests.contracts.formats import ReaderContract, concatenated
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.storage.pickles import load_plain
from tfxc.data.reading.formats import open_reader

ROWS = 3
FINE = {10: [f"class {i}" for i in range(10)], 100: [f"fine_{i:02d}" for i in range(100)]}
COARSE = [f"coarse_{i:02d}" for i in range(20)]
FORMS = ["cifar-10-batches-py", "cifar-100-python", "cifar-10-batches-bin", "cifar-100-binary"]


class Python2Pickler(pickle._Pickler):
    """Writes texts as Python 2 wrote them, which is how the sets were published."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012 (as in the base class)

    def save_python2_text(self, value):
        content = value.encode("latin-1") if isinstance(value, str) else value
        self.write(b"T" + struct.pack("<i", len(content)) + content)
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = save_python2_text


def python2_pickle(value):
    stream = io.BytesIO()
    Python2Pickler(stream, 2).dump(value)
    return stream.getvalue().replace(b"cnumpy._core.", b"cnumpy.core.")


class Rebuilt:
    """A set of random pixels; ``files`` maps the file names to their contents."""

    def __init__(self, form, pickled=python2_pickle):
        self.form, self.hundred = form, "100" in form
        rng = np.random.default_rng(7)
        batches = {"train": 1 if self.hundred else 5, "test": 1}
        count = {split: number * ROWS for split, number in batches.items()}
        self.pixels = {
            split: rng.integers(0, 256, (n, 3, 32, 32), np.uint8) for split, n in count.items()
        }
        self.fine = {
            split: rng.integers(0, 100 if self.hundred else 10, n) for split, n in count.items()
        }
        self.files = {}
        for split, number in batches.items():
            for batch in range(number):
                name = split if self.hundred else "test_batch"
                if not self.hundred and split == "train":
                    name = f"data_batch_{batch + 1}"
                self.add(name, split, slice(batch * ROWS, (batch + 1) * ROWS), pickled)
        self.add_names(pickled)

    def add(self, name, split, rows, pickled):
        pixels, fine = self.pixels[split][rows].reshape(ROWS, 3072), self.fine[split][rows]
        if self.form.endswith(("bin", "binary")):
            labels = [fine // 5, fine] if self.hundred else [fine]
            columns = np.concatenate([np.stack(labels, 1).astype(np.uint8), pixels], 1)
            self.files[f"{name}.bin"] = columns.tobytes()
            return
        found = {"data": pixels, "filenames": ["a.png"] * ROWS, "batch_label": "a batch"}
        if self.hundred:
            found |= {"fine_labels": fine.tolist(), "coarse_labels": (fine // 5).tolist()}
        else:
            found["labels"] = fine.tolist()
        self.files[name] = pickled(found)

    def add_names(self, pickled):
        fine = FINE[100 if self.hundred else 10]
        if self.form.endswith("bin"):
            fine = [name.replace(" ", "_") for name in fine]
            self.files["batches.meta.txt"] = ("\n".join(fine) + "\n\n").encode()
        elif self.form.endswith("binary"):
            self.files["fine_label_names.txt"] = "\n".join(fine).encode()
            self.files["coarse_label_names.txt"] = "\n".join(COARSE).encode()
        elif self.hundred:
            self.files["meta"] = pickled({"fine_label_names": fine, "coarse_label_names": COARSE})
        else:
            self.files["batches.meta"] = pickled({"label_names": fine, "num_vis": 3072})
        self.names = fine

    def write_folder(self, folder):
        path = folder / self.form
        path.mkdir(exist_ok=True)
        for name, content in self.files.items():
            (path / name).write_bytes(content)
        return path

    def write_archive(self, folder):
        path = folder / "any-name.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name, content in sorted(self.files.items(), reverse=True):
                member = tarfile.TarInfo(f"{self.form}/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return path


PIXELS = np.zeros((2, 3072), np.uint8)


class TestCifar(ReaderContract):
    format = "cifar"

    def write_sample(self, folder):
        return Rebuilt("cifar-10-batches-py").write_archive(folder)

    def write_compressed(self, folder):
        for form in ("cifar-10-batches-py", "cifar-10-batches-bin"):
            (folder / form).mkdir()
            path = Rebuilt(form).write_archive(folder / form)
            yield path, path

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("packed", [True, False])
    @pytest.mark.parametrize("split", ["train", "test"])
    def test_all_forms(self, tmp_path, form, packed, split):
        rebuilt = Rebuilt(form)
        path = rebuilt.write_archive(tmp_path) if packed else rebuilt.write_folder(tmp_path)
        reader = open_reader(path, split=split)
        chunk = concatenated(reader.chunks(4))
        np.testing.assert_array_equal(chunk.images, rebuilt.pixels[split].transpose(0, 2, 3, 1))
        assert chunk.labels == [[rebuilt.names[i]] for i in rebuilt.fine[split]]
        assert (reader.label_names, reader.num_labels) == (rebuilt.names, len(rebuilt.names))
        suffix = ".bin" if "bin" in form else ""
        first = {"train": "data_batch_1", "test": "test_batch"}[split]
        assert chunk.names[2] == f"{split if '100' in form else first}{suffix}[2]"

    @pytest.mark.parametrize("form", ["cifar-100-python", "cifar-100-binary"])
    def test_coarse_labels(self, tmp_path, form):
        rebuilt = Rebuilt(form)
        reader = open_reader(rebuilt.write_archive(tmp_path), labels="coarse")
        assert reader.label_names == COARSE
        labels = concatenated(reader.chunks()).labels
        assert labels == [[COARSE[i // 5]] for i in rebuilt.fine["train"]]

    @pytest.mark.parametrize("protocol", range(6))
    def test_pickles_of_python_3(self, tmp_path, protocol):
        rebuilt = Rebuilt("cifar-10-batches-py", lambda value: pickle.dumps(value, protocol))
        chunk = concatenated(open_reader(rebuilt.write_folder(tmp_path)).chunks())
        np.testing.assert_array_equal(chunk.images, rebuilt.pixels["train"].transpose(0, 2, 3, 1))
        assert chunk.labels == [[rebuilt.names[i]] for i in rebuilt.fine["train"]]

    def test_bad_options(self, tmp_path):
        path = self.write_sample(tmp_path)
        with pytest.raises(ConfigError, match="split: must be one of train, test, not 'dev'"):
            open_reader(path, split="dev")
        with pytest.raises(ConfigError, match="labels: this set has no 'coarse'"):
            open_reader(path, labels="coarse")

    @pytest.mark.parametrize(
        ("form", "name", "content", "message"),
        [
            (0, "data_batch_2", None, "no such file, only batches"),
            (0, "batches.meta", python2_pickle({"x": 1}), "there is no list of label names under"),
            (0, "batches.meta", python2_pickle({"label_names": ["a", "a"]}), "'a' occurs twice"),
            (0, "data_batch_2", b"", "truncated or damaged"),
            (0, "data_batch_2", b"garbage", "truncated or damaged"),
            (
                0,
                "data_batch_2",
                python2_pickle([1]),
                r"'data' is NoneType instead of uint8 \(n, 3072\)",
            ),
            (0, "data_batch_2", python2_pickle({"data": np.zeros((2, 3072))}), "is float64"),
            (0, "data_batch_2", python2_pickle({"data": np.zeros((2, 9), "u1")}), r"\(2, 9\)"),
            (
                0,
                "data_batch_2",
                python2_pickle({"data": PIXELS}),
                "'labels' is None instead of a list of 2",
            ),
            (0, "data_batch_2", python2_pickle({"data": PIXELS, "labels": [1, [2]]}), r"is \["),
            (0, "data_batch_2", python2_pickle({"data": PIXELS, "labels": [1]}), r"is \[1\]"),
            (
                0,
                "batches.meta",
                python2_pickle({"label_names": [1, 2]}),
                "there is no list of label names",
            ),
            (
                0,
                "data_batch_2",
                python2_pickle({"data": PIXELS, "labels": [1, 10]}),
                r"data_batch_2\[1\]: the label 10 is not one of 0 to 9",
            ),
            (2, "data_batch_2.bin", bytes(3073 * 2 - 1), "3072 bytes instead of 3073"),
            (2, "data_batch_2.bin", b"\xff" * 3073, r"\[0\]: the label 255 is not one of 0 to 9"),
            (
                3,
                "train.bin",
                b"\xff" * 3074,
                r"train.bin\[0\]: the label 255 is not one of 0 to 99",
            ),
        ],
    )
    def test_bad_files(self, tmp_path, form, name, content, message):
        rebuilt = Rebuilt(FORMS[form])
        if content is None:
            del rebuilt.files[name]
        else:
            rebuilt.files[name] = content
        path = rebuilt.write_folder(tmp_path)
        with pytest.raises(DataError, match=message) as caught:
            list(open_reader(path).chunks(2))
        assert str(caught.value).startswith(f"{path}/{name}")

    def test_something_else(self, tmp_path):
        (tmp_path / "a.txt").touch()
        with pytest.raises(DataError, match=r"of CIFAR-10 or CIFAR-100 is there, only a\.txt"):
            open_reader(tmp_path, "cifar")


class Harmful:
    """Unpickles by calling a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("function", [os.mkdir, exec, eval, getattr, np.load])
def test_nothing_in_a_pickle_runs(tmp_path, protocol, function):
    folder = tmp_path / "made"
    content = pickle.dumps({"data": Harmful(function, str(folder))}, protocol)
    with pytest.raises(DataError, match=r"a: the pickle is truncated .* which is not imported"):
        load_plain(io.BytesIO(content), "a")
    assert not folder.exists()


@pytest.mark.parametrize("protocol", range(2, 6))
def test_plain_pickles_may_hold_numpy_scalars(protocol):
    content = pickle.dumps([np.bool_(True), np.float32(0.5)], protocol)
    assert load_plain(io.BytesIO(content), "a") == [True, 0.5]
