"""JSON lines: one object with a text and its labels per line."""

import itertools
import json
from collections.abc import Iterator, Mapping
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
    TextReader,
    column_options,
)
from tfxc.data.reading.parsing.column_guess import Wanted, as_given, first_values, guess_columns
from tfxc.data.reading.parsing.label_cells import RowLabels, columns_of
from tfxc.data.reading.parsing.label_checks import check_labels, check_unicode
from tfxc.data.reading.parsing.lines import UTF_8

# Objects whose keys are told.
_OBJECTS = 1000
_CORRECT = "correct the line"
_SPREAD = "write one object per line, as `jq -c '.[]' FILE` does of a list; a config is given with \
--config"


class JSONLines(TextReader):
    """Reads ``{"text": "...", "labels": ["...", ...]}`` lines.

    ``labels`` is a list of names, a list of ids (whole numbers from 0), or a single one of either;
    names and ids do not mix within a file. Names may hold anything but a line break; white space
    around them is dropped. Nothing (null, an empty list or an empty text) means no labels, a label
    given twice counts once. Empty texts are legal, blank lines are skipped.

    Args:
        path: ``.jsonl``, ``.ndjson`` or ``.json`` file, perhaps compressed.
        text_field: key of the text.
        labels_field: key of the labels. A list names keys of 0 and 1, or of true and false, that
            are a label each.
        id_field: key of a name or number of the example, which answers can repeat.

    Raises:
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
        text_field: str = "text",
        labels_field: LabelsField = "labels",
        label_separator: LabelSeparator | None = None,
        id_field: str | None = None,
        labelled: bool = True,
        max_line_bytes: Count = MAX_LINE_BYTES,
        encoding: str | None = UTF_8,
    ) -> None:
        super().__init__(path, max_line_bytes, encoding)
        self.text_field = text_field
        self.id_field = id_field
        self._labelled = labelled
        self._row_labels = RowLabels(labels_field, label_separator)
        self._label_keys = columns_of(labels_field)
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
        objects = (example for _, example in cls(path, **given)._objects())
        first: dict[str, Any] = next(objects, {})
        rows = (
            [example.get(key) for key in first] for example in itertools.chain([first], objects)
        )
        values = first_values(rows)
        columns = {key: [row[number] for row in values] for number, key in enumerate(first)}
        objects_in = [key for key, cells in columns.items() if any(map(_holds_objects, cells))]
        for key in objects_in:
            del columns[key]
        unreadable = dict.fromkeys(objects_in, "object")
        guess = guess_columns(columns, wanted, f"{path}:1", kind="key", unreadable=unreadable)
        usual = {"text_field": "text", "labels_field": "labels"}
        return {k: value for k, value in column_options(guess).items() if value != usual.get(k)}

    def table(self) -> Table:
        """Returns a column for each key, for which the file is read once."""
        keys = list(dict.fromkeys(key for _, example in self._objects() for key in example))
        return Table(keys, ([example.get(key) for key in keys] for _, example in self._objects()))

    def column_names(self) -> list[str]:
        objects = itertools.islice(self._objects(), _OBJECTS)
        return list(dict.fromkeys(key for _, example in objects for key in example))

    def _objects(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields ``(place, object)``, blank lines left out."""
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

    def _examples(self) -> Iterator[tuple[str, list[Any]] | tuple[str, list[Any], str]]:
        kind = None
        for where, example in self._objects():
            text = _field(example, self.text_field, "text_field", where)
            if not isinstance(text, str):
                problem = f"{self.text_field!r} is {_shown(text)}, which is not a text"
                fix = f"{_CORRECT}, or name the key of the texts as {as_given('text_field')}"
                raise DataError(problem, where=where, fix=fix)
            check_unicode(text, "a text", where)
            labels: list[Any] = []
            if self._labelled:
                values = [_field(example, key, "labels_field", where) for key in self._label_keys]
                labels = self._row_labels.read(values, where)
            if labels:
                kind = kind or type(labels[0])
                check_labels(labels, kind, where)
            if not self.id_field:
                yield text, labels
                continue
            name = _field(example, self.id_field, "id_field", where)
            if type(name) not in (str, int):
                problem = f"{self.id_field!r} is {_shown(name)}, neither a text nor an integer"
                raise DataError(problem, where=where, fix=_CORRECT)
            yield text, labels, str(name)


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
