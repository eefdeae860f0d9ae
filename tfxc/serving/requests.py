"""The bodies of requests, declared once: what refuses them, and what OpenAPI says of them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, cast

import pydantic
from annotated_types import Ge, Le

from tfxc.core.command_options import attributes_of
from tfxc.core.declared import arguments_of, check, describe
from tfxc.core.errors import ConfigError, nearest
from tfxc.serving.examples import unfit
from tfxc.serving.limits import bad_request

_Request = TypeVar("_Request")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """The best labels of examples.

    Attributes:
        texts: of runs on texts.
        images: of runs on images, files in base64.
        features: of runs on features, an object of weights by the number of the feature, or a dense
            vector.
        k: labels per example; None means the server's.
        model: name of a run; None means the first.
    """

    texts: list[str] | None = None
    images: list[str] | None = None
    features: list[dict[str, float] | list[float]] | None = None
    k: object = None  # the run knows how many there may be
    model: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileRequest:
    """What the address says of a file to label, which is the body.

    Attributes:
        name: of the file, whose ending counts.
        k: labels per example; None means those that the run decides for.
        model: name of a run; None means the first.
    """

    name: str
    k: object = None
    model: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeighboursRequest:
    """Labels whose weights are like those of one.

    Attributes:
        label: its name.
        k: how many; None means the server's.
        model: name of a run; None means the first.
    """

    label: str
    k: object = None
    model: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelRequest:
    """A label that is added, and then found by its text.

    Attributes:
        label: its name.
        text: its text; None means the name, ``_`` and ``-`` read as blanks.
    """

    label: str
    text: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeedbackRequest:
    """A text with the labels that it should get.

    Attributes:
        text: the text.
        labels: names of its true labels, which the run need not know.
    """

    text: str
    labels: list[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServedRequest:
    """Examples as TensorFlow Serving takes them; one of instances and inputs.

    Attributes:
        signature_name: see ``/metadata``; None means serving_default.
        instances: examples by row.
        inputs: examples by column.
    """

    signature_name: str | None = None
    instances: list[Any] | None = None
    inputs: Any = None


def read_request(
    declaration: type[_Request], fields: Mapping[str, Any], where: str = "body"
) -> _Request:
    """Reads the body of a request. Examples are checked later, by the run that they are for.

    Args:
        declaration: one of the classes above.
        fields: the body, or what the address says behind the question mark.
        where: what the fields are part of.

    Raises:
        RequestError: 400, an unknown field, a missing one, or a value of another type.

    Example:
        >>> read_request(LabelRequest, {"labels": "fox"})
        Traceback (most recent call last):
            ...
        tfxc.serving.limits.RequestError: body: there is no field 'labels', did you mean 'label'? \
Use label, text.
    """
    arguments = arguments_of(declaration)
    unknown = [name for name in fields if name not in arguments]
    if unknown:
        words = ", ".join(repr(name[:40]) for name in unknown[:4])
        more = f" and {len(unknown) - 4:,} more" if len(unknown) > 4 else ""
        hint = nearest(unknown[0][:40], arguments)
        raise bad_request(
            f"there is no field {words}{more}{hint}", where, f"use {', '.join(arguments)}"
        )
    for name, argument in arguments.items():
        of_example = argument.annotation is Any or "list[" in str(argument.annotation)
        is_missing = name not in fields and argument.default is not None
        if is_missing or (name in fields and not of_example):
            checked_field(argument.annotation, fields.get(name), name)
    return declaration(**fields)


def checked_field(annotation: object, value: object, where: str) -> Any:
    """Returns a value of a request.

    Raises:
        RequestError: 400, it is not as the annotation says.
    """
    try:
        return check(annotation, where, value)
    except ConfigError:
        raise unfit(value, describe(annotation), where) from None


def schema_of(
    declaration: type, *, examples: int | None = None, k: int = 1, models: Sequence[str] = ("",)
) -> dict[str, Any]:
    """Returns the JSON schema of a request.

    Args:
        declaration: one of the classes above.
        examples: most in one request.
        k: most labels per example.
        models: names of runs.
    """
    helps = attributes_of(declaration)
    bounds = {"k": Annotated[int, Ge(1), Le(k)], "model": Literal[tuple(models)]}
    properties = {}
    arguments = arguments_of(declaration)
    for name, argument in arguments.items():
        annotation = bounds.get(name, argument.annotation)
        schema = pydantic.TypeAdapter(cast(Any, annotation)).json_schema()
        of_values = [part for part in schema.get("anyOf", ()) if part != {"type": "null"}]
        schema = of_values[0] if len(of_values) == 1 else schema
        schema = {"description": helps[name], **schema}
        schema.pop("default", None)
        if schema.get("type") == "array" and examples is not None:
            schema["maxItems"] = examples
        properties[name] = schema
    required = [name for name, argument in arguments.items() if argument.default is not None]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": required,
    }
