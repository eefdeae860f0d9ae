"""Random state dicts of InsightFace's and torchvision's networks, and their outputs by NumPy.

Written from the published architectures, in PyTorch's order: (batch, channels, height, width).
"""

import numpy as np

IRESNETS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
RESNETS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


class Tensors(dict):
    """A state dict that is filled with random numbers."""

    def __init__(self, seed=0):
        super().__init__()
        self.random = np.random.default_rng(seed)

    def convolution(self, name, outputs, inputs, size):
        shape, fan = (outputs, inputs, size, size), inputs * size * size
        self[f"{name}.weight"] = self.random.normal(0, fan**-0.5, shape).astype("f4")

    def norm(self, name, channels):
        self[f"{name}.weight"] = self.random.uniform(0.5, 1.5, channels).astype("f4")
        self[f"{name}.bias"] = self.random.normal(0, 0.3, channels).astype("f4")
        self[f"{name}.running_mean"] = self.random.normal(0, 0.3, channels).astype("f4")
        self[f"{name}.running_var"] = self.random.uniform(0.5, 2, channels).astype("f4")
        self[f"{name}.num_batches_tracked"] = np.array(7, "i8")

    def prelu(self, name, channels):
        self[f"{name}.weight"] = self.random.uniform(-0.2, 0.5, channels).astype("f4")

    def linear(self, name, outputs, inputs):
        self[f"{name}.weight"] = self.random.normal(0, inputs**-0.5, (outputs, inputs)).astype("f4")
        self[f"{name}.bias"] = self.random.normal(0, 0.3, outputs).astype("f4")


def iresnet(depth=18, width=4, dim=6, side=32, seed=0):
    """The state dict of an IResNet."""
    tensors, inputs = Tensors(seed), width
    tensors.convolution("conv1", width, 3, 3)
    tensors.norm("bn1", width)
    tensors.prelu("prelu", width)
    for stage, count in enumerate(IRESNETS[depth]):
        filters = width * 2**stage
        for number in range(count):
            block = f"layer{stage + 1}.{number}"
            tensors.norm(f"{block}.bn1", inputs)
            tensors.convolution(f"{block}.conv1", filters, inputs, 3)
            tensors.norm(f"{block}.bn2", filters)
            tensors.prelu(f"{block}.prelu", filters)
            tensors.convolution(f"{block}.conv2", filters, filters, 3)
            tensors.norm(f"{block}.bn3", filters)
            if number == 0:
                tensors.convolution(f"{block}.downsample.0", filters, inputs, 1)
                tensors.norm(f"{block}.downsample.1", filters)
            inputs = filters
    tensors.norm("bn2", inputs)
    tensors.linear("fc", dim, inputs * (side // 16) ** 2)
    tensors.norm("features", dim)
    return tensors


def resnet(depth=18, width=4, classes=5, stem=7, seed=0):
    """The state dict of a ResNet."""
    tensors, inputs = Tensors(seed), width
    tensors.convolution("conv1", width, 3, stem)
    tensors.norm("bn1", width)
    for stage, count in enumerate(RESNETS[depth]):
        filters = width * 2**stage
        for number in range(count):
            block = f"layer{stage + 1}.{number}"
            sizes = [(filters, inputs, 3), (filters, filters, 3)]
            if depth == 50:
                sizes = [(filters, inputs, 1), (filters, filters, 3), (4 * filters, filters, 1)]
            for place, (outputs, own, size) in enumerate(sizes, 1):
                tensors.convolution(f"{block}.conv{place}", outputs, own, size)
                tensors.norm(f"{block}.bn{place}", outputs)
            if number == 0 and (stage or depth == 50):
                tensors.convolution(f"{block}.downsample.0", outputs, inputs, 1)
                tensors.norm(f"{block}.downsample.1", outputs)
            inputs = outputs
    if classes:
        tensors.linear("fc", classes, inputs)
    return tensors


def convolve(x, kernel, stride=1):
    """Convolution with ``size // 2`` zeros around the image, as everywhere in these networks."""
    size = kernel.shape[-1]
    x = np.pad(x, [(0, 0), (0, 0), (size // 2,) * 2, (size // 2,) * 2])
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))
    return np.einsum("bihwyx,oiyx->bohw", windows[:, :, ::stride, ::stride], kernel, optimize=True)


def normalise(x, tensors, name):
    own = [tensors[f"{name}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")]
    shape = (1, -1, *[1] * (x.ndim - 2))
    weight, bias, mean, variance = (values.astype("f8").reshape(shape) for values in own)
    return weight * (x - mean) / np.sqrt(variance + 1e-5) + bias


def iresnet_vectors(tensors, images, depth=18):
    """Vectors (batch, dim) of uint8 images (batch, height, width, 3)."""
    x = ((images / 255 - 0.5) / 0.5).transpose(0, 3, 1, 2)

    def prelu(x, name):
        return np.where(x > 0, x, tensors[f"{name}.weight"][:, None, None] * x)

    x = prelu(normalise(convolve(x, tensors["conv1.weight"]), tensors, "bn1"), "prelu")
    for stage, count in enumerate(IRESNETS[depth], 1):
        for number in range(count):
            block, stride = f"layer{stage}.{number}", 1 if number else 2
            y = normalise(x, tensors, f"{block}.bn1")
            y = convolve(y, tensors[f"{block}.conv1.weight"])
            y = prelu(normalise(y, tensors, f"{block}.bn2"), f"{block}.prelu")
            y = convolve(y, tensors[f"{block}.conv2.weight"], stride)
            y = normalise(y, tensors, f"{block}.bn3")
            if number == 0:
                x = convolve(x, tensors[f"{block}.downsample.0.weight"], stride)
                x = normalise(x, tensors, f"{block}.downsample.1")
            x = x + y
    x = normalise(x, tensors, "bn2").reshape(len(x), -1)
    return normalise(x @ tensors["fc.weight"].T + tensors["fc.bias"], tensors, "features")


def resnet_vectors(tensors, images, depth=18):
    """Pooled vectors of uint8 images, normalised as torchvision does for ImageNet."""
    x = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    x = x.transpose(0, 3, 1, 2)
    seven = tensors["conv1.weight"].shape[-1] == 7
    x = convolve(x, tensors["conv1.weight"], 2 if seven else 1)
    x = np.maximum(normalise(x, tensors, "bn1"), 0)
    if seven:
        padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=-np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        x = windows[:, :, ::2, ::2].max(axis=(4, 5))
    for stage, count in enumerate(RESNETS[depth], 1):
        for number in range(count):
            block, strides = f"layer{stage}.{number}", 2 if stage > 1 and number == 0 else 1
            y, last, strided = x, 3 if depth == 50 else 2, 2 if depth == 50 else 1
            for place in range(1, last + 1):
                kernel = tensors[f"{block}.conv{place}.weight"]
                y = convolve(y, kernel, strides if place == strided else 1)
                y = normalise(y, tensors, f"{block}.bn{place}")
                y = np.maximum(y, 0) if place < last else y
            if f"{block}.downsample.0.weight" in tensors:
                x = convolve(x, tensors[f"{block}.downsample.0.weight"], strides)
                x = normalise(x, tensors, f"{block}.downsample.1")
            x = np.maximum(x + y, 0)
    return x.mean(axis=(2, 3))
