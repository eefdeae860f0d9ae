"""Chunks in files: they are read as they were written."""

import numpy as np
import pytest
import scipy.sparse

from tfxc.data.examples.chunk import Chunk
from tfxc.data.store.blocks.chunk_file import read_chunks, write_chunk, write_chunks


def images(*shapes):
    random = np.random.default_rng(0)
    return [random.integers(0, 256, shape, np.uint8) for shape in shapes]


CHUNKS = {
    "texts": Chunk([["a"], [], ["b", "a"]], texts=["one", "", "zwei\nü"], names=["x", "", "z"]),
    "sparse": Chunk([[3], []], features=scipy.sparse.csr_matrix(np.float32([[0, 2.5], [0, 0]]))),
    "dense": Chunk([[], []], features=np.float32([[1, 2, 3], [4, 5, 6]])),
    "pixels": Chunk([[1], [2]], images=np.stack(images((4, 3, 1), (4, 3, 1)))),
    "files and arrays": Chunk(
        [[], [], []], images=[b"\x89PNG", *images((2, 5, 3)), b""], names=["a", "b", "c"]
    ),
    "empty": Chunk([], texts=[]),
}


def same(one, other):
    """Whether two values of a field of a chunk are the same."""
    if scipy.sparse.issparse(one):
        return one.shape == other.shape and (one != other).nnz == 0
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("name", CHUNKS)
def test_all_that_a_chunk_holds(name, tmp_path):
    chunk = CHUNKS[name]
    write_chunk(tmp_path / "chunk", chunk)
    (found,) = read_chunks(tmp_path / "chunk")
    assert found.labels == chunk.labels
    for field in ("texts", "features", "images", "names"):
        assert same(getattr(chunk, field), getattr(found, field)), field


def test_several_keep_their_order(tmp_path):
    chunks = [Chunk([[]], texts=[str(number)]) for number in range(12)]
    write_chunks(tmp_path / "chunks", chunks)
    assert [chunk.texts for chunk in read_chunks(tmp_path / "chunks")] == [
        [str(number)] for number in range(12)
    ]
