"""The description of the HTTP interface, in OpenAPI 3.1."""

from typing import TYPE_CHECKING, Any

from tfxc.serving.labelled_files import ENDINGS
from tfxc.serving.requests import (
    FeedbackRequest,
    FileRequest,
    LabelRequest,
    NeighboursRequest,
    PredictRequest,
    ServedRequest,
    schema_of,
)
from tfxc.version import __version__

if TYPE_CHECKING:
    from tfxc.serving.served import Catalog


_ERRORS = {
    "400": "malformed request; the message says what is wrong, and where",
    "403": "a page of another host asks",
    "404": "no such model, version or label",
    "408": "the request was not complete within the time limit",
    "413": "too many bytes, examples or lists in one request",
    "421": "the Host header names another server",
    "429": "too many examples wait already",
    "503": "too many connections, or too many bytes in all requests together",
    "504": "no answer within the time limit",
}


_REQUESTS = (PredictRequest, NeighboursRequest, LabelRequest, FeedbackRequest, ServedRequest)
_PLAIN = ("Label", "Feedback", "Models", "Health", "Status", "Metadata")


def openapi_document(catalog: "Catalog", feedback: bool = False) -> dict[str, Any]:
    """Returns the OpenAPI document of a server.

    Args:
        catalog: its runs, from which examples are made.
        feedback: whether it takes feedback.
    """
    model = "/v1/models/{name}"
    version = "/versions/{version}"
    name = _in_path("name", list(catalog.slots))
    number = _in_path("version")
    served = {
        ":predict": {"post": _predict_served(catalog)},
        "": {"get": _operation("version and state of a model", "Status")},
        "/metadata": {"get": _operation("inputs and outputs of a model", "Metadata")},
    }
    paths: dict[str, Any] = {
        "/predict": {"post": _predict(catalog)},
        "/predict-file": {"post": _predict_file(catalog)},
        "/neighbours": {"post": _neighbours(catalog)},
        "/labels": {"post": _labels()},
        "/feedback": {"post": _feedback()},
        "/models": {"get": _operation("the models of this server", "Models")},
        "/health": {"get": _operation("200 while requests are welcome, else 503", "Health")},
        "/metrics": {"get": _operation("counters in Prometheus' text format")},
    }
    if not any(slot.current.takes_labels for slot in catalog.slots.values()):
        del paths["/labels"]
    if not feedback:
        del paths["/feedback"]
    for suffix, operations in served.items():
        paths[f"{model}{suffix}"] = {"parameters": [name], **operations}
        paths[f"{model}{version}{suffix}"] = {"parameters": [name, number], **operations}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tfxc serve",
            "version": __version__,
            "description": "Labels of examples, by trained runs.",
        },
        "paths": paths,
        "components": {"schemas": _schemas(catalog)},
    }


def _schemas(catalog: "Catalog") -> dict[str, Any]:
    limits = catalog.limits
    bounds: dict[str, Any] = {
        "examples": limits.examples,
        "k": limits.k,
        "models": list(catalog.slots),
    }
    label: dict[str, Any] = {
        "type": "object",
        "properties": {
            "label": {"type": "string"},
            "id": {"type": "integer"},
            "score": {"type": "number"},
        },
    }
    returned = {**label["properties"], "returned": {"type": "boolean"}}
    labels = {"type": "array", "items": {**label, "properties": returned}}
    served = {"model": {"type": "string"}, "version": {"type": "integer"}}
    predictions = {
        **served,
        "probabilities": {"type": "boolean"},
        "predictions": {"type": "array", "items": labels},
    }
    others = {"type": "array", "items": label}
    neighbours = {**served, "label": {"type": "string"}, "neighbours": others}
    return {
        "Error": {"type": "object", "properties": {"error": {"type": "string"}}},
        **{request.__name__: schema_of(request, **bounds) for request in _REQUESTS},
        "Predictions": {"type": "object", "properties": predictions},
        "Neighbours": {"type": "object", "properties": neighbours},
        **{name: {"type": "object"} for name in _PLAIN},
    }


def _predict(catalog: "Catalog") -> dict[str, Any]:
    served = next(iter(catalog.slots.values())).current
    fields: dict[str, Any] = {
        "texts": ["some text"],
        "features": [{"0": 1.0, "7": 0.5}],
        "images": ["iVBORw0K..."],
    }
    example = {field: fields[field] for field in served.forms.fields}
    body = _content(_schema(PredictRequest), {**example, "k": served.k})
    return {
        **_operation("the best labels of examples", "Predictions", errors=True),
        "requestBody": {"required": True, "content": body},
    }


def _predict_file(catalog: "Catalog") -> dict[str, Any]:
    error = _content({"$ref": "#/components/schemas/Error"})
    operation = _operation("a file of texts with labels, as tfxc predict writes it", errors=True)
    table = {"text/csv": {"schema": {"type": "string"}}}
    operation["responses"]["200"]["content"] = table
    operation["responses"]["415"] = {"description": "not such a file", "content": error}
    most = max(slot.current.max_k for slot in catalog.slots.values())
    schema = schema_of(FileRequest, k=most, models=list(catalog.slots))
    parameters = [
        {"name": name, "in": "query", "required": name in schema["required"], "schema": values}
        for name, values in schema["properties"].items()
    ]
    parameters[0]["schema"]["description"] = f"of the file, which ends in {', '.join(ENDINGS)}"
    return {
        **operation,
        "parameters": parameters,
        "requestBody": {"required": True, "content": table},
    }


def _feedback() -> dict[str, Any]:
    example = {"text": "where is my parcel", "labels": ["delivery"]}
    operation = _operation("keeps a text with its true labels", "Feedback", errors=True)
    error = _content({"$ref": "#/components/schemas/Error"})
    wrong_type = {"description": "Content-Type is not application/json", "content": error}
    operation["responses"]["415"] = wrong_type
    content = _content(_schema(FeedbackRequest), example)
    return {**operation, "requestBody": {"required": True, "content": content}}


def _neighbours(catalog: "Catalog") -> dict[str, Any]:
    served = next(iter(catalog.slots.values())).current
    example = {"label": served.names[0], "k": served.k}
    return {
        **_operation("labels whose weights are like those of one", "Neighbours", errors=True),
        "requestBody": {"required": True, "content": _content(_schema(NeighboursRequest), example)},
    }


def _labels() -> dict[str, Any]:
    example = {"label": "order_pizza", "text": "order a pizza"}
    operation = _operation("adds a label, which is found by its text", "Label", errors=True)
    error = _content({"$ref": "#/components/schemas/Error"})
    operation["responses"] |= {
        "409": {"description": "the label is known already", "content": error},
        "415": {"description": "Content-Type is not application/json", "content": error},
    }
    content = _content(_schema(LabelRequest), example)
    return {**operation, "requestBody": {"required": True, "content": content}}


def _predict_served(catalog: "Catalog") -> dict[str, Any]:
    served = next(iter(catalog.slots.values())).current
    names = [tensor.name for tensor in served.forms.signatures["serving_default"]]
    example: dict[str, Any] = {"inputs": {name: ["..."] for name in names}}
    if names == ["text"]:
        example = {"instances": ["some text"]}
    return {
        **_operation("the best labels of examples, as TensorFlow Serving answers", errors=True),
        "requestBody": {"required": True, "content": _content(_schema(ServedRequest), example)},
    }


def _operation(summary: str, schema: str | None = None, errors: bool = False) -> dict[str, Any]:
    good: dict[str, Any] = {"description": summary}
    if schema:
        good["content"] = _content({"$ref": f"#/components/schemas/{schema}"})
    responses = {"200": good}
    if errors:
        bad = _content({"$ref": "#/components/schemas/Error"})
        responses |= {code: {"description": t, "content": bad} for code, t in _ERRORS.items()}
    return {"summary": summary, "responses": responses}


def _schema(request: type) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{request.__name__}"}


def _content(schema: dict[str, Any], example: dict[str, Any] | None = None) -> dict[str, Any]:
    content = {"schema": schema}
    if example is not None:
        content["example"] = example
    return {"application/json": content}


def _in_path(name: str, known: list[str] | None = None) -> dict[str, Any]:
    schema = {"type": "string", "enum": known} if known else {"type": "string"}
    return {"name": name, "in": "path", "required": True, "schema": schema}
