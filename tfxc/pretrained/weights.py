"""Names, shapes and places of the weights of pretrained networks, and reading them."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tfxc.core.errors import ConfigError, missing_package
from tfxc.core.storage.reading import read_errors
from tfxc.pretrained.folder import read_json
from tfxc.pretrained.torch_files import load_state_dict
from tfxc.pretrained.weight_names import WORDS, layer_prefix, layer_weight_names

if TYPE_CHECKING:
    import safetensors

    from tfxc.pretrained.architecture import Architecture


_FILES = ("model.safetensors", "pytorch_model.bin")
_PREFIXES = {
    "bert": "bert.",
    "distilbert": "distilbert.",
    "roberta": "roberta.",
    "albert": "albert.",
    "xlm-roberta": "roberta.",
    "electra": "electra.",
    "deberta-v2": "deberta.",
    "xlnet": "transformer.",
}
_POOLERS = {
    "bert": "pooler.dense",
    "roberta": "pooler.dense",
    "xlm-roberta": "pooler.dense",
    "albert": "pooler",
}
_ONE_MODEL = "check that config.json and the weights are of one model"
_OLD_NAMES = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}


class Weight(NamedTuple):
    """One weight.

    Attributes:
        name: ours.
        shape: ours.
        read: function of ``Tensors`` -> float32 array of that shape; None where the model may lack
            the weight and does, so that it starts at random.
    """

    name: str
    shape: tuple
    read: Callable[["Tensors"], np.ndarray | None]


def stem_weights(architecture: "Architecture") -> "list[Weight]":
    """Returns the weights in front of the layers, without the table of words."""
    a = architecture
    family = a.family
    if family == "xlnet":
        return []
    deberta = family == "deberta-v2"  # its words are made wider before the norm
    wide = a.hidden_dim if deberta else a.embedding_dim
    weights = _norm("embedding_norm", wide, "embeddings.LayerNorm")
    if deberta:
        rows = 2 * a.num_buckets
        name = "encoder.rel_embeddings.weight"
        shape = (rows, a.hidden_dim)
        weights.append(Weight("distances", shape, lambda tensors: tensors.get(name)[:rows]))
        weights += _norm("distance_norm", a.hidden_dim, "encoder.LayerNorm")
        if a.embedding_dim != a.hidden_dim:
            weights.append(_kernel("projection", "embeddings.embed_proj", a.embedding_dim, a))
        return weights
    shape = (a.max_positions, a.embedding_dim)
    weights.append(Weight("positions", shape, lambda tensors: _positions(tensors, a)))
    theirs = {"albert": "encoder.embedding_hidden_mapping_in", "electra": "embeddings_project"}
    if family == "albert" or a.embedding_dim != a.hidden_dim:
        if family not in theirs:
            raise ConfigError(
                f"a model of type {family} cannot have embedding_size {a.embedding_dim} and "
                f"hidden_size {a.hidden_dim}: they have to be equal",
                fix="copy the whole folder of the model",
            )
        weights.append(_kernel("projection", theirs[family], a.embedding_dim, a))
        weights.append(_vector("projection_bias", (a.hidden_dim,), f"{theirs[family]}.bias"))
    return weights


def layer_weights(architecture: "Architecture", number: int) -> "list[Weight]":
    """Returns the weights of one layer."""
    family = architecture.family
    start = layer_prefix(family, number)
    wide = architecture.hidden_dim
    inner = architecture.feed_forward_dim
    heads = architecture.heads_wide(number)
    shapes = {
        "attention_in": (wide, 3 * heads),
        "attention_out": (heads, wide),
        "feed_forward_in": (wide, inner),
        "feed_forward_out": (inner, wide),
    }
    weights = _relative_attention(start, wide, heads) if family == "xlnet" else []
    for name, theirs in layer_weight_names(family).items():
        written = [start + part for part in theirs]
        if name.endswith("norm"):
            weights += _norm(name, wide, written[0])
        else:
            weights.append(_joined(f"{name}_kernel", shapes[name], written, "weight"))
            weights.append(_joined(f"{name}_bias", shapes[name][1:], written, "bias"))
    return weights


def pooler_weights(architecture: "Architecture") -> list[Weight]:
    """Returns the weights of the dense layer that some families classify by.

    Folders that were written by a model without it, as those of RoBERTa, lack them.

    Raises:
        ConfigError: the family has none.
    """
    a = architecture
    if a.family not in _POOLERS:
        raise ConfigError(
            f"a model of type {a.family} has no pooler",
            where="encoder.pooling",
            fix=f"set pooling to first or mean, or use a model of type {', '.join(_POOLERS)}",
        )
    layer = _POOLERS[a.family]

    def if_there(weight: Weight) -> Weight:
        def read(tensors: "Tensors") -> np.ndarray | None:
            return weight.read(tensors) if f"{layer}.weight" in tensors else None

        return weight._replace(read=read)

    return [
        if_there(_kernel("pooler", layer, a.hidden_dim, a)),
        if_there(_vector("pooler_bias", (a.hidden_dim,), f"{layer}.bias")),
    ]


def _relative_attention(start: str, wide: int, heads: int) -> list[Weight]:
    """Returns weights of XLNet's attention: its kernels are (model, heads, head), without bias."""

    def flat(tensors: "Tensors", letter: str) -> np.ndarray:
        return tensors.get(f"{start}rel_attn.{letter}").reshape(wide, wide)

    def joined(tensors: "Tensors") -> np.ndarray:
        return np.concatenate([flat(tensors, letter) for letter in "qkv"], axis=1)

    return [
        Weight("attention_in_kernel", (wide, 3 * heads), joined),
        Weight("attention_out_kernel", (heads, wide), lambda tensors: flat(tensors, "o").T),
        Weight("distance_kernel", (wide, heads), lambda tensors: flat(tensors, "r")),
        _vector("content_bias", (heads,), f"{start}rel_attn.r_w_bias"),
        _vector("distance_bias", (heads,), f"{start}rel_attn.r_r_bias"),
    ]


def _positions(tensors: "Tensors", architecture: "Architecture") -> np.ndarray:
    """Returns the rows of the positions of ids, that of the only token type added to each."""
    first = architecture.padding + 1 if architecture.family in ("roberta", "xlm-roberta") else 0
    last = first + architecture.max_positions
    rows = tensors.get("embeddings.position_embeddings.weight")[first:last]
    if architecture.family == "distilbert":
        return rows
    return rows + tensors.get("embeddings.token_type_embeddings.weight")[0]


def _norm(name: str, wide: int, theirs: str) -> list[Weight]:
    return [
        _vector(f"{name}_gamma", (wide,), f"{theirs}.weight"),
        _vector(f"{name}_beta", (wide,), f"{theirs}.bias"),
    ]


def _kernel(name: str, theirs: str, rows: int, architecture: "Architecture") -> Weight:
    shape = (rows, architecture.hidden_dim)
    return Weight(f"{name}_kernel", shape, lambda tensors: tensors.get(f"{theirs}.weight").T)


def _vector(name: str, shape: tuple[int, ...], theirs: str) -> Weight:
    return Weight(name, shape, lambda tensors: tensors.get(theirs).reshape(shape))


def _joined(name: str, shape: tuple[int, ...], theirs: list[str], kind: str) -> Weight:
    """Returns several linear maps side by side."""

    def read(tensors: "Tensors") -> np.ndarray:
        return np.concatenate([tensors.get(f"{part}.{kind}").T for part in theirs], axis=-1)

    return Weight(name, shape, read)


def read_table(tensors: "Tensors", architecture: "Architecture", rows: int) -> np.ndarray:
    """Returns the table of words: its first rows, padding in row 0, as zeros."""
    name = "word_embedding.weight" if architecture.family == "xlnet" else WORDS
    table = np.array(tensors.get(name)[: max(rows, architecture.padding + 1)], np.float32)
    table[architecture.padding] = table[0]
    table[0] = 0
    return table[:rows]


class Tensors:
    """The arrays of a model's ``*.safetensors`` or ``pytorch_model*.bin``.

    They are found with or without the family's prefix.

    Args:
        folder: the model's folder.
        family: its model type.

    Raises:
        ConfigError: no such file, or safetensors is not installed.
    """

    def __init__(self, folder: Path, family: str) -> None:
        self._folder = folder
        self._read: dict[str, Callable[[], np.ndarray]] = {}
        for path in find_files(folder):
            if path.suffix == ".bin":
                tensors = load_state_dict(path)
                self._read |= {name: tensor.array for name, tensor in tensors.items()}
            else:
                with _opened(path) as opened:
                    names = opened.keys()
                self._read |= {name: functools.partial(_safetensor, path, name) for name in names}
        known = "word_embedding.weight" if family == "xlnet" else WORDS
        # LightXML, and what was built on it, calls any family's network bert.
        prefixes = ("", _PREFIXES[family], _PREFIXES["bert"])
        prefix = next((p for p in prefixes if p + known in self._read), None)
        if prefix is None:
            raise ConfigError(
                f"the weights lack {known}, so they are not of model_type {family}",
                where=folder,
                fix=_ONE_MODEL,
            )
        self._prefix = prefix

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._read

    def get(self, name: str) -> np.ndarray:
        """Returns the array of that name, float32.

        Raises:
            ConfigError: there is none.
        """
        written = self._prefix + name
        for new, old in _OLD_NAMES.items():
            if written not in self._read and written.endswith(new):
                written = written.removesuffix(new) + old
        if written not in self._read:
            raise ConfigError(f"the weight {name} is missing", where=self._folder, fix=_ONE_MODEL)
        return self._read[written]().astype(np.float32)


def find_files(folder: Path) -> list[Path]:
    """Returns the paths of a folder's weights: of safetensors, or else of PyTorch.

    Raises:
        ConfigError: one is missing.
    """
    for name in _FILES:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return [folder / name]
        if index.is_file():
            # The weights of a large model are in several files.
            files = read_json(index).get("weight_map")
            parts = list(files.values()) if isinstance(files, dict) else []
            if not parts or not all(isinstance(p, str) and Path(p).name == p for p in parts):
                raise ConfigError(
                    "weight_map does not name a file of the same folder for each tensor",
                    where=index,
                    fix="copy or download it again",
                )
            return [_present(folder / part) for part in sorted(set(parts))]
    return [_present(folder / _FILES[0])]


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Returns all arrays of a file of safetensors by their names.

    Raises:
        ConfigError: there is no such file, it is damaged, or safetensors is not installed.
    """
    with _opened(path) as opened:
        names = opened.keys()
    return {name: _safetensor(path, name) for name in names}


def _present(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(
            f"the file {path.name} is missing", where=path.parent, fix="download it as well"
        )
    return path


def _safetensor(path: Path, name: str) -> np.ndarray:
    with _opened(path) as opened:
        try:
            return opened.get_tensor(name)
        except AttributeError as error:  # that of NumPy, which lacks floats of 8 bits
            kind = opened.get_slice(name).get_dtype()
            raise ConfigError(
                f"the tensor {name} has the type {kind}, which NumPy lacks",
                where=path,
                fix="save the model as float32 or float16",
            ) from error


@contextlib.contextmanager
def _opened(path: Path) -> "Iterator[safetensors.safe_open]":
    with missing_package("hub", where="encoder"):
        import safetensors
    fix = "copy the file again; it may be a Git LFS pointer"
    with read_errors(path, fix=fix, error=ConfigError):
        try:
            with safetensors.safe_open(path, "numpy") as opened:
                yield opened
        except safetensors.SafetensorError as error:
            raise ConfigError(
                f"this is not a safetensors file, or it is damaged ({error})", where=path, fix=fix
            ) from None
