"""SIGTERM and Ctrl-C end a training only after it has saved."""

import signal


class Stopped(Exception):
    """Training was asked to stop and has saved its state.

    Attributes:
        step: step it was saved at.
        signal_number: the signal that asked for it.
    """

    def __init__(self, step, signal_number):
        self.step, self.signal_number = step, signal_number
        super().__init__(f"stopped by {signal.Signals(signal_number).name}, saved at step {step}")


class StopSignals:
    """Remembers SIGINT and SIGTERM instead of dying at once; a second one ends the process.

    Example:
        >>> with StopSignals() as signals:
        ...     signals.received is None
        True
    """

    def __init__(self):
        self.received = None
        self._before = {}

    def __enter__(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._remember)
            except ValueError:  # not the main thread: the host program handles signals
                return self
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number, _frame):
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = number


class StopAtOnce(StopSignals):
    """Raises ``Stopped`` at the first SIGINT or SIGTERM, for work that saves as it goes.

    Args:
        saved: what is saved, in words.

    Example:
        >>> with StopAtOnce("each block") as signals:
        ...     signals.received is None
        True
    """

    def __init__(self, saved):
        super().__init__()
        self._saved = saved

    def _remember(self, number, frame):
        super()._remember(number, frame)
        raise StoppedBetween(self._saved, number)


class StoppedBetween(Stopped):
    """Work that saves as it goes was asked to stop."""

    def __init__(self, saved, signal_number):
        super().__init__(None, signal_number)
        self._saved = saved

    def __str__(self):
        return f"stopped by {signal.Signals(self.signal_number).name}, {self._saved} saved"
