"""Write a model card of a run.

    tfxc card RUN --license apache-2.0 --language en

Measures the run as tfxc report does, and writes RUN/card.md: results, data, config and machine,
with the front matter that the Hugging Face Hub reads (license, language, tags, datasets, metrics,
model-index) from a file called README.md: --output FOLDER/README.md.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tfxc.commands.report import add_run_options, measure
from tfxc.core import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the card of one run."""
    options = _parser().parse_args(argv)
    from tfxc.core.storage.files import atomic_file
    from tfxc.reports.card import FILE, model_card

    path = Path(options.output or Path(options.run) / FILE)
    text = model_card(
        measure(options, "RUN"), options.license, options.language, options.tag, options.name
    )
    with atomic_file(path) as stream:
        stream.write(text)
    print(f"written: {path}")
    return 0


def _parser() -> argparse.ArgumentParser:
    options = cli.parser("card", __doc__)
    options.add_argument("run", metavar="RUN", help="run folder")
    add_run_options(options)
    options.add_argument(
        "--output", metavar="FILE", help="file to write (default: card.md in the run)"
    )
    options.add_argument("--name", help="name of the model (default: that of the run's folder)")
    options.add_argument(
        "--license",
        default="unknown",
        metavar="NAME",
        help="the model's license as the Hub names it, e.g. apache-2.0 (default: %(default)s)",
    )
    options.add_argument(
        "--language",
        action="append",
        default=[],
        metavar="CODE",
        help="language of the texts, e.g. en; give it several times for several (default: none)",
    )
    options.add_argument(
        "--tag",
        action="append",
        default=[],
        help="tag in addition to those of the run; give it several times for several",
    )
    return options
