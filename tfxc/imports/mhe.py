"""Text classifiers of the code of Multi-Head Encoding (XMC), which is built on LightXML."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.storage.locks import scratch_folder
from tfxc.data.examples.kinds import TOKENS
from tfxc.data.text.registry import build_text_features
from tfxc.imports.torch_weights import Source, fill
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.model import XCModel, build_model
from tfxc.pretrained.folder import open_folder, read_hub_config
from tfxc.pretrained.torch_files import TorchTensor, load_state_dict
from tfxc.runs.writer import manifest_of, new_run, split_of

if TYPE_CHECKING:
    from tfxc.data.store.manifest import Manifest

_WHERE = "The run was imported from MHE, without its data: name a file with --data"
_LAST_LAYERS = ("l0", "l1", "embed")  # those after the language model
_WEIGHTS = (".bin", ".safetensors", ".h5", ".msgpack", ".index.json")


def import_mhe(
    path: str | Path,
    output: str | Path,
    *,
    folder: str | Path,
    names: str | Path | None = None,
    max_length: int = 512,
    beam: int = 10,
) -> str:
    """Writes a text classifier of MHE as a run with encoder ``pretrained``.

    With a label table (``l1``, ``embed``) the head is ``mhc`` with the groups of ``l0``, else
    ``dense``. The features are the first token's vectors of the last layers, the last layer first
    there and last here.

    Args:
        path: the state dict, ``models/model-eurlex4k.bin``.
        output: the run folder, which is written atomically; an older one is replaced.
        folder: folder of the language model it was fine-tuned from: config.json and the
            tokeniser's files; weights are not needed.
        names: file with a label name per line, in the order of the classes: the sorted names of
            all labels in the training and test files. None numbers them.
        max_length: subwords of a text.
        beam: groups whose labels are scored (``--group_y_candidate_topk`` there).

    Returns:
        What was found, for the user.

    Raises:
        ConfigError: the folder does not hold what is needed, or is of XLNet, whose models read a
            token there that encoder ``pretrained`` does not.
        DataError: a file is missing or damaged, or they do not fit together.
        UserError: the output holds something else.

    Example:
        >>> import_mhe("model-eurlex4k.bin", "runs/imported", folder="bert")  # doctest: +SKIP
        '172 groups of 23, 3,956 labels'

    Reference: Liang et al., TPAMI 2024 (arXiv 2412.10182).
    """
    tensors = load_state_dict(path)
    width = _width(tensors, folder, path)
    groups, vocabulary = _labels(tensors, names, path)
    settings = {"name": "pretrained", "folder": str(folder), "max_length": max_length}
    features = build_text_features(settings).fit([])
    manifest = manifest_of(
        "mhe",
        num_labels=len(vocabulary),
        split=split_of(()),
        text_features=features,
        feature_kind=TOKENS.name,
        num_features=features.num_features,
    )
    head: dict[str, Any] = {"name": "dense"}
    if groups:
        head = {
            "name": "mhc",
            "heads": groups,
            "projection_dim": tensors["embed.weight"].shape[1],
            "beam": min(beam, groups[0]),
            "num_candidate_groups": min(beam, groups[0]),
        }
    tree = {
        "run": str(output),
        "data": {
            "name": "mhe",
            "train": "unknown",
            "where": _WHERE,
            "text_features": manifest.text_features,
        },
        "encoder": {
            "name": "pretrained",
            "folder": str(folder),
            "pooling": "last_layers",
            "pooled_layers": width,
            "dropout": 0.5,
        },
        "objective": {"name": "sigmoid"},
        "head": head,
    }
    model = _model(tree, manifest, path, folder)
    last_layers = {name: tensors[name] for name in tensors if name.split(".")[0] in _LAST_LAYERS}
    fill(_sources(model, tensors, width), last_layers, path, "a text classifier of MHE")
    with new_run(output) as run:
        run.write_config(parse_config(tree))
        run.write_assets(manifest, vocabulary, None, features)
        run.save_weights(model)
        run.write_summary({"imported": str(path), "dev": {}})
    labels = f"{len(vocabulary):,} labels"
    if not groups:
        return labels
    spare = len(vocabulary) < tensors["embed.weight"].shape[0]
    rest = "; the last row of embed is of no label" if spare else ""
    return f"{groups[0]:,} groups of {groups[1]:,}, {labels}{rest}"


def _width(tensors: Mapping[str, TorchTensor], folder: str | Path, path: str | Path) -> int:
    """Returns how many layers' vectors the features consist of."""
    hub = read_hub_config(open_folder(folder, "--pretrained"))
    if hub["model_type"] == "xlnet":
        raise ConfigError(
            "models with XLNet cannot be imported: they read the first token, which XLNet, unlike "
            "BERT and RoBERTa, does not add to the text",
            where="--pretrained",
            fix="train such a model here, with encoder.pooling last_layers",
        )
    shape = tensors["l0.weight"].shape if "l0.weight" in tensors else (0,)
    hidden = hub.get("hidden_size") or 0
    if len(shape) != 2 or not all(shape) or not hidden or shape[1] % hidden:
        raise DataError(
            f"the layer l0, of shape {shape}, does not fit vectors of {hidden} values",
            where=path,
            fix="give the language model that it was fine-tuned from with --pretrained",
        )
    return shape[1] // hidden


def _labels(
    tensors: Mapping[str, TorchTensor], names: str | Path | None, path: str | Path
) -> tuple[list[int] | None, LabelVocabulary]:
    """Returns [groups, labels of a group] or None, and the labels."""
    outputs = tensors["l0.weight"].shape[0]
    if "embed.weight" not in tensors:
        return None, LabelVocabulary.of(names, outputs)
    shape = tensors["embed.weight"].shape
    if len(shape) != 2 or shape[0] < 2 or not shape[1]:
        raise DataError(
            f"embed.weight has shape {shape} instead of (labels, dim)",
            where=path,
            fix="give the state dict of a text classifier of MHE, unchanged",
        )
    count = shape[0]
    # Code for several devices has a row for no label at the end.
    without = -(-(count - 1) // outputs)
    size = -(-count // outputs)
    if names is None:
        if without != size:
            raise DataError(
                f"the file may have {count:,} labels in groups of {size:,}, or {count - 1:,} in "
                f"groups of {without:,}: MHE's code for several devices ends embed with a row "
                "that belongs to no label",
                where="--labels",
                fix="name a file that has the name of every label of the training and test files, "
                "one per line",
            )
        return [outputs, size], LabelVocabulary.of(None, count)
    vocabulary = LabelVocabulary.load(names)
    if len(vocabulary) not in (count, count - 1):
        raise DataError(
            f"the file has {len(vocabulary):,} names, but there are {count:,} labels",
            where=names,
            fix="give one name per line, for every label of the training and test files",
        )
    return [outputs, -(-len(vocabulary) // outputs)], vocabulary


def _model(
    tree: dict[str, Any], manifest: "Manifest", path: str | Path, folder: str | Path
) -> XCModel:
    """Returns the network, its language model from the state dict."""
    with scratch_folder("import") as scratch:
        for file in open_folder(folder, "--pretrained").iterdir():
            if not file.name.endswith(_WEIGHTS):
                (scratch / file.name).symlink_to(file.resolve())
        (scratch / "pytorch_model.bin").symlink_to(Path(path).resolve())
        tree = {**tree, "encoder": {**tree["encoder"], "folder": str(scratch)}}
        return build_model(parse_config(tree), **manifest.dimensions)


def _sources(model: XCModel, tensors: Mapping[str, TorchTensor], width: int) -> list[Source]:
    """Returns where the weights after the language model come from."""
    head = model.head
    dim = model.encoder.output_dim

    def kernel(values: np.ndarray) -> np.ndarray:
        """Returns the blocks of the layers in the opposite order."""
        blocks = values.reshape(len(values), width, dim // width)
        return blocks[:, ::-1].reshape(len(values), dim).T

    def linear(name: str, kernel_variable: keras.Variable, bias: keras.Variable) -> list[Source]:
        outputs = kernel_variable.shape[1]
        return [
            Source(kernel_variable, {f"{name}.weight": (outputs, dim)}, kernel),
            Source(bias, {f"{name}.bias": (outputs,)}, np.asarray),
        ]

    sources = linear("l0", head.kernel, head.bias)
    if "embed.weight" not in tensors:
        return sources
    table = head.tables[1]

    def padded(values: np.ndarray) -> np.ndarray:
        rows = np.zeros(table.shape, np.float32)
        rows[: head.num_labels] = values[: head.num_labels]
        return rows

    shape = (tensors["embed.weight"].shape[0], table.shape[1])
    sources += linear("l1", *head.projections[1])
    return [*sources, Source(table, {"embed.weight": shape}, padded)]
