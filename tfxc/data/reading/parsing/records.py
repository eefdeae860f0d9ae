"""Records: nested objects as columns, and the shapes that the exports of labelling tools have."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tfxc.core.errors import ConfigError, DataError
from tfxc.data.reading.parsing.column_guess import Wanted
from tfxc.data.reading.parsing.label_cells import are_flags, choices_of, columns_of

#: What stands between the keys of a path.
_STEP = re.compile(r"([^.\[\]]+)|\[(\d*)\]")
_EVERY = -1  # every element of a list
# Nested objects that are looked into, and the keys of one; records of more are data by themselves.
_DEEPEST = 5
_MOST_KEYS = 200


class Shape(NamedTuple):
    """How a tool writes labelled texts: as paths of ``record_columns``.

    Attributes:
        tool: its name, for messages.
        keys: that each of its records has.
        texts: the paths that may be texts.
        labels: the path that holds labels.
        only: what a record that counts has under a key, as the reader's option ``only``.
        questions: the path that says which question an answer is to.
    """

    tool: str
    keys: frozenset[str]
    texts: re.Pattern[str]
    labels: re.Pattern[str]
    only: Mapping[str, str] | None = None
    questions: str | None = None


_ANY = re.compile(".+")
_TASK = re.compile("(?!(id|annotator|annotation_id|lead_time|created_at|updated_at)$)[^.]+")
_ACCEPTED = {"answer": "accept"}
#: The first whose keys a record has is its shape.
SHAPES = (
    Shape(
        "Label Studio",
        frozenset({"annotations", "data"}),
        re.compile(r"data\..+"),
        re.compile(r"annotations\[\]\.result\[\]\.value\.choices"),
        questions="annotations[].result[].from_name",
    ),
    Shape(
        "Label Studio (JSON-MIN)",
        frozenset({"annotator", "annotation_id", "lead_time"}),
        _TASK,
        _TASK,
    ),
    Shape("Prodigy", frozenset({"accept", "answer"}), _ANY, re.compile("accept"), _ACCEPTED),
    Shape(
        "Prodigy",
        frozenset({"label", "answer", "_task_hash"}),
        _ANY,
        re.compile("label"),
        _ACCEPTED,
    ),
    Shape(
        "Argilla",
        frozenset({"fields", "responses"}),
        re.compile(r"fields\..+"),
        re.compile(r"responses\.[^.]+\[\]\.value|responses\[\]\.values\.[^.]+\.value"),
    ),
    Shape(
        "Argilla",
        frozenset({"annotation", "annotation_agent"}),
        re.compile(r"text|inputs\..+"),
        re.compile("annotation"),
    ),
    Shape(
        "Argilla",
        frozenset({"_server_id", "status"}),
        re.compile(r"(?!(id|status|_server_id)$)[^.]+"),
        re.compile(r"[^.]+\.responses"),
    ),
    Shape("spaCy", frozenset({"text", "cats"}), re.compile("text"), re.compile("cats")),
)


def shape_of(record: Mapping[str, Any]) -> Shape | None:
    """Returns the shape of a tool's record; None of any other.

    Example:
        >>> shape_of({"text": "who?", "cats": {"a": 1.0, "b": 0.0}}).tool
        'spaCy'
    """
    return next((shape for shape in SHAPES if shape.keys <= record.keys()), None)


def record_columns(
    records: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """Returns the values of nested records by their paths, and what cannot be a column.

    ``content.body`` is a key in an object, ``tags[].name`` that of each object in a list. An object
    of 0 and 1, or of truth values, is one column: its keys are labels.

    Args:
        records: objects, whose outermost keys are those of the first.

    Returns:
        tuple: {path: value of each record}, and {path: what it holds} of values that are neither
        texts nor labels.

    Example:
        >>> record_columns([{"content": {"body": "who?"}, "tags": [{"name": "a"}, {"name": "b"}]}])
        ({'content.body': ['who?'], 'tags[].name': [['a', 'b']]}, {})
    """
    columns: dict[str, list[Any]] = {}
    unreadable: dict[str, str] = {}

    def add(path: str, values: list[Any], depth: int, collected: bool = False) -> None:
        """Adds what is below a path; ``collected`` values are lists of what several elements
        have.
        """
        known = [value for value in values if value is not None]
        parts = [part for value in known if isinstance(value, list) for part in value]
        objects = [value for value in (parts if collected else known) if isinstance(value, dict)]
        if not objects and any(isinstance(part, dict) for part in parts):
            add(f"{path}[]", values, depth, collected=True)
            return
        is_column = not collected and _are_labels(known)
        if not objects or is_column:
            columns[path] = values
            return
        keys = list(dict.fromkeys(key for each in objects for key in each))
        whole = len(objects) == len(parts if collected else known)
        if not whole or depth == _DEEPEST or len(keys) > _MOST_KEYS:
            unreadable[path] = "object"
            return
        for key in keys:
            if set(key) & set(".[]"):
                continue
            if not collected:
                add(f"{path}.{key}", [value and value.get(key) for value in values], depth + 1)
                continue
            inner = [each[key] for each in objects if isinstance(each.get(key), list)]
            of_objects = any(isinstance(part, dict) for each in inner for part in each)
            below = [_inside(value, key) for value in values]
            add(f"{path}.{key}{'[]' * of_objects}", below, depth + 1, collected=True)

    for key in records[0] if records else ():
        add(key, [record.get(key) for record in records], 0)
    return columns, unreadable


def _are_labels(values: Sequence[Any]) -> bool:
    """Tells whether objects stand for labels: a key of 0 or 1 for each, or Label Studio's choices,
    which are plain texts where there is one.
    """
    objects = [value for value in values if isinstance(value, dict)]
    if all(choices_of(value) is not None for value in objects):
        return all(isinstance(value, (str, dict)) for value in values)
    keys = {key for each in objects for key in each}
    is_flagged = are_flags(value for each in objects for value in each.values())
    return len(objects) == len(values) and len(keys) > 1 and is_flagged


def _inside(value: list[Any] | None, key: str) -> list[Any] | None:
    """Returns what the objects of a list have under a key, in one list."""
    if value is None:
        return None
    items = [item[key] for item in value if isinstance(item, dict) and item.get(key) is not None]
    return [part for item in items for part in (item if isinstance(item, list) else [item])]


def columns_of_shape(
    shape: Shape, columns: Mapping[str, Sequence[Any]], wanted: Wanted, where: str
) -> tuple[dict[str, Sequence[Any]], str | None]:
    """Returns the columns of a tool's records that may be texts or labels, and the path of the
    labels where there is only one.

    Args:
        shape: of the records.
        columns: the first values of each column.
        wanted: columns that the user names, which stay.
        where: file and line, for the message.

    Raises:
        DataError: the labels are answers to several questions.

    Example:
        >>> columns = {"text": ["who?"], "queue": ["a"], "annotator": [1]}
        >>> columns_of_shape(SHAPES[1], columns, Wanted(), "a.csv:1")[0].keys()
        dict_keys(['text', 'queue'])
    """
    named = {*columns_of(wanted.text, "text_field"), *columns_of(wanted.labels)}
    labels = [path for path in columns if shape.labels.fullmatch(path)]
    if shape.questions is not None and shape.questions in columns and wanted.labels is None:
        questions = {name for names in columns[shape.questions] for name in names or ()}
        if len(questions) > 1:
            raise DataError(
                f"the annotations of {shape.tool} answer several questions: "
                f"{', '.join(map(repr, sorted(questions)))}",
                where=where,
                fix="export JSON-MIN, in which each is a key, and pick one as --label-column",
            )
    of_shape = {
        path: values
        for path, values in columns.items()
        if path in named or path in labels or shape.texts.fullmatch(path)
    }
    return of_shape, labels[0] if len(labels) == 1 else None


def steps_of(path: str, option: str) -> tuple[str | int, ...]:
    """Returns the steps of a path such as ``annotations[0].result[].value``: keys, places in lists,
    -1 for every place.

    Args:
        path: as the user writes it.
        option: the reader's option, for the message.

    Raises:
        ConfigError: it is no such path.

    Example:
        >>> steps_of("annotations[0].tags[].name", "labels_field")
        ('annotations', 0, 'tags', -1, 'name')
    """
    steps: list[str | int] = []
    rest = path
    while rest:
        match = _STEP.match(rest)
        if match is None:
            break
        steps.append(match[1] if match[1] is not None else int(match[2] or _EVERY))
        rest = rest[match.end() :]
        if rest.startswith(".") and len(rest) > 1:
            rest = rest[1:]
            if rest.startswith("["):
                break
        elif rest and not rest.startswith("["):
            break
    if rest or not steps or not isinstance(steps[0], str):
        raise ConfigError(
            f"{path!r} is not a path of keys",
            where=option,
            fix="write one such as content.body, annotations[0].label or tags[].name",
        )
    return tuple(steps)


def value_at(record: Any, steps: Sequence[str | int]) -> Any:
    """Returns what a record holds at the end of a path, None where the path leads nowhere.

    Args:
        record: object of JSON.
        steps: see ``steps_of``; what every element of a list has is one list.

    Example:
        >>> value_at({"tags": [{"name": "a"}, {"name": "b"}]}, ("tags", -1, "name"))
        ['a', 'b']
        >>> value_at({"tags": []}, ("tags", 0, "name"))
    """
    value = record
    for place, step in enumerate(steps):
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        elif not isinstance(value, list):
            value = None
        elif step == _EVERY:
            found = [value_at(item, steps[place + 1 :]) for item in value]
            return [
                part
                for item in found
                if item is not None
                for part in (item if isinstance(item, list) else [item])
            ]
        else:
            value = value[step] if step < len(value) else None
        if value is None:
            return None
    return value


def list_values(pieces: Iterable[str], longest: int) -> Iterator[tuple[int, Any]]:
    """Yields the elements of a JSON list with the lines they begin in, as they come.

    Args:
        pieces: the text, cut anywhere; it begins with ``[``.
        longest: number of characters of an element at most.

    Raises:
        json.JSONDecodeError: the text is no JSON; its ``lineno`` is that of the text.

    Example:
        >>> list(list_values(['[{"a": 1},\\n', ' {"a"', ": 2}]"], 100))
        [(1, {'a': 1}), (2, {'a': 2})]
    """
    decode = json.JSONDecoder().raw_decode
    stream = iter(pieces)
    text = ""
    at = 0
    line = 1  # of the place
    ended = False
    expected = "["  # the sign that comes next
    while True:
        start = at
        while at < len(text) and text[at] in " \t\r\n":
            at += 1
        line += text.count("\n", start, at)
        failed: json.JSONDecodeError | None = None
        if at < len(text):
            if expected:
                if text[at] == "]" and expected != "[":
                    if text[at + 1 :].strip() or "".join(stream).strip():
                        raise _malformed("text follows the end of the list", line)
                    return
                if text[at] == expected:
                    at += 1
                    expected = ""
                    continue
                raise _malformed(f"{expected!r} is missing", line)
            if text[at] == "]":
                expected = ","
                continue
            try:
                value, end = decode(text, at)
            except json.JSONDecodeError as error:
                failed = error
            else:
                yield line, value
                line += text.count("\n", at, end)
                at = end
                expected = ","
                continue
        if ended or len(text) - at > longest:
            if failed is None:
                raise _malformed("the list has no end", line)
            raise _malformed(failed.msg, line + text.count("\n", at, failed.pos))
        piece = next(stream, None)
        ended = piece is None
        text = text[at:] + (piece or "")
        at = 0


def _malformed(problem: str, line: int) -> json.JSONDecodeError:
    error = json.JSONDecodeError(problem, "", 0)
    error.lineno = line
    return error
