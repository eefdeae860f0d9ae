"""Predict labels with the exported model in this folder.

    python predict.py texts.txt                  one text per line
    echo "some text" | python predict.py -
    python predict.py photo.png other.jpg        a model on images
    python predict.py features.npy               a model on vectors; .npz for sparse features

Each example is answered with one line of JSON: labels and scores, best first. Needs NumPy, and
onnxruntime for model.onnx or ai-edge-litert for model.tflite; no tfxc and no TensorFlow. Images
other than plain PNG files also need Pillow.
"""

import argparse
import base64
import contextlib
import hashlib
import importlib
import io
import json
import os
import re
import struct
import sys
import types
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

try:
    import numpy as np
except ImportError:
    sys.exit("predict.py: the package numpy is not installed. Install it: pip install numpy")

Inputs = dict[str, np.ndarray]

#: Names of the settings of a folder of arrays.
RANKER = "ranker.json"
FUSED = "fused.json"
NETWORK = "network.json"
#: Activations of a network, by Keras' names.
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: _sigmoid(x),
}

_PNG = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of the colour types of PNG
_LUMA = np.array([0.2989, 0.5870, 0.1140], np.float32)
_SMALLEST = 1000 * np.finfo(np.float32).tiny
# What JSON leaves as it is: controls, separators of lines, what reorders text, halves of pairs.
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_TABLES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".xlsx")
_COMPRESSED = (".gz", ".xz", ".bz2", ".zst", ".zip")
_LONGEST_LINE = 1 << 24  # bytes, as in tfxc
# Those of tfxc.decision.calibration.
_LEAST_SHARE = 1e-5
_TIES = 1e-3
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# What NumPy raises over a damaged file.
_DAMAGED_ARRAY = (
    ValueError,
    TypeError,
    AttributeError,
    EOFError,
    KeyError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)


class Problem(ValueError):
    """Something the user gave is wrong; the message says how to fix it."""


class Prediction(NamedTuple):
    """The answer for one example.

    Attributes:
        labels: names, best first.
        scores: one per label.
    """

    labels: list[str]
    scores: list[float]


class Predictor:
    """An exported model with everything around it.

    Args:
        folder: what ``tfxc export`` wrote; None means that of this file.

    Attributes:
        about: dict of ``export.json``.

    Raises:
        Problem: the package that runs the model is missing, or a file was changed or damaged.

    Example:
        >>> Predictor("runs/quickstart/onnx")(["some text"])[0].labels  # doctest: +SKIP
        ['list', 'sorting']
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        folder = Path(__file__).parent if folder is None else Path(folder)
        _check_files(folder)
        self.about = json.loads((folder / "export.json").read_text(encoding="utf-8"))
        self._names = (folder / "labels.txt").read_bytes().decode("utf-8").split("\n")
        decision = self.about.get("decision")
        self._decision = None if decision is None else _opened_decision(decision)
        self._run = _OPEN[self.about["format"]](folder / self.about["file"])
        self._inputs = self._converter(folder)

    def __call__(self, examples: Any, k: int | None = None) -> list[Prediction]:
        """Returns the labels of examples.

        Args:
            examples: list of texts; uint8 images (n, height, width, channels); float32 vectors
                (n, size); or sparse rows as a dict of ``ids``, ``weights`` and ``row_splits``.
            k: labels of each, at most as many as were exported; None means those that the run
                returns, if it has learned that, else all.

        Raises:
            Problem: k is another number, or the examples are no list of texts where the model reads
                texts.
        """
        self.check_k(k)
        if self.about["input_kind"] == "text":
            no_list = isinstance(examples, (str, bytes, type(None)))
            examples = [None] if no_list else list(examples)
            if not all(isinstance(text, str) for text in examples):
                raise Problem("these are no texts. Give a list of strings")
        inputs = self._inputs(examples)
        if self.about["batch"] == 1:
            parts = [self._run(single) for single in _single(inputs)]
            empty = [np.zeros((0, self.about["k"]), kind) for kind in (np.int32, np.float32)]
            ids, scores = (np.concatenate(part) for part in zip(empty, *parts, strict=True))
        else:
            ids, scores = self._run(inputs)
        if self._decision is not None and k is None:
            ids = np.where(self._decision(ids, scores), ids, -1)
        answers = []
        for row, values in zip(ids[:, :k].tolist(), scores[:, :k].tolist(), strict=True):
            pairs = [(i, score) for i, score in zip(row, values, strict=True) if i >= 0]
            labels = [self._names[i] for i, _ in pairs]
            answers.append(Prediction(labels, [score for _, score in pairs]))
        return answers

    def check_k(self, k: int | None) -> None:
        """Raises a ``Problem`` where k is no number of labels that can be listed."""
        most = self.about["k"]
        if k is not None and not 1 <= k <= most:
            raise Problem(
                f"--k: {k} is not from 1 to {most}, the number of labels that were exported. Lower "
                "it, or export again with a larger --k"
            )

    def _converter(self, folder: Path) -> Callable[[Any], Inputs]:
        """Returns a function of examples -> the model's inputs."""
        kind = self.about["input_kind"]
        if kind == "text":
            # As a script, this file's folder is where modules are looked for first.
            sys.path.insert(0, str(folder))
            try:
                module = importlib.import_module("text_features.tokenize")
                return module.load(folder / "text_features")
            except ImportError as error:
                raise _missing(error.name or str(error)) from None
            finally:
                sys.path.remove(str(folder))
        if kind == "sparse":
            return dict
        return lambda examples: {"images" if kind == "image" else "features": examples}


def _opened_decision(about: dict[str, Any]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Returns a function of ids and scores, best first -> bool, which labels are returned."""
    of_labels, gains = (
        None if about[name] is None else np.frombuffer(base64.b64decode(about[name]), "<f4")
        for name in ("of_labels", "gains")
    )

    def chosen(ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        places = np.arange(ids.shape[1])
        least = about["threshold"] if of_labels is None else of_labels[np.maximum(ids, 0)]
        values = scores
        if about["penalty"] is not None:
            likely = np.where(np.isneginf(scores), 0, scores).astype(scores.dtype)
            behind = np.maximum(places + 1 - about["free"], 0)
            before = np.cumsum(likely, axis=1) - likely
            penalty = scores.dtype.type(about["penalty"])
            values = 1 - before - penalty * behind.astype(scores.dtype)
        if gains is None:
            reached = values >= least
        else:
            values = gains[np.maximum(ids, 0)] * scores - least
            values = np.where((ids >= 0) & (places < about["at_most"]), values, -np.inf)
            best = np.argsort(-values, axis=1, kind="stable")[:, : about["count"]]
            reached = np.zeros(ids.shape, bool)
            np.put_along_axis(reached, best, True, axis=1)
        if about["at_most"] is not None:
            reached &= places < about["at_most"]
        chosen = (reached | (places < about["at_least"])) & (ids >= 0)
        return chosen if about["abstain"] is None else chosen & (scores[:, :1] >= about["abstain"])

    return chosen


def _check_files(folder: Path) -> None:
    """Compares every file with what the export has recorded of it in ``checksums.json``."""
    again = "Copy the whole folder again, or export again"
    path = folder / "checksums.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        files = content["files"]
        digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
        whole = digest == content["sha256"]
        for name, entry in files.items() if whole else ():
            path = folder / name
            hasher = hashlib.sha256()
            with open(path, "rb") as stream:
                while block := stream.read(1 << 20):
                    hasher.update(block)
            if hasher.hexdigest() != entry["sha256"]:
                raise Problem(f"{path}: changed or damaged since the export. {again}")
    except Problem:
        raise
    except OSError as error:
        raise Problem(f"{path}: cannot be read ({error.strerror}). {again}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise Problem(f"{path}: damaged. {again}")


def main(argv: Sequence[str] | None = None) -> int:
    """Answers all files and returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="- reads standard input")
    parser.add_argument(
        "--k",
        type=int,
        help="list the best K labels (default: those that the run returns, else all exported)",
    )
    parser.add_argument(
        "--batch-size", type=int, default=64, help="examples at a time (default: %(default)s)"
    )
    options = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    try:
        predictor = Predictor()
        predictor.check_k(options.k)
        if options.batch_size < 1:
            raise Problem(f"--batch-size: {options.batch_size} is less than 1. Give 1 or more")
        for names, examples in _batches(options.files, predictor.about, options.batch_size):
            for place, prediction in enumerate(predictor(examples, options.k)):
                answer: dict[str, Any] = {"name": names[place]} if names else {}
                answer["labels"] = prediction.labels
                answer["scores"] = [round(score, 6) for score in prediction.scores]
                print(json_line(answer), flush=True)
    except Problem as problem:
        print(f"predict.py: {problem}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of the answers has gone, as with "| head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"predict.py: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


def json_line(answer: dict[str, Any]) -> str:
    """Returns the JSON that can be printed: other scripts readable, what would steer a terminal
    escaped.
    """
    text = json.dumps(answer, ensure_ascii=False)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def read_texts(path: str) -> Iterator[str]:
    """Yields the lines of a UTF-8 file, or of standard input for ``-``; a line break ends a text.

    Raises:
        Problem: a line is too long or not UTF-8, or the file is compressed or a table.
    """
    ending = Path(path).suffix.lower()
    if ending in _COMPRESSED:
        raise Problem(f"{path}: this is compressed. Unpack it")
    if ending in _TABLES:
        raise Problem(f"{path}: this is a table. Give a file with one text per line")
    with contextlib.nullcontext(sys.stdin.buffer) if path == "-" else open(path, "rb") as stream:
        number = 0
        while line := stream.readline(_LONGEST_LINE + 2 + len(_BYTE_ORDER_MARK)):
            number += 1
            line = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
            if line.endswith(b"\n"):
                line = line[:-1].removesuffix(b"\r")
            if len(line) > _LONGEST_LINE:
                raise Problem(
                    f"{path}:{number}: the line is longer than {_LONGEST_LINE:,} bytes. Check the "
                    "file"
                )
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise Problem(
                    f"{path}:{number}: the line is not UTF-8 ({error.reason}). Convert the file"
                ) from None


def read_image(path: str, shape: Sequence[int]) -> np.ndarray:
    """Returns an image file as uint8 of ``shape``, scaled and cut as in training.

    Args:
        path: PNG, or with Pillow anything that it reads.
        shape: (height, width, channels).

    Raises:
        Problem: it cannot be decoded.
    """
    content = Path(path).read_bytes()
    pixels = read_png(content) if content.startswith(_PNG) else None
    return fit(_read_with_pillow(path) if pixels is None else pixels, shape)


def read_png(content: bytes) -> np.ndarray | None:
    """Returns the pixels of a PNG file, uint8 (height, width, 1 to 4); None if it is of a rare
    kind.

    Rare are fewer than 8 bits, interlaced rows and damaged files.
    """
    chunks: dict[bytes, bytes] = {}
    place = len(_PNG)
    while place + 8 <= len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        name = content[place + 4 : place + 8]
        chunks[name] = chunks.get(name, b"") + content[place + 8 : place + 8 + size]
        place += size + 12
    try:
        width, height, depth, colour, _, _, laced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
        raw = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8)
        channels = _CHANNELS[colour]
        if depth not in (8, 16) or laced or not raw.size:
            return None
        raw = raw.reshape(height, 1 + width * channels * depth // 8)
    except (KeyError, ValueError, struct.error, zlib.error):
        return None
    rows = _unfiltered(raw, channels * depth // 8)
    pixels = rows.reshape(height, width, channels, depth // 8)[..., 0]
    if colour != 3:
        return pixels
    palette = np.frombuffer(chunks.get(b"PLTE", b""), np.uint8).reshape(-1, 3)
    return palette[pixels[..., 0]] if pixels.max() < len(palette) else None


def fit(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Returns an image scaled until it just covers ``shape``, what hangs over cut off on both
    sides.

    Args:
        image: uint8 (height, width, 1 to 4).
        shape: (height, width, channels).
    """
    height, width, channels = shape
    image = with_channels(image, channels)
    old = np.array(image.shape[:2], np.float64)
    scale = (np.array([height, width]) / old).max()
    size = np.maximum(np.round(scale * old).astype(int), [height, width])
    if (size != old).any():
        image = resized(image, size)
    top, left = (size - [height, width]) // 2
    return image[top : top + height, left : left + width]


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Returns an image as grey (1) or RGB (3); an alpha channel is dropped."""
    grey = image.shape[2] < 3
    if channels == 3:
        return np.repeat(image[..., :1], 3, axis=2) if grey else image[..., :3]
    if grey:
        return image[..., :1]
    luma = (image[..., :3].astype(np.float32) * np.float32(1 / 255)) @ _LUMA
    return np.clip(luma * np.float32(255.5), 0, 255).astype(np.uint8)[..., None]


def resized(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Returns an image of another height and width: bilinear, over as many pixels as become one."""
    rows, columns = (_mixing(old, new) for old, new in zip(image.shape[:2], size, strict=True))
    pixels = np.tensordot(rows, image.astype(np.float32), (1, 0))
    pixels = np.moveaxis(np.tensordot(columns, pixels, (1, 1)), 0, 1)
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def _mixing(old: int, new: int) -> np.ndarray:
    """Returns the share of every old row in every new one, float32 (new, old)."""
    step = np.float32(1) / (np.float32(new) / np.float32(old))
    reach = max(step, np.float32(1))
    places = (np.arange(new, dtype=np.float32) + np.float32(0.5)) * step
    distances = np.abs(np.arange(old, dtype=np.float32) + np.float32(0.5) - places[:, None])
    shares = np.maximum(0, 1 - distances / reach).astype(np.float32)
    return shares / np.maximum(shares.sum(axis=1, keepdims=True), _SMALLEST)


def _unfiltered(raw: np.ndarray, step: int) -> np.ndarray:
    """Returns the rows of bytes out of those of a PNG, each after the number of its filter."""
    rows = np.zeros((len(raw), raw.shape[1] - 1), np.uint8)
    above = np.zeros(raw.shape[1] - 1, np.uint8)
    for row, (kind, line) in enumerate(zip(raw[:, 0].tolist(), raw[:, 1:], strict=True)):
        if kind == 1:  # the pixel to the left
            parts = line.reshape(-1, step).astype(np.int64)
            line = (parts.cumsum(axis=0) & 255).astype(np.uint8).ravel()
        elif kind == 2:  # the pixel above
            line = line + above
        elif kind > 2:
            line = _predicted(kind, line.tolist(), above.tolist(), step)
        above = np.asarray(line, np.uint8)
        rows[row] = above
    return rows


def _predicted(kind: int, line: list[int], above: list[int], step: int) -> list[int]:
    """Returns a row filtered by the average of the pixels to the left and above, or by Paeth's
    choice.
    """
    for place, value in enumerate(line):
        left = line[place - step] if place >= step else 0
        up = above[place]
        if kind == 3:
            guess = (left + up) // 2
        else:
            corner = above[place - step] if place >= step else 0
            slope = left + up - corner
            distances = [abs(slope - near) for near in (left, up, corner)]
            guess = (left, up, corner)[distances.index(min(distances))]
        line[place] = (value + guess) & 255
    return line


def _read_with_pillow(path: str) -> np.ndarray:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise Problem(
            f"{path}: only plain PNG files are read without the package pillow. Install it: "
            "pip install pillow"
        ) from None
    try:
        with Image.open(path) as image:
            grey = image.mode in ("1", "L", "LA", "I;16")
            return np.atleast_3d(np.asarray(image.convert("L" if grey else "RGB")))
    except Image.DecompressionBombError as error:
        raise Problem(f"{path}: {error}. Scale it down") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        if isinstance(error, OSError) and error.filename:  # it cannot be opened
            raise
        raise Problem(
            f"{path}: this is not an image, or a damaged one. Give a PNG or JPEG file"
        ) from None


def _batches(
    files: Sequence[str], about: dict[str, Any], size: int
) -> Iterator[tuple[Sequence[str] | None, Any]]:
    """Yields (names or None, examples) of all files."""
    kind = about["input_kind"]
    for path in files:
        if kind == "text":
            yield from ((None, texts) for texts in _grouped(read_texts(path), size))
        elif kind == "sparse":
            yield from ((None, rows) for rows in _sparse_rows(path, about["num_features"], size))
        elif kind == "dense":
            width = about["num_features"]
            with _array_errors(path):
                rows = np.load(path)
                if rows.ndim != 2 or rows.shape[1] != width:
                    raise Problem(
                        f"{path}: the array has shape {rows.shape} instead of (n, {width}). Give "
                        "features of the space the model was trained on"
                    )
                rows = rows.astype(np.float32)
            _check_finite(path, rows, np.arange(len(rows) + 1) * width)
            starts = range(0, len(rows), size)
            yield from ((None, rows[start : start + size]) for start in starts)
    if kind == "image":
        for names in _grouped(files, size):
            yield names, np.stack([read_image(name, about["image_shape"]) for name in names])


@contextlib.contextmanager
def _array_errors(path: str) -> Iterator[None]:
    """Turns what NumPy raises over a damaged file into a ``Problem``."""
    try:
        yield
    except Problem:
        raise
    except _DAMAGED_ARRAY as error:
        raise Problem(f"{path}: not as NumPy writes it ({error}). Write it again") from None


def _check_finite(path: str, values: np.ndarray, bounds: np.ndarray) -> None:
    """Refuses NaN and infinity; ``bounds`` are where the rows begin and end in the values."""
    wrong = np.flatnonzero(~np.isfinite(values.ravel()))
    if len(wrong):
        row = np.searchsorted(bounds, wrong[0], "right")
        raise Problem(f"{path}: row {row} has a value that is NaN or infinite. Correct the value")


def _sparse_rows(path: str, width: int, size: int) -> Iterator[Inputs]:
    """Yields the batches of a CSR matrix as SciPy saves it."""
    with _array_errors(path), np.load(path) as saved:
        if "indptr" not in saved or saved["format"].item() not in (b"csr", "csr"):
            raise Problem(
                f"{path}: this is not a CSR matrix as scipy.sparse.save_npz writes it. Save "
                "matrix.tocsr()"
            )
        splits = saved["indptr"]
        ids = saved["indices"]
        weights = saved["data"].astype(np.float32)
        shape = tuple(saved["shape"].tolist())
        if shape[1:] != (width,) or (len(ids) and not 0 <= ids.min() <= ids.max() < width):
            raise Problem(
                f"{path}: the matrix has shape {shape} instead of (n, {width}). Give features of "
                "the space the model was trained on"
            )
        _check_finite(path, weights, splits)
    for first in range(0, len(splits) - 1, size):
        rows = splits[first : first + size + 1].astype(np.int64)
        part = slice(rows[0], rows[-1])
        yield {
            "ids": ids[part].astype(np.int32),
            "weights": weights[part],
            "row_splits": rows - rows[0],
        }


def _grouped(items: Iterable[str], size: int) -> Iterator[list[str]]:
    group: list[str] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _single(inputs: Inputs) -> Iterator[Inputs]:
    """Yields the inputs of one example after the other."""
    if "row_splits" not in inputs:
        count = len(next(iter(inputs.values())))
        for row in range(count):
            yield {name: values[row : row + 1] for name, values in inputs.items()}
        return
    splits = inputs["row_splits"]
    for first, last in zip(splits[:-1].tolist(), splits[1:].tolist(), strict=True):
        part = {name: inputs[name][first:last] for name in ("ids", "weights")}
        yield {**part, "row_splits": np.array([0, last - first], np.int64)}


def _open_onnx(path: Path) -> Callable[[Inputs], tuple[np.ndarray, np.ndarray]]:
    try:
        import onnxruntime
    except ImportError:
        raise _missing("onnxruntime") from None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda inputs: tuple(session.run(["label_ids", "scores"], inputs))


def _open_litert(path: Path) -> Callable[[Inputs], tuple[np.ndarray, np.ndarray]]:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise _missing("ai-edge-litert") from None
    runner = Interpreter(str(path)).get_signature_runner("serving_default")

    def run(inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
        outputs = runner(**inputs)
        return outputs["label_ids"], outputs["scores"]

    return run


def open_arrays(folder: str | Path) -> Callable[[Inputs], tuple[np.ndarray, np.ndarray]]:
    """Opens a model of arrays: a function of features -> ids and scores, best first.

    Args:
        folder: ``model`` of an export in the format runtime.
    """
    folder = Path(folder)
    if (folder / NETWORK).exists():
        return open_network(folder)
    return open_fused(folder) if (folder / FUSED).exists() else open_ranker(folder)


def open_network(folder: Path) -> Callable[[Inputs], tuple[np.ndarray, np.ndarray]]:
    """Opens a table with dense layers and a score for each label; see ``open_arrays``."""
    about = json.loads((folder / NETWORK).read_text(encoding="utf-8"))
    arrays = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
    table = arrays["table"]
    row_scales = arrays.get("table-scales")
    lookup = arrays.get("lookup")
    kernels = []
    for place in range(len(about["activations"]) - 1):
        kernel = arrays[f"kernel-{place}"]
        scales = arrays.get(f"kernel-{place}-scales")
        kernels.append(kernel if scales is None else kernel * scales[:, None])
    k = about["k"]

    def run(inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
        if "tokens" in inputs:
            texts = [row[row != 0] for row in inputs["tokens"]]
            bags = [(ids, np.full(len(ids), 1 / max(len(ids), 1), np.float32)) for ids in texts]
        else:
            features: Any = (inputs["row_splits"], inputs["ids"], inputs["weights"], None)
            if about["row_normalise"] == "l2":
                features = _normalised(features)
            bounds, ids, weights, _ = features
            pairs = zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
            bags = [(ids[first:last], weights[first:last]) for first, last in pairs]
        x = np.zeros((len(bags), table.shape[1]), np.float32)
        for place, (ids, weights) in enumerate(bags):
            rows = ids if lookup is None else lookup[ids]
            if row_scales is not None:
                weights = weights * row_scales[rows]
            x[place] = weights @ table[rows]
        for place, name in enumerate(about["activations"]):
            if place:
                x = x @ kernels[place - 1].T
            x = ACTIVATIONS[name](x + arrays[f"bias-{place}"])
        ids = np.argpartition(-x, k - 1)[:, :k]
        best = np.take_along_axis(x, ids, axis=1)
        order = np.lexsort((ids, -best))  # of equal scores the first label, as in training
        ids = np.take_along_axis(ids, order, axis=1).astype(np.int32)
        best = np.take_along_axis(best, order, axis=1)
        if about["probabilities"] == "sigmoid":
            best = _sigmoid(best)
        elif about["probabilities"] == "softmax":
            best = np.exp(best - best[:, :1]) / np.exp(x - best[:, :1]).sum(axis=1, keepdims=True)
        elif about["calibration"] is not None:
            best = _calibrated(best, about["calibration"])
        return ids, best

    return run


def open_ranker(folder: Path) -> Callable[[Inputs], tuple[np.ndarray, np.ndarray]]:
    """Opens a linear ranker; see ``open_arrays``."""
    about = json.loads((folder / RANKER).read_text(encoding="utf-8"))
    search = _module(folder / "beam_search_numpy.py")
    rules = _module(folder / "post_processors.py").POST_PROCESSORS
    layers = []
    for number in range(len(about["beams"])):
        files = (folder / f"layer-{number}").glob("*.npy")
        arrays = {path.stem: np.load(path, mmap_mode="r") for path in files}
        layers.append(types.SimpleNamespace(**arrays))
    scales = [getattr(layer, "scales", None) for layer in layers]
    kernels = search.LayerKernels(layers, scales)
    settings = [
        (rules[name], min(beam, len(layer.children)))
        for name, beam, layer in zip(about["post_processors"], about["beams"], layers, strict=True)
    ]

    def run(inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
        if "features" in inputs:
            features: Any = inputs["features"]
            count = len(features)
        else:
            bounds = inputs["row_splits"]
            features = bounds, inputs["ids"], inputs["weights"], about["num_features"]
            count = len(bounds) - 1
        if about["row_normalise"] == "l2":
            features = _normalised(features)
        zeros = np.zeros(count, np.int64)
        root = (np.zeros(1, np.int32), np.ones(1, np.float32))
        ids, scores, counts = kernels.search_together(
            features, about["bias"], settings, False, zeros, zeros + 1, *root, 1
        )
        short = np.arange(ids.shape[1]) >= counts[:, None]
        ids[short] = -1
        if about["calibration"] is not None:
            scores[short] = 0
            scores = _calibrated(scores, about["calibration"])
        scores[short] = -np.inf
        return ids, scores

    return run


def open_fused(folder: Path) -> Callable[[Inputs], tuple[np.ndarray, np.ndarray]]:
    """Opens a memory of examples and label texts, perhaps with a ranker; see ``open_arrays``."""
    about = json.loads((folder / FUSED).read_text(encoding="utf-8"))
    fused = _module(folder / "fused_numpy.py")
    arrays = {path.stem: np.load(path) for path in folder.glob("*.npy")}
    widths = np.diff(about["blocks"]).tolist()

    def layers(kind: str) -> list[Any]:
        files = [(folder / f"{kind}-{number}").glob("*.npy") for number in range(len(widths))]
        return [
            types.SimpleNamespace(**{path.stem: np.load(path, mmap_mode="r") for path in paths})
            for paths in files
        ]

    def nearest(layer: Any, width: int) -> Callable[[Any], tuple[np.ndarray, np.ndarray]]:
        entries = (fused.entry_splits(layer, width), layer.columns, layer.values)
        return lambda rows: fused.nearest_rows(
            rows, *entries, len(layer.children), about["neighbours"]
        )

    texts = layers("texts") if about["has_texts"] else []
    start = "trees-"
    trees = {
        name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)
    }
    parts = fused.Parts(
        [nearest(layer, width) for layer, width in zip(layers("rows"), widths, strict=True)],
        [nearest(layer, width) for layer, width in zip(texts, widths, strict=False)],
        [fused.transposed(layer, about["num_labels"]) for layer in texts],
        arrays["row_splits"],
        arrays["row_labels"].astype(np.int64),
        np.bincount(arrays["row_labels"], minlength=about["num_labels"]),
        about["blocks"],
        arrays.get("ranker_labels"),
        trees or None,
    )
    fusion = fused.Fusion(parts, about["power"], about["tail_places"], about["rare"])
    ranker = None
    if (folder / RANKER).exists():
        ranker = open_ranker(folder)
        width = json.loads((folder / RANKER).read_text(encoding="utf-8"))["num_features"]

    def run(inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
        rows: Any = (inputs["row_splits"], inputs["ids"], inputs["weights"], about["blocks"][-1])
        if about["row_normalise"] == "l2":
            rows = _normalised(rows)
        ranked = None
        if ranker is not None:
            read = fused.split_blocks(rows[:3], [0, width])[0]
            ranked = ranker(dict(zip(("row_splits", "ids", "weights"), read, strict=True)))
        ids, scores = fusion.top_k(rows[:3], ranked, about["k"])
        if about["calibration"] is not None:
            missing = ids < 0
            scores = _calibrated(np.where(missing, 0, scores), about["calibration"])
            scores[missing] = -np.inf
        return ids, scores

    return run


def _module(path: Path) -> types.ModuleType:
    """Runs a file as a module of a name of its own, and leaves no bytecode in the folder."""
    module = types.ModuleType(f"exported_{path.stem}")
    sys.modules[module.__name__] = module  # a dataclass looks its module up
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), module.__dict__)
    return module


def _normalised(features: Any) -> Any:
    """Rows, dense or sparse, of length 1; rows of zeros stay."""
    if isinstance(features, tuple):
        bounds, ids, weights, width = features
        rows = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        squares = np.bincount(rows, np.square(weights), minlength=len(bounds) - 1)
        return bounds, ids, (weights / _lengths(squares)[rows]).astype(np.float32), width
    return features / _lengths(np.square(features).sum(axis=1))[:, None]


def _lengths(squares: np.ndarray) -> np.ndarray:
    return np.where(squares > 0, np.sqrt(squares), 1)


def _calibrated(scores: np.ndarray, calibration: dict[str, Any]) -> np.ndarray:
    """Probabilities of the scores of ranked lists, as the run has learned them."""
    answer = scores.astype(np.float64)
    if calibration["shares"] is not None:
        answer = np.interp(answer, *calibration["shares"])
    if calibration["weights"] is not None:
        if calibration["shares"] is not None:
            shares = np.clip(answer, _LEAST_SHARE, 1 - _LEAST_SHARE)
            answer = np.log(shares) - np.log1p(-shares)
        intercept, own, of_place, of_best = calibration["weights"]
        places = np.log1p(np.arange(answer.shape[1]))
        odds = intercept + own * answer + of_place * places + of_best * answer[:, :1]
        answer = _sigmoid(odds)
        if calibration["last"] is not None:
            answer = (1 - _TIES) * np.interp(odds, *calibration["last"]) + _TIES * answer
    return answer.astype(np.float32)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    """The logistic function, of large negative numbers without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, 1) / (1 + small)


_OPEN = {"runtime": open_arrays, "onnx": _open_onnx, "litert": _open_litert}


def _missing(package: str) -> Problem:
    return Problem(f"the package {package} is not installed. Install it: pip install {package}")


if __name__ == "__main__":
    sys.exit(main())
