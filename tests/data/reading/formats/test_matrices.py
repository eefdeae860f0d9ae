"""PECOS folders and dense archives, against SciPy and NumPy."""

import zipfile

import numpy as np
import pytest
import scipy.sparse

from tests.contracts.formats import ReaderContract, concatenated
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.reading.formats import open_reader

POINTS, DIM, LABELS = 11, 6, 4


def random_matrix(columns, seed=0):
    return scipy.sparse.random(POINTS, columns, 0.4, "csr", np.float64, np.random.default_rng(seed))


class TestPecos(ReaderContract):
    format = "pecos"
    label_type = int

    def write_sample(self, folder):
        folder = folder / "data"
        folder.mkdir(exist_ok=True)
        scipy.sparse.save_npz(folder / "X.trn.npz", random_matrix(DIM))
        scipy.sparse.save_npz(folder / "Y.trn.npz", random_matrix(LABELS, 1))
        (folder / "X.trn.txt").write_text("".join(f"text {i} é\n" for i in range(POINTS)), "utf-8")
        return folder

    def write_compressed(self, folder):
        folder = self.write_sample(folder)
        yield folder, folder / "X.trn.npz"
        yield folder, folder / "Y.trn.npz"

    def test_like_scipy(self, tmp_path):
        folder = self.write_sample(tmp_path)
        reader = open_reader(folder)
        assert (reader.num_examples, reader.num_features, reader.num_labels) == (11, 6, 4)
        chunk = concatenated(reader.chunks(4))
        features = scipy.sparse.load_npz(folder / "X.trn.npz").toarray().astype(np.float32)
        labels = scipy.sparse.load_npz(folder / "Y.trn.npz").toarray()
        np.testing.assert_array_equal(chunk.features.toarray(), features)
        assert [sorted(row) for row in chunk.labels] == [list(np.flatnonzero(r)) for r in labels]
        assert chunk.texts[10] == "text 10 é"

    @pytest.mark.parametrize("compressed", [False, True])
    def test_any_rows_like_all_of_them(self, tmp_path, compressed):
        """Compressed arrays are unpacked next to where they are read from, once."""
        folder, scratch = self.write_sample(tmp_path), tmp_path / "scratch"
        (folder / "X.trn.txt").unlink()
        scratch.mkdir()
        for name, columns, seed in (("X", DIM, 0), ("Y", LABELS, 1)):
            matrix = random_matrix(columns, seed)
            scipy.sparse.save_npz(folder / f"{name}.trn.npz", matrix, compressed=compressed)
        whole = concatenated(open_reader(folder).chunks())
        for _ in range(2):
            rows = open_reader(folder).ranges(scratch)
            for start, stop in ((0, 11), (3, 4), (7, 11), (5, 5)):
                chunk = rows(start, stop)
                assert (chunk.features != whole.features[start:stop]).nnz == 0
                assert chunk.labels == whole.labels[start:stop]
        assert len(list(scratch.rglob("*.npy"))) == (6 if compressed else 0)

    def test_of_some_folders_rows_are_read_in_order_only(self, tmp_path):
        folder = self.write_sample(tmp_path)
        assert open_reader(folder).ranges(tmp_path) is None  # texts
        (folder / "X.trn.txt").unlink()
        scipy.sparse.save_npz(folder / "Y.trn.npz", random_matrix(LABELS, 1).tocsc())
        assert open_reader(folder).ranges(tmp_path) is None

    @pytest.mark.parametrize("compressed", [False, True])
    def test_damage_is_found_before_any_rows_are_read(self, tmp_path, compressed):
        folder = self.write_sample(tmp_path)
        (folder / "X.trn.txt").unlink()
        path = folder / "Y.trn.npz"
        scipy.sparse.save_npz(path, random_matrix(LABELS, 1), compressed=compressed)
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo("indices.npy")
        content = bytearray(path.read_bytes())
        content[info.header_offset + 30 + len("indices.npy") + info.compress_size - 3] ^= 4
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"Y\.trn\.npz"):
            open_reader(folder).ranges(tmp_path)

    def test_rows_that_cannot_be_are_refused(self, tmp_path):
        folder = self.write_sample(tmp_path)
        (folder / "X.trn.txt").unlink()
        matrix = random_matrix(LABELS, 1)
        matrix.indices[2] = LABELS
        scipy.sparse.save_npz(folder / "Y.trn.npz", matrix)
        with pytest.raises(DataError, match=r"Y\.trn\.npz: the column 4 is not below 4"):
            open_reader(folder).ranges(tmp_path)(0, 11)

    def test_names_other_split_and_explicit_zeros(self, tmp_path):
        labels = scipy.sparse.coo_matrix(([1, 0, 1], ([0, 0, 1], [0, 1, 2])), (2, 3))
        scipy.sparse.save_npz(tmp_path / "Y.tst.npz", labels)
        (tmp_path / "X.tst.txt").write_text("one\n\n")
        (tmp_path / "output-items.txt").write_text("a b\nc\né\n", "utf-8")
        chunk = concatenated(open_reader(tmp_path, split="tst").chunks())
        assert (chunk.texts, chunk.labels, chunk.features) == (["one", ""], [["a b"], ["é"]], None)

    @pytest.mark.parametrize("lines", [0, 10, 12, 30])
    @pytest.mark.parametrize("size", [4, 11, 4096])
    def test_text_count(self, tmp_path, lines, size):
        folder = self.write_sample(tmp_path)
        (folder / "X.trn.txt").write_text("x\n" * lines)
        with pytest.raises(
            DataError, match=rf"X\.trn\.txt: the file has {lines} examples, Y\.trn\.npz 11"
        ):
            list(open_reader(folder).chunks(size))

    def test_row_count(self, tmp_path):
        folder = self.write_sample(tmp_path)
        scipy.sparse.save_npz(folder / "X.trn.npz", random_matrix(DIM)[:7])
        with pytest.raises(
            DataError, match=r"X\.trn\.npz: the file has 7 examples, Y\.trn\.npz 11"
        ):
            open_reader(folder)

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            ("a\nb\nc\n", r"Y\.txt: the file has 3 label names"),
            ("a\nb\na\nd\n", r"Y\.txt:3: label name 'a' occurs twice"),
            ("a\n\nb\nd\n", r"Y\.txt:2: the label name .* is not one non-empty line"),
        ],
    )
    def test_bad_names(self, tmp_path, names, message):
        folder = self.write_sample(tmp_path)
        (folder / "Y.txt").write_text(names)
        with pytest.raises(DataError, match=message):
            list(open_reader(folder).chunks())

    def test_missing_files(self, tmp_path):
        folder = self.write_sample(tmp_path)
        with pytest.raises(DataError, match=r"no Y\.tst\.npz or Y\.tst, only X\.trn"):
            open_reader(folder, split="tst")
        (folder / "X.trn.npz").unlink()
        (folder / "X.trn.txt").unlink()
        with pytest.raises(DataError, match=r"no X\.trn\.txt or X\.trn\.npz, only Y"):
            open_reader(folder)

    def test_other_archives_and_values(self, tmp_path):
        folder = self.write_sample(tmp_path)
        bad = random_matrix(DIM)
        bad.data[np.flatnonzero(bad.indices >= 0)[-1]] = np.nan
        scipy.sparse.save_npz(folder / "X.trn.npz", bad)
        row = np.flatnonzero(np.diff(bad.indptr))[-1] + 1
        with pytest.raises(DataError, match=rf"row {row}\b.* NaN or infinite"):
            list(open_reader(folder).chunks(3))
        np.savez(folder / "Y.trn.npz", labels=np.zeros(11))
        with pytest.raises(
            DataError,
            match=r"file does not contain a sparse matrix \('shape is not a file in the archive'\)",
        ):
            open_reader(folder)

    def test_file_instead_of_folder(self, tmp_path):
        (tmp_path / "a").touch()
        with pytest.raises(DataError, match="this is a file"):
            open_reader(tmp_path / "a", "pecos")

    def test_lines_of_texts(self, tmp_path):
        """As PECOS reads them; found with libpecos 1.2.8."""
        labels = scipy.sparse.csr_matrix(np.eye(6, 4))
        scipy.sparse.save_npz(tmp_path / "Y.trn.npz", labels)
        content = "a\tb\r\n\r\nc\rd\u2028e\n f  \n\tg"
        (tmp_path / "X.trn.txt").write_bytes(content.encode())
        chunk = concatenated(open_reader(tmp_path).chunks(2))
        assert chunk.texts == ["a", "", "c", "d\u2028e", " f  ", ""]
        (tmp_path / "X.trn.txt").write_bytes(b"a\rb\n\xff\n" + b"c\n" * 3)
        with pytest.raises(DataError, match=r"X\.trn\.txt:3: the byte .* in column 1 is not UTF-8"):
            list(open_reader(tmp_path).chunks())
        (tmp_path / "X.trn.txt").write_bytes(b"c\r" * 4 + b"long")
        with pytest.raises(DataError, match=r"X\.trn\.txt:5: the line is longer than 3 bytes"):
            list(open_reader(tmp_path, max_line_bytes=3).chunks())

    @pytest.mark.parametrize("suffix", ["npz", "npy"])
    def test_named_features(self, tmp_path, suffix):
        folder = self.write_sample(tmp_path)
        (folder / "tfidf").mkdir()
        values = random_matrix(9, seed=5)
        if suffix == "npz":
            scipy.sparse.save_npz(folder / "tfidf" / "X.trn.npz", values)
        else:
            np.save(folder / "tfidf" / "X.trn.npy", values.toarray())
        named = f"tfidf/X.{{split}}.{suffix}"
        reader = open_reader(folder, features=named)
        assert reader.num_features == 9
        chunk = concatenated(reader.chunks(4))
        found = chunk.features.toarray() if suffix == "npz" else chunk.features
        np.testing.assert_array_equal(found, values.toarray().astype(np.float32))
        assert found.dtype == np.float32 and chunk.texts[10] == "text 10 é"
        with pytest.raises(DataError, match=r"the folder has no tfidf/X\.tst\.npz, only X\.trn"):
            scipy.sparse.save_npz(folder / "Y.tst.npz", values)
            open_reader(folder, split="tst", features="tfidf/X.{split}.npz")
        split = "{split}{split}/X.npz"  # "..", once the split is in it
        with pytest.raises(ConfigError, match=r"features: .* is not a file inside"):
            open_reader(folder, features=split, split=".", labelled=False)
        for outside in ("../X.npz", str(folder / "X.trn.npz")):
            with pytest.raises(ConfigError, match=r"features: .* is not a file inside .*data"):
                open_reader(folder, features=outside)

    def test_dense_features(self, tmp_path):
        folder = self.write_sample(tmp_path)
        (folder / "X.trn.npz").unlink()
        values = random_matrix(DIM).toarray()
        np.save(folder / "X.trn.npy", values)
        chunk = concatenated(open_reader(folder).chunks(4))
        np.testing.assert_array_equal(chunk.features, values.astype(np.float32))
        values[7, 2] = np.inf
        np.save(folder / "X.trn.npy", values)
        with pytest.raises(DataError, match=r"X\.trn\.npy: row 8 has a value that is NaN"):
            list(open_reader(folder).chunks(3))
        np.save(folder / "X.trn.npy", values[:7])
        with pytest.raises(
            DataError, match=r"X\.trn\.npy: the file has 7 examples, Y\.trn\.npz 11"
        ):
            open_reader(folder)
        np.save(folder / "X.trn.npy", values[0])
        with pytest.raises(DataError, match=r"instead of numbers \(m, dim\)"):
            open_reader(folder)


class TestDenseMatrix(ReaderContract):
    format = "matrix"
    label_type = int
    features = np.random.default_rng(3).normal(size=(POINTS, DIM))

    def write(self, path, labels=None, **arrays):
        labels = np.arange(POINTS) if labels is None else labels
        np.savez(path, **({"features": self.features, "labels": labels} | arrays))
        return path

    def write_sample(self, folder):
        padded = np.full((POINTS, 3), -1, np.int32)
        padded[::2, 1] = 5
        padded[::3, 2] = 5
        padded[::4, 0] = 2
        return self.write(folder / "sample.npz", padded)

    def write_compressed(self, folder):
        path = folder / "packed.npz"
        np.savez_compressed(path, features=self.features, labels=np.arange(POINTS))
        yield path, path

    def test_label_forms(self, tmp_path):
        path = tmp_path / "a.npz"
        one = concatenated(open_reader(self.write(path)).chunks(3))
        assert one.labels == [[i] for i in range(POINTS)]
        np.testing.assert_array_equal(one.features, self.features.astype(np.float32))
        padded = concatenated(open_reader(self.write_sample(tmp_path)).chunks(3))
        assert padded.labels[:5] == [[2, 5], [], [5], [5], [2, 5]]
        splits = np.concatenate([[0, 0, 2], np.full(POINTS - 2, 5)])
        lists = self.write(path, np.array([3, 3, 1, 2, 0]), label_splits=splits)
        chunk = concatenated(open_reader(lists).chunks(2))
        assert chunk.labels == [[], [3], [1, 2, 0]] + [[]] * (POINTS - 3)

    def test_integer_features(self, tmp_path):
        path = self.write(tmp_path / "a.npz", features=np.arange(22, dtype=np.uint8).reshape(11, 2))
        chunk = concatenated(open_reader(path).chunks(4))
        np.testing.assert_array_equal(chunk.features, np.arange(22.0).reshape(11, 2))

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"features": np.zeros(11)}, "in two dimensions"),
            ({"features": np.asfortranarray(np.zeros((11, 2)))}, "Fortran order"),
            ({"features": np.zeros((11, 2), complex)}, "instead of numbers"),
            ({"features": np.array([[{}]])}, "instead of numbers"),
            ({"features": np.full((11, 2), 1e300)}, "row 1 has values that are not finite float32"),
            ({"labels": np.zeros(11)}, "instead of integers"),
            ({"labels": np.zeros(10, int)}, r"neither \(11,\) nor \(11, max_labels\)"),
            ({"labels": np.full(11, -1)}, "are not within 0 to"),
            ({"labels": np.full((11, 2), -2)}, "are not within 0 to"),
            ({"labels": np.full(11, 2**31)}, "are not within 0 to"),
            ({"labels": np.array([{}] * 11)}, "labels: "),
            ({"label_splits": np.arange(11)}, "label_splits: these are not 12 integers"),
            ({"label_splits": np.arange(12)[::-1]}, "label_splits: these are not 12 integers"),
        ],
    )
    def test_bad_arrays(self, tmp_path, arrays, message):
        path = self.write(tmp_path / "a.npz", **arrays)
        with pytest.raises(DataError, match=rf"a\.npz: .*{message}"):
            list(open_reader(path).chunks())

    def test_missing_arrays(self, tmp_path):
        np.savez(tmp_path / "a.npz", vectors=np.zeros(3))
        with pytest.raises(DataError, match="no array 'features', only vectors"):
            open_reader(tmp_path / "a.npz")
        np.savez(tmp_path / "a.npz", features=np.zeros((3, 1)))
        with pytest.raises(DataError, match="no array 'labels', only features"):
            list(open_reader(tmp_path / "a.npz").chunks())
