"""The format that NumPy alone can run: arrays of rankers, memories and small networks as files."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.core.storage.files import write_array, write_json
from tfxc.core.storage.reading import read_array
from tfxc.data.examples.kinds import DENSE, SPARSE
from tfxc.exports.network import LEVELS, NetworkFiles
from tfxc.exports.standalone import predict
from tfxc.inference.protocol import RankerModel
from tfxc.ops.search.beam_search import beam_search_numpy, post_processors
from tfxc.ranker.fusion import fused_numpy

if TYPE_CHECKING:
    from tfxc.ranker.fusion.memory import ExampleMemory
    from tfxc.runs.loaded import LoadedRun

#: What searches, copied into the folder.
PROGRAMS = (beam_search_numpy, post_processors)
_COPY = "copy the whole model folder"


class RankerFiles:
    """What is exported of a run: its ranker, the settings of its search, and its calibration.

    Args:
        loaded_run: a ``LoadedRun`` of a linear ranker.
        search: see ``RankerModel.search_settings``.
        k: labels per example.
        probabilities: whether scores are calibrated.

    Attributes:
        input_kind: name of the kind of the features that it takes.
        folder: of the ranker in the run.
        settings: dict of what the search has to know.
        weight_bytes: bytes of the weights' arrays.
    """

    def __init__(
        self,
        loaded_run: "LoadedRun",
        search: Sequence[tuple[str, int]],
        k: int,
        probabilities: bool,
    ) -> None:
        model: Any = loaded_run.model
        self.input_kind = DENSE.name if loaded_run.kind is DENSE else SPARSE.name
        self.folder = loaded_run.folder / "ranker"
        self.settings: dict[str, Any] = {
            "num_features": model.ranker.num_features,
            "bias": model.ranker.bias or 0.0,
            "post_processors": [rule for rule, _ in search],
            "beams": [*(beam for _, beam in search[:-1]), k],
            "row_normalise": loaded_run.manifest["row_normalise"],
            "calibration": None,
        }
        if probabilities:
            assert model.decision.calibration is not None, "it has probabilities"
            self.settings["calibration"] = model.decision.calibration.content()
        self.weight_bytes = sum(path.stat().st_size for path in self.folder.glob("layer-*/*.npy"))

    def write(self, path: Path) -> None:
        """Writes settings, arrays of every layer, and the programs that search them."""
        for layer in sorted(self.folder.glob("layer-*")):
            target = path / layer.name
            target.mkdir()
            for file in layer.glob("*.npy"):
                write_array(target / file.name, narrow(read_array(file, fix=_COPY, mapped=True)))
        write_json(path / predict.RANKER, self.settings, indent=1)
        for program in PROGRAMS:
            original = Path(str(program.__file__))
            shutil.copyfile(original, path / original.name)

    def quantise(self, path: Path) -> None:
        """Writes the weights of each node as 8-bit integers with a scale of its own."""
        for layer in path.glob("layer-*"):
            values = read_array(layer / "values.npy", fix=_COPY, mapped=True)
            columns = read_array(layer / "columns.npy", fix=_COPY, mapped=True)
            entry_splits = read_array(layer / "entry_splits.npy", fix=_COPY)
            row_splits = read_array(layer / "row_splits.npy", fix=_COPY)
            child_splits = read_array(layer / "child_splits.npy", fix=_COPY)
            firsts = np.repeat(
                child_splits[:-1].astype(np.int64), np.diff(entry_splits[row_splits])
            )
            nodes = firsts + columns
            scales = np.zeros(int(child_splits[-1]), np.float32)
            np.maximum.at(scales, nodes, np.abs(values))
            scales /= LEVELS
            steps = np.where(scales > 0, scales, 1)[nodes]
            write_array(layer / "values.npy", np.rint(values / steps).astype(np.int8))
            write_array(layer / "scales.npy", scales)


class FusedFiles:
    """What is exported of a run with a memory: the memory, the programs, and its ranker if any.

    Args:
        loaded_run: a ``LoadedRun`` whose model has a memory.
        k: labels per example.
        probabilities: whether scores are calibrated.

    Attributes:
        input_kind, weight_bytes: see ``RankerFiles``.
    """

    input_kind = SPARSE.name

    def __init__(self, loaded_run: "LoadedRun", k: int, probabilities: bool) -> None:
        model: Any = loaded_run.model
        self._memory: ExampleMemory = model.memory
        self._ranker: RankerFiles | None = None
        search = model.search_settings()
        if search is not None:
            self._ranker = RankerFiles(loaded_run, search, search[-1][1], False)
            self._ranker.settings["row_normalise"] = None
        self._settings = {
            **self._memory.settings.model_dump(),
            "has_texts": bool(self._memory.texts),
            "num_labels": model.num_labels,
            "k": k,
            "row_normalise": loaded_run.manifest["row_normalise"],
            "calibration": None,
        }
        if probabilities:
            assert model.decision.calibration is not None, "it has probabilities"
            self._settings["calibration"] = model.decision.calibration.content()
        layers = [*self._memory.rows, *self._memory.texts]
        self.weight_bytes = sum(layer.columns.nbytes + layer.values.nbytes for layer in layers)
        if self._ranker is not None:
            self.weight_bytes += self._ranker.weight_bytes

    def write(self, path: Path) -> None:
        """Writes settings, arrays and programs."""
        if self._ranker is not None:
            self._ranker.write(path)
        for kind, layers in (("rows", self._memory.rows), ("texts", self._memory.texts)):
            for number, layer in enumerate(layers):
                folder = path / f"{kind}-{number}"
                folder.mkdir()
                for name, array in layer._asdict().items():
                    write_array(folder / f"{name}.npy", narrow(array))
        for name, array in self._memory.arrays().items():
            write_array(path / f"{name}.npy", array)
        write_json(path / predict.FUSED, self._settings, indent=1)
        shutil.copyfile(str(fused_numpy.__file__), path / "fused_numpy.py")

    def quantise(self, path: Path) -> None:
        """Writes the ranker's weights as 8-bit integers; examples stay as they are.

        Raises:
            ConfigError: there is no ranker.
        """
        if self._ranker is None:
            raise ConfigError(
                "a memory without a ranker has examples, and no weights to store in 8 bits",
                where="--quantize",
                fix="leave it out",
            )
        self._ranker.quantise(path)


class Runtime:
    """Writes, opens and quantises the files of a ranker, a memory or a network.

    Attributes:
        file: name of the model's folder.
        most_bytes: None, the weights may take any space.
    """

    file = "model"
    most_bytes = None

    def require(self) -> None:
        """Needs nothing but NumPy."""

    def source(
        self, loaded_run: "LoadedRun", k: int, probabilities: bool
    ) -> RankerFiles | FusedFiles | NetworkFiles:
        """Returns what is exported.

        Raises:
            ConfigError: NumPy cannot run the model.
        """
        model: Any = loaded_run.model
        try:
            if not isinstance(model, RankerModel):
                return NetworkFiles(loaded_run, k, probabilities)
            if model.memory is not None:
                return FusedFiles(loaded_run, k, probabilities)
            search = model.search_settings()
            if search is None:
                raise ValueError("a ranker over encodings")
        except ValueError as error:
            raise ConfigError(
                f"the format runtime has no {error}",
                where="--format",
                fix="choose onnx, litert or savedmodel",
            ) from None
        return RankerFiles(loaded_run, search, k, probabilities)

    def write(self, source: RankerFiles | FusedFiles | NetworkFiles, path: Path) -> None:
        """Writes the folder."""
        path.mkdir()
        source.write(path)

    def open(self, path: Path) -> Callable[..., Any]:
        """Returns a function of a dict of arrays -> (ids, scores)."""
        return predict.open_arrays(path)

    def quantise(
        self, source: RankerFiles | FusedFiles | NetworkFiles, path: Path, batch: int | None
    ) -> None:
        """Writes 8-bit weights in place of the others."""
        source.quantise(path)


def narrow(array: np.ndarray) -> np.ndarray:
    """Returns integers in the smallest unsigned type that has room for them."""
    if array.dtype.kind not in "iu" or not len(array):
        return array
    return array.astype(np.min_scalar_type(int(array.max())))


FORMAT = Runtime()
