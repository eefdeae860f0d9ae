"""Write a config for a data file, to read and to change.

    tfxc init my.csv
    tfxc init my.csv --preset best --output my.json
    tfxc train --config my.json

tfxc detects the file's format, columns, language and size, and whether examples have one label or
several, and writes everything that training needs into the config. `tfxc train my.csv` does the
same and trains.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tfxc.core import cli
from tfxc.core.errors import ConfigError
from tfxc.core.messages import NOTES


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the config and prints what it was made from."""
    options = _parser().parse_args(argv)
    from tfxc.core.config import parse_config
    from tfxc.data.reading.inspection.completion import completed_of, name_of, write_config

    output = Path(options.output or f"{name_of(options.file)}.json")
    if output.exists() and not options.force:
        raise ConfigError(
            "this file exists already",
            where=output,
            fix="choose another name with --output, or replace it with --force",
        )
    completed = completed_of(options)
    parse_config(completed.tree, where=options.file)
    write_config(output, completed.tree)
    for line in completed.lines():
        print(line)
    if completed.contents is not None and completed.contents.warning is not None:
        NOTES.warning(completed.contents.warning)
    print(f"written: {output}; train with `tfxc train --config {output}`")
    return 0


def _parser() -> argparse.ArgumentParser:
    options = cli.parser("init", __doc__)
    options.add_argument("file", metavar="FILE", help="training file or folder")
    cli.add_file_choices(options)
    options.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a config key, e.g. training.epochs=3; give it several times for several keys",
    )
    options.add_argument(
        "--output", metavar="FILE", help="config to write (default: the data file's name, .json)"
    )
    options.add_argument("--force", action="store_true", help="replace an existing config")
    return options
