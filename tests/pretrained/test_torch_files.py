"""Files of torch.save: against arrays that PyTorch wrote, and against damage and malice."""

import collections
import errno
import os
import pickle
import sys
import zipfile

import numpy as np
import pytest

from tests.torch_files import Changed, Storage, Tensor, write_legacy, write_zip
from tfxc.core.errors import DataError, MachineError
from tfxc.pretrained.torch_files import TorchTensor, load_state_dict, load_torch


@pytest.mark.golden
@pytest.mark.parametrize("name", ["zip", "legacy"])
def test_as_pytorch_reads_it(golden_folder, name):
    tensors = load_torch(golden_folder / "torch_files" / f"{name}.pth")
    with np.load(golden_folder / "torch_files" / "expected.npz") as expected:
        assert list(tensors) == list(expected)
        for key, tensor in tensors.items():
            values = tensor.array()
            assert values.shape == tensor.shape == expected[key].shape
            assert values.dtype == tensor.dtype
            np.testing.assert_array_equal(values, expected[key])


@pytest.mark.golden
@pytest.mark.parametrize("name", ["features", "labels"])
def test_a_bare_tensor_is_mapped(golden_folder, name):
    tensor = load_torch(golden_folder / "torch_files" / f"{name}.pt")
    with np.load(golden_folder / "torch_files" / "expected_scent.npz") as expected:
        np.testing.assert_array_equal(tensor.array(), expected[name])
    assert isinstance(tensor.array(), np.memmap)


@pytest.mark.golden
def test_a_pickled_module_is_refused(golden_folder):
    path = golden_folder / "pecos_xtransformer" / "model" / "text_encoder" / "text_model"
    with pytest.raises(
        DataError, match=r"text_model: the file names pecos\.xmc\.xtransformer\.network\."
    ):
        load_torch(path)


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_every_form_of_a_tensor(tmp_path, write):
    storage = Storage("0", np.arange(24, dtype="f4"))
    half = Storage("1", np.array([0x3F80, 0xC020], "u2"))
    content = collections.OrderedDict(
        plain=Tensor(storage, 0, (4, 6), (6, 1)),
        transposed=Tensor(storage, 0, (6, 4), (1, 6)),
        expanded=Tensor(storage, 3, (2, 5), (0, 1)),
        scalar=Tensor(storage, 23, (), ()),
        empty=Tensor(storage, 0, (0, 3), (3, 1)),
        half=Tensor(half, 0, (2,), (1,)),
        epoch=3,
    )
    content._metadata = {"": {"version": 1}}
    write(tmp_path / "a.pt", content, [storage, half])
    found = load_torch(tmp_path / "a.pt")
    values = np.arange(24, dtype="f4").reshape(4, 6)
    np.testing.assert_array_equal(found["plain"].array(), values)
    np.testing.assert_array_equal(found["transposed"].array(), values.T)
    np.testing.assert_array_equal(found["expanded"].array(), [[3, 4, 5, 6, 7]] * 2)
    assert found["scalar"].array() == 23 and found["empty"].array().shape == (0, 3)
    np.testing.assert_array_equal(found["half"].array(), np.float32([1, -2.5]))
    assert found["epoch"] == 3 and not found["plain"].array().flags.writeable


def test_views_of_old_files(tmp_path):
    root = Storage("0", np.arange(6, dtype="f4"), (None,))
    view = Storage("0", root.values, (("v", 2, 3),))
    content = [Tensor(root, 0, (6,), (1,)), Tensor(view, 0, (3,), (1,))]
    write_legacy(tmp_path / "a.pt", content, [root])
    complete, part = load_torch(tmp_path / "a.pt")
    np.testing.assert_array_equal(part.array(), complete.array()[2:5])


def test_big_endian(tmp_path):
    storage = Storage("0", np.arange(3, dtype=">f4"))
    write_zip(tmp_path / "a.pt", Tensor(storage, 0, (3,), (1,)), [storage], order=b"big")
    found = load_torch(tmp_path / "a.pt")
    np.testing.assert_array_equal(found.array(), [0, 1, 2])
    assert found.array().dtype == found.dtype == np.float32


class Attack:
    def __reduce__(self):
        return os.system, ("touch attacked",)


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_nothing_is_run(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.pt", {"weight": Attack()}, [])
    with pytest.raises(
        DataError, match=r"a\.pt: the file names (posix|nt)\.system, which is not imported"
    ):
        load_torch(tmp_path / "a.pt")
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize(
    ("value", "state"),
    [
        (lambda storage: Tensor(storage, 0, (4,), (1,)), {"shape": (64,), "_strides": (1,)}),
        (lambda storage: storage, {"path": "/etc/hostname", "position": 0, "count": 4}),
        (lambda storage: sys.modules["torch"].FloatStorage, {"kind": "ByteStorage"}),
        (
            lambda storage: sys.modules["torch._utils"]._rebuild_parameter,
            (None, {"__defaults__": (0, 0)}),
        ),
    ],
    ids=["tensor", "storage", "kind", "function"],
)
@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_nothing_is_changed_once_it_is_checked(tmp_path, write, value, state):
    storage = Storage("0", np.arange(4, dtype="f4"))
    write(tmp_path / "a.pt", [Changed(lambda: value(storage), state)], [storage])
    with pytest.raises(DataError, match=r"a\.pt: .*\(attributes of "):
        load_torch(tmp_path / "a.pt")
    write(tmp_path / "b.pt", [Tensor(storage, 0, (4,), (1,))], [storage])
    np.testing.assert_array_equal(load_torch(tmp_path / "b.pt")[0].array(), storage.values)


@pytest.mark.parametrize("size", [(2**40, 2**40), (2**70,), (0, 2**70), (2**40,)])
def test_repeated_elements_take_no_memory(tmp_path, size):
    storage = Storage("0", np.zeros(1, "f4"))
    write_zip(tmp_path / "a.pt", Tensor(storage, 0, size, (0,) * len(size)), [storage])
    with pytest.raises(DataError, match="impossible size"):
        load_torch(tmp_path / "a.pt")


def test_other_ways_to_rebuild_are_named(tmp_path):
    storage = Storage("0", np.zeros(1, "f4"))
    write_zip(tmp_path / "a.pt", Tensor(storage, 0, (1,), (1,), "_rebuild_tensor_v3"), [storage])
    with pytest.raises(
        DataError, match=r"torch\._utils\._rebuild_tensor_v3, which is not imported"
    ):
        load_torch(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("offset", "size", "stride", "problem"),
    [
        (0, (5, 5), (5, 1), "exceeds its storage"),
        (1, (4, 6), (6, 1), "exceeds its storage"),
        (0, (2,), (24,), "exceeds its storage"),
        (-1, (2,), (1,), "impossible size"),
        (0, (2,), (-1,), "impossible size"),
        (0, (2.0,), (1,), "impossible size"),
        (0, (2, 2), (1,), "number of strides differs"),
    ],
)
@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_tensors_stay_in_their_memory(tmp_path, write, offset, size, stride, problem):
    storage = Storage("0", np.zeros(24, "f4"))
    write(tmp_path / "a.pt", [Tensor(storage, offset, size, stride)], [storage])
    with pytest.raises(DataError, match=problem):
        load_torch(tmp_path / "a.pt")


def test_memory_that_is_not_there(tmp_path):
    storage = Storage("0", np.zeros(24, "f4"))
    content = Tensor(storage, 0, (24,), (1,))
    short = Storage("0", np.zeros(23, "f4"))
    for write in (write_zip, write_legacy):
        write(tmp_path / "a.pt", content, [short])
        with pytest.raises(DataError, match="truncated or damaged"):
            load_torch(tmp_path / "a.pt")
    write_zip(tmp_path / "a.pt", content, [])
    with pytest.raises(DataError, match="data/0"):
        load_torch(tmp_path / "a.pt")
    write_zip(tmp_path / "a.pt", content, [storage], compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match="compressed"):
        load_torch(tmp_path / "a.pt")


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_damage_is_reported(tmp_path, write):
    """Whatever byte is cut off or changed: an answer or a message, never anything else."""
    storage = Storage("0", np.arange(4, dtype="f4"))
    path = tmp_path / "a.pt"
    write(path, {"weight": Tensor(storage, 0, (4,), (1,))}, [storage])
    content = path.read_bytes()
    damaged = [content[:end] for end in range(0, len(content), 7)]
    for place in range(len(content)):
        for bit in (1, 64):
            flipped = bytes([content[place] ^ bit])
            damaged.append(content[:place] + flipped + content[place + 1 :])
    reported = 0
    for one in damaged:
        path.write_bytes(one)
        try:
            for tensor in load_state_dict(path).values():
                tensor.array().sum()
        except DataError:
            reported += 1
    assert reported > len(damaged) / 3


def test_state_dicts(tmp_path):
    storage = Storage("0", np.arange(4, dtype="f4"))
    tensor = Tensor(storage, 0, (4,), (1,))
    for content in (
        {"weight": tensor, "epoch": 3},
        {"module.weight": tensor},
        {"state_dict": {"weight": tensor}, "epoch": 1},
        {"model_state": {"module.weight": tensor}},
    ):
        write_zip(tmp_path / "a.pt", content, [storage])
        ((name, found),) = load_state_dict(tmp_path / "a.pt").items()
        assert name == "weight" and isinstance(found, TorchTensor)
    bad = (
        ([tensor], "contains a list instead of a dict"),
        ({"epoch": 3}, "tensors by name, but epoch"),
        ({}, "tensors by name, but nothing"),
    )
    for content, problem in bad:
        write_zip(tmp_path / "a.pt", content, [storage])
        with pytest.raises(DataError, match=problem):
            load_state_dict(tmp_path / "a.pt")


def test_other_files(tmp_path):
    for content in (b"", b"PK\x03\x04", b"hello world", pickle.dumps(3)):
        (tmp_path / "a.pt").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.pt: the file is truncated or damaged, or was"):
            load_torch(tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/b", b"x")
    with pytest.raises(DataError, match=r"no data\.pkl"):
        load_torch(tmp_path / "a.pt")
    with pytest.raises(DataError, match=r"^\S*absent\.pt: no such file\. Check"):
        load_torch(tmp_path / "absent.pt")
    with pytest.raises(DataError, match=r"it is a folder"):
        load_torch(tmp_path)
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(DataError, match=r"pipe\.pt: it is a named pipe, not a file"):
        load_torch(tmp_path / "pipe.pt")


def test_a_machine_that_cannot_read(tmp_path, monkeypatch):
    write_zip(tmp_path / "a.pt", {"epoch": 3}, [])

    def fail(*_):
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr("tfxc.pretrained.torch_files._load_zip", fail)
    with pytest.raises(MachineError, match=r"a\.pt: cannot read"):
        load_torch(tmp_path / "a.pt")
