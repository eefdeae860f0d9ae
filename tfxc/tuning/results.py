"""What a search for settings has found, in memory and in its folder."""

import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.escaping import json_text
from tfxc.core.storage.files import write_json
from tfxc.core.storage.reading import read_errors, read_json

FILE = "search.json"
#: The result of a setting whose training was ended early.
PRUNED = "pruned"


class Results:
    """The settings that were tried, the best first; safe to use from several threads.

    Every change is written to ``search.json``.

    Args:
        folder: of the runs.
        metric: name of the dev metric.
        smaller: whether smaller values are better.

    Attributes:
        rows: dicts ``run``, ``changes`` ({key: value}) and ``result``: a number, None of a setting
            that failed, or ``"pruned"``.

    Example:
        >>> Results("runs/search", "P@1").table()
        'nothing is trained yet'
    """

    def __init__(self, folder: str | Path, metric: str, smaller: bool = False) -> None:
        self._folder = Path(folder)
        self._metric = metric
        self._smaller = smaller
        self.rows: list[dict[str, Any]] = []
        self._importance: dict[str, float] | None = None
        self._lock = threading.Lock()

    def add(self, run: str | Path, changes: Mapping[str, Any], result: float | str | None) -> None:
        """Adds a setting, or replaces its result."""
        with self._lock:
            self.rows = [row for row in self.rows if row["changes"] != changes]
            self.rows.append({"run": str(run), "changes": dict(changes), "result": result})
            self.rows.sort(key=self._rank)
            self._write()

    def set_importance(self, shares: Mapping[str, float]) -> None:
        """Keeps which share of the differences between results each key explains."""
        with self._lock:
            self._importance = dict(shares)
            self._write()

    def _write(self) -> None:
        content = {"metric": self._metric, "settings": self.rows, "importance": self._importance}
        write_json(self._folder / FILE, content, indent=1)

    def _rank(self, row: Mapping[str, Any]) -> float:
        if not is_value(row["result"]):
            return math.inf
        return row["result"] if self._smaller else -row["result"]

    @property
    def any_finished(self) -> bool:
        """Whether a setting was trained to its end."""
        return any(is_value(row["result"]) for row in self.rows)

    def table(self) -> str:
        """Returns all settings as text, and the run of the best."""
        if not self.rows:
            return "nothing is trained yet"
        keys = list(self.rows[0]["changes"])
        lines = [[self._metric, *keys], *(shown_cells(row, keys) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            for line in lines
        ]
        if is_value(self.rows[0]["result"]):
            text.append(f"best: {self.rows[0]['run']}")
        return "\n".join(text)


def is_value(result: float | str | None) -> bool:
    """Tells whether the result of a setting is a number."""
    return result is not None and result != PRUNED


def shown_cells(row: Mapping[str, Any], keys: list[str]) -> list[str]:
    """Returns the result of a setting and its values, as texts.

    Example:
        >>> shown_cells({"result": 0.5, "changes": {"seed": 1, "link": "softmax"}}, ["link"])
        ['0.5000', 'softmax']
    """
    result = row["result"]
    shown = f"{result:.4f}" if is_value(result) else result or "failed"
    return [shown, *(value_text(row["changes"][key]) for key in keys)]


def value_text(value: object) -> str:
    """Returns a config value as ``--set`` reads it."""
    return value if isinstance(value, str) else json_text(value)


def read_results(folder: str | Path) -> dict[str, Any] | None:
    """Returns what ``Results`` has written to a folder; None if there is nothing.

    Returns:
        A dict ``metric``, ``settings`` (the rows, best first) and ``importance`` ({key: share}, or
        None where it is not known).

    Raises:
        DataError: the file is damaged, or another program's.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    fix = "search again, or move it away"
    results = read_json(path, fix=fix)
    rows = results.get("settings")
    keys = {"run", "changes", "result"}
    if not (
        {"metric", "importance"} <= results.keys()
        and isinstance(rows, list)
        and all(isinstance(row, dict) and keys <= row.keys() for row in rows)
    ):
        raise DataError(
            "this file does not contain the results of `tfxc search`", where=path, fix=fix
        )
    return results


def result_of(run: Path, metric: str) -> float | None:
    """Returns dev value of a run at its best step, None for one that has not finished.

    Raises:
        ConfigError: the run has no such metric.
    """
    if not is_finished(run):
        return None
    summary = read_json(path := run / "summary.json")
    with read_errors(path):
        dev = dict(summary.get("dev", {}))
        if summary.get("best_metric") == metric:
            dev[metric] = summary["best"]
        if metric not in dev:
            fix = f"choose one of: {', '.join(dev)}" if dev else "add a dev split to the config"
            raise ConfigError(f"no metric {metric!r} on dev", where="--metric", fix=fix)
        return None if dev[metric] is None else float(dev[metric])


def is_finished(run: Path) -> bool:
    """Tells whether a run was trained to its end."""
    return (run / "summary.json").is_file()
