"""The table of a ranker's layers."""

import numpy as np
import pytest
import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.ranker.chain import train_ranker
from tfxc.ranker.settings import RankerSettings
from tfxc.ranker.sizes import size_lines


def test_table(tmp_path):
    features = scipy.sparse.csr_matrix(np.eye(4, dtype=np.float32))
    tree = ClusterTree([[0, 0], [0, 0, 1, 1]])
    assert size_lines(tmp_path) == []
    rules = ["sigmoid", "l3-hinge"]
    settings = RankerSettings(threshold=0.0, only_topk=[2, 7], post_processor=rules)
    train_ranker(features, features, tree, tmp_path, settings)
    header, *rows, total = size_lines(tmp_path)
    assert header.split("  ")[-1] == "post-processor" and len({len(row) for row in rows}) <= 2
    counts = []
    for number in range(len(rows)):
        values = np.load(tmp_path / f"ranker/layer-{number}/values.npy")
        counts.append(int(np.count_nonzero(values)))
    assert rows[0].split() == ["0", "2", "clusters", str(counts[0]), "0.0", "2", "sigmoid"]
    assert rows[1].split() == ["1", "4", "labels", str(counts[1]), "0.0", "-", "l3-hinge"]
    assert total == f"{sum(counts)} weights that are not 0, of 4 features"
    (tmp_path / "ranker/layer-1/values.npy").unlink()
    with pytest.raises(DataError, match=r"layer-1/values\.npy: no such file"):
        size_lines(tmp_path)


def test_bytes_on_disk(tmp_path):
    features = scipy.sparse.random(50, 3000, 0.5, "csr", np.float32, random_state=0)
    labels = scipy.sparse.csr_matrix(np.eye(5, dtype=np.float32)[np.arange(50) % 5])
    train_ranker(features, labels, ClusterTree([[0] * 5]), tmp_path, RankerSettings(threshold=0.0))
    _, row, _ = size_lines(tmp_path)
    folder = tmp_path / "ranker" / "layer-0"
    size = sum(file.stat().st_size for file in folder.iterdir())
    assert size > 10**5 and row.split()[4] == f"{size / 1e6:.1f}"
