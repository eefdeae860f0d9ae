"""Backbones and class centres that InsightFace's ``arcface_torch``, or MHE, has trained."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import DataError
from tfxc.encoders.iresnet import BLOCKS
from tfxc.imports.class_centres import read_centres
from tfxc.imports.image_run import write_image_run
from tfxc.imports.torch_weights import Source, depth_of, fill, sources_of
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.pretrained.torch_files import load_state_dict

if TYPE_CHECKING:
    from tfxc.encoders.bases.image import ImageEncoder
    from tfxc.model import XCModel


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
    found = None if centres is None else read_centres(centres)
    head: dict[str, Any] = {"name": "margin", "scale": 64.0}
    vocabulary = LabelVocabulary([])
    if found is not None:
        if found.shape[-1] != encoder["embedding_dim"]:
            raise DataError(
                f"centres of the backbone's {encoder['embedding_dim']} dimensions expected, found "
                f"{found.shape[-1]}",
                where=centres,
                fix="give the files of one training",
            )
        if found.ndim == 3:
            head |= {"sampling": "batch_heads", "heads": list(found.shape[:2])}
        found = found.reshape(-1, found.shape[-1])
        vocabulary = _vocabulary(names, len(found), head.get("heads"))
    elif names is not None:
        raise DataError("--centres expected with names of labels, found none", where=names)

    def assign(model: "XCModel") -> None:
        fill(_sources(model.encoder, depth), tensors, path, f"an IResNet of depth {depth}")
        if found is not None:
            model.head.centres.assign(found[: len(vocabulary)])

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


def _vocabulary(names, count, heads):
    """Names of the classes; the last of MHE's heads may have places to spare."""
    if names is None or heads is None:
        return LabelVocabulary.of(names, count)
    found, least = LabelVocabulary.load(names), count - heads[1] + 1
    if not least <= len(found) <= count:
        raise DataError(
            f"{least:,} to {count:,} names, one for each class of {heads[0]:,} heads of "
            f"{heads[1]:,}, expected, found {len(found):,}",
            where=names,
            fix="give one name per line, for every class of the training",
        )
    return found


def _encoder(tensors, depth, where):
    """Config section of the encoder, and the images' shape, by the sizes of tensors."""
    for name, form in (
        ("conv1.weight", "(width, channels, 3, 3)"),
        ("fc.weight", "(dim, places)"),
    ):
        found = tensors[name].shape if name in tensors else ()
        if len(found) != form.count(",") + 1 or not all(found):
            raise DataError(
                f"the tensor {name} {form} expected, found {found or 'none'}",
                where=where,
                fix="give the state dict of an IResNet of InsightFace",
            )
    width, channels = tensors["conv1.weight"].shape[:2]
    section = {"name": "iresnet", "depth": depth, "width": width}
    section["embedding_dim"], flat = tensors["fc.weight"].shape
    last = width * 2 ** (len(BLOCKS[depth]) - 1)
    side = math.isqrt(flat // last)
    if side * side * last != flat or not side:
        raise DataError(
            f"fc.weight over a square map of {last} channels expected, found {flat} inputs",
            where=where,
            fix="give the state dict of an IResNet of InsightFace",
        )
    return section, (16 * side, 16 * side, channels)


def layer_names(blocks: tuple[int, ...]) -> Iterator[str]:
    """InsightFace's names of the layers in the order in which ``IResNet`` makes them.

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
    """Where the encoder's weights come from.

    The last normalisation has a factor there, frozen at 1; another one goes into the linear layer.
    """
    for name, layer in zip(layer_names(BLOCKS[depth]), encoder.weighted_layers, strict=True):
        for source in sources_of(name, layer):
            own = next(iter(source.tensors))
            if own in ("fc.weight", "fc.bias", "features.running_mean"):
                yield _scaled(source, encoder)
            else:
                yield source


def _scaled(source: Source, encoder: "ImageEncoder") -> Source:
    """The source with the factor of the last normalisation, its rows in the order of places."""
    (name, shape), dim = next(iter(source.tensors.items())), encoder.dim
    height, width, _ = (-(-side // 16) for side in encoder.image_shape)

    def convert(values: np.ndarray, factors: np.ndarray) -> np.ndarray:
        scaled = values * factors.reshape(-1, *[1] * (values.ndim - 1))
        if values.ndim == 1:
            return scaled
        # PyTorch flattens channel by channel, TensorFlow place by place.
        by_channel = scaled.reshape(dim, -1, height, width)
        return by_channel.transpose(2, 3, 1, 0).reshape(-1, dim)

    return Source(source.variable, {name: shape, "features.weight": (dim,)}, convert)
