"""Train a student on the predictions of finished runs, its teachers; or make a static table.

    tfxc distill --config STUDENT.json --teacher RUN
    tfxc distill models/minilm --to static --output tables/minilm

The teachers have the same labels as the student and read its training file with their own features.
The command is the same as "tfxc train" with recipe "distill"; the recipe's other settings are those
of the config. Run again, the same command resumes a stopped training run.

With --to static, the vectors of a pretrained model's tokens are written as a table for text
features "static". That takes seconds and no texts; Model2Vec reads the table, too.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal

from tfxc.commands import train
from tfxc.core.bounds import Count, Option
from tfxc.core.command_options import given, parse, refuse
from tfxc.core.errors import ConfigError
from tfxc.core.escaping import json_text
from tfxc.core.shared_options import OptionalConfigOptions, TrustOption

_OF_TABLE = ("folder", "output", "dim")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(TrustOption, OptionalConfigOptions):
    """Options of ``tfxc distill``.

    Attributes:
        folder: with --to static, the folder of a pretrained model.
        to: what to make instead of a run: static, a table of a vector per token.
        output: with --to static, folder to write.
        dim: with --to static, length of the vectors; None means 256.
        teachers: run folder of a teacher; repeat it to average several teachers or, with --set
            recipe.turns=[1,1], to let them teach one after the other.
        hard_weight: weight of the true labels in the loss; None means 0.1.
        temperature: temperature of the softmax of student and teacher; None means 4.
        distance: distance between the logits of student and teacher; None means kl.
        fresh: delete an earlier run in the run folder and start over.
        json: print the summary as JSON, and everything else on standard error.
    """

    folder: Annotated[str | None, Option("FOLDER", positional=True)] = None
    to: Literal["static"] | None = None
    output: Annotated[str | None, Option("FOLDER")] = None
    dim: Count | None = None
    teachers: Annotated[Sequence[str], Option("RUN", name="--teacher", repeated=True)] = ()
    hard_weight: float | None = None
    temperature: float | None = None
    distance: Literal["kl", "ce", "mse"] | None = None
    fresh: bool = False
    json: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Trains the student, or writes the table."""
    options = parse(Options, argv, "distill", __doc__)
    if options.to is not None:
        return _write_table(options)
    refuse(options, _OF_TABLE, "this belongs to --to static", "add --to static, or leave it out")
    if options.config is None or not options.teachers:
        raise ConfigError(
            "a student needs both a config and a teacher",
            where="--teacher" if options.config else "--config",
            fix="give it, or make a static table with --to static",
        )
    changes = ["recipe.name=distill"]  # another recipe's arguments go with it
    if options.trust:
        changes.append("recipe.trust=true")
    for name in ("teachers", "hard_weight", "temperature", "distance"):
        if getattr(options, name) is not None:
            changes.append(f"recipe.{name}={json_text(getattr(options, name))}")
    return train.train(
        train.Options(
            config=options.config,
            prepared=options.prepared,
            set=[*changes, *options.set],
            fresh=options.fresh,
            json=options.json,
        )
    )


def _write_table(options: Options) -> int:
    others = [name for name in given(options) if name not in (*_OF_TABLE, "to")]
    refuse(options, others, "this does not belong to --to static")
    if options.folder is None or options.output is None:
        raise ConfigError(
            "a static table needs the folder of a pretrained model and a folder to write",
            where="--output" if options.folder else "FOLDER",
            fix="e.g. tfxc distill models/minilm --to static --output tables/minilm",
        )
    from tfxc.recipes.distill.static_table import distill_static

    tokens, dim = distill_static(options.folder, options.output, options.dim or 256)
    print(f"{options.output}: {dim} values for each of {tokens:,} tokens")
    return 0
