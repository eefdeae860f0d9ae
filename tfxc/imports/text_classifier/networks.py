"""The tensors of text_classifier_torch's small networks as the weights of models here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.imports.torch_weights import Source, linear_sources
from tfxc.pretrained.torch_files import TorchTensor, load_state_dict

_AVERAGED = "n_averaged"  # PyTorch's AveragedModel counts there
_TABLE = "word_embeddings.weight"


def read_tensors(path: str | Path) -> dict[str, TorchTensor]:
    """The tensors of a checkpoint; that of an averaged model is read as the model.

    Args:
        path: file of a state dict.

    Raises:
        DataError: see ``load_state_dict``.
    """
    found = load_state_dict(path)
    averaged = found.pop(_AVERAGED, None) is not None
    return {
        name.removeprefix("module.") if averaged else name: tensor for name, tensor in found.items()
    }


def rows_of_table(tensors: Mapping[str, TorchTensor]) -> int:
    """Rows of the table of word vectors; 0 without one."""
    tensor = tensors.get(_TABLE)
    return tensor.shape[0] if tensor is not None and len(tensor.shape) == 2 else 0


def network_sources(
    model: Any, model_type: str, rows: int, *, unknown: int, length: int
) -> list[Source]:
    """Where a model's weights come from; with them it scores texts as the original does.

    The table is here that of the tokens, ``[FILL]`` with the original's padding, which it reads,
    and ``[UNK]``.

    Args:
        model: built ``XCModel`` of the mapped config.
        model_type: ``"TextCNN"`` and so on.
        rows: of the original's table.
        unknown: the original's row of unknown tokens.
        length: tokens of every text.
    """
    encoder, head = model.encoder, model.head

    def table(values: np.ndarray) -> np.ndarray:
        tokens = np.arange(1, encoder.vocabulary_size - 2)
        chosen = values[[0, *tokens, 0, unknown]]
        chosen[0] = 0
        return chosen

    factor, own = 1.0, _SOURCES[model_type](encoder)
    if model_type == "TextRNN" and not encoder.attention:
        factor = float(length)  # the states are added up there, averaged here
    name, width = "fc2" if model_type == "FastText" else "fc", encoder.output_dim

    def kernel(values: np.ndarray) -> np.ndarray:
        return factor * values.T

    return [
        Source(encoder.table, {_TABLE: (rows, encoder.embedding_dim)}, table),
        *own,
        Source(head.kernel, {f"{name}.weight": (head.num_labels, width)}, kernel),
        Source(head.bias, {f"{name}.bias": (head.num_labels,)}, np.asarray),
    ]


def refuse_network(model_type: str, where: str | Path) -> None:
    """Refuses networks that have no equivalent.

    Raises:
        ConfigError: the reason is in it.
    """
    if model_type in _SOURCES:
        return
    why = "the weights of pretrained networks are not mapped"
    if model_type == "Transformer":
        why = "its attention runs over the texts of a batch, not over the words of a text, so that "
        why += "a text's scores depend on its neighbours"
    raise ConfigError(
        f"a checkpoint of {', '.join(_SOURCES)} expected, found {model_type}: {why}",
        where=where,
        fix="write its config with --write-config, and train it with tfxc",
    )


def _fasttext(encoder):
    return linear_sources("fc1", encoder.kernel, encoder.bias)


def _textcnn(encoder):
    found, biases = [], {}
    for number, kernel in enumerate(encoder.kernels, 1):
        width, dim, filters = kernel.shape
        shape = (filters, 1, width, dim)
        found.append(Source(kernel, {f"conv{number}.weight": shape}, _filters))
        biases[f"conv{number}.bias"] = (filters,)
    return [*found, Source(encoder.bias, biases, lambda *values: np.concatenate(values))]


def _filters(values):
    return values[:, 0].transpose(1, 2, 0)


def _textrnn(encoder):
    found = _lstm(encoder)
    if encoder.attention:
        width = encoder.output_dim
        found.append(Source(encoder.attention_kernel, {"W_w": (width, width)}, np.asarray))
        found.append(Source(encoder.attention_vector, {"u_w": (width, 1)}, np.asarray))
    return found


def _lstm(encoder):
    (layer,), gates, found = encoder.layers, 4 * encoder.hidden_dim, []
    for number, suffix in enumerate(("", "_reverse")):
        variables = {"ih": layer.kernels[number], "hh": layer.recurrent_kernels[number]}
        for kind, variable in variables.items():
            shape = (gates, variable.shape[0])
            found.append(Source(variable, {f"rnn.weight_{kind}_l0{suffix}": shape}, _kernel))
        biases = {f"rnn.bias_{kind}_l0{suffix}": (gates,) for kind in variables}
        found.append(Source(layer.biases[number], biases, lambda *both: _ordered(sum(both))))
    return found


def _kernel(gates):
    return _ordered(gates).T


def _ordered(gates):
    """Gates input, forget, cell, output of PyTorch in the order input, forget, output, cell."""
    enter, keep, cell, out = np.split(gates, 4)
    return np.concatenate([enter, keep, out, cell])


_SOURCES: dict[str, Callable[[Any], list[Source]]] = {
    "FastText": _fasttext,
    "TextCNN": _textcnn,
    "TextRNN": _textrnn,
    "TextRCNN": _lstm,
}
