"""predict.py: its readers, and images against TensorFlow's decoder."""

import io
import json
import sys

import numpy as np
import pytest
import scipy.sparse

from tests.small_runs import make_run
from tfxc.commands import export
from tfxc.core.escaping import json_text
from tfxc.data.images.decoding import decode_files
from tfxc.exports.standalone import predict
from tfxc.exports.standalone.predict import Predictor, Problem, fit, read_image, read_png


def smooth(height, width, channels):
    """A picture without edges, uint8."""
    draw = np.random.default_rng(height)
    pixels = draw.normal(size=(height, width, channels)).cumsum(0).cumsum(1)
    pixels -= pixels.min()
    return (255 * pixels / pixels.max()).astype(np.uint8)


def file_of(pixels, form="PNG", **options):
    from PIL import Image

    image = Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[..., 0])
    image = image.quantize(100) if options.pop("palette", False) else image
    image.save(stream := io.BytesIO(), form, **options)
    return stream.getvalue()


@pytest.mark.parametrize("size", [(40, 60, 3), (33, 17, 1), (8, 8, 4), (5, 9, 2), (90, 7, 3)])
@pytest.mark.parametrize("shape", [(16, 16, 3), (30, 12, 1), (64, 70, 3)])
def test_pixels_are_those_of_training(size, shape):
    files = [file_of(smooth(*size))]
    if size[2] == 3:
        files.append(file_of(smooth(*size), palette=True))
    for file in files:
        found, expected = fit(read_png(file), shape), decode_files([file], shape)[0]
        apart = np.abs(found.astype(int) - expected)
        # Where a mean of pixels lies half between two values, the order of sums decides.
        assert apart.max() <= 1 and (apart > 0).mean() < 0.01


def test_other_files_are_left_to_pillow(tmp_path, monkeypatch):
    path = tmp_path / "picture"
    for file in (file_of(smooth(20, 20, 3), "BMP"), file_of(smooth(20, 20, 1), "JPEG")):
        path.write_bytes(file)
        apart = read_image(path, (20, 20, 3)).astype(int) - decode_files([file], (20, 20, 3))[0]
        assert np.abs(apart).max() <= 2
    path.write_bytes(file_of(smooth(20, 20, 3))[:200])  # cut off
    assert read_png(path.read_bytes()) is None
    path.write_bytes(b"no picture")
    with pytest.raises(Problem, match="this is not an image, or a damaged one"):
        read_image(path, (20, 20, 3))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(Problem, match="Install it: pip install pillow"):
        read_image(path, (20, 20, 3))


def test_lines(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_bytes("\ufeffa\u2028b\r\n\n\ufefflast".encode())
    assert list(predict.read_texts(str(path))) == ["a\u2028b", "", "\ufefflast"]
    path.write_bytes(b"good\n\xff\n")
    with pytest.raises(Problem, match=r"texts\.txt:2: the line is not UTF-8"):
        list(predict.read_texts(str(path)))
    path.write_bytes(b"\xef\xbb\xbf" + b"x" * 2**24 + b"\r\n" + b"x" * (2**24 + 1))
    with pytest.raises(Problem, match=r"texts\.txt:2: the line is longer than 16,777,216 bytes"):
        list(predict.read_texts(str(path)))
    for name, message in (("A.CSV", "this is a table"), ("a.txt.GZ", "this is compressed")):
        with pytest.raises(Problem, match=message):
            list(predict.read_texts(name))


def test_standard_input_may_be_named_twice(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"one\ntwo")))
    assert [list(predict.read_texts("-")) for _ in range(2)] == [["one", "two"], []]


def test_answers_are_safe_to_print():
    answer = {"labels": ["\x1b]0;owned\x07", "\x9b31m", "a\u202eb", "日本 é"], "scores": [0.5]}
    assert predict.json_line(answer) == json_text(answer)


@pytest.fixture
def exported(tmp_path):
    """A function of the settings of a run -> an ONNX export of it."""
    pytest.importorskip("tf2onnx", reason="the extra onnx is not installed")

    def make(**settings):
        run = make_run(tmp_path / "run", **settings)
        export.main(["--run", str(run), "--format", "onnx", "--k", "3"])
        return run / "onnx"

    return make


def called(monkeypatch, capsys, folder, *arguments):
    """Exit code, answers and errors of the predict.py in a folder."""
    capsys.readouterr()
    monkeypatch.setattr(predict, "__file__", str(folder / "predict.py"))
    code = predict.main([*map(str, arguments)])
    out, err = capsys.readouterr()
    return code, [json.loads(line) for line in out.splitlines()], err


def test_sparse_features(tmp_path, exported, monkeypatch, capsys):
    folder, draw = exported(num_features=30), np.random.default_rng(0)
    matrix = scipy.sparse.random(7, 30, 0.3, "csr", np.float32, random_state=draw)
    scipy.sparse.save_npz(tmp_path / "x.npz", matrix)
    code, found, _ = called(monkeypatch, capsys, folder, tmp_path / "x.npz", "--batch-size", 3)
    bags = {"ids": matrix.indices, "weights": matrix.data, "row_splits": matrix.indptr}
    bags["row_splits"] = bags["row_splits"].astype(np.int64)
    expected = Predictor(folder)(bags)
    assert code == 0 and [one["labels"] for one in found] == [one.labels for one in expected]
    scipy.sparse.save_npz(tmp_path / "x.npz", matrix.tocsc())
    code, _, err = called(monkeypatch, capsys, folder, tmp_path / "x.npz")
    assert code == 2 and "a CSR matrix" in err
    matrix.data[matrix.indptr[2]] = np.nan
    wide = scipy.sparse.random(2, 31, 1.0, "csr", np.float32, random_state=draw)
    flat = scipy.sparse.csr_array(np.ones(10, np.float32))
    for wrong, message in (
        (matrix, "row 3 has a value that is NaN"),
        (wide, "shape (2, 31)"),
        (flat, "shape (10,)"),
    ):
        scipy.sparse.save_npz(tmp_path / "x.npz", wrong)
        code, found, err = called(monkeypatch, capsys, folder, tmp_path / "x.npz")
        assert code == 2 and not found and message in err


def test_dense_features_and_mistakes(tmp_path, exported, monkeypatch, capsys):
    folder = exported(kind="dense", num_features=7, encoder={"name": "precomputed"})
    np.save(tmp_path / "x.npy", np.eye(7))
    code, found, _ = called(monkeypatch, capsys, folder, tmp_path / "x.npy", "--k", 2)
    assert code == 0 and len(found) == 7 and {len(one["scores"]) for one in found} == {2}
    np.save(tmp_path / "x.npy", np.where(np.eye(7), np.inf, 0))
    code, found, err = called(monkeypatch, capsys, folder, tmp_path / "x.npy")
    assert code == 2 and not found and "row 1 has a value that is NaN or infinite" in err
    np.save(tmp_path / "x.npy", np.eye(6))
    for arguments, message in [
        ((tmp_path / "x.npy",), r"the array has shape (6, 6) instead of (n, 7)"),
        ((tmp_path / "gone.npy",), "gone.npy: No such file"),
        ((tmp_path / "gone.npy", "--k", 4), "--k: 4 is not from 1 to 3"),
    ]:
        code, found, err = called(monkeypatch, capsys, folder, *arguments)
        assert code == 2 and not found and message in err and err.count("\n") == 1
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, _, err = called(monkeypatch, capsys, folder, tmp_path / "x.npy")
    assert code == 2 and "Install it: pip install onnxruntime" in err


@pytest.mark.slow  # the pixels are compared above
def test_images(tmp_path, exported, monkeypatch, capsys):
    encoder = {"name": "resnet", "depth": 10, "width": 4}
    folder = exported(kind="image", image_shape=[8, 8, 3], encoder=encoder)
    paths = [tmp_path / name for name in ("a.png", "b.png")]
    for number, path in enumerate(paths):
        path.write_bytes(file_of(smooth(20 + number, 30, 3)))
    code, found, _ = called(monkeypatch, capsys, folder, *paths)
    assert code == 0 and [one["name"] for one in found] == [str(path) for path in paths]
    pixels = decode_files([path.read_bytes() for path in paths], (8, 8, 3))
    expected = [one.scores for one in Predictor(folder)(pixels)]
    np.testing.assert_allclose([one["scores"] for one in found], expected, atol=1e-2)


def test_damaged_arrays_and_pictures_are_one_line(tmp_path):
    path = tmp_path / "file"
    about = {"dense": {"num_features": 3}, "sparse": {"num_features": 3}}
    for content in (b"", b"no array", b"PK\x03\x04 damaged", b"\x93NUMPY\x01\x00\x10\x00{"):
        path.write_bytes(content)
        for kind, more in about.items():
            with pytest.raises(Problem, match="file: "):
                list(predict._batches([str(path)], {"input_kind": kind, **more}, 4))
    path.write_bytes(file_of(smooth(20, 20, 3), "JPEG")[:-200])
    with pytest.raises(Problem, match="this is not an image, or a damaged one"):
        read_image(path, (20, 20, 3))
    image = bytearray(file_of(smooth(20, 20, 3), "GIF"))
    image[6:10] = b"\xff\xff\xff\xff"
    path.write_bytes(image)
    with pytest.raises(Problem, match="Scale it down"):
        read_image(path, (20, 20, 3))
