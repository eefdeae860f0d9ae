"""The examples of a request as a ``Chunk``, in the simple form and in that of TensorFlow Serving.

In the simple form examples stand under ``texts``, ``features`` or ``images``. In TensorFlow
Serving's, https://www.tensorflow.org/tfx/serving/api_rest, they are the inputs of a signature, by
row (``instances``) or by column (``inputs``); the signatures are those of ``tfxc export``.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from tfxc.core.errors import ConfigError
from tfxc.core.escaping import json_text, one_line
from tfxc.data.examples.chunk import Chunk
from tfxc.data.examples.kinds import (
    DENSE,
    ENCODED,
    IMAGE,
    INPUTS,
    KINDS,
    SPARSE,
    TEXT,
    TEXT_AND_FEATURES,
    Tensor,
)
from tfxc.serving.limits import Limits, RequestError, bad_request

_SERVED = (TEXT, TEXT_AND_FEATURES, SPARSE, DENSE, IMAGE)
_BASE64 = "b64"
DEFAULT_SIGNATURE = "serving_default"
_SHOWN = 60
_LARGEST = float(np.finfo(np.float32).max)
_BY_COLUMN = '{"inputs": {"ids": [...], "weights": [...], "row_splits": [...]}}'


class ExampleForms:
    """Reads the examples that one run is asked about.

    Args:
        input_kind: a name in ``tfxc.data.examples.kinds.INPUTS``.
        sizes: mapping with ``num_features`` and ``image_shape``: the run's manifest.
        where: the run, for messages.
        most: examples of a request.

    Attributes:
        fields: names of the fields that hold examples in the simple form.
        signatures: tuples of ``tfxc.data.examples.kinds.Tensor``, by the name of the signature.

    Raises:
        ConfigError: examples of this kind cannot be sent in a request.

    Example:
        >>> forms = ExampleForms("text", {"num_features": 9}, "run")
        >>> forms.simple({"texts": ["owl"]}).texts
        ['owl']
        >>> forms.rows(["owl", "snow"], "serving_default").texts
        ['owl', 'snow']
    """

    def __init__(
        self,
        input_kind: str,
        sizes: Mapping[str, Any],
        where: str | Path,
        most: int = Limits.examples,
    ) -> None:
        self.input = INPUTS[input_kind]
        if self.input not in _SERVED:
            raise ConfigError(
                f"this run reads {self.input.description}, which cannot be sent in a request",
                where=where,
                fix="serve another run",
            )
        self._sizes = sizes
        self._most = most
        self.signatures = {DEFAULT_SIGNATURE: self.input.tensors(sizes)}
        if self.input is IMAGE:
            self.signatures["encoded"] = ENCODED.tensors(sizes)
        elif self.input in (SPARSE, DENSE):
            self.signatures["features"] = self.input.tensors(sizes)
        both = ("texts", "features")
        self.fields = both if self.input is TEXT_AND_FEATURES else (self.input.chunk_field,)

    def simple(self, body: Mapping[str, Any]) -> Chunk:
        """Returns the examples of a request in the simple form.

        Raises:
            RequestError: 400, they are missing or malformed; 413, they are too many, which is said
                before they are converted.
        """
        items_of_field: dict[str, list[Any]] = {}
        for field in self.fields:
            items = body.get(field)
            if not isinstance(items, list) or not items:
                raise unfit(items, "a list of at least one example", field)
            items_of_field[field] = items
        lengths = {field: len(items) for field, items in items_of_field.items()}
        if len(set(lengths.values())) > 1:
            shown = " and ".join(f"{count} {field}" for field, count in lengths.items())
            raise bad_request(
                f"the request has {shown}", "texts, features", "send one of each per example"
            )
        self._check_number(max(lengths.values()))
        parsed: dict[str, Any] = {}
        for field, items in items_of_field.items():
            places = [f"{field}[{number}]" for number in range(len(items))]
            parsed[field] = self._field(field, items, places)
        return Chunk([[] for _ in next(iter(items_of_field.values()))], **parsed)

    def rows(self, instances: object, signature: str) -> Chunk:
        """Reads the examples of ``instances``: values of the only input, or objects of all inputs.

        Raises:
            RequestError: 400 and 413, as ``simple``.
        """
        tensors = self._tensors(signature)
        if not isinstance(instances, list) or not instances:
            raise unfit(instances, "a list of at least one example", "instances")
        self._check_number(len(instances))
        names = [tensor.name for tensor in tensors]
        if any("batch" not in tensor.axes for tensor in tensors):
            raise bad_request(
                f"the inputs {', '.join(names)} cannot be sent by row",
                "instances",
                f"send them by column, as {_BY_COLUMN}",
            )
        columns: dict[str, list[Any]] = {name: [] for name in names}
        for number, row in enumerate(instances):
            place = f"instances[{number}]"
            values = _by_name(row, names, place)
            for name in names:
                columns[name].append(values[name])
        return self._from_columns(columns, tensors, "instances")

    def columns(self, inputs: object, signature: str) -> Chunk:
        """Reads the examples of ``inputs``: a batch of the only input, or an object of all of them.

        Raises:
            RequestError: 400 and 413, as ``simple``.
        """
        tensors = self._tensors(signature)
        names = [tensor.name for tensor in tensors]
        columns = _by_name(inputs, names, "inputs")
        for name, values in columns.items():
            if not isinstance(values, list) or not values:
                raise unfit(values, "a list of at least one value", f"inputs.{name}")
        for tensor in tensors:
            if tensor.axes[0] in ("batch", "batch + 1"):
                self._check_number(len(columns[tensor.name]) - (tensor.axes[0] == "batch + 1"))
        return self._from_columns(columns, tensors, "inputs")

    def example(self) -> Chunk:
        """Returns two examples that the run accepts, to try it with."""
        labels: list[list[Any]] = [[], []]
        if self.input is TEXT:
            return Chunk(labels, texts=["some text", "another"])
        if self.input is TEXT_AND_FEATURES:
            features = scipy.sparse.csr_matrix((2, self._sizes["num_features"]), dtype=np.float32)
            return Chunk(labels, texts=["some text", "another"], features=features)
        arrays = KINDS[self.input.name].example(self._sizes)
        if self.input is IMAGE:
            return Chunk(labels, images=arrays["images"])
        if self.input is DENSE:
            return Chunk(labels, features=arrays["matrix"])
        parts = (arrays["values"], arrays["indices"], arrays["indptr"])
        shape = (2, self._sizes["num_features"])
        return Chunk(labels, features=scipy.sparse.csr_matrix(parts, shape))

    def _check_number(self, count: int) -> None:
        if count > self._most:
            raise RequestError(
                413,
                f"the request has {count:,} examples",
                where="body",
                fix=f"send at most {self._most:,} at once",
            )

    def _field(self, field: str, items: list[Any], places: list[str]) -> Any:
        if field == "texts":
            return [_text(item, place) for item, place in zip(items, places, strict=True)]
        if field == "images":
            return [_file(item, place) for item, place in zip(items, places, strict=True)]
        width = self._sizes["num_features"]
        if self.input is DENSE:
            return _vectors(items, width, places)
        bags = [_bag(item, width, place) for item, place in zip(items, places, strict=True)]
        return _matrix(bags, width)

    def _tensors(self, signature: str) -> tuple[Tensor, ...]:
        if signature not in self.signatures:
            raise bad_request(
                f"there is no signature {as_shown(signature)}",
                "signature_name",
                f"use one of {', '.join(self.signatures)}",
            )
        return self.signatures[signature]

    def _from_columns(
        self, columns: Mapping[str, list[Any]], tensors: Sequence[Tensor], where: str
    ) -> Chunk:
        arrays: dict[str, Any] = {
            t.name: _column(columns[t.name], t, f"{where}.{t.name}") for t in tensors
        }
        if "image_bytes" in arrays:
            files = arrays["image_bytes"]
            return Chunk([[] for _ in files], images=files)
        if self.input is IMAGE:
            return Chunk([[] for _ in arrays["images"]], images=arrays["images"])
        features: Any = None
        texts = None
        if self.input is DENSE:
            features = arrays["features"]
        elif self.input is not TEXT:
            features = self._bags(arrays, where)
        if "text" in arrays:
            texts = [_text(t, f"{where}.text[{i}]") for i, t in enumerate(arrays["text"])]
        count = len(texts) if texts is not None else features.shape[0]
        if features is not None and features.shape[0] != count:
            raise bad_request(
                f"there are features of {features.shape[0]} examples, but {count} texts",
                f"{where}.row_splits",
            )
        return Chunk([[] for _ in range(count)], texts=texts, features=features)

    def _bags(self, arrays: Mapping[str, np.ndarray], where: str) -> scipy.sparse.csr_matrix:
        ids, weights, splits = (arrays[name] for name in ("ids", "weights", "row_splits"))
        width = self._sizes["num_features"]
        right = bool(
            len(ids) == len(weights)
            and splits[0] == 0
            and splits[-1] == len(ids)
            and (np.diff(splits) >= 0).all()
        )
        if not right or len(splits) < 2:
            raise bad_request(
                f"{as_shown(splits.tolist())} does not rise from 0 to the number of ids and of "
                f"weights, which are {len(ids)} and {len(weights)}",
                f"{where}.row_splits",
            )
        if len(ids) and not 0 <= ids.min() <= ids.max() < width:
            raise bad_request(
                f"the ids are {ids.min()} to {ids.max()}, but the run has 0 to {width - 1}",
                f"{where}.ids",
            )
        shape = (len(splits) - 1, width)
        matrix = scipy.sparse.csr_matrix((weights, ids, splits), shape, dtype=np.float32)
        summed = matrix.copy()
        summed.sum_duplicates()
        if summed.nnz < matrix.nnz:
            raise bad_request("an id is in a row twice", f"{where}.ids")
        return matrix


def _by_name(value: Any, names: Sequence[str], where: str) -> dict[str, Any]:
    """Returns the value of each input; the name of the only one may be left out."""
    named = isinstance(value, dict) and set(value) != {_BASE64}
    values = value if named else {names[0]: value} if len(names) == 1 else {}
    if set(values) != set(names):
        raise unfit(value, f"an object with {', '.join(names)}", where)
    return values


def _column(values: list[Any], tensor: Tensor, where: str) -> list[Any] | np.ndarray:
    """Reads the values of a tensor: a list of texts or files, or an array of its shape."""
    places = [f"{where}[{number}]" for number in range(len(values))]
    if tensor.dtype == "string":
        read = _file if tensor.name == "image_bytes" else _text
        return [read(value, place) for value, place in zip(values, places, strict=True)]
    return _array(values, tensor, where)


def _array(values: list[Any], tensor: Tensor, where: str) -> np.ndarray:
    """Returns numbers as an array of the tensor's type and shape.

    Types and lengths are compared before anything is converted: NumPy would make an array of texts
    in which each takes as much memory as the longest.
    """
    numbers = values
    shape = [len(values)]
    for length in tensor.shape()[1:]:
        if not all(isinstance(row, list) for row in numbers):
            raise unfit(values, f"a list of numbers ({tensor})", where)
        lengths = set(map(len, numbers))
        if len(lengths) != 1 or length not in (None, *lengths):
            shown = " or ".join(map(str, sorted(lengths)[:2]))
            raise bad_request(f"has rows of {shown} values", where, f"send numbers ({tensor})")
        shape.append(*lengths)
        numbers = [number for row in numbers for number in row]
    kinds = set(map(type, numbers))
    if not kinds <= ({int, float} if tensor.dtype == "float32" else {int}):
        raise unfit(values, f"a list of numbers ({tensor})", where)
    if tensor.dtype != "float32":
        limits = np.iinfo(tensor.dtype)
        low = min(numbers, default=0)
        high = max(numbers, default=0)
        if low < limits.min or high > limits.max:
            raise bad_request(
                f"the numbers are {as_shown(low)} to {as_shown(high)}, but may be {limits.min} to "
                f"{limits.max}",
                where,
            )
    elif not all(map(_is_number, numbers)):
        raise unfit(values, f"a list of finite numbers ({tensor})", where)
    return np.array(numbers, tensor.dtype).reshape(shape)


def _text(value: object, where: str) -> str:
    if isinstance(value, dict) and set(value) == {_BASE64}:
        try:
            value = _file(value, where).decode("utf-8")
        except UnicodeDecodeError:
            raise bad_request("the bytes are not a text in UTF-8", where) from None
    if not isinstance(value, str):
        raise unfit(value, "a text", where)
    return value


def _file(value: object, where: str) -> bytes:
    """Returns the bytes of ``"..."`` or ``{"b64": "..."}``."""
    coded = value[_BASE64] if isinstance(value, dict) and set(value) == {_BASE64} else value
    if not isinstance(coded, str):
        raise unfit(value, 'a file in base64, as {"b64": "..."}', where)
    try:
        return base64.b64decode(coded, validate=True)
    except (binascii.Error, ValueError):
        raise unfit(coded, "a file in base64", where) from None


def _vectors(items: list[Any], width: int, places: list[str]) -> np.ndarray:
    rows = []
    for item, place in zip(items, places, strict=True):
        if not isinstance(item, list):
            raise unfit(item, f"a list of {width} finite numbers", place)
        if len(item) != width:
            raise bad_request(f"it has {len(item)} values instead of {width}", place)
        if not all(map(_is_number, item)):
            raise bad_request("not all of its values are finite numbers", place)
        rows.append(item)
    return np.array(rows, np.float32)


def _bag(item: object, width: int, where: str) -> list[tuple[int, float]]:
    """Returns sorted ids and weights of ``{"3": 1.0, "17": 0.5}``."""
    if not isinstance(item, dict):
        raise unfit(item, 'an object such as {"3": 1.0, "17": 0.5}', where)
    weights = {}
    for name, weight in item.items():
        if not (name.isascii() and name.isdecimal() and len(name) < 12 and int(name) < width):
            raise unfit(name, f"an id from 0 to {width - 1}", where)
        if not _is_number(weight):
            raise unfit(weight, "a finite number", f"{where}.{name}")
        weights[int(name)] = weight
    return sorted(weights.items())


def _matrix(bags: list[list[tuple[int, float]]], width: int) -> scipy.sparse.csr_matrix:
    ends = np.cumsum([0, *map(len, bags)])
    ids = np.array([number for bag in bags for number, _ in bag], np.int32)
    weights = np.array([weight for bag in bags for _, weight in bag], np.float32)
    return scipy.sparse.csr_matrix((weights, ids, ends), (len(bags), width))


def _is_number(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return -_LARGEST <= value <= _LARGEST


def unfit(value: object, wanted: str, where: str) -> RequestError:
    """Returns the error of a request with another value in a place than the wanted one.

    Example:
        >>> print(unfit(5, "a text", "texts[0]"))
        texts[0]: must be a text, not 5. Change it.
    """
    if value is None:
        return bad_request("it is missing", where, f"send {wanted}")
    return bad_request(f"must be {wanted}, not {as_shown(value)}", where, "change it")


def as_shown(value: object) -> str:
    """Returns a value of a request in a message, as JSON and cut: it may be megabytes long."""
    if value is None:
        return "none"
    if isinstance(value, str):
        value = value[: _SHOWN + 1]
    elif isinstance(value, (list, dict)):
        parts = value if isinstance(value, list) else [*value, *value.values()]
        long = any(
            isinstance(part, (list, dict)) or (isinstance(part, str) and len(part) > _SHOWN)
            for part in parts
        )
        if long or len(parts) > 8:
            return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)} values"
    text = one_line(json_text(value))
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
