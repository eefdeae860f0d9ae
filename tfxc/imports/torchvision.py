"""Residual networks that torchvision, or timm, has trained."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.core.errors import DataError
from tfxc.encoders.resnet import BLOCKS, BOTTLENECKS
from tfxc.imports.image_run import write_image_run
from tfxc.imports.torch_weights import Source, depth_of, fill, linear_sources, sources_of
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.pretrained.torch_files import TorchTensor, load_state_dict

if TYPE_CHECKING:
    from tfxc.encoders.bases.image import ImageEncoder
    from tfxc.model import XCModel

# What ImageNet's pixels are normalised by there.
_MEAN = [0.485, 0.456, 0.406]
_STD = [0.229, 0.224, 0.225]
_SIDE = 224
_RIGHT_FILE = "give the state dict of a ResNet of torchvision"


def import_torchvision(
    path: str | Path,
    output: str | Path,
    *,
    names: str | Path | None = None,
    image_size: int | None = None,
) -> str:
    """Writes a ResNet of torchvision as a run with encoder ``resnet`` and head ``dense``.

    The last layer, ``fc``, becomes the head. A state dict without it makes a run without labels,
    which encodes and verifies, but predicts nothing.

    Args:
        path: the state dict, e.g. ``resnet50-0676ba61.pth``.
        output: the run folder, which is written atomically; an older one is replaced.
        names: file with a label name per line, in the order of the classes; None numbers them.
        image_size: height and width of the images; None for 224, or 32 where the first convolution
            is 3 x 3.

    Returns:
        What was found, for the user.

    Raises:
        DataError: a file is missing or damaged, or tensors are missing or unknown.
        ConfigError: ``image_size`` is too small.
        UserError: the output holds something else.

    Example:
        >>> import_torchvision("resnet50-0676ba61.pth", "runs/imported")  # doctest: +SKIP
        'ResNet of depth 50, 224 x 224, 1,000 labels'

    Reference: He et al., CVPR 2016 (arXiv 1512.03385); github.com/pytorch/vision.
    """
    tensors = load_state_dict(path)
    depth = _depth(tensors, path)
    width, channels, size = tensors["conv1.weight"].shape[:3]
    stem = "imagenet" if size == 7 else "cifar"
    encoder: dict[str, Any] = {"name": "resnet", "depth": depth, "width": width, "stem": stem}
    if channels == len(_MEAN):
        encoder |= {"mean": _MEAN, "std": _STD}
    count = _classes(tensors, path)
    if names is not None and not count:
        raise DataError(
            "the model has no linear layer fc for the names of labels",
            where=path,
            fix="leave out the names, or give a state dict with fc",
        )
    vocabulary = LabelVocabulary.of(names, count)
    side = image_size or (_SIDE if stem == "imagenet" else 32)

    def assign(model: "XCModel") -> None:
        network = f"a ResNet of depth {depth}"
        sources = list(_sources(model.encoder, depth))
        if count:
            sources += linear_sources("fc", model.head.kernel, model.head.bias)
        fill(sources, tensors, path, network)

    write_image_run(
        path,
        output,
        {"encoder": encoder, "head": {"name": "dense"}},
        system="torchvision",
        image_shape=(side, side, channels),
        vocabulary=vocabulary,
        assign=assign,
    )
    labels = f"{count:,} labels" if count else "no labels"
    return f"ResNet of depth {depth}, {side} x {side}, {labels}"


def _depth(tensors: Mapping[str, TorchTensor], where: str | Path) -> int:
    bottleneck = "layer1.0.conv3.weight" in tensors
    known = {
        depth: counts for depth, counts in BLOCKS.items() if (depth in BOTTLENECKS) == bottleneck
    }
    depth = depth_of(tensors, known, where, "a ResNet")
    shape = tensors["conv1.weight"].shape
    if len(shape) != 4 or shape[2] not in (3, 7) or not all(shape):
        raise DataError(
            f"the first convolution is not 7 x 7 or 3 x 3: {tensors['conv1.weight']}",
            where=where,
            fix=_RIGHT_FILE,
        )
    return depth


def _classes(tensors: Mapping[str, TorchTensor], where: str | Path) -> int:
    """Returns the outputs of the last layer; 0 without one."""
    if "fc.weight" not in tensors:
        return 0
    shape = tensors["fc.weight"].shape
    if len(shape) != 2 or not all(shape):
        raise DataError(
            f"the tensor fc.weight has shape {shape} instead of (classes, channels)",
            where=where,
            fix=_RIGHT_FILE,
        )
    return shape[0]


def layer_names(depth: int) -> Iterator[str]:
    """Yields torchvision's names of the layers in the order in which ``ResNet`` makes them."""
    yield from ("conv1", "bn1")
    bottleneck = depth in BOTTLENECKS
    for stage, count in enumerate(BLOCKS[depth], 1):
        for number in range(count):
            block = f"layer{stage}.{number}"
            for place in range(1, 4 if bottleneck else 3):
                yield from (f"{block}.conv{place}", f"{block}.bn{place}")
            # The first stage of basic blocks has the stem's channels.
            if number == 0 and (stage > 1 or bottleneck):
                yield from (f"{block}.downsample.0", f"{block}.downsample.1")


def _sources(encoder: "ImageEncoder", depth: int) -> Iterator[Source]:
    for name, layer in zip(layer_names(depth), encoder.weighted_layers, strict=True):
        yield from sources_of(name, layer)
