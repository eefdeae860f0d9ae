"""Look for what is odd in a data file: duplicates, contradictions, gaps, names that look alike.

    tfxc check my.csv
    tfxc check my.csv --write-clean clean.csv
    tfxc check my.csv --json

It reads the file as `tfxc train my.csv` does, which prints the same, of what occurs. Rows are
counted from 1, without a header.

With --write-clean, a copy is written, in the file's order and with all its columns. Empty texts and
duplicates are left out, and rows without a label where all others have one. Of label names that
look alike, the most frequent one replaces the others. Texts with contradicting labels stay. The
copy of a CSV or TSV file is one, that of any other is a .jsonl file.

The exit code is 0 if there is nothing to settle (with --write-clean, nothing else), 1 if there is,
2 if the file cannot be used.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tfxc.core.bounds import Option
from tfxc.core.command_options import parse
from tfxc.core.errors import ConfigError
from tfxc.core.escaping import json_text
from tfxc.core.messages import NOTES
from tfxc.core.shared_options import ColumnChoices, SetOption

if TYPE_CHECKING:
    from tfxc.data.reading.inspection.contents import Contents


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(SetOption, ColumnChoices):
    """Options of ``tfxc check``.

    Attributes:
        file: training file or folder.
        write_clean: write a copy without what can be settled.
        json: print one JSON object.
    """

    file: Annotated[str, Option("FILE", positional=True, remote=True)]
    write_clean: Annotated[str | None, Option("FILE", mirror="writes")] = None
    json: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Prints what is odd in a file; returns 1 if something should be settled."""
    options = parse(Options, argv, "check", __doc__)
    if options.write_clean is not None and Path(options.write_clean).exists():
        raise ConfigError(
            "this file already exists",
            where=f"--write-clean {options.write_clean}",
            fix="choose another name",
        )
    from tfxc.core.config import changed, check_given
    from tfxc.data.reading.inspection.cleaning import write_clean
    from tfxc.data.reading.inspection.completion import (
        describe,
        oddities,
        reading_options,
        wanted_of,
    )
    from tfxc.data.reading.inspection.contents import inspect
    from tfxc.data.reading.source_files import staged

    check_given(changed({}, options.set), "--set")
    tree = {"data": {"train": options.file, "reader_options": reading_options(options)}}
    data = changed(tree, options.set)["data"]
    wanted = wanted_of(options)
    contents = inspect(options.file, wanted, data.get("reader"), data["reader_options"])
    assert contents.findings is not None, "the file was looked at"
    findings = contents.findings.findings(contents.skips_unlabelled)
    open_ones = [finding for finding in findings if finding.count and finding.to_settle]
    if not options.json:
        print(f"{options.file}: {describe(contents)}")
        for line in oddities(contents, everything=True):
            print(f"  {line}")
        if contents.warning is not None:
            NOTES.warning(contents.warning)
    record = _record(options.file, contents)
    if options.write_clean is not None:
        source = Path(staged(options.file, "FILE"))
        cleaned = write_clean(source, contents, Path(options.write_clean))
        record["clean"] = {"written": options.write_clean, **dataclasses.asdict(cleaned)}
        if not options.json:
            print(f"written: {options.write_clean}, {cleaned.rows:,} rows")
        open_ones = [finding for finding in open_ones if not finding.is_cleaned]
    if options.json:
        print(json_text(record))
    elif open_ones:
        print("to settle:")
        for finding in open_ones:
            print(f"  {finding.name}: {finding.fix}")
        if any(finding.is_cleaned for finding in open_ones):
            print("--write-clean FILE writes a copy in which all but contradictions is settled")
    return 1 if open_ones else 0


def _record(file: str, contents: "Contents") -> dict[str, Any]:
    """Returns what was found as ``--json`` prints it."""
    record = dataclasses.asdict(contents)
    names = ("format", "options", "kind", "examples", "complete", "labels", "labels_each", "unused")
    findings = record["findings"]
    del findings["labels"]
    return {"file": file} | {name: record[name] for name in names} | findings
