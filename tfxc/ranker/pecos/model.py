"""Takes over an XR-Linear model that PECOS (libpecos 1.2) has trained and saved.

Its folder holds ``ranker/param.json`` and, for every layer from the top, ``ranker/<t>.model`` with
the weights ``W.npz`` (D + 1, K_t), the parents ``C.npz`` (K_t, K_{t-1}) and ``param.json``; of a
model compiled for memory mapping, ``W.mmap_store``, ``C.mmap_store`` and, where siblings are not
neighbours, ``perm.mmap_store``. PECOS is not needed to read it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.core.storage.reading import existing_file, read_json
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.labels.pecos_tree import parents_of
from tfxc.ops.csr import load_sparse
from tfxc.ops.search.beam_search.chunked_layer import chunks_of
from tfxc.ranker.pecos.memory_mapped import mapped_matrix, mapped_order, mapped_rows, mapped_weights
from tfxc.ranker.post_processors import post_processor
from tfxc.ranker.search import FORMAT
from tfxc.ranker.store import write_layer, write_parameters

#: What to do where a file is missing or damaged.
COPY = "copy the whole model folder"


def write_pecos_model(folder: str | Path, output: Path) -> ClusterTree:
    """Writes a PECOS model as a model folder of tfxc, ``ranker/`` and ``tree.npz``.

    Predictions are the same: the same labels, scores equal up to rounding. PECOS orders equal
    scores by their parents' places, we by label.

    Args:
        folder: what PECOS's ``XLinearModel.save`` or ``compile_mmap_model`` wrote.
        output: a folder that is there and empty.

    Returns:
        ``ClusterTree`` of the model's labels.

    Raises:
        DataError: a file is missing, damaged or of another kind, or shapes do not fit.
        ConfigError: a post-processor that is not known.
        UserError: the output cannot be written.
    """
    layers = _layers(Path(folder) / "ranker")
    parents: list[np.ndarray] = []
    for number, layer in enumerate(layers):
        above = len(parents[-1]) if parents else 1
        parents.append(layer.parents(above))
        chunks = chunks_of(layer.weights(len(parents[-1])), parents[-1], above)
        write_layer(chunks, output / "ranker" / f"layer-{number}")
    tree = ClusterTree(parents)
    tree.save(output / "tree.npz")
    settings = {
        "post_processor": [layer.post_processor for layer in layers],
        "only_topk": [layer.only_topk for layer in layers],
    }
    content = {
        "format": FORMAT,
        "num_features": layers[0].num_features,
        "bias": layers[0].bias,
        "num_labels": tree.num_labels,
        "layers": len(layers),
        "settings": settings,
    }
    write_parameters(output / "ranker", content)
    return tree


def _layers(source: Path) -> list["_Layer"]:
    """Returns all layers, from the top, which fit together."""
    path = source / "param.json"
    param = read_json(path, fix=COPY)
    if param.get("model") != "HierarchicalMLModel":
        raise DataError(
            f"the model is {param.get('model')}, not PECOS's HierarchicalMLModel", where=path
        )
    depth = param.get("depth", len(list(source.glob("*.model"))))
    if not isinstance(depth, int) or depth < 1:
        raise DataError(f"the depth {depth!r} is not a number of layers", where=path)
    kind: type[_Layer] = _MappedLayer if param.get("is_mmap") else _Layer
    layers = [kind(source / f"{number}.model") for number in range(depth)]
    for layer in layers[1:]:
        layer.check_same(layers[0])
    return layers


class _Layer:
    """One layer's folder: its ``param.json``, and on demand its matrices."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "param.json"
        param = read_json(self.path, fix=COPY)
        try:
            bias = float(param["bias"])
            self.bias = bias if bias > 0 else None
            self.num_features = self._features(param)
            self.only_topk = int(param["pred_kwargs"]["only_topk"] or 0)
            name = param["pred_kwargs"]["post_processor"]
        except KeyError as error:
            raise DataError(f"the key {error} is missing", where=self.path, fix=COPY) from error
        except DataError:
            raise
        except (TypeError, ValueError) as error:
            raise DataError(
                f"these are not the settings of a layer ({error})", where=self.path
            ) from error
        self.post_processor = post_processor(name, where=self.path).name

    def check_same(self, first: "_Layer") -> None:
        """Refuses other features than the first layer's, or another bias."""
        for name in ("num_features", "bias"):
            value = getattr(self, name)
            if value != getattr(first, name):
                raise DataError(
                    f"{name} is {value}, in the first layer {getattr(first, name)}",
                    where=self.path,
                )

    def _features(self, param: Mapping[str, Any]) -> int:
        """Returns features without the bias."""
        return int(param["nr_features"])

    def parents(self, above: int) -> np.ndarray:
        """Returns the parent of every node, int32 (K,), from C."""
        path = self.folder / "C.npz"
        return parents_of(_matrix(path), above, path)

    def weights(self, nodes: int) -> scipy.sparse.csc_matrix:
        """Returns W, float32 (D or D + 1, K)."""
        matrix, path = self._weights()
        shape = (self.num_features + (self.bias is not None), nodes)
        if matrix.shape != shape:
            raise DataError(
                f"its shape is {matrix.shape}, not {shape} (features and bias, nodes)", where=path
            )
        if not np.isfinite(matrix.data).all():
            raise DataError("a weight is NaN or infinite", where=path)
        return matrix

    def _weights(self) -> tuple[scipy.sparse.csc_matrix, Path]:
        path = self.folder / "W.npz"
        return _matrix(path), path


class _MappedLayer(_Layer):
    """One layer of a model that was compiled for memory mapping."""

    def _features(self, param: Mapping[str, Any]) -> int:
        return mapped_rows(self.folder / "W.mmap_store") - (self.bias is not None)

    def parents(self, above: int) -> np.ndarray:
        """Returns the parent of every node, int32 (K,), from C."""
        path = self.folder / "C.mmap_store"
        in_order = parents_of(mapped_matrix(path), above, path)
        parents = np.empty_like(in_order)
        parents[self._order(len(in_order))] = in_order
        return parents

    def _order(self, nodes: int) -> np.ndarray:
        return mapped_order(self.folder / "perm.mmap_store", nodes)

    def _weights(self) -> tuple[scipy.sparse.csc_matrix, Path]:
        path = self.folder / "W.mmap_store"
        matrix = mapped_weights(path)
        place = np.empty(matrix.shape[1], np.int64)
        place[self._order(len(place))] = np.arange(len(place))
        return matrix[:, place], path


def _matrix(path: Path) -> scipy.sparse.csc_matrix:
    matrix = scipy.sparse.csc_matrix(load_sparse(existing_file(path, fix=COPY)))
    matrix.sum_duplicates()
    return matrix
