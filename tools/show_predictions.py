"""Print a few test examples with their true labels and a SavedModel's predictions.

    python tools/show_predictions.py --run RUN --savedmodel RUN/savedmodel

Only TensorFlow is needed to load and call the model; tfxc is used to read the examples.
"""

import textwrap

from tfxc.core import cli
from tfxc.core.errors import ConfigError
from tfxc.core.escaping import one_line


def main(argv=None):
    """Shows predictions of a text model."""
    parser = cli.tool_parser("show_predictions", __doc__)
    parser.add_argument("--run", required=True, help="run folder, for the settings of its data")
    cli.add_trust_option(parser)
    parser.add_argument("--savedmodel", required=True, help="folder written by tfxc export")
    parser.add_argument(
        "--split", default="test", help="split to read examples from (default: test)"
    )
    parser.add_argument(
        "--count", type=cli.positive, default=5, help="number of examples (default: 5)"
    )
    options = parser.parse_args(argv)
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
    """Every n-th example of a split, with more than one label: (text, labels)."""
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
