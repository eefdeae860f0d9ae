"""P@k over the number of repetitions of a hashed head."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.core.storage.files import atomic_files
from tfxc.reports.tables import write_csv

if TYPE_CHECKING:
    from tfxc.metrics.suite import MetricSuite
    from tfxc.runs.loaded import LoadedRun


class RepetitionCurve:
    """What the first repetition finds, the first two and so on, up to all that count.

    Args:
        loaded: a run with a hashed head.
        new_metrics: returns metrics that are not yet updated, at each call others.

    Example:
        curve = RepetitionCurve(loaded, partial(measurement.metrics, loaded))
        measurement.update(loaded, rows, metrics, curve=curve)
        print(curve.write(Path("curves")))
    """

    def __init__(self, loaded: "LoadedRun", new_metrics: "Callable[[], MetricSuite]") -> None:
        self._model = loaded.model
        self._method = loaded.options.search or self._model.search_methods[0]
        self._suites = [new_metrics() for _ in loaded.counted or ()]

    def update(self, batch: Mapping[str, Any]) -> None:
        """Searches a batch, as ``RunModel.stream`` yields it, with each number of repetitions."""
        scores = self._model.search_scores(batch["features"])
        head = self._model.head
        for count, suite in enumerate(self._suites, start=1):
            k = suite.min_predictions
            ids, totals = head.search_top_k(scores, k, self._method, most=count)
            suite.update(ids, totals, batch["labels"])

    def write(self, folder: Path) -> str:
        """Writes ``repetitions.csv`` and ``repetitions.svg``.

        Args:
            folder: where to, made if it is not there.

        Returns:
            The table, and a line that names the files.
        """
        from tfxc.reports.plots import curve_of_repetitions

        names = [n for n in self._suites[0].names if n.startswith("P@") and "/" not in n]
        results = [suite.result() for suite in self._suites]
        table = [(r, *(result[n] for n in names)) for r, result in enumerate(results, start=1)]
        columns = ("repetitions", *names)
        with atomic_files(folder) as scratch:
            write_csv(scratch / "repetitions.csv", columns, table)
            curve_of_repetitions(columns, table, scratch / "repetitions.svg")
        lines = ["  ".join(f"{name:>7}" for name in columns)]
        for count, *values in table:
            lines.append("  ".join([f"{count:11}", *(f"{100 * value:7.2f}" for value in values)]))
        return "\n".join([*lines, f"written: {folder / 'repetitions'}.csv and .svg"])
