"""Write a model card of a run.

    tfxc card RUN --license apache-2.0 --language en

Measures the run as tfxc report does, and writes RUN/card.md: results, data, config and machine. It
begins with the front matter that the Hugging Face Hub reads (license, language, tags, datasets,
metrics, model-index). The Hub reads it from a file called README.md: use --output FOLDER/README.md.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tfxc.core.bounds import Option
from tfxc.core.command_options import parse
from tfxc.core.shared_options import RunOption
from tfxc.inference.search_options import SearchOptions
from tfxc.reports.measurement import Measurement


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(RunOption):
    """Options of ``tfxc card``.

    Attributes:
        output: file to write; None means card.md in the run.
        name: name of the model; None means the name of the run's folder.
        license: the model's license as the Hub names it, e.g. apache-2.0.
        language: language of the texts, e.g. en; repeat it for several languages.
        tag: tag in addition to those of the run; repeat it for several tags.
        measurement: what is measured, and on what
        search: how labels are searched
    """

    output: Annotated[str | None, Option("FILE", mirror="writes")] = None
    name: Annotated[str | None, Option("NAME")] = None
    license: Annotated[str, Option("NAME")] = "unknown"
    language: Annotated[Sequence[str], Option("CODE", repeated=True)] = ()
    tag: Annotated[Sequence[str], Option("TAG", repeated=True)] = ()
    measurement: Measurement = Measurement()
    search: SearchOptions = SearchOptions()


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the card of one run."""
    options = parse(Options, argv, "card", __doc__)
    from tfxc.core.storage.files import atomic_file
    from tfxc.reports.card import FILE, model_card
    from tfxc.reports.measured import measure
    from tfxc.runs.loaded import load_run

    search = dataclasses.replace(options.search, streamed=True)
    loaded = load_run(options.run, options.trust, search)
    path = Path(options.output or loaded.folder.path / FILE)
    measured = measure(loaded, options.measurement, "RUN")
    text = model_card(measured, options.license, options.language, options.tag, options.name)
    with atomic_file(path) as stream:
        stream.write(text)
    print(f"written: {path}")
    return 0
