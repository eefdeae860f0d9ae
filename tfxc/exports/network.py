"""A small network as files that NumPy alone can compute: a table, dense layers, scores."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.storage.files import write_array, write_json
from tfxc.exports.standalone import predict

if TYPE_CHECKING:
    from tfxc.runs.loaded import LoadedRun

#: Of an 8-bit weight, on either side of 0.
LEVELS = 127


class NetworkFiles:
    """What is exported of a run: an encoder that is ``FeedForward`` and a linear head.

    Args:
        loaded_run: the ``LoadedRun`` of a network.
        k: labels per example.
        probabilities: whether scores are given as probabilities.

    Attributes:
        input_kind: name of the kind of the features that it takes.
        settings: dict of what the computation has to know.
        arrays: the weights by the names of their files, kernels with a row for each output; the
            last layer is the head.
        weight_bytes: bytes of the arrays.

    Raises:
        ValueError: the network is another one; the message says which part.
    """

    def __init__(self, loaded_run: "LoadedRun", k: int, probabilities: bool) -> None:
        from tfxc.heads.dense import Dense

        model: Any = loaded_run.model
        encoder = model.encoder
        weights = encoder.feed_forward()
        if weights is None:
            raise ValueError(f"encoder {type(encoder).__name__}")
        if type(model.head) is not Dense:
            raise ValueError(model.searched_part)
        for activation in weights.activations:
            if activation not in predict.ACTIVATIONS:
                raise ValueError(f"activation {activation}")
        self.input_kind = encoder.input_kind
        self.settings: dict[str, Any] = {
            "k": k,
            "row_normalise": loaded_run.manifest["row_normalise"],
            "activations": [*weights.activations, "linear"],
            "probabilities": None,
            "calibration": None,
        }
        if probabilities and model.decision.calibration is not None:
            self.settings["calibration"] = model.decision.calibration.content()
        elif probabilities:
            self.settings["probabilities"] = "sigmoid" if model.decides_each_label else "softmax"
        labels = model.head.inner_products().rows(0, model.num_labels).numpy()
        kernels = [*(kernel.T for kernel in weights.kernels), labels[:, :-1]]
        biases = [*weights.biases, labels[:, -1]]
        self.arrays = {
            "table": weights.table,
            **{f"kernel-{place}": kernel for place, kernel in enumerate(kernels)},
            **{f"bias-{place}": bias for place, bias in enumerate(biases)},
        }
        if weights.lookup is not None:
            self.arrays["lookup"] = weights.lookup
        self.weight_bytes = sum(array.nbytes for array in self.arrays.values())

    def write(self, path: Path) -> None:
        """Writes the files into a new folder."""
        for name, array in self.arrays.items():
            write_array(path / f"{name}.npy", np.ascontiguousarray(array))
        write_json(path / predict.NETWORK, self.settings, indent=1)

    def quantise(self, path: Path) -> None:
        """Writes the rows of each matrix as 8-bit integers with a scale of their own."""
        for name, array in self.arrays.items():
            if array.dtype.kind != "f" or array.ndim < 2:
                continue
            scales = np.abs(array).max(axis=1).astype(np.float32) / LEVELS
            steps = np.where(scales > 0, scales, 1)[:, None]
            write_array(path / f"{name}.npy", np.rint(array / steps).astype(np.int8))
            write_array(path / f"{name}-scales.npy", scales)
