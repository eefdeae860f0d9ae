"""Remove labels from a run of recipe memory or fuse and write the result as a new run.

    tfxc remove-labels RUN --labels gone.txt --output RUN2

The file names one label on each line. They leave the memory of the run, and so do the examples that
have no other label: what is left is, bit for bit, what it would be if they had never been there,
with the same text features. Nothing is trained; a ranker and the trees of a fusion stay as they
are, and the ranker's answers for these labels do not count.

RUN is not changed. See docs/rare_labels.md.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

from tfxc.core.bounds import Option
from tfxc.core.command_options import parse
from tfxc.core.shared_options import RunOption


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(RunOption):
    """Options of ``tfxc remove-labels``.

    Attributes:
        labels: text file with one label on each line.
        output: run folder to write.
    """

    labels: Annotated[str, Option("FILE", remote=True)]
    output: Annotated[str, Option("RUN2", mirror="writes")]


def main(argv: Sequence[str] | None = None) -> int:
    """Removes labels from one run."""
    options = parse(Options, argv, "remove-labels", __doc__)
    from tfxc.core.storage.reading import read_text
    from tfxc.data.reading.source_files import staged
    from tfxc.recipes.memory.updates import remove_labels
    from tfxc.runs.loaded import load_run

    path = staged(options.labels, "--labels")
    # Not ``splitlines``: a label may hold other characters that it cuts at.
    text = read_text(path, fix="name a file with one label on each line")
    lines = text.removeprefix("\ufeff").split("\n")
    names = [line for line in (line.removesuffix("\r") for line in lines) if line]
    loaded = load_run(options.run, options.trust)
    gone = remove_labels(loaded, names, options.output)
    print(
        f"{options.output}: {len(set(names)):,} labels are gone, and {gone:,} examples that had no "
        "other label"
    )
    return 0
