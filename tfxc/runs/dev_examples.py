"""A few texts of the dev split that a run keeps, with what it predicted of them.

``tfxc train`` prints them at its end, and the page of ``tfxc serve`` offers them to try the run.
They are in ``examples.jsonl``, which nothing else needs: it can be deleted before a run is given
away, and ``evaluation.examples`` of 0 writes none.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pydantic

from tfxc.core.config import Config
from tfxc.core.escaping import json_text
from tfxc.core.storage.files import atomic_file, is_inside
from tfxc.data.reading.example_texts import texts_of
from tfxc.data.reading.held_out import open_split
from tfxc.data.store.manifest import LABELS_FILE
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.runs.writer import RunWriter

FILE = "examples.jsonl"
#: Examples from the beginning of the dev split, of which the run keeps a few.
MOST_ANSWERS = 256
_LONGEST_TEXT = 2000
_LARGEST_FILE = 1 << 20


class DevExample(NamedTuple):
    """One text.

    Attributes:
        text: of at most 2,000 characters.
        labels: the true ones.
        predicted: the best label, by a model that was not trained on the text.
    """

    text: str
    labels: list[str]
    predicted: str

    @property
    def right(self) -> bool:
        """Whether the best label is a true one."""
        return self.predicted in self.labels


def write_dev_examples(
    run: RunWriter, config: Config, answers: Sequence[tuple[int, Sequence[int]]]
) -> None:
    """Writes ``examples.jsonl``; nothing where the examples are no texts, or none are wanted.

    About one in three is one that the run gets wrong, if there is any.

    Args:
        run: with its assets.
        config: of the run.
        answers: best label and true labels, padded with -1, of the first examples of dev.
    """
    count = config.evaluation.examples
    if not (count and answers and run.chief):
        return
    names = LabelVocabulary.load(run / "assets" / LABELS_FILE).names
    texts = texts_of(lambda: open_split(config.data, "dev"), set(range(len(answers))))
    right: list[DevExample] = []
    wrong: list[DevExample] = []
    for number, (best, true) in enumerate(answers):
        text = texts.get(number, "")
        known = [label for label in true if label >= 0]
        if not (known and 0 <= best < len(names) and max(known) < len(names)):
            continue
        if text.strip() and len(text) <= _LONGEST_TEXT:
            example = DevExample(text, [names[label] for label in known], names[best])
            (right if example.right else wrong).append(example)
    of_wrong = min(len(wrong), max(count // 3, count - len(right)))
    chosen = right[: count - of_wrong] + wrong[:of_wrong]
    if chosen:
        with atomic_file(run / FILE) as stream:
            stream.writelines(json_text(example._asdict()) + "\n" for example in chosen)


_LINE = pydantic.TypeAdapter(DevExample)


def read_dev_examples(folder: str | Path) -> list[DevExample]:
    """Returns the examples that a run keeps; empty where there is no such file, or a damaged one.

    Of a run that was trained once more on everything, they are those of the run inside it that was
    trained before, without them.

    Args:
        folder: the run.

    Example:
        >>> read_dev_examples("no_such_run")
        []
    """
    before = sorted(Path(folder).glob(f"held-out*/{FILE}"))
    path = next((path for path in (Path(folder, FILE), *before) if path.is_file()), None)
    if path is None:
        return []
    try:
        if not is_inside(path, folder) or path.stat().st_size > _LARGEST_FILE:
            return []
        lines = path.read_text("utf-8").splitlines()
        return [_LINE.validate_python(json.loads(line)) for line in lines]
    except (OSError, ValueError):
        return []
