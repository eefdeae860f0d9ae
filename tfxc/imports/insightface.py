"""Backbones and class centres that InsightFace's ``arcface_torch``, or MHE, has trained."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import DataError
from tfxc.encoders.iresnet import BLOCKS
from tfxc.imports.class_centres import read_centres
from tfxc.imports.image_run import write_image_run
from tfxc.imports.torch_weights import Source, depth_of, fill, sources_of
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.pretrained.torch_files import TorchTensor, load_state_dict

if TYPE_CHECKING:
    from tfxc.encoders.bases.image import ImageEncoder
    from tfxc.model import XCModel

_RIGHT_FILE = "give the state dict of an IResNet of InsightFace"


def import_insightface(
    path: str | Path,
    output: str | Path,
    *,
    names: str | Path | None = None,
    centres: str | Path | None = None,
) -> str:
    """Writes an IResNet of InsightFace as a run with encoder ``iresnet`` and head ``margin``.

    Args:
        path: the state dict, ``backbone.pth`` or ``model.pt``, or a checkpoint
            ``checkpoint_gpu_0.pt``.
        output: the run folder, which is written atomically; an older one is replaced.
        names: file with a label name per line, in the order of the classes; None numbers them.
        centres: the class centres, see ``read_centres``. Without them the run has no labels: it
            encodes and verifies, but predicts nothing.

    Returns:
        What was found, for the user.

    Raises:
        DataError: a file is missing or damaged, tensors are missing or unknown, or files do not fit
            together.
        UserError: the output holds something else.

    Example:
        >>> import_insightface("backbone.pth", "runs/imported")  # doctest: +SKIP
        'IResNet of depth 50, 112 x 112, no labels'

    Reference: Deng et al., CVPR 2019 (arXiv 1801.07698); github.com/deepinsight/insightface.
    """
    tensors = load_state_dict(path)
    depth = depth_of(tensors, BLOCKS, path, "an IResNet")
    encoder, image_shape = _encoder(tensors, depth, path)
    vectors = None if centres is None else read_centres(centres)
    head: dict[str, Any] = {"name": "margin", "scale": 64.0}
    vocabulary = LabelVocabulary([])
    if vectors is not None:
        if vectors.shape[-1] != encoder["embedding_dim"]:
            raise DataError(
                f"the centres have {vectors.shape[-1]} dimensions, the backbone has "
                f"{encoder['embedding_dim']}",
                where=centres,
                fix="give the files of one training",
            )
        if vectors.ndim == 3:
            head |= {"sampling": "batch_heads", "heads": list(vectors.shape[:2])}
        vectors = vectors.reshape(-1, vectors.shape[-1])
        vocabulary = _vocabulary(names, len(vectors), head.get("heads"))
    elif names is not None:
        raise DataError(
            "there are names of labels, but no class centres",
            where=names,
            fix="give the centres with --centres, or leave out the names",
        )

    def assign(model: "XCModel") -> None:
        fill(_sources(model.encoder, depth), tensors, path, f"an IResNet of depth {depth}")
        if vectors is not None:
            model.head.centres.assign(vectors[: len(vocabulary)])

    write_image_run(
        path,
        output,
        {"encoder": encoder, "head": head},
        system="insightface",
        image_shape=image_shape,
        vocabulary=vocabulary,
        assign=assign,
    )
    labels = f"{len(vocabulary):,} labels" if len(vocabulary) else "no labels"
    return f"IResNet of depth {depth}, {image_shape[0]} x {image_shape[1]}, {labels}"


def _vocabulary(names: str | Path | None, count: int, heads: list[int] | None) -> LabelVocabulary:
    """Returns the names of the classes; the last of MHE's heads may have places to spare."""
    if names is None or heads is None:
        return LabelVocabulary.of(names, count)
    vocabulary = LabelVocabulary.load(names)
    least = count - heads[1] + 1
    if not least <= len(vocabulary) <= count:
        raise DataError(
            f"the file has {len(vocabulary):,} names, but the {heads[0]:,} heads of {heads[1]:,} "
            f"have {least:,} to {count:,} classes",
            where=names,
            fix="give one name per line, for every class of the training",
        )
    return vocabulary


def _encoder(
    tensors: Mapping[str, TorchTensor], depth: int, where: str | Path
) -> tuple[dict[str, Any], tuple[int, int, int]]:
    """Returns config section of the encoder, and the images' shape, by the sizes of tensors."""
    for name, form in (("conv1.weight", "(width, channels, 3, 3)"), ("fc.weight", "(dim, places)")):
        shape = tensors[name].shape if name in tensors else ()
        if len(shape) != form.count(",") + 1 or not all(shape):
            state = f"has shape {shape} instead of" if name in tensors else "is missing, of shape"
            raise DataError(f"the tensor {name} {state} {form}", where=where, fix=_RIGHT_FILE)
    width, channels = tensors["conv1.weight"].shape[:2]
    dim, flat = tensors["fc.weight"].shape
    section = {"name": "iresnet", "depth": depth, "width": width, "embedding_dim": dim}
    last = width * 2 ** (len(BLOCKS[depth]) - 1)
    side = math.isqrt(flat // last)
    if side * side * last != flat or not side:
        raise DataError(
            f"fc.weight has {flat} inputs, which are not a square map of {last} channels",
            where=where,
            fix=_RIGHT_FILE,
        )
    return section, (16 * side, 16 * side, channels)


def layer_names(blocks: tuple[int, ...]) -> Iterator[str]:
    """Yields InsightFace's names of the layers in the order in which ``IResNet`` makes them.

    Args:
        blocks: of each stage.
    """
    yield from ("conv1", "bn1", "prelu")
    for stage, count in enumerate(blocks, 1):
        for number in range(count):
            block = f"layer{stage}.{number}"
            yield from (f"{block}.{name}" for name in ("bn1", "conv1", "bn2", "prelu", "conv2"))
            if number == 0:
                yield from (f"{block}.downsample.0", f"{block}.downsample.1")
            yield f"{block}.bn3"
    yield from ("bn2", "fc", "features")


def _sources(encoder: "ImageEncoder", depth: int) -> Iterator[Source]:
    """Yields where the encoder's weights come from.

    The last normalisation has a factor there, frozen at 1; another one goes into the linear layer.
    """
    for name, layer in zip(layer_names(BLOCKS[depth]), encoder.weighted_layers, strict=True):
        for source in sources_of(name, layer):
            tensor = next(iter(source.tensors))
            scaled = tensor in ("fc.weight", "fc.bias", "features.running_mean")
            yield _scaled(source, encoder) if scaled else source


def _scaled(source: Source, encoder: "ImageEncoder") -> Source:
    """Returns the source with the factor of the last normalisation, its rows in the order of
    places.
    """
    ((name, shape),) = source.tensors.items()
    dim = encoder.dim
    height, width, _ = (-(-side // 16) for side in encoder.image_shape)

    def convert(values: np.ndarray, factors: np.ndarray) -> np.ndarray:
        scaled = values * factors.reshape(-1, *[1] * (values.ndim - 1))
        if values.ndim == 1:
            return scaled
        # PyTorch flattens channel by channel, TensorFlow place by place.
        by_channel = scaled.reshape(dim, -1, height, width)
        return by_channel.transpose(2, 3, 1, 0).reshape(-1, dim)

    return Source(source.variable, {name: shape, "features.weight": (dim,)}, convert)
