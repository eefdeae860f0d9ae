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
    """Prints the records of some threads as they are, and before a warning that it is one.

    While it prints any, records go to no handler of the root logger, as TensorFlow installs one;
    those of other threads are passed on as if it were not there.
    """

    def __init__(self) -> None:
        super().__init__()
        self._mutex = threading.Lock()
        self._threads: list[int | None] = []  # None for all of them
        self._level = self._least = logging.NOTSET
        self._propagates = True

    def emit(self, record: logging.LogRecord) -> None:
        """Prints on the standard streams of this moment."""
        if self.prints(record.thread):
            word = "warning: " if record.levelno == logging.WARNING else ""
            stream = sys.stdout if record.name == OUTPUT.name else sys.stderr
            print(word + record.getMessage(), file=stream, flush=True)
        elif self._propagates and record.levelno >= self._least:
            logging.getLogger().callHandlers(record)

    def prints(self, thread: int | None) -> bool:
        """Tells whether the records of a thread are printed."""
        return None in self._threads or thread in self._threads

    @contextlib.contextmanager
    def printing(self, thread: int | None) -> Iterator[None]:
        """Inside, the records of a thread, or of all, are printed; blocks may overlap."""
        with self._mutex:
            if not self._threads:
                self._level = NOTES.level
                self._least = NOTES.getEffectiveLevel()
                self._propagates = NOTES.propagate
                NOTES.setLevel(min(self._least, logging.INFO))
                NOTES.propagate = False
                NOTES.addHandler(self)
            self._threads.append(thread)
        try:
            yield
        finally:
            with self._mutex:
                self._threads.remove(thread)
                if not self._threads:
                    NOTES.removeHandler(self)
                    NOTES.propagate = self._propagates
                    NOTES.setLevel(self._level)


_printer = _Printer()


def printed(this_thread: bool = False) -> contextlib.AbstractContextManager[None]:
    """Prints, inside, messages of level ``INFO`` and above are printed.

    Args:
        this_thread: whether only those of the thread that calls it are.

    Example:
        >>> with printed():
        ...     OUTPUT.info("finished")
        finished
    """
    return _printer.printing(threading.get_ident() if this_thread else None)


@contextlib.contextmanager
def silent(logger: logging.Logger) -> Iterator[None]:
    """Drops, inside, what this thread has to say to a logger.

    Example:
        >>> with silent(NOTES):
        ...     NOTES.warning("a label occurs once")
    """
    thread = threading.get_ident()

    def passes(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger.addFilter(passes)
    try:
        yield
    finally:
        logger.removeFilter(passes)


def is_printed() -> bool:
    """Tells whether the messages of this thread are printed, and so are progress lines."""
    return _printer.prints(threading.get_ident())
