"""A copy of a data file without what is odd in it."""

import csv
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfxc.core.errors import ConfigError
from tfxc.core.escaping import json_text
from tfxc.core.storage.files import atomic_file
from tfxc.data.reading.formats import open_reader
from tfxc.data.reading.formats.base import Reader
from tfxc.data.reading.formats.delimited import Delimited
from tfxc.data.reading.inspection.contents import Contents
from tfxc.data.reading.parsing.column_guess import LABELS_FIELDS
from tfxc.data.reading.parsing.label_cells import LIST

_CHUNK = 4096


@dataclasses.dataclass
class Cleaned:
    """What a copy differs in.

    Attributes:
        rows: rows of the copy.
        empty, unlabelled, duplicates: rows that were left out.
        renamed: rows with a label that is written another way now.
    """

    rows: int = 0
    empty: int = 0
    unlabelled: int = 0
    duplicates: int = 0
    renamed: int = 0


def write_clean(source: Path, contents: Contents, output: Path) -> Cleaned:
    """Writes a copy of a file of texts, in its order and with all its columns; of a format without
    columns, and of records whose labels are deep inside, with ``text`` and ``labels``.

    Empty texts, duplicates and, where training leaves them out, rows without labels are left out.
    Of label names that look alike, the most frequent one replaces the others. Texts with
    contradicting labels stay.

    Args:
        source: the file.
        contents: what it holds.
        output: ``.csv`` or ``.tsv`` of a file of this format, else ``.jsonl``.

    Raises:
        ConfigError: ``output`` has another ending, or there are no texts.

    Example:
        >>> write_clean(Path("my.csv"), contents, Path("clean.csv")).duplicates  # doctest: +SKIP
        3
    """
    reader = open_reader(source, contents.format, **contents.options)
    if contents.kind != "text":
        raise ConfigError(
            f"only files of texts are cleaned, and this one holds {contents.kind} examples",
            where="--write-clean",
            fix="leave it out",
        )
    endings = (".csv", ".tsv") if isinstance(reader, Delimited) else (".jsonl",)
    if output.suffix.lower() not in endings:
        raise ConfigError(
            f"the copy of a file of this format ({contents.format}) ends in {' or '.join(endings)}",
            where=f"--write-clean {output}",
            fix=f"name it e.g. {output.with_suffix(endings[0]).name}",
        )
    cleaned = Cleaned()
    rows = _clean_rows(reader, contents, cleaned)
    with atomic_file(output) as stream:
        if isinstance(reader, Delimited):
            stream.write(reader.mark_of_copies())
            writer = csv.writer(stream, delimiter=reader.delimiter, lineterminator="\n")
            if reader.columns:  # the first line is an example, and stays one
                next(rows)
            writer.writerows(rows)
        else:
            columns = next(rows)
            for row in rows:
                cells = zip(columns, row, strict=True)
                example = {name: value for name, value in cells if value is not None}
                stream.write(json_text(example, default=str) + "\n")
    return cleaned


def _clean_rows(reader: Reader, contents: Contents, cleaned: Cleaned) -> Iterator[Sequence[Any]]:
    """Yields the names of the columns, then the rows that stay; counts into ``cleaned``."""
    findings = contents.findings
    assert findings is not None, "the file was looked at"
    options = contents.options
    table = reader.table()
    field = options.get("labels_field")
    labels_at = -1  # none where each label has a column
    if table is not None and not isinstance(field, (list, tuple)):
        names = LABELS_FIELDS if field is None else (field,)
        labels_at = next((table.columns.index(n) for n in names if n in table.columns), -1)
        if labels_at < 0 or options.get("only"):  # records whose labels are deep inside
            table = None
    columns: Sequence[str] = ("text", "labels") if table is None else table.columns
    rows = None if table is None else iter(table.rows)
    usual: Mapping[Any, str] = {
        name: next(iter(group)) for group in findings.look_alikes for name in group
    }
    separator = options.get("label_separator")
    yield columns
    seen: set[int] = set()
    for chunk in reader.chunks(_CHUNK):
        assert chunk.texts is not None, "the kind was checked"
        for text, labels in zip(chunk.texts, chunk.labels, strict=True):
            row = (text, labels) if rows is None else next(rows)
            merged = list(dict.fromkeys(usual.get(name, name) for name in labels))
            if not text.strip():
                cleaned.empty += 1
                continue
            if not labels and contents.skips_unlabelled:
                cleaned.unlabelled += 1
                continue
            if labels:
                key = hash((text, frozenset(merged)))
                if key in seen:
                    cleaned.duplicates += 1
                    continue
                seen.add(key)
            cleaned.rows += 1
            if merged != list(labels) and labels_at >= 0:
                cleaned.renamed += 1
                row = list(row)
                row[labels_at] = _cell(merged, row[labels_at], separator)
            yield row


def _cell(labels: Sequence[str], cell: Any, separator: str | None) -> Any:
    """Returns labels as the cell of others is written."""
    if not isinstance(cell, str):
        return labels if isinstance(cell, (list, tuple)) else labels[0]
    if separator == LIST:
        return json_text(labels)
    return labels[0] if separator is None else separator.join(labels)
