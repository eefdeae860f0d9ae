"""Takes over an XR-Linear model that PECOS (libpecos 1.2) has trained and saved.

Its folder holds ``ranker/param.json`` and, for every layer from the top, ``ranker/<t>.model`` with
the weights ``W.npz`` (D + 1, K_t), the parents ``C.npz`` (K_t, K_{t-1}) and ``param.json``; of a
model compiled for memory mapping, ``W.mmap_store``, ``C.mmap_store`` and, where siblings are not
neighbours, ``perm.mmap_store``. PECOS is not needed to read it.
"""

from pathlib import Path

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.core.storage.ownership import atomic_folder
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


def import_pecos(folder: str | Path, output: str | Path) -> ClusterTree:
    """Writes a PECOS model as a model folder of tfxc, ``ranker/`` and ``tree.npz``.

    Predictions are the same: the same labels, scores equal up to rounding. PECOS orders equal
    scores by their parents' places, we by label.

    Args:
        folder: what PECOS's ``XLinearModel.save`` or ``compile_mmap_model`` wrote.
        output: the folder to write, atomically.

    Returns:
        ``ClusterTree`` of the model's labels.

    Raises:
        DataError: a file is missing, damaged or of another kind, or shapes do not fit.
        ConfigError: a post-processor that is not known.
        UserError: the output cannot be written.
    """
    with atomic_folder(output, "linear ranker") as scratch:
        return write_pecos_model(folder, scratch)


def write_pecos_model(folder: str | Path, output: Path) -> ClusterTree:
    """As ``import_pecos``, into a folder that is there and empty."""
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


def _layers(source):
    """All layers, from the top, which fit together."""
    path = source / "param.json"
    param = read_json(path, fix=COPY)
    if param.get("model") != "HierarchicalMLModel":
        raise DataError(
            f"a PECOS HierarchicalMLModel expected, found {param.get('model')}", where=path
        )
    depth = param.get("depth", len(list(source.glob("*.model"))))
    if not isinstance(depth, int) or depth < 1:
        raise DataError(f"a depth of at least 1 expected, found {depth!r}", where=path)
    kind = _MappedLayer if param.get("is_mmap") else _Layer
    layers = [kind(source / f"{number}.model") for number in range(depth)]
    for layer in layers[1:]:
        layer.check_same(layers[0])
    return layers


class _Layer:
    """One layer's folder: its ``param.json``, and on demand its matrices."""

    def __init__(self, folder):
        self.folder, self.path = folder, folder / "param.json"
        param = read_json(self.path, fix=COPY)
        try:
            bias = float(param["bias"])
            self.bias = bias if bias > 0 else None
            self.num_features = self._features(param)
            self.only_topk = int(param["pred_kwargs"]["only_topk"] or 0)
            name = param["pred_kwargs"]["post_processor"]
        except KeyError as error:
            raise DataError(f"the key {error} expected", where=self.path) from error
        except (TypeError, ValueError) as error:
            raise DataError(f"settings of a layer expected ({error})", where=self.path) from error
        self.post_processor = post_processor(name, where=self.path).name

    def check_same(self, first):
        """All layers see the same features, with the same bias."""
        for name in ("num_features", "bias"):
            expected, found = getattr(first, name), getattr(self, name)
            if expected != found:
                raise DataError(
                    f"{name} {expected} expected as in the first layer, found {found}",
                    where=self.path,
                )

    def _features(self, param):
        """Features without the bias."""
        return int(param["nr_features"])

    def parents(self, above):
        """Parent of every node, int32 (K,), from C."""
        path = self.folder / "C.npz"
        return parents_of(_matrix(path), above, path)

    def weights(self, nodes):
        """W, float32 (D or D + 1, K)."""
        matrix, path = self._weights()
        expected = (self.num_features + (self.bias is not None), nodes)
        if matrix.shape != expected:
            raise DataError(
                f"shape {expected} expected (features and bias, nodes), found {matrix.shape}",
                where=path,
            )
        if not np.isfinite(matrix.data).all():
            raise DataError("finite weights expected, found NaN or infinity", where=path)
        return matrix

    def _weights(self):
        path = self.folder / "W.npz"
        return _matrix(path), path


class _MappedLayer(_Layer):
    """One layer of a model that was compiled for memory mapping."""

    def _features(self, param):
        return mapped_rows(self.folder / "W.mmap_store") - (self.bias is not None)

    def parents(self, above):
        """Parent of every node, int32 (K,), from C."""
        path = self.folder / "C.mmap_store"
        found = parents_of(mapped_matrix(path), above, path)
        parents = np.empty_like(found)
        parents[self._order(len(found))] = found
        return parents

    def _order(self, nodes):
        return mapped_order(self.folder / "perm.mmap_store", nodes)

    def _weights(self):
        path = self.folder / "W.mmap_store"
        matrix = mapped_weights(path)
        place = np.empty(matrix.shape[1], np.int64)
        place[self._order(len(place))] = np.arange(len(place))
        return matrix[:, place], path


def _matrix(path):
    matrix = scipy.sparse.csc_matrix(load_sparse(existing_file(path, fix=COPY)))
    matrix.sum_duplicates()
    return matrix
