"""Requests and answers in TensorFlow Serving's REST form.

Source: https://www.tensorflow.org/tfx/serving/api_rest
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.serving.examples import DEFAULT_SIGNATURE
from tfxc.serving.limits import bad_request

if TYPE_CHECKING:
    from tfxc.data.examples.chunk import Chunk
    from tfxc.serving.requests import ServedRequest
    from tfxc.serving.served import ServedRun


_TYPES = {
    "string": "DT_STRING",
    "int32": "DT_INT32",
    "int64": "DT_INT64",
    "float32": "DT_FLOAT",
    "uint8": "DT_UINT8",
}
_OUTPUTS = {"labels": "string", "ids": "int32", "scores": "float32"}


def examples_of(asked: "ServedRequest", served: "ServedRun") -> "Chunk":
    """Returns the examples of a ``:predict`` request.

    Raises:
        RequestError: 400, it is malformed.
    """
    by_row = asked.instances is not None
    by_column = asked.inputs is not None
    if by_row == by_column:
        problem = "both instances and inputs are" if by_row else "neither instances nor inputs are"
        raise bad_request(f"{problem} given", "body", "send one of them")
    signature = asked.signature_name or DEFAULT_SIGNATURE
    if by_row:
        return served.forms.rows(asked.instances, signature)
    return served.forms.columns(asked.inputs, signature)


def answer_of(
    served: "ServedRun", ids: np.ndarray, scores: np.ndarray, by_column: bool
) -> dict[str, Any]:
    """Returns the answer, by row or by column as the request.

    Args:
        served: what found the labels.
        ids: int32 (n, k), padded with -1, whose label is the empty text.
        scores: float32 (n, k).
        by_column: whether the request had ``inputs``.
    """
    names = served.names
    columns = {
        "labels": [[names[i] if i >= 0 else "" for i in row] for row in ids.tolist()],
        "ids": ids.tolist(),
        "scores": scores.tolist(),
    }
    if by_column:
        return {"outputs": columns}
    rows = zip(*columns.values(), strict=True)
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}


def status_of(served: "ServedRun") -> dict[str, Any]:
    """Returns the answer to ``GET /v1/models/NAME``."""
    status = {"error_code": "OK", "error_message": ""}
    version = {"version": str(served.number), "state": "AVAILABLE", "status": status}
    return {"model_version_status": [version]}


def metadata_of(name: str, served: "ServedRun") -> dict[str, Any]:
    """Returns the answer to ``GET /v1/models/NAME/metadata``."""
    signatures = {
        signature: {
            "inputs": {
                tensor.name: _described(
                    tensor.dtype, tensor.shape(), f"{signature}_{tensor.name}:0"
                )
                for tensor in tensors
            },
            "outputs": {
                output: _described(dtype, [None, served.k], f"StatefulPartitionedCall:{number}")
                for number, (output, dtype) in enumerate(_OUTPUTS.items())
            },
            "method_name": "tensorflow/serving/predict",
        }
        for signature, tensors in served.forms.signatures.items()
    }
    spec = {"name": name, "signature_name": "", "version": str(served.number)}
    return {"model_spec": spec, "metadata": {"signature_def": {"signature_def": signatures}}}


def _described(dtype: str, shape: Sequence[int | None], name: str) -> dict[str, Any]:
    sizes = [{"size": "-1" if size is None else str(size), "name": ""} for size in shape]
    return {
        "dtype": _TYPES[dtype],
        "tensor_shape": {"dim": sizes, "unknown_rank": False},
        "name": name,
    }
