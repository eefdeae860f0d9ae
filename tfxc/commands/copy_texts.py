"""Write a text set with changed copies of its texts, for recipe distill.

    tfxc copy-texts train.jsonl --copies 8 --output train-copies.jsonl

A small student learns more from a large teacher if the teacher labels additional texts (Tang et
al. 2019, arXiv 1903.12136). A copy keeps the labels of its text although words are missing, so give
the teacher more weight than the labels (recipe.hard_weight 0 to 0.1). The same file, options and
seed produce the same copies.
"""

import argparse
import contextlib
import itertools
from collections.abc import Sequence
from typing import Any

from tfxc.core import cli
from tfxc.core.errors import DataError
from tfxc.core.escaping import json_text

_CHUNK = 10_000


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the texts, then the copies of all, round by round."""
    options = _parser().parse_args(argv)
    from tfxc.core.progress import Progress
    from tfxc.core.storage.files import atomic_file
    from tfxc.data.reading.formats import open_reader
    from tfxc.data.text.augmentation import TextCopies

    cli.check_keeps_input(options.output, options.data)
    reader = open_reader(options.data, options.reader, **dict(options.reader_option))
    examples: list[tuple[str, Sequence[Any]]] = []
    for chunk in reader.chunks(_CHUNK):
        if chunk.texts is None:
            raise DataError("the file has features instead of texts", where=options.data)
        examples += zip(chunk.texts, chunk.labels, strict=True)
    try:
        change = TextCopies(
            [text for text, _ in examples],
            drop=options.drop,
            replace=options.replace,
            cut=options.cut,
            unit=options.unit,
            seed=options.seed,
        )
    except ValueError as error:
        raise DataError(str(error), where=options.data) from None  # texts without a word
    total = len(examples) * (1 + options.copies)
    with (
        atomic_file(options.output) as stream,
        Progress(f"writing {options.output}", total, "texts") as progress,
    ):
        equal = 0
        for number, (text, labels) in itertools.product(range(1 + options.copies), examples):
            row = {"text": change(text) if number else text, "labels": list(map(str, labels))}
            equal += bool(number) and row["text"] == text
            stream.write(json_text(row) + "\n")
            progress.advance(1)
    print(f"{options.output}: {total:,} texts, {options.copies} copies of {len(examples):,}")
    if equal:
        share = equal / (total - len(examples))
        print(f"{equal:,} copies ({share:.0%}) are equal to their texts; raise --drop or --replace")
    return 0


def _probability(text: str) -> float:
    """Returns ``type`` of an option that is a probability."""
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a probability from 0 to 1")


def _parser() -> argparse.ArgumentParser:
    options = cli.parser("copy-texts", __doc__)
    options.add_argument("data", metavar="FILE", help="file of texts with labels")
    options.add_argument(
        "--output",
        type=cli.ending(".jsonl"),
        required=True,
        metavar="FILE",
        help=".jsonl file to write",
    )
    options.add_argument(
        "--copies", type=cli.positive, default=8, help="copies of each text (default: %(default)s)"
    )
    chances = {
        "drop": (0.1, "probability that a word is dropped"),
        "replace": (0.1, "probability that a word is replaced by another one"),
        "cut": (0.25, "probability that only 1 to 5 consecutive words are kept"),
    }
    for name, (value, meaning) in chances.items():
        options.add_argument(
            f"--{name}", type=_probability, default=value, help=f"{meaning} (default: %(default)s)"
        )
    options.add_argument(
        "--unit",
        choices=("word", "character"),
        default="word",
        help="unit to drop or replace (default: %(default)s)",
    )
    options.add_argument(
        "--seed", type=cli.seed, default=0, help="random seed (default: %(default)s)"
    )
    cli.add_reader_options(options, "format of FILE (default: by its name)", "text_field=body")
    return options
