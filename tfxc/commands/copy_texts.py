"""Write changed copies of the texts of a set, for recipe distill.

    tfxc copy-texts train.jsonl --copies 8 --output train-copies.jsonl

A small student learns more from a large teacher if the teacher labels additional texts (Tang et al.
2019, arXiv 1903.12136). A copy keeps the labels of its text although words are missing, so give the
teacher more weight than the labels (recipe.hard_weight 0 to 0.1). The same file, options and seed
produce the same copies.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from tfxc.core import cli
from tfxc.core.bounds import Count, Natural, Option, Share
from tfxc.core.command_options import parse
from tfxc.core.errors import DataError
from tfxc.core.escaping import json_text
from tfxc.core.shared_options import ReaderOptions

_CHUNK = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(ReaderOptions):
    """Options of ``tfxc copy-texts``.

    Attributes:
        data: file of texts with labels.
        reader: format of FILE; None means by its name.
        output: .jsonl file to write.
        copies: number of copies of each text.
        drop: probability that a word is dropped.
        replace: probability that a word is replaced by another one.
        cut: probability that only 1 to 5 consecutive words are kept.
        unit: unit to drop or replace.
        seed: random seed.
    """

    data: Annotated[str, Option("FILE", positional=True, remote=True)]
    output: Annotated[str, Option("FILE", read=cli.ending(".jsonl"), mirror="writes")]
    copies: Count = 8
    drop: Share = 0.1
    replace: Share = 0.1
    cut: Share = 0.25
    unit: Literal["word", "character"] = "word"
    seed: Natural = 0


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the texts, then the copies of all, round by round."""
    options = parse(Options, argv, "copy-texts", __doc__)
    from tfxc.core.progress import Progress
    from tfxc.core.storage.files import atomic_file
    from tfxc.data.reading.formats import open_reader
    from tfxc.data.text.augmentation import TextCopies

    cli.check_keeps_input(options.output, options.data)
    reader = open_reader(options.data, options.reader, **options.reader_options)
    examples: list[tuple[str, Sequence[Any]]] = []
    for chunk in reader.chunks(_CHUNK):
        if chunk.texts is None:
            raise DataError(
                "the file has features instead of texts",
                where=options.data,
                fix="name a file of texts",
            )
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
        raise DataError(
            str(error), where=options.data, fix="name another file"
        ) from None  # texts without a word
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
