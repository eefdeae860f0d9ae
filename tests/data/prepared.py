"""Small prepared folders for the tests, written without the readers."""

from pathlib import Path

import numpy as np
import scipy.sparse

from tfxc.core.storage import checksums
from tfxc.data.examples.rows import Rows
from tfxc.data.store.manifest import Manifest
from tfxc.data.store.records.shard_writer import write_split


def numbered_rows(count):
    """Row i has i mod 4 features, the first of them i with weight i, and i mod 3 labels from i."""
    features = [list(range(row, row + row % 4)) for row in range(count)]
    indptr = np.cumsum([0] + [len(row) for row in features])
    values = [row + position for row in range(count) for position in range(row % 4)]
    matrix = scipy.sparse.csr_matrix(
        (np.float32(values), np.int32(np.concatenate([[], *features])), indptr), (count, count + 4)
    )
    return Rows.from_csr(matrix, [list(range(row, row + row % 3)) for row in range(count)])


def dense_rows(count, dim=5):
    """Row i is i, i + 0.1, … and has the label i."""
    matrix = np.arange(count)[:, None] + np.arange(dim) / 10
    return Rows.from_dense(matrix.astype(np.float32), [[row] for row in range(count)])


def prepared(folder, rows, shard_examples, layout="blocks"):
    """Writes ``rows`` in their order as the training split of a prepared folder."""
    Path(folder).mkdir(parents=True)
    num_labels = int(rows.label_ids.max(initial=0)) + 1
    starts = range(0, len(rows), shard_examples)
    shards = [rows.slice(start, start + shard_examples) for start in starts]
    Manifest(
        name="numbered",
        settings_fingerprint="00000000",
        layout=layout,
        feature_kind=rows.kind.name,
        num_features=rows.num_features,
        num_labels=num_labels,
        num_unseen_labels=0,
        text_features=None,
        row_normalise=None,
        sources={},
        splits={"train": write_split(folder, "train", shards, layout, num_labels)},
    ).save(folder)
    checksums.record(folder)
    return Path(folder)
