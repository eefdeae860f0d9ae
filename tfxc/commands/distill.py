"""Distils runs into a student: ``tfxc distill --config STUDENT --teacher RUN``.

The same as ``tfxc train`` with recipe ``distill``. The teachers are finished runs over
the same labels; they read the student's training file with their own features. What else the
config's recipe 'distill' says stays. Given again, the same command goes on with a stopped training.
"""

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
    return train.main([*command, "--fresh"] if options.fresh else command)


def _parser():
    options = cli.parser("distill", __doc__)
    cli.add_trust_option(options)
    cli.add_config_options(options)
    options.add_argument(
        "--teacher",
        dest="teachers",
        action="append",
        required=True,
        metavar="RUN",
        help="run folder of a teacher (several are averaged)",
    )
    options.add_argument("--hard-weight", type=cli.number, help="weight of the true labels (0.1)")
    options.add_argument("--temperature", type=cli.number, help="of both probabilities (4)")
    options.add_argument("--distance", choices=["kl", "ce", "mse"], help="of the logits (kl)")
    options.add_argument("--fresh", action="store_true", help="throw an earlier run away")
    return options
