"""Files of PyTorch's ``torch.save``, read without PyTorch and without running what they name.

Such a file is a pickle that names its tensors' memory, and the memory itself: since PyTorch 1.6 as
members of a ZIP archive, before as one file after five pickles ("serialization semantics" in
PyTorch's notes). Only the pickle is read at once; a tensor is read when it is asked for.
"""

import errno
import math
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from tfxc.core.errors import DataError
from tfxc.core.storage.pickles import PICKLE_FAILURES, Allowed, RestrictedUnpickler
from tfxc.core.storage.reading import existing_file, read_errors

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
_BFLOAT16 = "BFloat16Storage"
_MAX_REPEATED = 2**24  # elements of a tensor that repeats those of a smaller storage
_STORAGES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    _BFLOAT16: "u2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_SAVE = "save them with torch.save(model.state_dict(), file)"


def _refuse_state(self: object, state: object) -> None:
    """Refuses a pickle that sets attributes: the sizes have been checked."""
    raise ValueError(f"attributes of a {type(self).__name__.strip('_')}")


class TorchTensor:
    """A tensor in a file, not read yet.

    Attributes:
        shape: tuple of sizes.
        dtype: NumPy's, float32 for bfloat16.
    """

    __slots__ = ("_offset", "_storage", "_strides", "dtype", "shape")

    def __init__(
        self, storage: "_Storage", offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> None:
        self._storage = storage
        self._offset = offset
        self._strides = strides
        self.shape = shape
        self.dtype = storage.result

    def array(self) -> np.ndarray:
        """Returns the values, read-only; mapped from the file where they are stored there in
        order.
        """
        if 0 in self.shape:
            return np.zeros(self.shape, self.dtype)
        memory = self._storage.read()[self._offset :]
        strides = tuple(stride * memory.itemsize for stride in self._strides)
        values = np.lib.stride_tricks.as_strided(
            memory, self.shape, strides, subok=True, writeable=False
        )
        if not self._storage.is_bfloat16:
            return values
        return (values.astype(np.uint32) << 16).view(np.float32)

    __setstate__ = _refuse_state

    def __repr__(self):
        return f"TorchTensor(shape={self.shape}, dtype={self.dtype})"


class _Storage:
    """Memory of tensors: ``count`` elements; ``position`` in the file is -1 until it is known."""

    __setstate__ = _refuse_state

    def __init__(self, path: Path, kind: str, order: str, count: int) -> None:
        self.path = path
        self.count = count
        self.is_bfloat16 = kind == _BFLOAT16
        self.stored = np.dtype(order + _STORAGES[kind])
        self.result = np.dtype("f4") if self.is_bfloat16 else self.stored.newbyteorder("=")
        self.position = -1

    @property
    def num_bytes(self) -> int:
        return self.count * self.stored.itemsize

    def read(self) -> np.ndarray:
        values = np.memmap(self.path, self.stored, "r", self.position, (self.count,))
        return values if self.stored.isnative else values.astype(self.stored.newbyteorder("="))


class _Dict(dict):
    """In place of an ``OrderedDict``; what state dicts keep in its attributes is left out."""

    def __setstate__(self, state: object) -> None:
        pass


class _Storages(Allowed):
    """Names a storage's kind in a pickle; never called."""

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind


def _rebuild_tensor(
    storage: object,
    offset: int,
    size: Sequence[int],
    stride: Sequence[int],
    requires_grad: object = False,
    hooks: object = None,
    metadata: object = None,
) -> TorchTensor:
    size = tuple(size)
    stride = tuple(stride)
    numbers = [offset, *size, *stride]
    if not isinstance(storage, _Storage) or any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError("a tensor has an impossible size")
    if len(size) != len(stride) or len(size) > 32:
        raise ValueError("the number of strides differs from the number of dimensions")
    # Strides of 0 repeat elements: a few bytes could stand for more than the memory holds.
    if math.prod(max(n, 1) for n in size) > max(storage.count, _MAX_REPEATED):
        raise ValueError("a tensor has an impossible size")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and last >= storage.count:
        raise ValueError("a tensor exceeds its storage")
    return TorchTensor(storage, offset, size, stride)


_ALLOWED = {
    ("torch._utils", "_rebuild_tensor_v2"): Allowed(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): Allowed(
        lambda tensor, requires_grad=False, hooks=None: tensor
    ),
    ("collections", "OrderedDict"): _Dict,
    ("torch", "Size"): tuple,
    **{("torch", kind): _Storages(kind) for kind in _STORAGES},
}


class _Refused(Exception):
    """The pickle names something that is not run."""


class _Unpickler(RestrictedUnpickler):
    """Reads a pickle of tensors and plain values.

    Args:
        stream: file that is at the pickle.
        storage: function of a storage's kind, key, number of elements and view, which returns a
            ``_Storage``; None where the pickle has no tensors.
    """

    def __init__(
        self,
        stream: IO[bytes],
        storage: Callable[[str, str, int, Sequence[int] | None], _Storage] | None = None,
    ) -> None:
        super().__init__(stream, encoding="utf-8")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None

    def persistent_load(self, saved: Sequence[Any]) -> _Storage:
        word, kind, key, _, count, *view = saved
        if word != "storage" or not isinstance(kind, _Storages) or self._storage is None:
            raise ValueError("it refers to something other than a storage")
        if type(key) is not str or type(count) is not int or count < 0:
            raise ValueError("a storage has an impossible key or size")
        return self._storage(kind.kind, key, count, view[0] if view else None)


def load_torch(path: str | Path) -> Any:
    """Returns what ``torch.save`` wrote: containers and plain values, tensors as ``TorchTensor``.

    Nothing that the file names is imported or run: a pickle of anything else than tensors in
    dicts, lists and tuples is refused.

    Args:
        path: file, e.g. ``"pytorch_model.bin"`` or ``"checkpoint.pt"``.

    Returns:
        The object, most often a dict of names and tensors.

    Raises:
        DataError: the file is damaged, no file of ``torch.save``, or holds other objects; the
            message names them.

    Example:
        >>> tensors = load_torch("pytorch_model.bin")  # doctest: +SKIP
        >>> tensors["pooler.dense.bias"].array().shape  # doctest: +SKIP
        (768,)
    """
    path = existing_file(path)
    with read_errors(path), path.open("rb") as stream:
        try:
            if stream.read(4) == b"PK\x03\x04":
                return _load_zip(path, stream)
            stream.seek(0)
            return _load_legacy(path, stream)
        except _Refused as error:
            raise DataError(
                f"the file names {error}, which is not imported: only tensors in dicts, lists and "
                "tuples are read",
                where=path,
                fix="save the tensors alone with PyTorch: torch.save(model.state_dict(), file)",
            ) from None
        except (*PICKLE_FAILURES, zipfile.BadZipFile, NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that of a bad position
                raise
            raise DataError(
                "the file is truncated or damaged, or was not written by torch.save "
                f"({str(error) or type(error).__name__})",
                where=path,
                fix="copy or download it again",
            ) from error


def load_state_dict(path: str | Path) -> dict[str, TorchTensor]:
    """Returns the tensors of a model by name.

    A training checkpoint holds them under ``state_dict``, ``model_state`` or a similar key; names
    of models that were trained in parallel begin with ``module.``, which is left out.

    Args:
        path: see ``load_torch``.

    Returns:
        {name: ``TorchTensor``}.

    Raises:
        DataError: see ``load_torch``; or the file holds no such dict.
    """
    content = load_torch(path)
    for key in ("state_dict", "model_state", "model_state_dict", "state_dict_backbone", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict):
        raise DataError(
            f"the file contains a {type(content).__name__} instead of a dict of tensors",
            where=path,
            fix=_SAVE,
        )
    tensors = {name: value for name, value in content.items() if isinstance(value, TorchTensor)}
    if not tensors or not all(isinstance(name, str) for name in tensors):
        raise DataError(
            f"the file does not contain tensors by name, but "
            f"{', '.join(map(str, list(content)[:5])) or 'nothing'}",
            where=path,
            fix=_SAVE,
        )
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def _load_zip(path: Path, stream: IO[bytes]) -> Any:
    with zipfile.ZipFile(stream) as archive:
        members = {info.filename: info for info in archive.infolist()}
        prefix = next((n[: -len("data.pkl")] for n in members if n.endswith("/data.pkl")), None)
        if prefix is None:
            raise ValueError("it has no data.pkl")
        order = "<"
        if f"{prefix}byteorder" in members:
            with archive.open(_stored(members[f"{prefix}byteorder"])) as member:
                order = {b"little": "<", b"big": ">"}[member.read(8)]
        storages: dict[str, _Storage] = {}

        def storage(kind: str, key: str, count: int, view: Sequence[int] | None) -> _Storage:
            if key not in storages:
                storages[key] = _Storage(path, kind, order, count)
                info = _stored(members[f"{prefix}data/{key}"])
                if info.file_size < storages[key].num_bytes:
                    raise ValueError(f"{info.filename} has {info.file_size} bytes")
                # The local header may differ from the central one.
                stream.seek(info.header_offset)
                header = stream.read(30)
                if len(header) < 30 or header[:4] != b"PK\x03\x04":
                    raise ValueError(f"{info.filename} has no header")
                lengths = header[26:28], header[28:30]
                names = sum(int.from_bytes(length, "little") for length in lengths)
                position = info.header_offset + 30 + names
                if position + info.file_size > stream.seek(0, 2):
                    raise ValueError(f"{info.filename} extends beyond the end of the file")
                storages[key].position = position
            return storages[key]

        with archive.open(_stored(members[f"{prefix}data.pkl"])) as pickled:
            return _Unpickler(pickled, storage).load()


def _stored(info: zipfile.ZipInfo) -> zipfile.ZipInfo:
    """Returns a member as PyTorch writes them; a compressed one could be a thousand times as
    large.
    """
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise ValueError(f"{info.filename} is compressed or encrypted")
    return info


def _load_legacy(path: Path, stream: IO[bytes]) -> Any:
    if [_Unpickler(stream).load() for _ in range(2)] != [_LEGACY_MAGIC, _LEGACY_VERSION]:
        raise ValueError("it has no PyTorch header")
    order = "<" if _Unpickler(stream).load()["little_endian"] else ">"
    storages: dict[str, _Storage] = {}
    views: list[tuple[_Storage, _Storage, int]] = []

    def storage(kind: str, key: str, count: int, view: Sequence[int] | None) -> _Storage:
        if key not in storages:
            storages[key] = _Storage(path, kind, order, count)
        if view is None:
            return storages[key]
        _, offset, size = view
        part = _Storage(path, kind, order, size)
        if type(offset) is not int or not 0 <= offset <= offset + size <= count:
            raise ValueError("a view exceeds its storage")
        views.append((part, storages[key], offset))
        return part

    content = _Unpickler(stream, storage).load()
    for key in _Unpickler(stream).load():
        count = int.from_bytes(stream.read(8), "little" if order == "<" else "big")
        if count != storages[key].count:
            raise ValueError(f"storage {key} has {count} elements")
        storages[key].position = stream.tell()
        stream.seek(storages[key].num_bytes, 1)
    end = stream.tell()
    if any(part.position < 0 for part in storages.values()) or end > stream.seek(0, 2):
        raise ValueError("its storage is truncated")
    for part, root, offset in views:
        part.position = root.position + offset * root.stored.itemsize
    return content
