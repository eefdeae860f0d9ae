"""Train a student on the predictions of finished runs, its teachers.

    tfxc distill --config STUDENT.json --teacher RUN

The teachers have the same labels as the student and read its training file with their own features.
The command is the same as "tfxc train" with recipe "distill"; the recipe's other settings are those
of the config. Run again, the same command resumes a stopped training run.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal

from tfxc.commands import train
from tfxc.core.bounds import Option
from tfxc.core.command_options import parse
from tfxc.core.escaping import json_text
from tfxc.core.shared_options import ConfigOptions, TrustOption


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(TrustOption, ConfigOptions):
    """Options of ``tfxc distill``.

    Attributes:
        teachers: run folder of a teacher; repeat it to average several teachers or, with --set
            recipe.turns=[1,1], to let them teach one after the other.
        hard_weight: weight of the true labels in the loss; None means 0.1.
        temperature: temperature of the softmax of student and teacher; None means 4.
        distance: distance between the logits of student and teacher; None means kl.
        fresh: delete an earlier run in the run folder and start over.
        json: print the summary as JSON, and everything else on standard error.
    """

    teachers: Annotated[Sequence[str], Option("RUN", name="--teacher", repeated=True)]
    hard_weight: float | None = None
    temperature: float | None = None
    distance: Literal["kl", "ce", "mse"] | None = None
    fresh: bool = False
    json: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Trains the student."""
    options = parse(Options, argv, "distill", __doc__)
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
