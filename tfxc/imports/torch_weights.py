"""From the state dict of a PyTorch network to the weights of the same network here."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from tfxc.core.errors import DataError
from tfxc.encoders.layers.batch_norm import BatchNorm
from tfxc.pretrained.torch_files import TorchTensor

_SHOWN = 5  # names in a message
# Counts training steps; nothing here needs it.
_IGNORED = "num_batches_tracked"


class Source(NamedTuple):
    """Where the values of one variable come from.

    Attributes:
        variable: Keras variable.
        tensors: {name: shape} of the tensors in the state dict.
        convert: function of their arrays -> the variable's values.
    """

    variable: keras.Variable
    tensors: Mapping[str, tuple[int, ...]]
    convert: Callable[..., np.ndarray]


def sources_of(name: str, layer: keras.layers.Layer) -> list[Source]:
    """Returns the variables of a built layer, each with the tensor that a PyTorch layer has for it.

    Convolutions are (outputs, inputs, height, width) there, linear layers (outputs, inputs).

    Args:
        name: of the layer in the state dict, e.g. ``"layer1.0.conv1"``.
        layer: a convolution, ``BatchNorm``, PReLU or linear layer.
    """
    if isinstance(layer, keras.layers.Conv2D):
        height, width, inputs, outputs = layer.kernel.shape
        shape = (outputs, inputs, height, width)
        transpose = functools.partial(np.transpose, axes=(2, 3, 1, 0))
        return [Source(layer.kernel, {f"{name}.weight": shape}, transpose)]
    if isinstance(layer, BatchNorm):
        variables = {
            "bias": layer.beta,
            "running_mean": layer.moving_mean,
            "running_var": layer.moving_variance,
        }
        if layer.scale:
            variables["weight"] = layer.gamma
        return [
            Source(variable, {f"{name}.{suffix}": tuple(variable.shape)}, np.asarray)
            for suffix, variable in variables.items()
        ]
    if isinstance(layer, keras.layers.PReLU):
        channels = layer.alpha.shape[-1]
        reshape = functools.partial(np.reshape, shape=(1, 1, channels))
        return [Source(layer.alpha, {f"{name}.weight": (channels,)}, reshape)]
    assert isinstance(layer, keras.layers.Dense), layer
    return linear_sources(name, layer.kernel, layer.bias)


def linear_sources(name: str, kernel: keras.Variable, bias: keras.Variable) -> list[Source]:
    """Returns where kernel (inputs, outputs) and bias of a linear layer come from."""
    inputs, outputs = kernel.shape
    return [
        Source(kernel, {f"{name}.weight": (outputs, inputs)}, np.transpose),
        Source(bias, {f"{name}.bias": (outputs,)}, np.asarray),
    ]


def fill(
    sources: Iterable[Source], tensors: Mapping[str, TorchTensor], where: str | Path, network: str
) -> None:
    """Writes the tensors of a state dict into variables; nothing is written if one does not fit.

    Args:
        sources: of all variables.
        tensors: the state dict.
        where: its file, for messages.
        network: what it should be, for messages, e.g. ``"an IResNet of depth 50"``.

    Raises:
        DataError: tensors are missing, unknown or of another shape; all of them are counted, the
            first ones named.
    """
    sources = list(sources)
    shapes = {name: shape for source in sources for name, shape in source.tensors.items()}
    wrong = {
        "missing": [name for name in shapes if name not in tensors],
        "unknown": [name for name in tensors if name not in shapes and not name.endswith(_IGNORED)],
        "of another shape": [
            f"{name} {tensors[name].shape} for {shape}"
            for name, shape in shapes.items()
            if name in tensors and tensors[name].shape != shape
        ],
    }
    problems = [f"{len(names)} {kind}: {_some(names)}" for kind, names in wrong.items() if names]
    if problems:
        raise DataError(
            f"these are not the tensors of {network} ({'; '.join(problems)})",
            where=where,
            fix="give the state dict of such a network, unchanged",
        )
    for source in sources:
        arrays = (tensors[name].array() for name in source.tensors)
        source.variable.assign(source.convert(*arrays))


def blocks_of(tensors: Iterable[str]) -> tuple[int, ...]:
    """Returns how many blocks each stage has, by the names ``layer1.0.*`` and so on.

    Example:
        >>> blocks_of(["conv1.weight", "layer1.0.conv1.weight", "layer1.1.conv1.weight"])
        (2,)
    """
    blocks: dict[int, set[str]] = {}
    for name in tensors:
        stage, *rest = name.split(".")
        if stage.startswith("layer") and stage[5:].isdecimal() and len(rest) > 1:
            blocks.setdefault(int(stage[5:]), set()).add(rest[0])
    return tuple(len(blocks[stage]) for stage in sorted(blocks))


def depth_of(
    tensors: Mapping[str, TorchTensor],
    known: Mapping[int, tuple[int, ...]],
    where: str | Path,
    network: str,
) -> int:
    """Returns the depth that has as many blocks.

    Args:
        tensors: the state dict.
        known: {depth: blocks of each stage}.
        where, network: for messages.

    Raises:
        DataError: there is no such depth.
    """
    blocks = blocks_of(tensors)
    depth = next((depth for depth, counts in known.items() if counts == blocks), None)
    if depth is None or "conv1.weight" not in tensors:
        stages = "-".join(map(str, blocks)) or "no"
        raise DataError(
            f"this is not {network} of a known depth: it has {stages} blocks layer1 ... in the "
            f"tensors {_some(list(tensors))}",
            where=where,
            fix=f"give the state dict of {network} of depth {', '.join(map(str, known))}",
        )
    return depth


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
