"""What users of a server say its answers should have been, as lines that training reads."""

from collections.abc import Sequence
from pathlib import Path

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.escaping import json_text
from tfxc.data.reading.parsing.label_checks import check_label_names, check_unicode
from tfxc.serving.appended_lines import append_line, drop_cut_line, lock_of
from tfxc.serving.examples import unfit
from tfxc.serving.limits import bad_request

_LONGEST_TEXT = 100_000
_LONGEST_NAME = 200
_MOST_LABELS = 100


class Feedback:
    """A file of JSON lines {"text": ..., "labels": [...]}, which ``tfxc train`` reads.

    Args:
        path: the file, ``.jsonl``; it is made with the first line where there is none.

    Raises:
        ConfigError: it has another ending, or its folder is not there.

    Example:
        >>> Feedback("no_such_folder/feedback.jsonl")
        Traceback (most recent call last):
        tfxc.core.errors.ConfigError: --feedback: the folder of 'no_such_folder/feedback.jsonl' \
is not there. Name a .jsonl file in an existing folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()  # a link stays one
        problem = None
        if self.path.suffix != ".jsonl":
            problem = f"{str(path)!r} does not end in .jsonl"
        elif not self.path.parent.is_dir():
            problem = f"the folder of {str(path)!r} is not there"
        if problem:
            fix = "name a .jsonl file in an existing folder"
            raise ConfigError(problem, where="--feedback", fix=fix)

    def add(self, text: str, labels: Sequence[str]) -> None:
        """Appends a text with its true labels; another server waits for its turn.

        Raises:
            RequestError: 400, they cannot be those of a training file.
            MachineError: the disk is full or the file cannot be written to.
        """
        if not isinstance(text, str) or not text.strip():
            raise unfit(text, "a text", "text")
        if len(text) > _LONGEST_TEXT:
            raise bad_request(
                f"the text has {len(text):,} characters", "text", f"send at most {_LONGEST_TEXT:,}"
            )
        if not isinstance(labels, list) or not all(
            isinstance(name, str) and name.strip() and len(name) <= _LONGEST_NAME for name in labels
        ):
            kind = f"a list of names of 1 to {_LONGEST_NAME} characters"
            raise unfit(labels, kind, "labels")
        if len(labels) > _MOST_LABELS:
            raise bad_request(
                f"there are {len(labels):,} labels", "labels", f"send at most {_MOST_LABELS}"
            )
        try:
            check_unicode(text, "a text", "text")
            check_label_names(labels, "labels")
        except DataError as error:
            raise bad_request(error.problem, str(error.where)) from None
        line = json_text({"text": text, "labels": labels}) + "\n"
        with lock_of(self.path):
            drop_cut_line(self.path)
            append_line(self.path, line.encode())
