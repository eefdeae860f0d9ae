"""Make a run smaller and write it as a new run.

    tfxc prune --run RUN --output RUN2 --num-heads 6 --min-count 2

RUN is not changed. The command removes the attention heads and inner units (encoders "pretrained"
and "transformer") that matter least for the loss on training examples, and the rarest tokens. With
--epochs, the smaller model is trained afterwards to regain accuracy.

The command is the same as "tfxc train" with recipe "prune". Run again, the same command resumes a
stopped training run.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tfxc.commands import train
from tfxc.core import registry
from tfxc.core.bounds import Count, NotNegative, Option
from tfxc.core.command_options import parse
from tfxc.core.errors import ConfigError
from tfxc.core.escaping import json_text
from tfxc.core.shared_options import PreparedOption, RunOption, SetOption
from tfxc.core.storage.reading import read_json

_COUNTED_TEXT_FEATURES = ("characters", "words", "pretrained")
_SIZES = ("num_heads", "feed_forward_dim", "iters", "examples")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(RunOption, SetOption, PreparedOption):
    """Options of ``tfxc prune``.

    Attributes:
        run: finished run to prune.
        output: run folder to write.
        num_heads: number of attention heads to keep in each layer; None means all.
        feed_forward_dim: number of inner units to keep in each layer; None means all.
        uneven_heads: treat --num-heads as a mean, so that important layers keep more heads.
        min_count: drop tokens that occur fewer than N times in the training texts; None means drop
            none.
        iters: number of pruning steps; None means 4.
        examples: number of training examples that measure importance; None means 2048.
        epochs: number of epochs to train afterwards; None means 0.
        set: change another config key.
        fresh: delete an earlier run in RUN2 and start over.
    """

    output: Annotated[str, Option("RUN2", mirror="writes")]
    num_heads: Count | None = None
    feed_forward_dim: Count | None = None
    uneven_heads: bool = False
    min_count: Count | None = None
    iters: Count | None = None
    examples: Count | None = None
    epochs: Annotated[NotNegative | None, Option("E")] = None
    fresh: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Prunes one run and prints both sizes."""
    options = parse(Options, argv, "prune", __doc__)
    from tfxc.runs.folder import RunFolder

    path = Path(options.run) / "config.json"
    if not path.is_file():
        raise ConfigError(
            f"{options.run} is not a finished run: it has no config.json",
            where="--run",
            fix="train it first",
        )
    source = read_json(path, fix="give a run folder")
    if not options.trust:  # its config becomes that of the new run
        registry.refuse_modules(source, path)
    if not source.get("encoder"):
        raise ConfigError(
            "this run has no encoder that could be made smaller",
            where=options.run,
            fix="a ranker gets smaller by a higher recipe.ranker.threshold, or by tfxc export",
        )
    section = {
        "name": "prune",
        "trust": options.trust,
        "source": options.run,
        "finetune": bool(options.epochs),
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
    if options.epochs:
        changes.append(f"training.epochs={options.epochs}")
    code = train.train(
        train.Options(
            config=str(path),
            prepared=options.prepared,
            set=[*changes, *options.set],
            fresh=options.fresh,
        )
    )
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
    from tfxc.core.storage.files import folder_bytes
    from tfxc.model import make_components
    from tfxc.recipes.prune.layer_slices import layer_sizes
    from tfxc.runs.loaded import load_run
    from tfxc.runs.writer import WEIGHTS
    from tfxc.training.memory.estimate import weight_shapes

    loaded = load_run(path, trust)
    encoder, head, _ = make_components(loaded.config, **loaded.dimensions)
    weight_shapes(encoder, head)  # makes the weights, without values
    count = sum(w.shape.num_elements() for w in (*encoder.weights, *head.weights))
    sizes = {
        "parameters": f"{count:,}",
        "weights on disk": f"{(loaded.folder / WEIGHTS).stat().st_size / 1e6:,.2f} MB",
        "assets on disk": f"{folder_bytes(loaded.folder / 'assets') / 1e6:,.2f} MB",
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
