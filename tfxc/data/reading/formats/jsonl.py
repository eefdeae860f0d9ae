"""JSON lines, or one JSON list: objects with a text and its labels, also as other tools export
them.
"""

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfxc.core.declared import Count
from tfxc.core.errors import DataError
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.data.reading.formats.base import (
    NONE_GIVEN,
    LabelSeparator,
    LabelsField,
    Table,
    TextField,
    TextReader,
    column_options,
    warn_once,
)
from tfxc.data.reading.parsing.column_guess import Wanted, as_given, first_values, guess_columns
from tfxc.data.reading.parsing.label_cells import RowLabels, columns_of
from tfxc.data.reading.parsing.label_checks import check_unicode, of_one_kind
from tfxc.data.reading.parsing.lines import UTF_8
from tfxc.data.reading.parsing.records import (
    columns_of_shape,
    list_values,
    record_columns,
    shape_of,
    steps_of,
    value_at,
)

# Objects whose keys are told.
_OBJECTS = 1000
_CORRECT = "correct the line"
_SPREAD = "write one object per line, or a list of objects, as pandas does with \
to_json(orient='records'); a config is given with --config"
_USUAL_TEXT = "text"
_USUAL_LABELS = "labels"
_CHARACTERS = 500  # of a text that shows which column it is of
_LOOKED_AT = 4096  # characters that show whether the file is a list


class JSONLines(TextReader):
    """Reads ``{"text": "...", "labels": ["...", ...]}`` lines, or one list of such objects.

    ``labels`` is a list of names, a list of ids (whole numbers from 0), a single one of either, or
    an object of labels and 0 or 1. Names may hold anything but a line break; white space around
    them is dropped. Nothing (null, an empty list or an empty text) means no labels, a label given
    twice counts once. Empty texts are legal, blank lines are skipped. A list is read object by
    object, however long its lines are.

    A key inside of others is a path: ``content.body`` is one in an object,
    ``annotations[0].label`` one in the first object of a list, ``tags[].name`` that of all
    objects in a list. A path that leads nowhere in an example means no labels.

    Args:
        path: ``.jsonl``, ``.ndjson`` or ``.json`` file, perhaps compressed.
        text_field: key of the text, or a list of several, whose texts are joined by line breaks;
            there null is an empty text.
        labels_field: key of the labels. A list names keys of 0 and 1, or of true and false, that
            are a label each.
        only: {key: value} that examples with labels must have, as ``{"answer": "accept"}`` of
            Prodigy; the others are left out, and counted.
        id_field: key of a name or number of the example, which answers can repeat.

    Raises:
        ConfigError: a path is none.
        DataError: naming file and line: no JSON object, a key is missing or of another type, a
            label name holds a line break, the text is not in its ``encoding``.

    Example:
        >>> reader = JSONLines("train.jsonl.xz", labels_field="tags")     # doctest: +SKIP
        >>> next(reader.chunks(1)).labels                                 # doctest: +SKIP
        [['sauce', 'cheese']]
    """

    suffixes = (".jsonl", ".ndjson", ".json")
    label_options = ("labels_field", "label_separator")

    def __init__(
        self,
        path: str | Path,
        *,
        text_field: TextField = _USUAL_TEXT,
        labels_field: LabelsField = _USUAL_LABELS,
        label_separator: LabelSeparator | None = None,
        id_field: str | None = None,
        only: Mapping[str, str] | None = None,
        labelled: bool = True,
        max_line_bytes: Count = MAX_LINE_BYTES,
        encoding: str | None = UTF_8,
    ) -> None:
        super().__init__(path, max_line_bytes, encoding)
        self._text_keys = columns_of(text_field, "text_field")
        self._row_labels = RowLabels(labels_field, label_separator)
        self._label_keys = columns_of(labels_field)
        self._steps = {
            key: _steps(key, option)
            for option, keys in (
                ("text_field", self._text_keys),
                ("labels_field", self._label_keys),
            )
            for key in keys
        }
        self.id_field = id_field
        self._only = dict(only or {})
        self._labelled = labelled
        if labelled and self._row_labels.names is not None:
            self.label_names = self._row_labels.names
            self.num_labels = len(self.label_names)

    @classmethod
    def options_of(
        cls,
        path: Path,
        wanted: Wanted,
        split: str | None = None,
        given: Mapping[str, Any] = NONE_GIVEN,
    ) -> dict[str, Any]:
        """Returns the keys of texts and labels, by the first objects."""
        where = f"{path}:1"
        objects = (example for _, example in cls(path, **given)._objects())
        records = [record for (record,) in first_values((_shortened(each),) for each in objects)]
        first = records[0] if records else {}
        if len(records) == 1 and any(map(_holds_objects, first.values())):
            raise DataError("the file is a single object", where=where, fix=_SPREAD)
        found, unreadable = record_columns(records)
        for key in (*columns_of(wanted.text, "text_field"), *columns_of(wanted.labels)):
            if key is not None and key not in found and len(steps := _steps(key, "path")) > 1:
                values = [value_at(record, steps) for record in records]
                if any(value is not None for value in values):
                    found[key] = values
        columns: Mapping[str, Sequence[Any]] = found
        shape = shape_of(first)
        labels = None
        if shape is not None:
            columns, labels = columns_of_shape(shape, columns, wanted, where)
            unreadable = {}
            if wanted.labels is None:
                wanted = Wanted(wanted.text, labels)
        guess = guess_columns(columns, wanted, where, kind="key", unreadable=unreadable)
        options = column_options(guess)
        if labels is not None and guess.labels == labels:
            options["labels_field"] = labels.replace("[]", "[0]", 1)  # of several people the first
        if shape is not None and shape.only is not None:
            options["only"] = dict(shape.only)
        usual = {"text_field": _USUAL_TEXT, "labels_field": _USUAL_LABELS}
        return {k: value for k, value in options.items() if value != usual.get(k)}

    def table(self) -> Table:
        """Returns a column for each key, for which the file is read once."""
        keys = list(dict.fromkeys(key for _, example in self._objects() for key in example))
        return Table(keys, ([example.get(key) for key in keys] for _, example in self._objects()))

    def column_names(self) -> list[str]:
        """Returns the keys of the first objects, and the paths to those of objects in them."""
        names: dict[str, None] = {}
        for _, example in itertools.islice(self._objects(), _OBJECTS):
            for key, value in example.items():
                inner = value if isinstance(value, dict) and value else None
                names |= dict.fromkeys([key] if inner is None else [f"{key}.{k}" for k in inner])
        return list(names)

    def _objects(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields ``(place, object)``, blank lines left out."""
        with contextlib.closing(self._lines.pieces(_LOOKED_AT)) as pieces:
            is_list = next(pieces, "").lstrip()[:1] == "["
        if is_list:
            yield from self._elements()
            return
        for number, line in self._lines.texts():
            if not line.strip():
                continue
            where = f"{self.path}:{number}"
            try:
                example = json.loads(line)
            except (ValueError, RecursionError) as error:  # also a number of 5,000 digits
                if spread := line.strip() in ("[", "{", "[{"):
                    reason = f"it is {line.strip()!r} alone, as of a file of one value"
                else:
                    reason = str(error)
                    if isinstance(error, json.JSONDecodeError):  # whose line is always 1
                        reason = f"{error.msg} in column {error.colno}"
                problem = f"the line is not a JSON object: {reason}"
                fix = _SPREAD if spread else _CORRECT
                raise DataError(problem, where=where, fix=fix) from None
            if not isinstance(example, dict):
                problem = f"the line is not a JSON object: {_shown(example)}"
                fix = _SPREAD if isinstance(example, list) else _CORRECT
                raise DataError(problem, where=where, fix=fix)
            yield where, example

    def _elements(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields ``(place, object)`` of a file that is one list."""
        values = list_values(self._lines.pieces(), self._lines.max_line_bytes)
        number = 1
        try:
            for number, example in values:
                where = f"{self.path}:{number}"
                if not isinstance(example, dict):
                    problem = f"an element of the list is not a JSON object: {_shown(example)}"
                    raise DataError(problem, where=where, fix=_SPREAD)
                yield where, example
        except json.JSONDecodeError as error:
            where = f"{self.path}:{error.lineno}"
            problem = f"the file begins as a list of JSON, but {error.msg}"
            raise DataError(problem, where=where, fix="correct the file") from None
        except (ValueError, RecursionError) as error:  # as of a number of 5,000 digits
            where = f"{self.path}:{number}"
            raise DataError(f"the list is no JSON: {error}", where=where, fix=_CORRECT) from None

    def _examples(self) -> Iterator[tuple[str, list[Any]] | tuple[str, list[Any], str]]:
        kind = None
        left_out = 0
        for where, example in self._objects():
            if self._labelled and any(example.get(k) != self._only[k] for k in self._only):
                left_out += 1
                continue
            text = self._text(example, where)
            labels: list[Any] = []
            if self._labelled:
                values = [
                    self._value(example, key, "labels_field", where) for key in self._label_keys
                ]
                labels, kind = of_one_kind(self._row_labels.read(values, where), kind, where)
            if not self.id_field:
                yield text, labels
                continue
            name = _field(example, self.id_field, "id_field", where)
            if type(name) not in (str, int):
                problem = f"{self.id_field!r} is {_shown(name)}, neither a text nor an integer"
                raise DataError(problem, where=where, fix=_CORRECT)
            yield text, labels, str(name)
        if left_out:
            only = ", ".join(f"{key} {value!r}" for key, value in self._only.items())
            warn_once(
                f"{self.path}: {left_out:,} examples are left out: only those of {only} count"
            )

    def _text(self, example: Mapping[str, Any], where: str) -> str:
        texts = []
        for key in self._text_keys:
            text = self._value(example, key, "text_field", where)
            if text is None and len(self._text_keys) > 1:
                continue
            if not isinstance(text, str):
                problem = f"{key!r} is {_shown(text)}, which is not a text"
                fix = f"{_CORRECT}, or name the key of the texts as {as_given('text_field')}"
                raise DataError(problem, where=where, fix=fix)
            check_unicode(text, "a text", where)
            texts.append(text)
        return texts[0] if len(self._text_keys) == 1 else "\n".join(filter(None, texts))

    def _value(self, example: Mapping[str, Any], key: str, option: str, where: str) -> Any:
        """Returns what an example has under a key, or at a path."""
        if key in example:
            return example[key]
        steps = self._steps[key]
        if len(steps) > 1 and steps[0] in example:
            return value_at(example, steps)
        return _field(example, key, option, where)


def _steps(key: str, option: str) -> tuple[str | int, ...]:
    return steps_of(key, option) if "." in key or "[" in key else (key,)


def _shortened(value: Any) -> Any:
    """Returns a value of JSON with its long texts cut, to find the columns by."""
    if isinstance(value, dict):
        return {key: _shortened(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_shortened(part) for part in value]
    return value[:_CHARACTERS] if isinstance(value, str) else value


def _field(example: Mapping[str, Any], key: str, option: str, where: str) -> Any:
    if key not in example:
        raise DataError(
            f"there is no key {key!r}, only {', '.join(map(repr, example)) or 'an empty object'}",
            where=where,
            fix=f"name the right key as {as_given(option)}",
        )
    return example[key]


def _holds_objects(value: object) -> bool:
    return any(isinstance(part, dict) for part in (value if isinstance(value, list) else [value]))


def _shown(value: object) -> str:
    return repr(value)[:60]
