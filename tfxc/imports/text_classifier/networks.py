"""The tensors of text_classifier_torch's small networks as the weights of models here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.imports.torch_weights import Source, linear_sources
from tfxc.pretrained.torch_files import TorchTensor, load_state_dict

if TYPE_CHECKING:
    from tfxc.encoders.textcnn import TextCNN
    from tfxc.encoders.textrcnn import TextRCNN
    from tfxc.encoders.textrnn import TextRNN
    from tfxc.model import XCModel

_AVERAGED = "n_averaged"  # PyTorch's AveragedModel counts there
_TABLE = "word_embeddings.weight"


def read_tensors(path: str | Path) -> dict[str, TorchTensor]:
    """Returns the tensors of a checkpoint; that of an averaged model is read as the model.

    Args:
        path: file of a state dict.

    Raises:
        DataError: see ``load_state_dict``.
    """
    tensors = load_state_dict(path)
    if tensors.pop(_AVERAGED, None) is None:
        return tensors
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def rows_of_table(tensors: Mapping[str, TorchTensor]) -> int:
    """Returns the rows of the table of word vectors; 0 without one."""
    tensor = tensors.get(_TABLE)
    return tensor.shape[0] if tensor is not None and len(tensor.shape) == 2 else 0


def network_sources(
    model: "XCModel", model_type: str, rows: int, *, unknown: int, length: int
) -> list[Source]:
    """Returns where a model's weights come from; with them it scores texts as the original does.

    The table is here that of the tokens, ``[FILL]`` with the original's padding, which it reads,
    and ``[UNK]``.

    Args:
        model: built ``XCModel`` of the mapped config.
        model_type: ``"TextCNN"`` and so on.
        rows: of the original's table.
        unknown: the original's row of unknown tokens.
        length: tokens of every text.
    """
    encoder = model.encoder
    head = model.head

    def table(values: np.ndarray) -> np.ndarray:
        tokens = np.arange(1, encoder.vocabulary_size - 2)
        chosen = values[[0, *tokens, 0, unknown]]
        chosen[0] = 0
        return chosen

    factor = 1.0
    if model_type == "TextRNN" and not encoder.attention:
        factor = float(length)  # the states are added up there, averaged here
    name = "fc2" if model_type == "FastText" else "fc"

    def kernel(values: np.ndarray) -> np.ndarray:
        return factor * values.T

    return [
        Source(encoder.table, {_TABLE: (rows, encoder.embedding_dim)}, table),
        *_SOURCES[model_type](encoder),
        Source(head.kernel, {f"{name}.weight": (head.num_labels, encoder.output_dim)}, kernel),
        Source(head.bias, {f"{name}.bias": (head.num_labels,)}, np.asarray),
    ]


def refuse_network(model_type: str, where: str | Path) -> None:
    """Refuses networks that have no equivalent.

    Raises:
        ConfigError: the reason is in it.
    """
    if model_type in _SOURCES:
        return
    why = "its weights are those of a pretrained network, which are not mapped"
    if model_type == "Transformer":
        why = "its attention runs over the texts of a batch, not over the words of a text, so that "
        why += "a text's scores depend on its neighbours"
    raise ConfigError(
        f"a checkpoint of {model_type} cannot be imported: {why}",
        where=where,
        fix="write its config with --write-config, and train it with tfxc; checkpoints of "
        f"{', '.join(_SOURCES)} can be imported",
    )


def _textcnn(encoder: "TextCNN") -> list[Source]:
    sources = []
    biases = {}
    for number, kernel in enumerate(encoder.kernels, 1):
        width, dim, filters = kernel.shape
        weight = {f"conv{number}.weight": (filters, 1, width, dim)}
        sources.append(Source(kernel, weight, lambda values: values[:, 0].transpose(1, 2, 0)))
        biases[f"conv{number}.bias"] = (filters,)
    return [*sources, Source(encoder.bias, biases, lambda *values: np.concatenate(values))]


def _textrnn(encoder: "TextRNN") -> list[Source]:
    sources = _lstm(encoder)
    if encoder.attention:
        width = encoder.output_dim
        sources.append(Source(encoder.attention_kernel, {"W_w": (width, width)}, np.asarray))
        sources.append(Source(encoder.attention_vector, {"u_w": (width, 1)}, np.asarray))
    return sources


def _lstm(encoder: "TextRNN | TextRCNN") -> list[Source]:
    (layer,) = encoder.layers
    gates = 4 * encoder.hidden_dim
    sources = []
    for number, suffix in enumerate(("", "_reverse")):
        variables = {"ih": layer.kernels[number], "hh": layer.recurrent_kernels[number]}
        for kind, variable in variables.items():
            weight = {f"rnn.weight_{kind}_l0{suffix}": (gates, variable.shape[0])}
            sources.append(Source(variable, weight, lambda values: _ordered(values).T))
        biases = {f"rnn.bias_{kind}_l0{suffix}": (gates,) for kind in variables}
        sources.append(Source(layer.biases[number], biases, lambda *both: _ordered(sum(both))))
    return sources


def _ordered(gates: np.ndarray) -> np.ndarray:
    """Gates input, forget, cell, output of PyTorch in the order input, forget, output, cell."""
    enter, keep, cell, out = np.split(gates, 4)
    return np.concatenate([enter, keep, out, cell])


_SOURCES: dict[str, Callable[[Any], list[Source]]] = {
    "FastText": lambda encoder: linear_sources("fc1", encoder.kernel, encoder.bias),
    "TextCNN": _textcnn,
    "TextRNN": _textrnn,
    "TextRCNN": _lstm,
}
