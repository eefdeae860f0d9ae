"""Train a student on the predictions of finished runs, its teachers.

    tfxc distill --config STUDENT.json --teacher RUN

The teachers have the same labels as the student and read its training file with their own
features. The command is the same as "tfxc train" with recipe "distill", whose other settings are
those of the config. Run again, the same command resumes a stopped training run.
"""

import argparse
from collections.abc import Sequence

from tfxc.commands import train
from tfxc.core import cli
from tfxc.core.escaping import json_text


def main(argv: Sequence[str] | None = None) -> int:
    """Trains the student."""
    options = _parser().parse_args(argv)
    changes = ["--set", "recipe.name=distill"]  # another recipe's arguments go with it
    if options.trust:
        changes += ["--set", "recipe.trust=true"]
    for name in ("teachers", "hard_weight", "temperature", "distance"):
        if getattr(options, name) is not None:
            changes += ["--set", f"recipe.{name}={json_text(getattr(options, name))}"]
    for change in options.set:
        changes += ["--set", change]
    command = ["--config", options.config, "--prepared", options.prepared, *changes]
    command += [f"--{name}" for name in ("fresh", "json") if getattr(options, name)]
    return train.main(command)


def _parser() -> argparse.ArgumentParser:
    options = cli.parser("distill", __doc__)
    cli.add_trust_option(options)
    cli.add_config_options(options)
    options.add_argument(
        "--teacher",
        dest="teachers",
        action="append",
        required=True,
        metavar="RUN",
        help="run folder of a teacher; give it several times to average several teachers, or, with "
        "--set recipe.turns=[1,1], to let them teach one after the other",
    )
    options.add_argument(
        "--hard-weight",
        type=cli.number,
        help="weight of the true labels in the loss (default: 0.1)",
    )
    options.add_argument(
        "--temperature",
        type=cli.number,
        help="temperature of the softmax of student and teacher (default: 4)",
    )
    options.add_argument(
        "--distance",
        choices=["kl", "ce", "mse"],
        help="distance between the logits of student and teacher (default: kl)",
    )
    options.add_argument(
        "--fresh",
        action="store_true",
        help="delete an earlier run in the run folder and start over",
    )
    train.add_json_option(options)
    return options
