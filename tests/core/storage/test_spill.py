"""Objects that wait on disk."""

import numpy as np
import pytest

from tfxc.core.errors import MachineError
from tfxc.core.storage.spill import Spill


def test_objects_come_back_in_their_order(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    things = [{"ids": np.arange(5), "text": "é"}, None, np.zeros((0, 3), np.float32)]
    with Spill() as spill:
        assert list(spill) == [] and spill.size == 0
        for thing in things:
            spill.append(thing)
        for _ in range(2):
            first, second, third = spill
            np.testing.assert_array_equal(first["ids"], things[0]["ids"])
            assert (first["text"], second, third.shape) == ("é", None, (0, 3))
        assert len(spill) == 3 and spill.size > 0
        assert not list(tmp_path.iterdir())  # no name, so nothing stays behind


def test_what_is_added_while_others_are_read():
    with Spill() as spill:
        spill.append(1)
        found = []
        for number in spill:
            found.append(number)
            if number < 4:
                spill.append(number + 1)
    assert found == [1, 2, 3, 4]


def test_a_full_disk(monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tfxc.core.storage.spill.pickle.dump", full)
    with Spill() as spill, pytest.raises(MachineError, match=r"cannot write: "):
        spill.append(1)
