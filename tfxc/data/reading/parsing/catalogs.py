"""Tables that say for each key which label it has."""

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfxc.core.errors import DataError
from tfxc.data.reading.parsing.label_checks import check_label_name
from tfxc.data.reading.parsing.lines import Lines

if TYPE_CHECKING:
    import _csv

_ROWS = 100_000


class Catalog:
    """A CSV file with a column of keys and a column of labels.

    Rows without a label are remembered: what they name is left out. The keys of ten million rows
    of 36 letters take 400 MB.

    Args:
        path: ``.csv`` file, plain, ``.gz`` or ``.xz``, whose first line names the columns.
        key_column, label_column: names of the two columns.

    Attributes:
        label_names: all labels in alphabetical order: the place of a name is its id.

    Raises:
        DataError: no such file or column, a row without a key, a key with two labels; the message
            names the line.

    Example:
        >>> Catalog("catalog.csv", "treeoflife_id", "species").label("0a1b")    # doctest: +SKIP
        'Abies alba'
    """

    def __init__(self, path: str | Path, key_column: str, label_column: str) -> None:
        self.path = path
        codes: dict[str, int] = {}
        blocks = []
        values = []
        lines = (f"{line}\n" for _, line in Lines(path).texts())
        rows = self._rows(csv.reader(lines), key_column, label_column)
        while block := list(itertools.islice(rows, _ROWS)):
            blocks.append(np.array([key.encode() for key, _ in block]))
            numbers = [codes.setdefault(label, len(codes)) if label else -1 for _, label in block]
            values.append(np.array(numbers, np.int32))
        self.label_names = sorted(codes)
        for name in self.label_names:
            check_label_name(name, path)
        if not codes:
            raise DataError(
                "no row of the table has a label",
                where=path,
                fix="check key_column and label_column",
            )
        places = {name: place for place, name in enumerate(self.label_names)}
        ids = np.array([*(places[name] for name in codes), -1], np.int32)  # the last one is -1's
        keys = np.concatenate(blocks)
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._ids = ids[np.concatenate(values)[order]]
        same = self._keys[1:] == self._keys[:-1]
        wrong = np.flatnonzero(same & (self._ids[1:] != self._ids[:-1]))
        if wrong.size:
            key = self._keys[wrong[0]].decode()
            raise DataError(
                f"the key {key!r} has two labels", where=self.path, fix="remove one of the rows"
            )

    def label(self, key: str) -> str | None:
        """Returns the label of a key, or None if its row has none.

        Raises:
            KeyError: the key is not in the table.
        """
        word = key.encode()
        place = int(np.searchsorted(self._keys, word))
        if place == len(self._keys) or self._keys[place] != word:
            raise KeyError(key)
        number = int(self._ids[place])
        return None if number < 0 else self.label_names[number]

    def _rows(
        self, rows: "_csv.Reader", key_column: str, label_column: str
    ) -> Iterator[tuple[str, str]]:
        try:
            header: list[str] = next(rows, [])
            for column in (key_column, label_column):
                if column not in header:
                    columns = ", ".join(header) or "an empty line"
                    raise DataError(
                        f"there is no column {column!r}, only {columns}",
                        where=self.path,
                        fix="name the right ones with key_column and label_column",
                    )
            at_key = header.index(key_column)
            at_label = header.index(label_column)
            for row in rows:
                if not row:
                    continue
                if len(row) != len(header) or not row[at_key]:
                    shown = ", ".join(map(repr, row[:4]))
                    problem = f"the row {shown} does not have {len(header)} values with a key"
                    where = f"{self.path}:{rows.line_num}"
                    raise DataError(problem, where=where, fix="correct the row")
                yield row[at_key], row[at_label].strip()
        except csv.Error as error:
            where = f"{self.path}:{rows.line_num + 1}"
            raise DataError(
                f"the row cannot be read ({error})", where=where, fix="convert the file to UTF-8"
            ) from error
