"""Compares what a device computes with what the CPU computes, on small models.

Each case is one step of training and one search, twice from the same weights: on the CPU, where no
step is compiled, as that takes longer than to run it, and on the device. Compared are the loss,
what the step has changed in the weights, and the scores of the labels found.
"""

import collections
import contextlib
import dataclasses
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfxc.core import registry
from tfxc.core.config import parse_config
from tfxc.core.errors import UserError
from tfxc.data.examples.columns import bounds_of
from tfxc.data.examples.kinds import KINDS
from tfxc.data.examples.rows import Rows
from tfxc.data.label_texts.keys import text_keys
from tfxc.data.label_texts.prepared import LabelTexts
from tfxc.data.reading.builtin.synthetic.drawing import SYLLABLES
from tfxc.data.sources.base import ArraySource
from tfxc.data.sources.dataset import copied_ahead, training_dataset
from tfxc.data.text.subwords import PretrainedTokens
from tfxc.model import build_model, own_precision
from tfxc.ops.compiled_operations import CompiledOperation
from tfxc.ops.private_apis import placed_operations
from tfxc.pretrained.stand_in import write_stand_in
from tfxc.training.data_dependent import data_dependent_arguments
from tfxc.training.optimization.optimizers import OPTIMIZERS, get_optimizer
from tfxc.training.optimization.schedules import get_schedule
from tfxc.training.step import TrainStep

if TYPE_CHECKING:
    from tfxc.model import XCModel

HOST = "CPU:0"
#: How far results may be apart, as a share, by precision.
LIMITS = {"float32": 1e-3, "mixed_bfloat16": 1e-2}
_LABELS = 24
_EXAMPLES = 32
_BATCH = 16
_FOUND = 5  # labels of a search
# Of the distance of the reference in bfloat16 from that in float32: both devices may be that far.
_SHARE_OF_ROUNDING = 2
_TIMED = 3  # more steps and searches, of which the fastest counts
_MESSAGE = 300  # characters of TensorFlow's own, which may hold whole graphs
_IMAGE = (32, 32, 3)
_SIZES = {"num_features": 40, "image_shape": None}
# A change is not told from rounding errors below this share of the weight itself, and of the
# largest change of all weights: in bfloat16 a gradient that sums over examples is right to a few
# percent only.
_NOISE = 1e-3
_NOISE_OF_CHANGES = {"float32": 1e-3, "mixed_bfloat16": 1.0}
# One objective of each family: decisions on each label, one among all, margins, dual variables.
_FAMILIES = ("sigmoid", "softmax", "hinge", "scent")
# Of each kind of features, the encoder that the other parts are tried with.
_BAG = {"name": "bag_mlp", "hidden": [16]}
# Arguments without a default, and sizes of small models.
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "adaface": {"scale": 16.0},
    "bag_mlp": {"hidden": [16, 8]},
    "fasttext": {"embedding_dim": 8, "hidden_dim": 8},
    "iresnet": {"depth": 18, "width": 4, "embedding_dim": 8},
    "keras_application": {"model": "VGG16"},
    "mach": {"num_buckets": 6, "num_repetitions": 4},
    "magface": {"scale": 16.0, "least_length": 0.1, "largest_length": 2.0},
    "margin": {"scale": 16.0, "m2": 0.3},
    "mhc": {"heads": [6, 4], "beam": 4},
    "mhp": {"heads": [6, 4]},
    "mhs": {"heads": [6, 4], "num_sampled_heads": 2},
    "mobilefacenet": {"scale": 0.125, "embedding_dim": 8},
    "pretrained": {"num_layers": 1},
    "resnet": {"depth": 10, "width": 4},
    "textcnn": {"embedding_dim": 8, "num_filters": 4},
    "textrcnn": {"embedding_dim": 8, "hidden_dim": 4},
    "textrnn": {"embedding_dim": 8, "hidden_dim": 4},
    "transformer": {"embedding_dim": 8, "num_heads": 2, "num_layers": 1},
    "tree": {"nr_splits": 2, "min_codes": 2, "max_leaf_size": 4, "beam": 4},
}
# What moves or holds values and computes nothing.
_MOVING = {"Const", "Enter", "Exit", "Identity", "IdentityN", "Merge", "NextIteration", "NoOp"}
_MOVING |= {"LoopCond", "Switch", "VarHandleOp", "_Arg", "_Retval", "_Send", "_Recv"}
_MOVING |= {"_DeviceArg", "_DeviceRetval", "_HostSend", "_HostRecv"}


@dataclasses.dataclass(frozen=True)
class Case:
    """A small model, and how it is trained.

    Attributes:
        name: what is compared.
        encoder, head, objective: config sections.
        optimizer: config section; the change by a step of plain descent shows the gradient.
        precision: of the config.
        compiled: whether the device may use the operations that are compiled here; the CPU does.
    """

    name: str
    encoder: Mapping[str, Any]
    head: Mapping[str, Any]
    objective: Mapping[str, Any]
    optimizer: Mapping[str, Any] = dataclasses.field(
        default_factory=lambda: {"name": "sgd", "learning_rate": 0.5}
    )
    precision: str = "float32"
    compiled: bool = True


def cases() -> list[Case]:
    """Every head with each family of objectives, every other objective, every encoder, updates.

    Heads and encoders come in mixed precision as well, but for ``keras_application``: on a CPU, its
    convolutions then take a minute.
    """
    listed = []
    softmax = {"name": "softmax"}
    dense = {"name": "dense"}
    heads = registry.names("head")
    encoders = registry.names("encoder")
    for head in heads:
        for objective in _FAMILIES:
            name = f"head {head}, {objective}"
            listed.append(Case(name, _BAG, _section(head), {"name": objective}))
    for objective in registry.names("objective"):
        if objective not in _FAMILIES:
            listed.append(Case(f"objective {objective}", _BAG, dense, {"name": objective}))
    listed += [Case(f"encoder {name}", _section(name), dense, softmax) for name in encoders]
    for weights in ("float32", "bfloat16"):
        fused = {"name": "dense", "update": "fused", "weights": weights, "learning_rate": 8.0}
        for objective in ("sigmoid", "softmax"):
            name = f"fused update, {weights} weights, {objective}"
            listed.append(Case(name, _BAG, fused, {"name": objective}, compiled=False))
    for name in OPTIMIZERS:
        # Close to 0, Adam makes an equally large step of a rounding error.
        more = {"epsilon": 1e-2} if name != "sgd" else {"momentum": 0.9}
        optimizer = {"name": name, "learning_rate": 0.5, **more}
        update = Case(f"row-sparse update, {name}", _BAG, {"name": "sampled"}, softmax, optimizer)
        listed.append(dataclasses.replace(update, compiled=False))
    mixed = [Case(f"head {name}", _BAG, _section(name), softmax) for name in heads]
    encoders.remove("keras_application")
    mixed += [Case(f"encoder {name}", _section(name), dense, softmax) for name in encoders]
    return listed + [dataclasses.replace(case, precision="mixed_bfloat16") for case in mixed]


def _section(name: str) -> dict[str, Any]:
    return {"name": name, **_ARGUMENTS.get(name, {})}


def first_gpu() -> tuple[str, str] | None:
    """Name and model of the first GPU that TensorFlow uses; None without one.

    Example:
        >>> first_gpu()  # doctest: +SKIP
        ('GPU:0', 'NVIDIA A100-SXM4-40GB')
    """
    gpus = tf.config.list_logical_devices("GPU")
    if not gpus:
        return None
    details = tf.config.experimental.get_device_details(tf.config.get_visible_devices("GPU")[0])
    return gpus[0].name.rpartition("device:")[2], details.get("device_name", "a GPU")


def compared(device: str, chosen: Sequence[Case] | None = None) -> Iterator[dict[str, Any]]:
    """Runs cases on the CPU and on a device.

    Products of float32 matrices are not shortened to TF32 meanwhile.

    Args:
        device: e.g. ``"GPU:0"``.
        chosen: the cases; None for all.

    Yields:
        A dict for each case, which JSON can hold: ``case``, ``precision``, ``ok`` and, unless it
        was ``skipped`` or ``failed`` for the reason there,

        * ``difference`` as a share, its ``limit`` and ``where`` it is largest; where bfloat16 is
          beyond ``LIMITS``, the limit is twice what the CPU itself loses by it,
        * ``host_operations``: ``{operation: how often}`` of step and search ran on the host,
        * ``peak_mb`` of the device's memory, None where it is not known,
        * ``step_ms`` and ``search_ms`` on the device.
    """
    shortened = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for case in cases() if chosen is None else chosen:
                row = {"case": case.name, "precision": case.precision}
                yield row | _compared(case, device, Path(folder))
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(shortened)


def _compared(case: Case, device: str, folder: Path) -> dict[str, Any]:
    try:
        with own_precision():
            trial = _Trial(case, folder)
            expected = trial.run(HOST, is_reference=True)
            with contextlib.nullcontext() if case.compiled else _nothing_compiled():
                result = trial.run(device, expected.start)
    except UserError as error:
        if isinstance(error.__cause__, ImportError):
            return {"ok": True, "skipped": str(error)}
        return {"ok": False, "failed": str(error)}
    except tf.errors.OpError as error:
        message = " ".join(error.message.split())[:_MESSAGE]
        return {"ok": False, "failed": f"{type(error).__name__}: {message}"}
    where, difference = _largest(expected, result, case)
    limit = LIMITS[case.precision]
    if case.precision != "float32" and not difference <= limit:
        limit = max(limit, _SHARE_OF_ROUNDING * _rounding(case, expected, folder))
    return {
        "ok": difference <= limit,
        "difference": difference,
        "limit": limit,
        "where": where,
        "host_operations": result.host_operations,
        "peak_mb": result.peak_mb,
        "step_ms": result.times[0],
        "search_ms": result.times[1],
    }


def _rounding(case: Case, result: "_Result", folder: Path) -> float:
    """Returns how far the CPU's result is from its own in float32; 0 where that says nothing.

    In a deep network, each layer adds to the rounding errors of those before it, and two results
    that are both right can be further apart than any limit for all encoders.
    """
    exact = dataclasses.replace(case, precision="float32")
    with own_precision():
        expected = _Trial(exact, folder).run(HOST, result.start, is_reference=True)
    difference = _largest(expected, result, case)[1]
    return difference if math.isfinite(difference) else 0.0


def _largest(expected: "_Result", result: "_Result", case: Case) -> tuple[str, float]:
    """Returns where two results are furthest apart, and how far."""

    def size(pair: tuple[str, float]) -> float:
        return math.inf if math.isnan(pair[1]) else pair[1]

    return max(_differences(expected, result, case).items(), key=size)


@contextlib.contextmanager
def _nothing_compiled() -> Iterator[None]:
    """Context manager: inside, TensorFlow's own operations do what is compiled elsewhere."""
    before = os.environ.get("TFXC_COMPILE")
    os.environ["TFXC_COMPILE"] = "0"
    for operation in CompiledOperation.all:
        operation.forget()
    try:
        yield
    finally:
        os.environ.pop("TFXC_COMPILE")
        if before is not None:
            os.environ["TFXC_COMPILE"] = before
        for operation in CompiledOperation.all:
            operation.forget()


@dataclasses.dataclass(frozen=True)
class _Result:
    """What one device has computed; ``paths`` are those of the weights, ``times`` milliseconds."""

    paths: Sequence[str]
    start: Sequence[np.ndarray]
    end: Sequence[np.ndarray]
    loss: float
    ids: np.ndarray
    scores: np.ndarray
    host_operations: dict[str, int]
    peak_mb: float | None
    times: Sequence[float]


class _Trial:
    """The examples of a case, and its model on one device after the other."""

    def __init__(self, case: Case, folder: Path) -> None:
        encoder = dict(case.encoder)
        kind = KINDS[registry.get("encoder", encoder["name"]).input_kind]
        self._sizes: dict[str, Any] = {**_SIZES, "text_features": None}
        if encoder["name"] == "pretrained":
            encoder["folder"] = str(folder / "minilm")
            if not (folder / "minilm").exists():
                write_stand_in(folder / "minilm", "minilm", small=True, syllables=SYLLABLES)
            tokens = PretrainedTokens(encoder["folder"], max_length=12).fit([])
            self._sizes["text_features"] = {"name": "pretrained", **tokens.settings()}
            self._sizes["num_features"] = tokens.num_features
        if kind.is_image:
            self._sizes["image_shape"] = _IMAGE
        draw = np.random.default_rng(0)
        labels = [draw.choice(_LABELS, 2, replace=False) for _ in range(_EXAMPLES)]

        def rows(labels: Sequence[Any]) -> Rows:
            return Rows(
                kind,
                kind.example(self._sizes, len(labels), draw),
                label_indptr=bounds_of([len(row) for row in labels]),
                label_ids=np.concatenate(labels),
                num_features=self._sizes["num_features"],
            )

        texts = rows([np.empty(0, np.int32)] * _LABELS)
        keys = text_keys(map(str, range(_LABELS)))
        self._source = ArraySource(rows(labels), _LABELS, label_texts=LabelTexts(texts, keys))
        self._config = parse_config(
            {
                "run": "device-check",
                "data": {"name": "device-check", "train": "train"},
                "encoder": encoder,
                "head": dict(case.head),
                "objective": dict(case.objective),
                "training": {
                    "batch_size": _BATCH,
                    "optimizer": dict(case.optimizer),
                    "precision": case.precision,
                },
            }
        )

    def run(
        self,
        device: str,
        start: Sequence[np.ndarray] | None = None,
        is_reference: bool = False,
    ) -> _Result:
        """Returns the result of one step and one search on a device.

        Args:
            device: its name.
            start: weights to begin with; None for those of the model.
            is_reference: whether no step is compiled, and nothing timed.
        """
        config = self._config
        source = self._source
        _reset_peak(device)
        with tf.device(device):
            model = self._model()
            if start is not None:
                for variable, value in zip(model.variables, start, strict=True):
                    variable.assign(value)
            start = [variable.numpy() for variable in model.variables]
            step = TrainStep(
                model,
                get_optimizer(config.training.optimizer.section()),
                get_schedule(config.training.schedule.section(), 100, 10.0),
                config.training,
                tf.distribute.get_strategy(),
            )
        batches = training_dataset(source, batch_size=_BATCH, seed=0, num_steps=_TIMED + 2)
        iterator = iter(copied_ahead(batches, device) if device != HOST else batches)
        features = source.batch(0, 0, _BATCH)["features"]
        with tf.device(device), placed_operations() as placed:
            with _uncompiled() if is_reference else contextlib.nullcontext():
                loss = float(step.run(iterator))
            end = [variable.numpy() for variable in model.variables]
            model.refresh()
            ids, scores = model.find_top_k(features, _FOUND)
        times: list[float] = []
        if not is_reference:
            with tf.device(device):
                times.append(_fastest(lambda: float(step.run(iterator))))
                times.append(_fastest(lambda: model.find_top_k(features, _FOUND)))
        on_host: collections.Counter[str] = collections.Counter()
        for (operation, where), count in placed.items():
            if where == HOST and operation not in _MOVING:
                on_host[operation] += count
        return _Result(
            paths=[variable.path for variable in model.variables],
            start=start,
            end=end,
            loss=loss,
            ids=ids,
            scores=scores,
            host_operations=dict(on_host.most_common()),
            peak_mb=_peak_mb(device),
            times=times,
        )

    def _model(self) -> "XCModel":
        sizes = {**self._sizes, "feature_kind": self._source.kind.name, "num_labels": _LABELS}
        sizes["num_examples"] = _EXAMPLES
        from_data = data_dependent_arguments(self._config, self._source, **sizes)
        return build_model(self._config, **sizes, **from_data)


@contextlib.contextmanager
def _uncompiled() -> Iterator[None]:
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _fastest(work: Callable[[], Any]) -> float:
    """Milliseconds of the fastest of some calls."""
    times = []
    for _ in range(_TIMED):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return round(1000 * min(times), 3)


def _reset_peak(device: str) -> None:
    with contextlib.suppress(ValueError):  # of a CPU nothing is known
        tf.config.experimental.reset_memory_stats(device)


def _peak_mb(device: str) -> float | None:
    try:
        peak = tf.config.experimental.get_memory_info(device)["peak"]
    except ValueError:
        return None
    return round(peak / 2**20, 2) or None


def _differences(expected: _Result, result: _Result, case: Case) -> dict[str, float]:
    """Shares by which the parts of two results differ."""
    found = {
        "loss": abs(result.loss - expected.loss) / max(abs(expected.loss), 1e-6),
        "search": _search_difference(expected, result),
    }
    changes = [
        np.linalg.norm(_real(end) - _real(start))
        for start, end in zip(expected.start, expected.end, strict=True)
    ]
    least = _NOISE_OF_CHANGES[case.precision] * max(changes, default=0.0)
    parts = zip(expected.paths, changes, expected.end, result.end, strict=True)
    for path, change, end, other in parts:
        size = max(change, least, _NOISE * np.linalg.norm(_real(end)), 1e-30)
        distance = float(np.linalg.norm(_real(other) - _real(end)))
        unlike = np.isnan(end.astype(np.float64)) != np.isnan(other.astype(np.float64))
        found[path] = math.inf if unlike.any() else distance / float(size)
    return found


def _real(values: np.ndarray) -> np.ndarray:
    """Float64 (size,); dual variables of examples never seen are NaN, and 0 here."""
    return np.nan_to_num(values.astype(np.float64).ravel())


def _search_difference(expected: _Result, result: _Result) -> float:
    """Of the scores at each place, as a share of the largest; infinite if other labels are there.

    Labels whose scores are that close may change places.
    """
    there = expected.ids >= 0  # a narrow search may find fewer
    if (there != (result.ids >= 0)).any():
        return math.inf
    reach = np.abs(expected.scores[there]).max(initial=1e-6)
    difference = np.abs(result.scores - expected.scores)[there].max(initial=0.0) / reach
    for row, row_scores, ids in zip(expected.ids, expected.scores, result.ids, strict=True):
        known = dict(zip(row.tolist(), row_scores.tolist(), strict=True))
        for place in np.flatnonzero((ids != row) & (ids >= 0)):
            score = known.get(int(ids[place]), row_scores[row >= 0][-1])
            difference = max(difference, abs(score - row_scores[place]) / reach)
    return float(difference)
