"""Layer files, and what is left of them after a crash."""

import numpy as np
import pytest
import scipy.sparse

from tfxc.ops.search.beam_search.chunked_layer import check_layer, chunks_of
from tfxc.ranker.search import load_layer
from tfxc.ranker.store import LayerWriter, is_complete, notes_of, weight_matrix

PARENTS = np.array([1, 0, 3, 1, 0, 1])  # parent 2 has no child
NUM_FEATURES = 12


@pytest.fixture
def weights():
    random = np.random.default_rng(0)
    dense = random.normal(size=(NUM_FEATURES + 1, len(PARENTS)))
    return scipy.sparse.csc_matrix((dense * (random.random(dense.shape) < 0.4)).astype(np.float32))


@pytest.fixture
def chunks(weights):
    return chunks_of(weights, PARENTS, 4)


def open_writer(folder, chunks, fingerprint="one"):
    return LayerWriter(folder / "layer-0", chunks.children, chunks.child_splits, fingerprint)


def append_blocks(writer, chunks, count):
    """Appends the next blocks of a layer."""
    for parent in range(writer.blocks, writer.blocks + count):
        rows = slice(*chunks.row_splits[parent : parent + 2])
        entries = slice(*chunks.entry_splits[[rows.start, rows.stop]])
        counts = np.diff(chunks.entry_splits)[rows]
        writer.notes["blocks"] = parent + 1
        writer.append(chunks.rows[rows], counts, chunks.columns[entries], chunks.values[entries])


def assert_same(folder, chunks):
    found = load_layer(folder / "layer-0")
    check_layer(found, 4, NUM_FEATURES, "layer")
    for name, expected in chunks._asdict().items():
        np.testing.assert_array_equal(getattr(found, name), expected, err_msg=name)
        assert getattr(found, name).dtype == expected.dtype, name
    assert is_complete(folder / "layer-0", "one")
    assert notes_of(folder / "layer-0") == {"blocks": 4}
    assert [path.name for path in folder.iterdir()] == ["layer-0"]


def test_written_in_one_go(tmp_path, chunks, weights):
    writer = open_writer(tmp_path, chunks)
    append_blocks(writer, chunks, 4)
    assert not (tmp_path / "layer-0").exists()
    writer.finish(chunks.trained)
    assert_same(tmp_path, chunks)
    found = weight_matrix(load_layer(tmp_path / "layer-0"), NUM_FEATURES)
    np.testing.assert_array_equal(found.toarray(), weights.toarray())


@pytest.mark.parametrize("done", [0, 1, 3])
def test_goes_on_behind_the_last_block(tmp_path, chunks, done):
    writer = open_writer(tmp_path, chunks)
    append_blocks(writer, chunks, done)
    writer.close()
    scratch = tmp_path / ".layer-0.unfinished"
    for path in scratch.glob("*.npy"):  # the crash came in the middle of a block
        path.write_bytes(path.read_bytes() + b"half a block")
    journal = scratch / "journal"
    journal.write_text(journal.read_text() + "[9, 9")
    writer = open_writer(tmp_path, chunks)
    assert writer.blocks == done
    append_blocks(writer, chunks, 4 - done)
    writer.finish(chunks.trained)
    assert_same(tmp_path, chunks)


def test_starts_anew_with_other_data(tmp_path, chunks, capsys):
    writer = open_writer(tmp_path, chunks, "another")
    append_blocks(writer, chunks, 2)
    writer.close()
    writer = open_writer(tmp_path, chunks)
    assert writer.blocks == 0
    assert "starting over" in capsys.readouterr().err
    append_blocks(writer, chunks, 4)
    writer.finish(chunks.trained)
    assert_same(tmp_path, chunks)


def test_starts_anew_where_a_file_lost_its_end(tmp_path, chunks):
    writer = open_writer(tmp_path, chunks)
    append_blocks(writer, chunks, 2)
    writer.close()
    path = tmp_path / ".layer-0.unfinished" / "values.npy"
    path.write_bytes(path.read_bytes()[:-4])
    assert open_writer(tmp_path, chunks).blocks == 0


def test_a_finished_folder_is_replaced(tmp_path, chunks):
    (tmp_path / "layer-0").mkdir()
    (tmp_path / "layer-0" / "old").touch()
    writer = open_writer(tmp_path, chunks)
    append_blocks(writer, chunks, 4)
    writer.finish(chunks.trained)
    assert_same(tmp_path, chunks)
    assert not (tmp_path / "layer-0" / "old").exists()


def test_many_children_need_wider_columns(tmp_path):
    writer = LayerWriter(tmp_path / "layer-0", np.arange(70_000), [0, 70_000], "one")
    writer.append([3], [1], [69_999], [1.5])
    writer.finish(np.ones(70_000, bool))
    assert load_layer(tmp_path / "layer-0").columns.tolist() == [69_999]
