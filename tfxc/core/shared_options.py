"""Options that several commands share, declared once; see ``tfxc.core.command_options``."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from tfxc.core.bounds import Count, Option


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrustOption:
    """Of commands that open runs.

    Attributes:
        trust: import the modules that a run's config names (MODULE:CLASS), which runs their code.
    """

    trust: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOption(TrustOption):
    """Of commands that open one run.

    Attributes:
        run: run folder.
    """

    run: Annotated[str, Option("RUN", name="--run", positional=True)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReaderOptions:
    """Of commands that read a file of examples.

    Attributes:
        reader: format of the file; None means by its name.
        reader_options: option of the reader, e.g. text_field=body (may be given several times).
    """

    reader: Annotated[str | None, Option("READER")] = None
    reader_options: Annotated[Mapping[str, Any], Option("KEY=VALUE", name="--reader-option")] = (
        dataclasses.field(default_factory=dict)
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileOptions(ReaderOptions):
    """Of commands that answer the examples of a file, or of standard input.

    Attributes:
        file: file, or - for standard input.
        reader: format of FILE, e.g. lines for plain text; None means by its name.
        batch_size: examples per batch.
        cluster: Dask scheduler, e.g. tcp://host:8786, whose workers take some batches of FILE at a
            time; None means this machine.
    """

    file: Annotated[str, Option("FILE", positional=True, remote=True)] = "-"
    batch_size: Count = 256
    cluster: Annotated[str | None, Option("ADDRESS")] = None
