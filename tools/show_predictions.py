"""Print a few test examples with their true labels and a SavedModel's predictions.

    python tools/show_predictions.py --run RUN --savedmodel RUN/savedmodel

Only TensorFlow is needed to load and call the model; tfxc is used to read the examples.
"""

import dataclasses
import textwrap
from typing import Annotated

from tfxc.core import cli
from tfxc.core.bounds import Count, Option
from tfxc.core.command_options import parse
from tfxc.core.errors import ConfigError
from tfxc.core.escaping import one_line
from tfxc.core.shared_options import RunOption


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(RunOption):
    """Options of the tool.

    Attributes:
        run: run folder, for the settings of its data.
        savedmodel: folder written by tfxc export.
        split: split to read examples from.
        count: number of examples.
    """

    savedmodel: Annotated[str, Option("FOLDER")]
    split: str = "test"
    count: Count = 5


def main(argv=None):
    """Shows predictions of a text model."""
    options = parse(Options, argv, "tools/show_predictions.py", __doc__)
    examples = list(read_examples(options.run, options.split, options.count, options.trust))
    import tensorflow as tf

    model = tf.saved_model.load(options.savedmodel)
    answer = model.signatures["serving_default"]
    result = answer(text=tf.constant([text for text, _ in examples]))
    for number, (text, truth) in enumerate(examples):
        shown = textwrap.shorten(text, 160, placeholder=" ...")
        names = result["labels"][number].numpy()
        guesses = [name.decode() for name in names]
        marked = ", ".join(f"[{one_line(g)}]" if g in truth else one_line(g) for g in guesses)
        print(f"\n{one_line(shown)}\n  true: {', '.join(map(one_line, truth))}\n  best: {marked}")
    print("\n[ ] marks a correct label")
    return 0


def read_examples(run, split, count, trust=False):
    """Returns every n-th example of a split, with more than one label: (text, labels)."""
    from tfxc.data.reading.held_out import open_split
    from tfxc.runs.loaded import load_run

    data = load_run(run, trust=trust).config.data
    if split not in data.sources():
        raise ConfigError(
            f"the data has no split {split!r}",
            where="--split",
            fix=f"choose one of: {', '.join(data.sources())}",
        )
    pairs = [
        (text, labels)
        for chunk in open_split(data, split).chunks()
        for text, labels in zip(chunk.texts, chunk.labels, strict=True)
        if len(labels) > 1
    ]
    return pairs[:: max(1, len(pairs) // count)][:count]


if __name__ == "__main__":
    cli.run(main)
