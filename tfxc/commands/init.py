"""Write a config for a data file, which you can read and change.

    tfxc init my.csv
    tfxc init my.csv --preset best --output my.json
    tfxc train --config my.json

tfxc detects the file's format, columns, language and size, and whether examples have one label or
several. It writes everything that training needs into the config. `tfxc train my.csv` does the same
and then trains.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tfxc.core.bounds import Option
from tfxc.core.command_options import parse
from tfxc.core.errors import ConfigError
from tfxc.core.messages import NOTES
from tfxc.core.shared_options import FileChoices, SetOption


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(SetOption):
    """Options of ``tfxc init``.

    Attributes:
        file: training file or folder.
        output: config to write; None means the data file's name with .json.
        force: replace an existing config.
        choices: contents of the config
    """

    file: Annotated[str, Option("FILE", positional=True, remote=True)]
    output: Annotated[str | None, Option("FILE", mirror="writes")] = None
    force: bool = False
    choices: FileChoices = dataclasses.field(default_factory=FileChoices)


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the config and prints what it was made from."""
    options = parse(Options, argv, "init", __doc__)
    from tfxc.commands.train import check_config
    from tfxc.core.config import parse_config
    from tfxc.data.reading.inspection.completion import completed_of, name_of, write_config
    from tfxc.data.text.registry import build_text_features

    output = Path(options.output or f"{name_of(options.file)}.json")
    if output.exists() and not options.force:
        raise ConfigError(
            "this file already exists",
            where=output,
            fix="choose another name with --output, or replace it with --force",
        )
    completed = completed_of(options.file, options.choices, options.set)
    config = parse_config(completed.tree, where=options.file)
    check_config(config)
    if config.data.text_features is not None:
        build_text_features(config.data.text_features)
    write_config(output, completed.tree)
    for line in completed.lines():
        print(line)
    if completed.contents is not None and completed.contents.warning is not None:
        NOTES.warning(completed.contents.warning)
    print(f"written: {output}; train with `tfxc train --config {output}`")
    return 0
