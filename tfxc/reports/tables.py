"""The tables of a report: CSV files, and their most telling rows as Markdown."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.escaping import csv_cell, markdown_text, one_line
from tfxc.core.storage.files import atomic_file

if TYPE_CHECKING:
    from tfxc.metrics.per_label import PerLabel


LABEL_COLUMNS = ("label", "trained on", "true", "predicted", "right", "precision", "recall", "F1")
CONFUSION_COLUMNS = ("true", "predicted instead", "examples")
WRONG_COLUMNS = ("example", "true", "predicted", "scores", "text")


def write_tables(
    folder: str | Path,
    per_label: "PerLabel",
    names: Sequence[str],
    label_counts: np.ndarray,
    texts: Mapping[int, str],
    scores: str = "scores",
) -> tuple[list[tuple[Any, ...]], ...]:
    """Writes labels.csv, confusions.csv and wrong.csv.

    Args:
        folder: an existing folder.
        per_label: ``metrics.per_label.PerLabel``.
        names: label names by id.
        label_counts: (num_labels,) training examples of each.
        texts: {example: text} of wrong examples, possibly empty.
        scores: name of the column with the predictions' scores.

    Returns:
        The rows of the three.
    """
    rows = (
        label_rows(per_label, names, label_counts),
        confusion_rows(per_label, names),
        wrong_rows(per_label, names, texts),
    )
    heads = (LABEL_COLUMNS, CONFUSION_COLUMNS, wrong_columns(scores))
    for name, head, part in zip(("labels", "confusions", "wrong"), heads, rows, strict=True):
        write_csv(Path(folder) / f"{name}.csv", head, part)
    return rows


def wrong_columns(scores: str) -> tuple[str, ...]:
    """Returns the head of the table of wrong examples, whose scores are called so."""
    return tuple(scores if name == "scores" else name for name in WRONG_COLUMNS)


def average_rows(per_label: "PerLabel", names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Returns precision, recall and F1 of micro, macro, samples; of two labels also of binary.

    See ``tfxc.metrics.classification.Classification``.
    """
    classification = per_label.classification
    values = classification.result()
    rows = []
    titles = {average: average for average in ("binary", "micro", "macro", "samples")}
    if classification.positive is not None:
        titles["binary"] = f"binary ({one_line(names[classification.positive])})"
    for average, title in titles.items():
        if f"{average}-F1" in values:
            rows.append((title, *(values[f"{average}-{v}"] for v in ("precision", "recall", "F1"))))
    return rows


def label_rows(
    per_label: "PerLabel", names: Sequence[str], label_counts: np.ndarray
) -> list[tuple[Any, ...]]:
    """Returns a row per label that occurs or is predicted, rarest F1 first.

    Args:
        per_label: ``metrics.per_label.PerLabel``.
        names: label names by id.
        label_counts: (num_labels,) training examples of each.

    Returns:
        List of tuples, see ``LABEL_COLUMNS``.
    """
    precision, recall, f1 = per_label.precision_recall_f1()
    shown = np.flatnonzero(~np.isnan(f1))
    shown = shown[np.lexsort((shown, -per_label.true[shown], f1[shown]))]
    columns = (label_counts, per_label.true, per_label.predicted, per_label.hits)
    return [
        (
            names[label],
            *(int(column[label]) for column in columns),
            *(float(value[label]) for value in (precision, recall, f1)),
        )
        for label in shown.tolist()
    ]


def confusion_rows(
    per_label: "PerLabel", names: Sequence[str], most: int | None = None
) -> list[tuple[Any, ...]]:
    """Returns a row per pair of confused labels, most frequent first; see ``CONFUSION_COLUMNS``.

    Args:
        per_label: ``metrics.per_label.PerLabel``.
        names: label names by id.
        most: at most this many; None = all.
    """
    return [
        (label_name(names, a), label_name(names, b), n)
        for a, b, n in per_label.confusions()[:most].tolist()
    ]


def most_confident(per_label: "PerLabel") -> list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Returns ``PerLabel.wrong``, highest score first."""
    return sorted(per_label.wrong, key=lambda wrong: -max(wrong[2], default=-np.inf))


def wrong_rows(
    per_label: "PerLabel", names: Sequence[str], texts: Mapping[int, str]
) -> list[tuple[Any, ...]]:
    """Returns a row per wrong example, the most confident first; see ``WRONG_COLUMNS``.

    Args:
        texts: {example: text}, possibly empty.
    """
    return [
        (
            row + 1,
            "; ".join(label_name(names, label) for label in true.tolist()),
            "; ".join(label_name(names, label) for label in ids.tolist()),
            "; ".join(f"{score:.4g}" for score in scores.tolist()),
            texts.get(row, ""),
        )
        for row, ids, scores, true in most_confident(per_label)
    ]


def write_csv(path: str | Path, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Writes a table for spreadsheets atomically; see ``tfxc.core.escaping.csv_cell``."""
    with atomic_file(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([csv_cell(value) for value in row] for row in rows)


def markdown(columns: Sequence[str], rows: Sequence[tuple[Any, ...]], most: int = 20) -> str:
    """Returns the first rows as a Markdown table; the number of rows left out is given.

    Example:
        >>> print(markdown(("a", "b"), [("x", 0.5)]))
        | a | b |
        |---|---|
        | x | 0.5000 |
    """
    lines = [_line(columns), "|" + "---|" * len(columns)]
    lines += [_line(map(_cell, row)) for row in rows[:most]]
    if len(rows) > most:
        lines.append(f"\n{len(rows) - most:,} more are in the file.")
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    text = " ".join(str(value).split())
    return markdown_text(text if len(text) <= 160 else text[:157] + "...")


def label_name(names: Sequence[str], label: int) -> str:
    """Returns the name of a label, or what stands for one that training does not know."""
    return names[label] if label < len(names) else "(not seen in training)"
