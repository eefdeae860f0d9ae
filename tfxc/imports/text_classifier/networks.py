"""The tensors of text_classifier_torch's small networks as the weights of models here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfxc.core.errors import ConfigError, DataError
from tfxc.pretrained.torch_files import load_state_dict

_AVERAGED = "n_averaged"  # PyTorch's AveragedModel counts there
_TABLE = "word_embeddings.weight"


class Tensors:
    """The tensors of a checkpoint, each with the shape that a model needs.

    Args:
        path: file of a state dict; that of an averaged model is read as the model.

    Raises:
        DataError: see ``load_state_dict``.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, found = path, load_state_dict(path)
        averaged = found.pop(_AVERAGED, None) is not None
        self._left = {
            name.removeprefix("module.") if averaged else name: tensor
            for name, tensor in found.items()
        }

    @property
    def rows(self) -> int:
        """Rows of the table of word vectors."""
        tensor = self._left.get(_TABLE)
        return tensor.shape[0] if tensor is not None and len(tensor.shape) == 2 else 0

    def take(self, name: str, *shape: int) -> np.ndarray:
        """One tensor as float32.

        Raises:
            DataError: it is missing, or of another shape.
        """
        tensor = self._left.pop(name, None)
        if tensor is None or tensor.shape != shape:
            found = "none" if tensor is None else f"{tensor.shape}"
            raise DataError(
                f"{name} of shape {shape} expected by the network of config.py, found {found}",
                where=self.path,
                fix="give the config.py that the checkpoint was trained with",
            )
        return np.asarray(tensor.array(), np.float32)

    def refuse_others(self) -> None:
        """Refuses tensors that nothing has taken.

        Raises:
            DataError: they are named.
        """
        if self._left:
            raise DataError(
                "no other tensors than those of the network of config.py expected, found "
                f"{', '.join(list(self._left)[:5])}",
                where=self.path,
                fix="give the config.py that the checkpoint was trained with",
            )


def fill_model(model: Any, model_type: str, tensors: Tensors, *, unknown: int, length: int) -> None:
    """Gives a model the weights of a checkpoint; then it scores texts as the original does.

    The table is here that of the tokens, ``[FILL]`` with the original's padding, which it reads,
    and ``[UNK]``.

    Args:
        model: built ``XCModel`` of the mapped config.
        model_type: ``"TextCNN"`` and so on.
        tensors: the checkpoint.
        unknown: the original's row of unknown tokens.
        length: tokens of every text.

    Raises:
        DataError: a tensor is missing, of another shape, or too many.
    """
    encoder, head = model.encoder, model.head
    table = tensors.take(_TABLE, tensors.rows, encoder.embedding_dim)
    tokens = np.arange(1, encoder.vocabulary_size - 2)
    rows = table[[0, *tokens, 0, unknown]]
    rows[0] = 0
    encoder.table.assign(rows)
    factor = _FILLED[model_type](encoder, tensors, length)
    name, width = "fc2" if model_type == "FastText" else "fc", encoder.output_dim
    kernel = tensors.take(f"{name}.weight", head.num_labels, width)
    head.kernel.assign(factor * kernel.T)
    head.bias.assign(tensors.take(f"{name}.bias", head.num_labels))
    tensors.refuse_others()


def refuse_network(model_type: str, where: str | Path) -> None:
    """Refuses networks that have no equal.

    Raises:
        ConfigError: the reason is in it.
    """
    if model_type in _FILLED:
        return
    why = "the weights of pretrained networks are not mapped"
    if model_type == "Transformer":
        why = "its attention runs over the texts of a batch, not over the words of a text, so that "
        why += "a text's scores depend on its neighbours"
    raise ConfigError(
        f"a checkpoint of {', '.join(_FILLED)} expected, found {model_type}: {why}",
        where=where,
        fix="write its config with --write-config, and train it with tfxc",
    )


def _fasttext(encoder, tensors, length):
    shape = (encoder.hidden_dim, encoder.embedding_dim)
    encoder.kernel.assign(tensors.take("fc1.weight", *shape).T)
    encoder.bias.assign(tensors.take("fc1.bias", shape[0]))
    return 1.0


def _textcnn(encoder, tensors, length):
    biases = []
    for number, kernel in enumerate(encoder.kernels, 1):
        width, dim, filters = kernel.shape
        found = tensors.take(f"conv{number}.weight", filters, 1, width, dim)
        kernel.assign(found[:, 0].transpose(1, 2, 0))
        biases.append(tensors.take(f"conv{number}.bias", filters))
    encoder.bias.assign(np.concatenate(biases))
    return 1.0


def _textrnn(encoder, tensors, length):
    _lstm(encoder, tensors)
    if not encoder.attention:
        return float(length)  # the states are added up there, averaged here
    width = encoder.output_dim
    encoder.attention_kernel.assign(tensors.take("W_w", width, width))
    encoder.attention_vector.assign(tensors.take("u_w", width, 1))
    return 1.0


def _textrcnn(encoder, tensors, length):
    _lstm(encoder, tensors)
    return 1.0


def _lstm(encoder, tensors):
    (layer,), hidden = encoder.layers, encoder.hidden_dim
    for number, suffix in enumerate(("", "_reverse")):
        into = tensors.take(f"rnn.weight_ih_l0{suffix}", 4 * hidden, encoder.embedding_dim)
        layer.kernels[number].assign(_ordered(into).T)
        again = tensors.take(f"rnn.weight_hh_l0{suffix}", 4 * hidden, hidden)
        layer.recurrent_kernels[number].assign(_ordered(again).T)
        biases = [tensors.take(f"rnn.bias_{kind}_l0{suffix}", 4 * hidden) for kind in ("ih", "hh")]
        layer.biases[number].assign(_ordered(biases[0] + biases[1]))


def _ordered(gates):
    """Gates input, forget, cell, output of PyTorch in the order input, forget, output, cell."""
    enter, keep, cell, out = np.split(gates, 4)
    return np.concatenate([enter, keep, out, cell])


_FILLED: dict[str, Callable[..., float]] = {
    "FastText": _fasttext,
    "TextCNN": _textcnn,
    "TextRNN": _textrnn,
    "TextRCNN": _textrcnn,
}
