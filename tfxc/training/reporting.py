"""What a training run reports: progress line, log.txt, metrics.jsonl, trackers."""

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.escaping import json_text, one_line
from tfxc.core.messages import OUTPUT
from tfxc.core.progress import Progress
from tfxc.core.storage.files import atomic_file, write_errors
from tfxc.core.storage.reading import existing_file, read_errors, read_json_lines
from tfxc.training.trackers import Trackers

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.runs.folder import RunFolder
    from tfxc.training.step import StepResult, StepResults


_LONGEST = 1.0  # seconds for which losses that nobody asks for are not read


class Losses:
    """The losses of the steps in their order, read several calls at a time.

    Args:
        last: the loss before the first step, or None.

    Attributes:
        last: the loss that was computed and read last, or None.

    Example:
        >>> Losses(0.5).last
        0.5
    """

    def __init__(self, last: float | None = None) -> None:
        self.last = last
        self._unread: list[StepResults] = []
        self._window: list[float] = []
        self._read_at = -math.inf

    def add(self, results: "StepResults") -> None:
        """Takes the results of the steps that were trained next."""
        self._unread.append(results)

    @property
    def are_old(self) -> bool:
        """Whether nothing was read for a second, or ever: a loss that is not finite may wait."""
        return time.monotonic() - self._read_at >= _LONGEST

    def read(self) -> "Iterator[StepResult]":
        """Yields the results that are not read yet; waits until their steps are trained."""
        unread = self._unread
        self._unread = []
        for results in unread:
            for result in results.read():
                if result.loss is not None:
                    self.last = result.loss
                self._window.append(math.nan if result.loss is None else result.loss)
                yield result
        self._read_at = time.monotonic()

    def take(self) -> tuple[int, float]:
        """Returns the number of the steps read since the last call of this, and the mean of their
        losses.
        """
        window = self._window
        self._window = []
        return len(window), float(np.nanmean(window))


class Reporter:
    """Writes one run's metrics.

    Args:
        run: ``RunFolder``.
        start_step: step the run resumes at; later lines of an interrupted run are dropped.
        total_steps: total number of training steps.
        batch_size: examples per step.
        title: of the progress line.
    """

    def __init__(
        self,
        run: "RunFolder",
        start_step: int,
        total_steps: int,
        batch_size: int,
        title: str = "training",
    ) -> None:
        self.run = run
        self.batch_size = batch_size
        self._progress = Progress(
            title, total_steps * batch_size, "examples", start_step * batch_size
        )
        self._trackers: Trackers | None = None
        path = run / "metrics.jsonl"
        if run.chief and path.exists():
            # A killed run may have reported beyond its last checkpoint.
            with read_errors(path):
                lines = existing_file(path).read_text("utf-8", errors="replace").splitlines()
            with atomic_file(path) as stream:
                for line in lines:
                    with contextlib.suppress(ValueError, KeyError, TypeError):  # it was cut short
                        if json.loads(line)["step"] <= start_step:
                            stream.write(f"{line}\n")

    def track(self, config: "Config", start_step: int) -> None:
        """Passes all metrics on to the trackers of a config from now on.

        Args:
            config: ``Config``.
            start_step: step the run resumes at.
        """
        self._trackers = Trackers(config, self.run, start_step, self.log)

    def advance(self, step: int, loss: float | None, steps: int = 1) -> None:
        """Moves the progress line by so many steps, to ``step``."""
        if self.run.chief:
            self._progress.advance(steps * self.batch_size, f"step {step:,}, loss {loss:.4f}")

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Appends a line to metrics.jsonl, and passes the values on to the trackers."""
        if not self.run.chief:
            return
        self._append("metrics.jsonl", json_text({"step": step, **values}))
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            self.log(f"step {step:,}: {', '.join(wrong)} not finite, written as null")
        if self._trackers is not None:
            self._trackers.metrics(step, values)

    def results(
        self,
        step: int,
        epoch: float,
        results: Mapping[str, Mapping[str, float]],
        improved: bool,
        watched: str | None = None,
    ) -> None:
        """Writes the results of an evaluation, and says what matters most of them.

        Args:
            step, epoch: when it was.
            results: ``{split: {name: value}}``.
            improved: whether the dev split has a new best.
            watched: the metric that determines on it, which is always reported.
        """
        named = {f"{s} {name}": value for s, of in results.items() for name, value in of.items()}
        self.metrics(step, {"epoch": round(epoch, 4), **named})
        shown = [f"{split} {headline(of, watched)}" for split, of in results.items() if of]
        mark = " *" if improved else ""
        self.log(f"step {step:,}, epoch {epoch:.2f}: {', '.join(shown)}{mark}")

    def recorded(self, step: int | None, split: str) -> dict[str, float]:
        """Returns the results of a split that were written at a step, ``{name: value}``, possibly
        empty.
        """
        path = self.run / "metrics.jsonl"
        if not self.run.chief or not path.exists():
            return {}
        values: dict[str, Any] = {}
        for line in read_json_lines(path, fix="delete the damaged line"):
            if line.get("step") == step:
                values |= line
        start = f"{split} "
        return {
            name.removeprefix(start): value
            for name, value in values.items()
            if name.startswith(start) and value is not None
        }

    def log(self, text: str) -> None:
        """Prints a line above the progress line and appends it to log.txt."""
        if not self.run.chief:
            return
        text = one_line(text)
        self._progress.clear()
        OUTPUT.info(text)
        self._append("log.txt", text)

    def _append(self, name: str, line: str) -> None:
        path = self.run / name
        with write_errors(path), open(path, "a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def close(self, failed: bool = False) -> None:
        """Ends the progress line and the sessions of the trackers."""
        if self.run.chief:
            self._progress.close(failed)
        if self._trackers is not None:
            self._trackers.finish(not failed)


def headline(
    results: Mapping[str, float],
    watched: str | None = None,
    intervals: Mapping[str, Sequence[float]] | None = None,
) -> str:
    """Returns the most important results of a split as text.

    Args:
        results: ``{name: value}``.
        watched: name of one that is shown in any case.
        intervals: ``{name: (low, high)}`` of some of them.

    Example:
        >>> headline({"P@1": 0.5, "R@1": 0.25, "full_loss": 1.0}, watched="R@1")
        'P@1 50.00  R@1 25.00  full_loss 1.0000'
        >>> headline({"P@1": 0.5, "P@3": 0.3}, intervals={"P@1": (0.412, 0.588)})
        'P@1 50.00 (41.2 to 58.8)  P@3 30.00'
    """
    shares = [name for name in results if not name.endswith("loss")]
    ranked = [name for name in shares if name.startswith(("P@", "nDCG@"))][:6] or shares[:3]
    ranked += [watched] if watched in shares and watched not in ranked else []
    shown = [f"{name} {100 * results[name]:.2f}" for name in ranked]
    for place, name in enumerate(ranked):
        if intervals is not None and name in intervals:
            low, high = intervals[name]
            shown[place] += f" ({100 * low:.1f} to {100 * high:.1f})"
    shown += [f"{name} {value:.4f}" for name, value in results.items() if name.endswith("loss")]
    return "  ".join(shown)
