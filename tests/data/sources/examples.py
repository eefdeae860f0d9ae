"""Small data sets in the formats of the readers, for the tests of the preparation."""

import json
from pathlib import Path

import numpy as np
import scipy.sparse

AWKWARD = ["a, b", "標籤", "naïve name", "plain"]
TFIDF = {"name": "tfidf", "min_df": 1}


def write_jsonl(path, examples):
    lines = (json.dumps({"text": text, "labels": labels}) for text, labels in examples)
    Path(path).write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return str(path)


def write_xc(path, matrix, labels, num_labels):
    with open(path, "w") as stream:
        stream.write(f"{matrix.shape[0]} {matrix.shape[1]} {num_labels}\n")
        for row, ids in zip(matrix, labels, strict=True):
            pairs = [f"{i}:{v!r}" for i, v in zip(row.indices, row.data.tolist(), strict=True)]
            stream.write(" ".join([",".join(map(str, ids)), *pairs]) + "\n")
    return str(path)


def sparse_set(count=97, seed=0):
    """A matrix whose first column tells the row's number, and labels; some rows are empty."""
    rng = np.random.default_rng(seed)
    matrix = scipy.sparse.random(count, 30, 0.1, format="lil", rng=rng, dtype=np.float32)
    matrix[:, 0] = np.arange(1, count + 1)[:, None]
    matrix[3] = 0
    labels = [sorted(rng.choice(12, row % 4, replace=False).tolist()) for row in range(count)]
    return matrix.tocsr(), labels


def texts_set(count=60, words=6):
    known = ["red", "green", "blue", "cat", "dog", "bird", "one", "two", "three", "four"]
    rng = np.random.default_rng(1)
    return [
        (
            " ".join(rng.choice(known, words)),
            rng.choice(AWKWARD, rng.integers(0, 3), False).tolist(),
        )
        for _ in range(count)
    ]


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }
