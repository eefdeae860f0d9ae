"""A model that libpecos 1.2.8 has saved and compiled: the same, whichever of the two is imported.

Two of its three layers have siblings that are not neighbours, so their columns were put in order.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from tests.ranker.imported import import_pecos
from tfxc.core.errors import DataError
from tfxc.ranker.pecos.memory_mapped import mapped_matrix, mapped_order, mapped_rows, mapped_weights

MODEL = Path(__file__).parents[1] / "data" / "pecos_mapped"
LAYER = "ranker/2.model"
W, C, PERM = (f"{LAYER}/{name}.mmap_store" for name in ("W", "C", "perm"))


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}


def test_compiled_and_saved_models_are_the_same(tmp_path):
    import_pecos(MODEL / "saved", tmp_path / "saved")
    import_pecos(MODEL / "compiled", tmp_path / "compiled")
    found = files_of(tmp_path / "compiled")
    assert len(found) > 10
    assert found == files_of(tmp_path / "saved")


def test_matrices():
    saved = {name: scipy.sparse.load_npz(MODEL / "saved" / LAYER / f"{name}.npz") for name in "WC"}
    order = mapped_order(MODEL / "compiled" / PERM, 17)
    assert (np.diff(order) < 0).any()
    np.testing.assert_array_equal(
        mapped_weights(MODEL / "compiled" / W).toarray(), saved["W"].toarray()[:, order]
    )
    np.testing.assert_array_equal(
        mapped_matrix(MODEL / "compiled" / C).toarray(), saved["C"].toarray()[order]
    )
    assert mapped_rows(MODEL / "compiled" / W) == 21
    assert mapped_order(MODEL / "absent", 3).tolist() == [0, 1, 2]


def put(place, value, kind="<u4"):
    """A change of bytes: the value at a place, counted from the end if it is negative."""

    def change(content):
        array = bytearray(content)
        raw = np.array(value, kind).tobytes()
        first = place % len(array)
        array[first : first + len(raw)] = raw
        return bytes(array)

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (W, lambda content: b"", "not a libpecos file of blocks"),
        (W, lambda content: content[:-1], "not a libpecos file of blocks"),
        (W, put(-16, 0), "not a libpecos file of blocks"),
        (W, put(-8, 1 << 40, "<u8"), "0 blocks instead of 11"),
        (W, put(0x00, 5), "block 4 has 192 bytes instead of 160"),
        (W, put(272, 99), "not a sparse matrix"),
        (W, put(0x44, 1), "chunks do not follow one another up to column 17"),
        (W, put(1872, 77), "column 77 is outside its chunk"),
        (C, put(0x20, 1 << 40, "<u8"), "block 5 has 68 bytes"),
        (C, put(0x40, 99), "not a sparse matrix|block . has"),
        (PERM, put(0x70, 99), "does not hold each of 17 nodes once"),
    ],
)
def test_damage_is_reported(tmp_path, name, change, message):
    shutil.copytree(MODEL / "compiled", tmp_path / "model")
    path = tmp_path / "model" / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        import_pecos(tmp_path / "model", tmp_path / "out")
    assert str(path) in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_every_byte_changed_is_answered_or_reported(tmp_path):
    """Never another exception, and never memory beyond the file's."""
    content = (MODEL / "compiled" / W).read_bytes()
    path = tmp_path / "W.mmap_store"
    reported = 0
    for place in range(0, len(content), 7):
        path.write_bytes(put(place, 255, "u1")(content))
        try:
            mapped_weights(path)
        except DataError:
            reported += 1
    assert reported > 20
