"""Make a run smaller and write it as a new run.

    tfxc prune --run RUN --output RUN2 --num-heads 6 --min-count 2

RUN is not changed. The heads and inner units removed (encoders "pretrained" and "transformer")
are those on which the loss on training examples depends least, the tokens removed are the rarest.
With --epochs, the smaller model is trained afterwards to regain accuracy. The command is the same
as "tfxc train" with recipe "prune". Run again, the same command resumes a stopped training run.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tfxc.commands import train
from tfxc.core import cli, registry
from tfxc.core.errors import ConfigError
from tfxc.core.escaping import json_text
from tfxc.core.storage.reading import read_json

_COUNTED_TEXT_FEATURES = ("characters", "words", "pretrained")
_SIZES = ("num_heads", "feed_forward_dim", "iters", "examples")


def main(argv: Sequence[str] | None = None) -> int:
    """Prunes one run and prints both sizes."""
    options = _parser().parse_args(argv)
    from tfxc.runs.folder import RunFolder

    path = Path(options.run) / "config.json"
    if not path.is_file():
        raise ConfigError(
            f"{options.run} is not a finished run: it has no config.json",
            where="--run",
            fix="train it first",
        )
    if not options.trust:  # its config becomes that of the new run
        registry.refuse_modules(read_json(path, fix="give a run folder"), path)
    section = {
        "name": "prune",
        "trust": options.trust,
        "source": options.run,
        "finetune": options.epochs is not None,
    }
    for name in _SIZES:
        if getattr(options, name) is not None:
            section[name] = getattr(options, name)
    section["uneven_heads"] = options.uneven_heads
    changes = [f"run={json_text(options.output)}", f"recipe={json_text(section)}"]
    if options.min_count is not None:
        text_features = RunFolder(path.parent).config().data.text_features or {}
        if text_features.get("name") not in _COUNTED_TEXT_FEATURES:
            raise ConfigError(
                f"rare tokens can be dropped from text features {', '.join(_COUNTED_TEXT_FEATURES)}"
                f", but the run has {text_features.get('name') or 'none'}",
                where="--min-count",
                fix="leave it out",
            )
        changes.append(f"data.text_features.min_count={options.min_count}")
    if options.epochs is not None:
        changes.append(f"training.epochs={options.epochs}")
    command = ["--config", str(path), "--prepared", options.prepared]
    for change in [*changes, *options.set]:
        command += ["--set", change]
    code = train.main([*command, "--fresh"] if options.fresh else command)
    if code == 0:
        print(size_table(options.run, options.output, options.trust))
    return code


def size_table(before: str | Path, after: str | Path, trust: bool = False) -> str:
    """Returns sizes of two runs side by side, as text.

    Args:
        before, after: run folders.
        trust: see ``tfxc.Run``.
    """
    rows = [("", str(before), str(after))]
    sizes_before = _sizes(before, trust)
    sizes_after = _sizes(after, trust)
    rows += [(name, size, sizes_after[name]) for name, size in sizes_before.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{name:{widths[0]}}  {left:>{widths[1]}}  {right:>{widths[2]}}"
        for name, left, right in rows
    )


def _sizes(path: str | Path, trust: bool) -> dict[str, str]:
    from tfxc.model import make_components
    from tfxc.recipes.prune.layer_slices import layer_sizes
    from tfxc.runs.loaded import load_run
    from tfxc.runs.writer import WEIGHTS
    from tfxc.training.memory.estimate import weight_shapes

    loaded = load_run(path, trust)
    encoder, head, _ = make_components(loaded.config, **loaded.dimensions)
    weight_shapes(encoder, head)  # makes the weights, without values
    count = sum(w.shape.num_elements() for w in (*encoder.weights, *head.weights))
    assets = (file for file in (loaded.folder / "assets").rglob("*") if file.is_file())
    sizes = {
        "parameters": f"{count:,}",
        "weights on disk": f"{(loaded.folder / WEIGHTS).stat().st_size / 1e6:,.2f} MB",
        "assets on disk": f"{sum(file.stat().st_size for file in assets) / 1e6:,.2f} MB",
        "vocabulary": f"{loaded.manifest['num_features']:,}",
    }
    if encoder.gates is not None:
        heads, units = zip(*layer_sizes(encoder), strict=True)
        sizes["heads per layer"] = _per_layer(heads)
        sizes["inner units per layer"] = _per_layer(units)
    return sizes


def _per_layer(counts: Sequence[int]) -> str:
    shown = counts[:1] if len(set(counts)) == 1 else counts
    return " ".join(f"{count:,}" for count in shown)


def _parser() -> argparse.ArgumentParser:
    options = cli.parser("prune", __doc__)
    cli.add_trust_option(options)
    options.add_argument("--run", required=True, metavar="RUN", help="finished run to prune")
    options.add_argument("--output", required=True, metavar="RUN2", help="run folder to write")
    options.add_argument(
        "--num-heads", type=cli.integer, help="attention heads to keep in each layer (default: all)"
    )
    options.add_argument(
        "--feed-forward-dim",
        type=cli.integer,
        help="inner units to keep in each layer (default: all)",
    )
    options.add_argument(
        "--uneven-heads",
        action="store_true",
        help="treat --num-heads as a mean, so that important layers keep more heads",
    )
    options.add_argument(
        "--min-count",
        type=cli.positive,
        metavar="N",
        help="drop tokens that occur fewer than N times in the training texts (default: drop none)",
    )
    options.add_argument("--iters", type=cli.positive, help="number of pruning steps (default: 4)")
    options.add_argument(
        "--examples",
        type=cli.positive,
        help="training examples used to measure importance (default: 2048)",
    )
    options.add_argument(
        "--epochs", type=cli.number, metavar="E", help="epochs to train afterwards (default: 0)"
    )
    options.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change another config key"
    )
    cli.add_prepared_option(options)
    options.add_argument(
        "--fresh", action="store_true", help="delete an earlier run in RUN2 and start over"
    )
    return options
