"""Writes files as PyTorch's ``torch.save`` does, without PyTorch."""

import contextlib
import pickle
import struct
import sys
import types
import zipfile
from unittest import mock

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
KINDS = {"f4": "FloatStorage", "f2": "HalfStorage", "i8": "LongStorage", "u2": "BFloat16Storage"}


class Tensor:
    """What is pickled as PyTorch pickles a tensor."""

    def __init__(self, storage, offset, size, stride, rebuild="_rebuild_tensor_v2"):
        self.arguments, self.rebuild = (storage, offset, size, stride, False, {}), rebuild

    def __reduce__(self):
        return getattr(sys.modules["torch._utils"], self.rebuild), self.arguments


class Changed:
    """``value()`` whose attributes the pickle sets once it has been rebuilt (operation BUILD)."""

    def __init__(self, value, state):
        self.value, self.state = value, state

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_parameter, (self.value(),), self.state


class Storage:
    """The memory of tensors; ``view`` is the last item of persistent ids in old files."""

    def __init__(self, key, values, view=()):
        self.kind, self.key, self.values, self.view = KINDS[values.dtype.str[1:]], key, values, view


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        kind = getattr(sys.modules["torch"], value.kind)
        return ("storage", kind, value.key, "cpu", len(value.values), *value.view)


def save(path, content):
    """Writes an array, or a dict of arrays and other values, as ``torch.save`` writes tensors."""
    storages = []

    def tensor(values):
        if isinstance(values, dict):
            return {name: tensor(value) for name, value in values.items()}
        if not isinstance(values, np.ndarray):
            return values
        storages.append(Storage(str(len(storages)), np.ravel(values)))
        strides = tuple(step // values.itemsize for step in np.array(values, order="C").strides)[
            : values.ndim
        ]
        return Tensor(storages[-1], 0, values.shape, strides)

    write_zip(path, tensor(content), storages)


def write_zip(path, content, storages, order=None, compression=0):
    """The form since PyTorch 1.6."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        with archive.open("archive/data.pkl", "w") as stream, _torch():
            Pickler(stream, 2).dump(content)
        if order:
            archive.writestr("archive/byteorder", order)
        for one in storages:
            archive.writestr(f"archive/data/{one.key}", one.values.tobytes())


def write_legacy(path, content, storages):
    """The form before PyTorch 1.6."""
    with path.open("wb") as stream, _torch():
        for head in (MAGIC, 1001, {"protocol_version": 1001, "little_endian": True}):
            pickle.dump(head, stream, 2)
        Pickler(stream, 2).dump(content)
        pickle.dump([one.key for one in storages], stream, 2)
        for one in storages:
            stream.write(struct.pack("<q", len(one.values)) + one.values.tobytes())


@contextlib.contextmanager
def _torch():
    """Stands in for PyTorch: the names that its pickles hold."""
    fake, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for kind in KINDS.values():
        setattr(fake, kind, type(kind, (), {"__module__": "torch"}))
    for name in ("_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter"):
        function = types.FunctionType((lambda *arguments: None).__code__, {}, name)
        function.__module__, function.__qualname__ = "torch._utils", name
        setattr(utils, name, function)
    fake._utils = utils
    with mock.patch.dict(sys.modules, {"torch": fake, "torch._utils": utils}):
        yield
