"""Names, shapes and places of the weights of pretrained networks, and reading them."""

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tfxc.core.errors import ConfigError, missing_package
from tfxc.core.storage.reading import read_errors
from tfxc.pretrained.folder import read_json
from tfxc.pretrained.torch_files import load_state_dict
from tfxc.pretrained.weight_names import WORDS, layer_prefix, layer_weight_names

if TYPE_CHECKING:
    from tfxc.pretrained.architecture import Architecture


_FILES = ("model.safetensors", "pytorch_model.bin")
_PREFIXES = {
    "bert": "bert.", "distilbert": "distilbert.", "roberta": "roberta.", "albert": "albert.",
    "xlm-roberta": "roberta.", "electra": "electra.", "deberta-v2": "deberta.",
    "xlnet": "transformer.",
}  # fmt: skip
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
    """The weights in front of the layers, without the table of words."""
    a, family = architecture, architecture.family
    if family == "xlnet":
        return []
    deberta = family == "deberta-v2"  # its words are made wider before the norm
    wide = a.hidden_dim if deberta else a.embedding_dim
    found = _norm("embedding_norm", wide, "embeddings.LayerNorm")
    if deberta:
        rows, name = 2 * a.num_buckets, "encoder.rel_embeddings.weight"
        shape = (rows, a.hidden_dim)
        found.append(Weight("distances", shape, lambda tensors: tensors.get(name)[:rows]))
        found += _norm("distance_norm", a.hidden_dim, "encoder.LayerNorm")
        if a.embedding_dim != a.hidden_dim:
            found.append(_kernel("projection", "embeddings.embed_proj", a.embedding_dim, a))
        return found
    shape = (a.max_positions, a.embedding_dim)
    found.append(Weight("positions", shape, lambda tensors: _positions(tensors, a)))
    theirs = {"albert": "encoder.embedding_hidden_mapping_in", "electra": "embeddings_project"}
    if family == "albert" or a.embedding_dim != a.hidden_dim:
        if family not in theirs:
            raise ConfigError(
                f"embedding_size {a.hidden_dim} (the hidden_size) expected for {family}, found "
                f"{a.embedding_dim}"
            )
        found.append(_kernel("projection", theirs[family], a.embedding_dim, a))
        found.append(_vector("projection_bias", (a.hidden_dim,), f"{theirs[family]}.bias"))
    return found


def layer_weights(architecture: "Architecture", number: int) -> "list[Weight]":
    """The weights of one layer."""
    a, family = architecture, architecture.family
    start, parts = layer_prefix(family, number), layer_weight_names(family)
    wide, inner, heads = a.hidden_dim, a.feed_forward_dim, a.heads_wide(number)
    shapes = {
        "attention_in": (wide, 3 * heads), "attention_out": (heads, wide),
        "feed_forward_in": (wide, inner), "feed_forward_out": (inner, wide),
    }  # fmt: skip
    found = _relative_attention(start, wide, heads) if family == "xlnet" else []
    for name, theirs in parts.items():
        written = [start + part for part in theirs]
        if name.endswith("norm"):
            found += _norm(name, wide, written[0])
        else:
            found.append(_joined(f"{name}_kernel", shapes[name], written, "weight"))
            found.append(_joined(f"{name}_bias", shapes[name][1:], written, "bias"))
    return found


def pooler_weights(architecture: "Architecture") -> list[Weight]:
    """The weights of the dense layer that some families classify by.

    Folders that were written by a model without it, as those of RoBERTa, lack them.

    Raises:
        ConfigError: the family has none.
    """
    a = architecture
    names = {"bert": "pooler.dense", "roberta": "pooler.dense", "xlm-roberta": "pooler.dense",
             "albert": "pooler"}  # fmt: skip
    if a.family not in names:
        raise ConfigError(
            f"a model of one of the families {', '.join(names)} expected, found {a.family}, which "
            "has no pooler",
            where="encoder.pooling",
            fix="set pooling to first or mean",
        )
    layer = names[a.family]

    def if_there(weight: Weight) -> Weight:
        def read(tensors: "Tensors") -> np.ndarray | None:
            return weight.read(tensors) if f"{layer}.weight" in tensors else None

        return weight._replace(read=read)

    return [
        if_there(_kernel("pooler", layer, a.hidden_dim, a)),
        if_there(_vector("pooler_bias", (a.hidden_dim,), f"{layer}.bias")),
    ]


def _relative_attention(start, wide, heads):
    """Those of XLNet's attention, whose kernels are (model, heads, head) and have no bias."""
    names = [f"{start}rel_attn.{letter}" for letter in "qkv"]

    def flat(tensors, name):
        return tensors.get(name).reshape(wide, wide)

    def joined(tensors):
        return np.concatenate([flat(tensors, name) for name in names], axis=1)

    return [
        Weight("attention_in_kernel", (wide, 3 * heads), joined),
        Weight("attention_out_kernel", (heads, wide), lambda t: flat(t, f"{start}rel_attn.o").T),
        Weight("distance_kernel", (wide, heads), lambda t: flat(t, f"{start}rel_attn.r")),
        _vector("content_bias", (heads,), f"{start}rel_attn.r_w_bias"),
        _vector("distance_bias", (heads,), f"{start}rel_attn.r_r_bias"),
    ]


def _positions(tensors, a):
    """Rows of the positions of ids, that of the only token type added to each."""
    first = a.padding + 1 if a.family in ("roberta", "xlm-roberta") else 0
    rows = tensors.get("embeddings.position_embeddings.weight")[first : first + a.max_positions]
    if a.family == "distilbert":
        return rows
    return rows + tensors.get("embeddings.token_type_embeddings.weight")[0]


def _norm(name, wide, theirs):
    return [
        _vector(f"{name}_gamma", (wide,), f"{theirs}.weight"),
        _vector(f"{name}_beta", (wide,), f"{theirs}.bias"),
    ]


def _kernel(name, theirs, rows, a):
    shape = (rows, a.hidden_dim)
    return Weight(f"{name}_kernel", shape, lambda tensors: tensors.get(f"{theirs}.weight").T)


def _vector(name, shape, theirs):
    return Weight(name, shape, lambda tensors: tensors.get(theirs).reshape(shape))


def _joined(name, shape, theirs, kind):
    """Several linear maps side by side."""

    def read(tensors):
        return np.concatenate([tensors.get(f"{part}.{kind}").T for part in theirs], axis=-1)

    return Weight(name, shape, read)


def read_table(tensors: "Tensors", architecture: "Architecture", rows: int) -> np.ndarray:
    """The table of words: its first rows, padding in row 0, as zeros."""
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
        self._folder, self._files = folder, _files_of(folder)
        known = "word_embedding.weight" if family == "xlnet" else WORDS
        # LightXML, and what was built on it, calls any family's network bert.
        prefixes = ("", _PREFIXES[family], _PREFIXES["bert"])
        prefix = next((p for p in prefixes if p + known in self._files), None)
        if prefix is None:
            raise ConfigError(
                f"the weights of a {family} model expected, {known} is missing",
                where=folder,
                fix="check that config.json and the weights are of one model",
            )
        self._prefix = prefix

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._files

    def get(self, name: str) -> np.ndarray:
        """The array of that name, float32.

        Raises:
            ConfigError: there is none.
        """
        written = self._prefix + name
        for new, old in _OLD_NAMES.items():
            if written not in self._files and written.endswith(new):
                written = written.removesuffix(new) + old
        if written not in self._files:
            raise ConfigError(
                f"a weight {name} expected, found none",
                where=self._folder,
                fix="check that config.json and the weights are of one model",
            )
        return self._files[written](written).astype(np.float32)


def find_files(folder: Path) -> list[Path]:
    """Paths of a folder's weights: of safetensors, or else of PyTorch.

    Raises:
        ConfigError: one is missing.
    """
    for name in _FILES:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return [folder / name]
        if index.is_file():
            return [_present(folder / part) for part in _parts(index)]
    return [_present(folder / _FILES[0])]


def _parts(index):
    """Names of the files that a large model's weights are in."""
    files = read_json(index).get("weight_map")
    names = list(files.values()) if isinstance(files, dict) else []
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise ConfigError(
            "a weight_map from names of tensors to files of the same folder expected",
            where=index,
            fix="copy or download it again",
        )
    return sorted(set(names))


def _present(path):
    if not path.is_file():
        raise ConfigError(
            f"a pretrained model's folder expected, the file {path.name} is missing",
            where=path.parent,
            fix="download it as well",
        )
    return path


def _files_of(folder):
    """Function that reads a tensor by its name, by that name."""
    found = {}
    for path in find_files(folder):
        if path.suffix == ".bin":
            tensors = load_state_dict(path)
            found |= dict.fromkeys(tensors, _reader_of(tensors))
        else:
            with _opened(path) as opened:
                found |= dict.fromkeys(opened.keys(), functools.partial(_safetensor, path))
    return found


def _reader_of(tensors):
    return lambda name: tensors[name].array()


def _safetensor(path, name):
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
def _opened(path):
    with missing_package("hub", where="encoder"):
        import safetensors
    fix = "copy the file again; it may be a Git LFS pointer"
    with read_errors(path, fix=fix, error=ConfigError):
        try:
            with safetensors.safe_open(path, "numpy") as opened:
                yield opened
        except safetensors.SafetensorError as error:
            raise ConfigError(
                f"this is no file of safetensors, or a damaged one ({error})", where=path, fix=fix
            ) from None
