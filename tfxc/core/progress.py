"""One progress line for long steps: share done, rate, time left."""

import sys
import time
from typing import TextIO

from tfxc.core.escaping import one_line
from tfxc.core.messages import is_printed

_REDRAWN = 1.0  # seconds between two drawings on a terminal
_ERASED = "\r\x1b[2K"  # the line, with the cursor at its beginning


class Progress:
    """A progress line on standard error, where the messages of its thread are printed.

    On a terminal the line is redrawn in place once a second, as much of it as fits into a line:
    one that is broken into two could not be redrawn. Elsewhere a line is printed at most every
    ``log_seconds``, so that a log file stays readable.

    Args:
        title: what is being done, e.g. ``"reading train.jsonl"``.
        total: number of units, or None if it is not known beforehand.
        unit: plural noun of what is counted.
        start: units already done (a resumed step).
        stream: where the line goes in any case.
        log_seconds: see above.

    Example:
        >>> with Progress("reading", total=3, unit="files") as progress:
        ...     for _ in range(3):
        ...         progress.advance(1)
    """

    def __init__(
        self,
        title: str | None,
        total: int | None = None,
        unit: str = "steps",
        start: int = 0,
        stream: TextIO | None = None,
        log_seconds: float = 20.0,
    ) -> None:
        self.title = one_line(title or "")
        self.total = total
        self.unit = unit
        self.done = self._start = start
        # Its own control sequences are not to be escaped; what it shows of others is.
        self._stream = getattr(stream or sys.stderr, "unescaped", stream or sys.stderr)
        self._silent = stream is None and not is_printed()
        self._terminal = self._stream.isatty()
        self._interval = _REDRAWN if self._terminal else log_seconds
        self._began = self._drawn = time.monotonic()
        self._note = ""

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        self.close(failed=error_type is not None)

    def advance(self, units: int, note: str = "") -> None:
        """Counts ``units`` more as done; ``note`` is shown after the counts."""
        self.done += units
        self._note = one_line(note) or self._note
        now = time.monotonic()
        if now - self._drawn >= self._interval and not self._silent:
            self._drawn = now
            self._draw(self.line())

    def line(self) -> str:
        """Returns the progress line as text, the most important first."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        rate = (self.done - self._start) / seconds
        parts = [f"{self.title}: {self.done:,}"]
        if self.total:
            left = (self.total - self.done) / rate if rate else 0
            parts = [
                f"{self.title}: {100 * self.done / self.total:3.0f} % of {self.total:,}",
                f"{duration(left)} left",
            ]
        return ", ".join([*parts, f"{rate:,.0f} {self.unit}/s", *filter(None, [self._note])])

    def clear(self) -> None:
        """Removes the line so that something else can be printed."""
        if self._terminal and not self._silent:
            self._stream.write(_ERASED)
            self._stream.flush()

    def close(self, failed: bool = False) -> None:
        """Ends the line with the total time; silent steps shorter than a second stay silent."""
        self.clear()
        seconds = time.monotonic() - self._began
        if seconds >= 1 and not self._silent:
            ending = "stopped after" if failed else "done in"
            self._stream.write(
                f"{self.title}: {self.done:,} {self.unit}, {ending} {duration(seconds)}\n"
            )
            self._stream.flush()

    def _draw(self, line: str) -> None:
        if self._terminal:
            from rich.console import Console  # most steps end before they are drawn
            from rich.text import Text

            shown = Text(line)
            # The last column stays free, as some terminals break the line after it.
            shown.truncate(Console(file=self._stream).width - 1, overflow="ellipsis")
            self._stream.write(f"{_ERASED}{shown.plain}")
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()


def duration(seconds: float) -> str:
    """Returns ``seconds`` as a short readable text.

    Example:
        >>> duration(75)
        '1 min 15 s'
    """
    seconds = int(seconds + 0.5)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
