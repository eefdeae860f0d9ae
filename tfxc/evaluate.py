"""Measures a run: ``python -m tfxc.evaluate --run RUN [--split test | --data FILE]``.

Prints one table, writes evaluation-NAME.json and evaluation-NAME.npz (per-example values) into the
run folder. With ``--compare OTHER`` both runs are measured on the same examples and compared by a
paired bootstrap.
"""

import json
from pathlib import Path

from tfxc import cli
from tfxc.errors import ConfigError


def main(argv=None):
    """Measures one run, or compares two."""
    options = _parser().parse_args(argv)
    result = measure(options.run, options)
    if options.compare:
        other = measure(options.compare, options)
        print(_comparison(result, other, options))
    return 0


def measure(path, options):
    """Measures the run in ``path``; returns its per-example values."""
    from tfxc.recipes.runs import load_run

    loaded = load_run(path)
    name, rows = _examples(loaded, options)
    metrics = build_metrics(loaded, options)
    values = _search(loaded, rows, metrics, options)
    print(f"{path} on {name}: {metrics.num_examples:,} examples")
    print(metrics.table())
    folder = Path(options.output or path)
    _write(folder, _file_name(name), path, name, metrics, values)
    return {"path": path, "values": values}


def build_metrics(loaded, options):
    """The metric suite a run is measured by."""
    from tfxc.metrics import suite

    settings = loaded.config.evaluation
    ks = options.k or settings.k
    num_labels = loaded.manifest["num_labels"]
    too_large = [k for k in ks if k > num_labels]
    if too_large:
        raise ConfigError(
            f"k = {too_large[0]} is asked for, the run has {num_labels} labels",
            where="--k" if options.k else "evaluation.k",
            fix=f"choose k up to {num_labels}",
        )
    return suite.build_metrics(
        ks=tuple(ks),
        label_counts=loaded.label_counts,
        num_train_examples=loaded.manifest["splits"]["train"]["examples"],
        propensity=settings.propensity,
        threshold=settings.threshold if options.threshold is None else options.threshold,
    )


def _examples(loaded, options):
    """A name and an iterator of ``Rows``."""
    if options.data:
        return str(options.data), _rows_of_file(loaded, options.data, options)
    from tfxc.data.preparation import ensure_prepared
    from tfxc.data.source import ShardSource

    folder = ensure_prepared(loaded.config.data, options.prepared)
    splits = loaded.manifest["splits"]
    split = options.split or next(s for s in ("test", "dev", "train") if s in splits)
    if split not in splits:
        raise ConfigError(
            f"the data has no split {split!r}", where="--split", fix=f"choose {', '.join(splits)}"
        )
    return split, ShardSource(folder, split)


def _rows_of_file(loaded, path, options):
    from tfxc.data.formats import open_reader

    data = loaded.config.data
    arguments = dict(data.reader_options) if options.reader is None else {}
    arguments |= {key: _value(text) for key, _, text in map(_pair, options.reader_option)}
    reader = open_reader(path, name=options.reader or data.reader, **arguments)
    return loaded.rows(reader)


def _pair(text):
    return text.partition("=")


def _value(text):
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _search(loaded, rows, metrics, options):
    """Updates ``metrics`` and returns {name: per-example values}."""
    import numpy as np

    from tfxc.training.search import Searcher

    searcher = Searcher(loaded.model, metrics.min_predictions)
    batch_size = options.batch_size or loaded.config.evaluation.batch_size
    parts = []
    for ids, scores, labels in searcher.over_rows(rows, batch_size, "evaluating"):
        metrics.update(ids, scores, labels)
        parts.append(metrics.per_example(ids, scores, labels))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _write(folder, name, run, data, metrics, values):
    import numpy as np

    from tfxc.files import atomic_file

    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / f"{name}.json") as stream:
        record = {
            "run": str(run),
            "data": data,
            "examples": metrics.num_examples,
            "metrics": metrics.result(),
        }
        json.dump(record, stream, indent=2)
    with atomic_file(folder / f"{name}.npz", "wb") as stream:
        np.savez_compressed(stream, **values)
    print(f"written: {folder / name}.json and .npz (per example)")


def _file_name(name):
    plain = "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(name).name)
    return f"evaluation-{plain}"


def _comparison(one, other, options):
    from tfxc.metrics.bootstrap import paired_bootstrap

    lines = [f"{one['path']} minus {other['path']}, 95 % interval of a paired bootstrap:"]
    for name, values in one["values"].items():
        found = paired_bootstrap(values, other["values"][name], seed=options.seed)
        low, high = 100 * found["low"], 100 * found["high"]
        lines.append(
            f"  {name:18} {100 * found['difference']:+6.2f}  [{low:+.2f}, {high:+.2f}]  "
            f"p = {found['p_value']:.4f}"
        )
    return "\n".join(lines)


def _parser():
    options = cli.parser("evaluate", __doc__)
    options.add_argument("--run", required=True, metavar="RUN", help="run folder")
    options.add_argument("--split", help="split of the run's data (default: test, else dev)")
    options.add_argument("--data", metavar="FILE", help="any readable file instead of a split")
    options.add_argument("--reader", help="format of FILE where its name does not tell")
    options.add_argument(
        "--reader-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option of the reader, e.g. label_separator=, (may be given several times)",
    )
    options.add_argument("--k", type=_ks, help="cut-offs, e.g. 1,3,5 (default: the config's)")
    options.add_argument("--threshold", type=float, help="score from which a label counts, for F1")
    options.add_argument("--batch-size", type=int, help="examples searched at a time")
    options.add_argument("--compare", metavar="RUN2", help="another run to compare with")
    options.add_argument("--output", metavar="FOLDER", help="where to write (default: RUN)")
    options.add_argument("--prepared", default="prepared", help="where prepared records are kept")
    options.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    return options


def _ks(text):
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    cli.run(main)
