"""What the package says while it works: records of the logger ``tfxc``, which commands print.

Code outside of the commands prints nothing and redirects no stream. It gives what it has to say to
``OUTPUT`` or ``NOTES``, and commands print that inside ``with printed():``. In a program without a
handler of its own, Python shows the warnings alone.
"""

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator

#: Notes and warnings about the work, which commands print on standard error.
NOTES = logging.getLogger("tfxc")
#: Progress and results, which commands print on standard output.
OUTPUT = logging.getLogger("tfxc.output")


class _Printer(logging.Handler):
    """Prints records as they are, and before a warning that it is one.

    Args:
        thread: whose records are printed; None for those of all threads.
    """

    def __init__(self, thread: int | None) -> None:
        super().__init__()
        self.thread = thread

    def emit(self, record: logging.LogRecord) -> None:
        """Prints on the standard streams of this moment."""
        if self.thread in (None, record.thread):
            word = "warning: " if record.levelno == logging.WARNING else ""
            stream = sys.stdout if record.name == OUTPUT.name else sys.stderr
            print(word + record.getMessage(), file=stream, flush=True)


_lock = threading.Lock()
_printers: list[_Printer] = []
_level = logging.NOTSET  # of the logger while nothing is printed


@contextlib.contextmanager
def printed(this_thread: bool = False) -> Iterator[None]:
    """Inside, messages of level ``INFO`` and above are printed.

    Args:
        this_thread: whether only those of the thread that calls it are.

    Example:
        >>> with printed():
        ...     OUTPUT.info("finished")
        finished
    """
    global _level
    printer = _Printer(threading.get_ident() if this_thread else None)
    with _lock:
        is_new = not _prints(printer.thread)
        if is_new:
            if not _printers:
                _level = NOTES.level
                NOTES.setLevel(logging.INFO)
            _printers.append(printer)
            NOTES.addHandler(printer)
    try:
        yield
    finally:
        with _lock:
            if is_new:
                NOTES.removeHandler(printer)
                _printers.remove(printer)
                if not _printers:
                    NOTES.setLevel(_level)


def is_printed() -> bool:
    """Whether the messages of this thread are printed, and so are progress lines."""
    return _prints(threading.get_ident())


def _prints(thread):
    return any(printer.thread in (None, thread) for printer in _printers)
