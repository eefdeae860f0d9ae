"""The repository's text format and svmlight, against scikit-learn's svmlight loader."""

import io
import lzma

import numpy as np
import pytest
from sklearn.datasets import load_svmlight_file
from sklearn.utils import murmurhash3_32

from tests.contracts.formats import ReaderContract, assert_same, compressed_texts, concatenated
from tests.data.reading.formats import data_folder
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.reading.formats import open_reader
from tfxc.data.reading.parsing import sparse_lines
from tfxc.data.reading.parsing.numbers import parse_pairs
from tfxc.estimator.reading import read

ROWS = b"""0,3 0:1 4:0.25
 1:-2.5 2:1e-3
2
1:7
4,0,4 3:.5 0:2
\x20
3 4:1

0,1,2,3,4 0:0 1:1 2:2 3:3 4:4
"""
LABELS = [[0, 3], [], [2], [], [4, 0], [], [3], [], [0, 1, 2, 3, 4]]
DENSE = np.array(
    [
        [1, 0, 0, 0, 0.25],
        [0, -2.5, 1e-3, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 7, 0, 0, 0],
        [2, 0, 0, 0.5, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0],
        [0, 1, 2, 3, 4],
    ],
    np.float32,
)


def sorted_features(line):
    labels, _, features = line.partition(b" ")
    if b":" in labels:
        labels, features = b"", line
    ordered = sorted(features.split(), key=lambda token: int(token.partition(b":")[0]))
    return b" ".join([labels, *ordered])


def assert_like_scikit_learn(chunk, content, num_features):
    """``content`` (bytes, no header, ids from 0) holds what ``chunk`` does.

    scikit-learn wants the features sorted, so they are sorted for it first.
    """
    lines = (line.partition(b"#")[0] for line in content.split(b"\n"))
    content = b"\n".join(map(sorted_features, lines))
    matrix, labels = load_svmlight_file(
        io.BytesIO(content), n_features=num_features, multilabel=True, zero_based=True
    )
    matrix.sort_indices()
    assert [sorted(row) for row in chunk.labels] == [sorted(set(map(int, row))) for row in labels]
    np.testing.assert_array_equal(chunk.features.indptr, matrix.indptr)
    np.testing.assert_array_equal(chunk.features.indices, matrix.indices)
    np.testing.assert_array_equal(chunk.features.data, matrix.data.astype(np.float32))


class TestXCRepository(ReaderContract):
    format = "xc_repository"
    label_type = int

    def write(self, path, rows, header=b"9 5 5\n"):
        path.write_bytes(header + rows)
        return path

    def write_sample(self, folder):
        return self.write(folder / "sample.txt", ROWS)

    def write_compressed(self, folder):
        return compressed_texts(folder, "sample.txt", b"9 5 5\n" + ROWS)

    @pytest.mark.parametrize("careful", [False, True])
    def test_examples(self, tmp_path, monkeypatch, careful):
        if careful:
            monkeypatch.setattr(sparse_lines, "_parse_fast", lambda lines: None)
        reader = open_reader(self.write_sample(tmp_path))
        assert (reader.num_examples, reader.num_features, reader.num_labels) == (9, 5, 5)
        chunk = concatenated(reader.chunks())
        assert chunk.labels == LABELS
        np.testing.assert_array_equal(chunk.features.toarray(), DENSE)
        assert chunk.features.nnz == 13  # a zero that was written stays

    def test_untidy_lines(self, tmp_path):
        rows = b"0,3\t0:1  4:0.25 \r\n1 \t2:5\r\n 3:1\r\n\n \n"
        chunk = concatenated(
            open_reader(self.write(tmp_path / "a.txt", rows, b"3 5 5\r\n")).chunks()
        )
        assert chunk.labels == [[0, 3], [1], []]
        assert chunk.features.indices.tolist() == [0, 4, 2, 3]

    def test_random_rows_like_scikit_learn(self, tmp_path):
        random = np.random.default_rng(5)
        lines = []
        for _ in range(300):
            labels = ",".join(map(str, random.permutation(50)[: random.integers(1, 5)]))
            ids = random.permutation(1000)[: random.integers(0, 30)]
            shapes = ["{:.3f}", "{:.0f}", "{:.17g}", "{:.2e}"]
            values = [
                shapes[random.integers(4)].format(
                    10 ** random.uniform(-5, 5) * random.choice([-1, 1])
                )
                for _ in ids
            ]
            lines.append(
                f"{labels} " + " ".join(f"{i}:{v}" for i, v in zip(ids, values, strict=True))
            )
        content = "\n".join(lines).encode()
        path = self.write(tmp_path / "a.txt", content, b"300 1000 50\n")
        assert_like_scikit_learn(concatenated(open_reader(path).chunks(64)), content, 1000)

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            (b"0 5:1", "the feature id 5 is not one of 0 to 4"),
            (b"0 -1:1", "the feature id -1 is not one of 0 to 4"),
            (b"5 1:1", "the label id 5 is not one of 0 to 4"),
            (b"0 1:1 2:1 1:3", "feature 1 is given twice"),
            (b"0 1:nan", "the value of feature 1 is not finite"),
            (b"0 1:-inf", "the value of feature 1 is not finite"),
            (b"0 1:1e39", "the value of feature 1 is not finite"),
            (b"0 1:1:1 2", "'1:1:1' is not of the form feature:value"),
            (b"0 1: 2:3", "'1:' is not of the form feature:value"),
            (b"0 1:2-3 4:", "'1:2-3' is not of the form feature:value"),
            (b"0 1.5:2", "'1.5:2' is not of the form feature:value"),
            (b"0 1_0:2", "'1_0:2' is not of the form feature:value"),
            (b"0 1:x", "'1:x' is not of the form feature:value"),
            (b"0 1:\xff", "is not of the form feature:value"),
            (b"0,,1 1:1", "'' is not a label id"),
            (b"a 1:1", "'a' is not a label id"),
            (b"0, 1:1", "'' is not a label id"),
            (b"0 1 1:1", "'1' is not of the form feature:value"),
        ],
    )
    def test_errors_name_the_line(self, tmp_path, row, message):
        rows = b"0 0:1\n 3:1 0:2\n" + row + b"\n1 2:1\n"
        path = self.write(tmp_path / "a.txt", rows, b"4 5 5\n")
        for size in (1, 3, 4096):
            with pytest.raises(DataError, match=message) as caught:
                list(open_reader(path).chunks(size))
            assert str(caught.value).startswith(f"{path}:4: ")

    @pytest.mark.parametrize(("points", "size"), [(8, 4096), (8, 8), (8, 3), (10, 3), (1000, 9)])
    def test_wrong_count(self, tmp_path, points, size):
        path = self.write(tmp_path / "a.txt", ROWS + b"\n" * (points < 9), b"%d 5 5\n" % points)
        with pytest.raises(
            DataError, match=rf"the header says {points:,} points, but there are 9 lines"
        ):
            list(open_reader(path).chunks(size))

    @pytest.mark.parametrize("header", [b"", b"9 5\n", b"9 5 x\n", b"0 0:1\n"])
    def test_no_header(self, tmp_path, header):
        path = self.write(tmp_path / "a.txt", b"", header)
        with pytest.raises(
            DataError, match=r"a\.txt:1: there is no header .*give the format by name"
        ):
            open_reader(path, "xc_repository")

    @pytest.mark.parametrize(("name", "points"), [("bibtex", 4880), ("delicious", 12920)])
    def test_real_data(self, name, points):
        path = data_folder(name) / "train.txt.xz"
        reader = open_reader(path)
        chunk = concatenated(reader.chunks())
        content = lzma.decompress(path.read_bytes()).partition(b"\n")[2]
        assert len(chunk) == reader.num_examples == points
        assert_like_scikit_learn(chunk, content, reader.num_features)


class TestSVMLight(ReaderContract):
    format = "svmlight"
    label_type = int
    content = b"# made by hand\n" + ROWS.replace(b"\n", b"  # 9:9\n", 1) + b"1 2:3\n1 0:2"

    def write_sample(self, folder):
        path = folder / "sample.svm"
        path.write_bytes(self.content)
        return path

    def write_compressed(self, folder):
        return compressed_texts(folder, "sample.svmlight", self.content)

    def test_like_scikit_learn(self, tmp_path):
        reader = open_reader(self.write_sample(tmp_path))
        assert reader.num_examples == 9
        assert_like_scikit_learn(concatenated(reader.chunks(2)), self.content, 5)

    @pytest.mark.parametrize(
        ("rows", "zero_based", "first"),
        [
            (b"0 1:1\n1 3:1\n", "auto", 1),
            (b"0 0:1\n1 3:1\n", "auto", 0),
            (b"0 1:1\n1 3:1\n", True, 0),
            (b"0 2:1\n1 3:1\n", False, 1),
        ],
    )
    def test_base(self, tmp_path, rows, zero_based, first):
        path = tmp_path / "a.svm"
        path.write_bytes(rows)
        matrix, _ = load_svmlight_file(str(path), multilabel=True, zero_based=zero_based)
        reader = open_reader(path, zero_based=zero_based)
        assert reader.num_features == 4 - first
        chunk = concatenated(reader.chunks(1))
        np.testing.assert_array_equal(chunk.features.toarray(), matrix.toarray())

    def test_given_width_needs_no_scan(self, tmp_path):
        path = tmp_path / "a.svm"
        path.write_bytes(b"0 1:1\n1 3:1\n1 9:1\n")
        reader = open_reader(path, zero_based=False, num_features=8)
        assert reader.num_examples is None
        with pytest.raises(DataError, match=r"a\.svm:3: the feature id 9 is not one of 1 to 8"):
            list(reader.chunks())
        with pytest.raises(DataError, match=r"a\.svm:3: the feature id 9 is not one of 1 to 8"):
            list(open_reader(path, num_features=8).chunks())

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            (b"0 0:1", "the feature id 0 is not one of 1 to"),
            (b"0,-1 1:1", "the label id -1 is not one of 0 to"),
            (b"0 qid:3 1:1", "'qid:3' is not of the form feature:value"),
        ],
    )
    def test_errors_name_the_line(self, tmp_path, row, message):
        path = tmp_path / "a.svm"
        path.write_bytes(b"# comment\n1 1:1\n" + row)
        with pytest.raises(DataError, match=rf"a\.svm:3: {message}"):
            open_reader(path, zero_based=False)

    @pytest.mark.parametrize("options", [{}, {"zero_based": False, "num_features": 4}])
    @pytest.mark.parametrize("one", [b"1", b"+1", b"1.0", b"+1.0"])
    def test_two_classes(self, tmp_path, one, options):
        """Scikit-learn has them as -1 and 1; +1 and 1 are the same."""
        path = tmp_path / "a.svm"
        path.write_bytes(b"1 1:1\n# -2\n 3:1\n%b 3:1\n-1 4:1\n+1 1:2\n" % one)
        reader = open_reader(path, **options)
        assert (reader.num_labels, reader.label_names) == (2, ["-1", "1"])
        for size in (1, 2, 10):
            labels = concatenated(reader.chunks(size)).labels
            assert list(labels) == [["1"], [], ["1"], ["-1"], ["1"]]
        content = path.read_bytes().replace(b" 3:1\n", b"", 1)
        matrix, expected = load_svmlight_file(str(self.rewritten(path, content)))
        texts, found = read(path, **options)
        assert [float(name) for name in found] == expected.tolist()
        np.testing.assert_array_equal(texts.toarray(), matrix.toarray())

    def rewritten(self, path, content):
        path.write_bytes(content)
        return path

    def test_ones_alone_are_an_id(self, tmp_path):
        """As a name, 1 is also that class of a training file with both."""
        path = tmp_path / "a.svm"
        path.write_bytes(b"+1 1:1\n1 2:1\n")
        reader = open_reader(path)
        assert reader.label_names is None
        assert concatenated(reader.chunks()).labels == [[1], [1]]

    @pytest.mark.parametrize("label", [b"0", b"2", b"-2", b"1,0"])
    def test_no_third_class(self, tmp_path, label):
        path = tmp_path / "a.svm"
        path.write_bytes(b"1 1:1\n-1 1:1\n%b 1:1\n" % label)
        with pytest.raises(DataError, match=r"a\.svm:3: label -?[02] stands among the classes"):
            open_reader(path)

    @pytest.mark.parametrize("options", [{"zero_based": "yes"}, {"num_features": 0}])
    def test_bad_options(self, tmp_path, options):
        with pytest.raises(ConfigError, match=next(iter(options))):
            open_reader(self.write_sample(tmp_path), **options)

    def test_same_as_repository_format(self, tmp_path):
        content = b"\n".join(line for line in ROWS.split(b"\n") if line.strip())
        (tmp_path / "a.svm").write_bytes(content)
        (tmp_path / "a.txt").write_bytes(b"7 5 5\n" + content)
        assert_same(
            concatenated(open_reader(tmp_path / "a.svm").chunks()),
            concatenated(open_reader(tmp_path / "a.txt").chunks()),
        )


class TestVowpalWabbit(ReaderContract):
    format = "vw"
    label_type = int
    content = b"# made by hand\n" + b"".join(
        b"%d | %d:0.5 %d 9:2\n" % (n % 4 + 1, n % 3, n % 3 + 4) for n in range(9)
    )

    def write_sample(self, folder):
        path = folder / "sample.vw"
        path.write_bytes(self.content)
        return path

    def write_compressed(self, folder):
        return compressed_texts(folder, "sample.vw", self.content)

    def read(self, folder, content, **options):
        (folder / "a.vw").write_bytes(content)
        return concatenated(open_reader(folder / "a.vw", **options).chunks())

    def test_labels_and_values(self, tmp_path):
        chunk = self.read(tmp_path, b"3 | 1:2 7\n\n1,2\t|\t0:-1e2\n| 5\n# none\n4 |\n")
        assert chunk.labels == [[2], [0, 1], [], [3]]
        expected = np.zeros((4, 8))
        expected[0, [1, 7]], expected[1, 0], expected[2, 5] = [2, 1], -100, 1
        np.testing.assert_array_equal(chunk.features.toarray(), expected)

    def test_bases_and_namespace(self, tmp_path):
        chunk = self.read(tmp_path, b"0 |f 1 2:3\n2 |f 4\n", label_base=0, first_feature=1)
        assert chunk.labels == [[0], [2]]
        np.testing.assert_array_equal(chunk.features.toarray(), [[1, 3, 0, 0], [0, 0, 0, 1]])

    def test_names_are_hashed(self, tmp_path):
        names = [f"w{number}" for number in range(40)]
        content = f"1 |x {' '.join(names)} w3:0.5\n2 |x a:b:2\n".encode()
        chunk = self.read(tmp_path, content, num_hashed_features=16)
        expected = np.zeros((2, 16))
        for name, value in [*((name, 1) for name in names), ("w3", 0.5)]:
            expected[0, murmurhash3_32(name.encode(), positive=True) % 16] += value
        expected[1, murmurhash3_32(b"a:b", positive=True) % 16] = 2
        np.testing.assert_allclose(chunk.features.toarray(), expected)

    def test_every_feature_is_read(self, tmp_path):
        """Also those behind a ``#``, and where tabs stand for spaces."""
        chunk = self.read(tmp_path, b"1 |w c# rocks\n1 |w\trocks c#\n", num_hashed_features=2**20)
        assert chunk.features.getnnz(axis=1).tolist() == [2, 2]
        chunk = self.read(tmp_path, b"1 |f\t3 4\n1 |f 3\t4\n")
        assert chunk.features.indices.tolist() == [3, 4, 3, 4]
        chunk = self.read(tmp_path, b"1 |\t3 4\n")
        assert chunk.features.indices.tolist() == [3, 4]

    def test_numbers_as_in_the_other_formats(self, tmp_path):
        with pytest.raises(DataError, match=r"a\.vw:1: a feature is not name:value: 'a:1_0'"):
            self.read(tmp_path, b"1 | a:1_0\n", num_hashed_features=4)

    @pytest.mark.parametrize("options", [{"num_features": 3}, {"first_feature": 1}])
    def test_options_of_ids(self, tmp_path, options):
        with pytest.raises(
            ConfigError,
            match=rf"{next(iter(options))}: num_hashed_features says that features are names",
        ):
            open_reader(self.write_sample(tmp_path), num_hashed_features=4, **options)

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            (b"1 2:3", r"there is no bar \(\|\) in front of the features: '1 2:3'"),
            (b"1 0.5 | 2", r"what is in front of \| is not labels alone, .*: '1 0.5'"),
            (b"1 'tag| 2", r"what is in front of \| is not labels alone"),
            (b"-1 | 2", r"what is in front of \| is not labels alone"),
            (b"0 | 2", "the label 0 is below 1"),
            (b"1 | 2 |b 3", "there is not one namespace, the same in each line, without a weight"),
            (b"1 |b 3", "there is not one namespace"),
            (b"1 |:2 3", "there is not one namespace"),
            (b"1 | word:2", "'word:2' is not of the form feature:value"),
            (b"1 | 2 2", "feature 2 is given twice"),
            (b"1 | 2:nan", "the value of feature 2 is not finite"),
        ],
    )
    def test_errors_name_the_line(self, tmp_path, row, message):
        with pytest.raises(DataError, match=rf"a\.vw:2: {message}"):
            self.read(tmp_path, b"1 | 1:1\n" + row + b"\n")

    @pytest.mark.parametrize("options", [{"label_base": -1}, {"num_hashed_features": 0}])
    def test_bad_options(self, tmp_path, options):
        with pytest.raises(ConfigError, match=next(iter(options))):
            open_reader(self.write_sample(tmp_path), **options)


def test_decimals_are_correctly_rounded():
    random = np.random.default_rng(0)
    texts = [f"{value:.{random.integers(0, 17)}g}" for value in random.random(5000)]
    texts += ["0.1", "123456789012345", "0.00000000000001", "99999999.9999999", "5.", ".5"]
    texts = [text for text in texts if "e" not in text]
    text = " ".join(f"7:{value}" for value in texts).encode()
    ids, values = parse_pairs(text, len(texts))
    assert ids.tolist() == [7] * len(texts)
    assert values.tolist() == list(map(float, texts))
