"""Train a model on a data file, or the model of a config.

    tfxc train my.csv
    tfxc train my.csv --test test.csv --preset fast
    tfxc train my.csv --minutes 10
    tfxc train images/ --epochs 20
    tfxc train s3://bucket/my.csv --run s3://bucket/runs/my
    tfxc train --config quickstart
    tfxc train --config my.json --epochs 3 --set run=runs/short
    tfxc train --config mach_amazon670k --rehearse 0.01

FILE is a CSV, TSV, JSON lines or Parquet file, lines of fastText, svmlight, Vowpal Wabbit, the
Extreme Classification Repository or PECOS, a folder of images per class, or a data set of Hugging
Face (hf:NAME). FILE and the run may also be addresses such as s3://bucket/my.csv.

tfxc detects columns, labels, splits and language. It writes the complete config next to the run
folder, as runs/NAME.json, which you can change and pass with --config.

A part of FILE is held out first (see --no-refit): a model trained without it chooses the number of
epochs and is measured, in RUN/held-out. Then the run itself is trained on all of FILE.

Run again, the same command resumes a stopped training run and does nothing after a finished one.
With more epochs, a finished run continues from its end; with --from-step, a run continues from an
earlier checkpoint (after a refit, of the training on all).

With --minutes N, each preset is trained without the part that is held out, then the better one with
other settings that Optuna chooses (of one preset, with --preset). After N minutes, or Ctrl-C, the
best is trained on all; RUN/tried.json says what was tried. Stopped during that last training, the
same command resumes it. Killed before, it starts again.

With --rehearse, a config is trained on a stand-in for its data, drawn with the sizes of the
published set, into RUN-rehearsal. The summary says how many seconds and how much memory and disk
that took. With --dry-run as well, no file is needed and none is written.
"""

import contextlib
import dataclasses
import functools
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tfxc.core.bounds import KINDS, Count, Natural, Option, Positive, ShareAboveZero
from tfxc.core.command_options import given, parse, value_of
from tfxc.core.errors import ConfigError, option_of
from tfxc.core.escaping import clipped, json_text, one_line
from tfxc.core.interrupts import Stopped
from tfxc.core.progress import duration
from tfxc.core.shared_options import FileChoices, OptionalConfigOptions
from tfxc.core.storage.mirror import mirrored
from tfxc.core.storage.remote import is_remote

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.reading.inspection.completion import Completed
    from tfxc.recipes.base import Recipe
    from tfxc.training.memory.estimate import Memory
    from tfxc.training.rehearsal.rehearsal import Rehearsal


# Of so many, the interval of P@1 is up to 14 points wide.
_FEW_DEV_EXAMPLES = 200
# Options that --minutes has no use for.
_NOT_IN_TIME = (
    "config",
    "rehearse",
    "repetition",
    "from_step",
    "cluster",
    "dry_run",
    "print_config",
)


def _gpu(text: str) -> int | None:
    """Reads ``--gpu``; ``all`` is its default, as the original code of MACH writes it."""
    return None if text == "all" else value_of(text, Natural)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(OptionalConfigOptions):
    """Options of ``tfxc train``.

    Attributes:
        file: training file or folder.
        minutes: try presets and settings near the best of them for N minutes, and train the one
            that is best on the examples that are held out (needs the extra 'search').
        epochs: short for --set training.epochs=E.
        batch_size: short for --set training.batch_size=N.
        seed: short for --set seed=N.
        repetition: train only repetition R, from 0.
        gpu: use only GPU G, from 0; None means all GPUs.
        gpu_usage: share of the GPU's memory to use, in (0, 1]; None means as TensorFlow chooses.
        fresh: delete an earlier run in the run folder and start over.
        from_step: resume from the checkpoint of step N; None means the newest.
        drop_later: with --from-step, delete what was trained after step N.
        cluster: let the workers of this Dask scheduler, e.g. tcp://host:8786, prepare the data and
            then solve the blocks of a linear ranker, or train one repetition or fold each; None
            means this machine does all.
        dry_run: print sizes and memory, try one batch, and write no run.
        rehearse: train on a stand-in for the config's data, into RUN-rehearsal; SHARE of the
            published set's examples and labels are drawn (default: 1).
        print_config: print the resolved config and exit.
        list: list the methods of a kind and exit.
        json: print the summary as JSON, and everything else on standard error.
        choices: for training on a data file (a config states these itself)
    """

    file: Annotated[str | None, Option("FILE", positional=True, remote=True)] = None
    minutes: Annotated[Positive | None, Option("N")] = None
    epochs: Annotated[Positive | None, Option("E")] = None
    batch_size: Count | None = None
    seed: Natural | None = None
    repetition: Annotated[int | None, Option("R")] = None
    gpu: Annotated[int | None, Option("G", read=_gpu)] = None
    gpu_usage: Annotated[ShareAboveZero | None, Option("SHARE", name="--gpu_usage")] = None
    fresh: Annotated[bool, Option(excludes="start")] = False
    from_step: Annotated[Natural | None, Option(excludes="start")] = None
    drop_later: bool = False
    cluster: Annotated[str | None, Option("ADDRESS", remote=True)] = None
    dry_run: bool = False
    rehearse: Annotated[ShareAboveZero | None, Option("SHARE", alone=1.0)] = None
    print_config: bool = False
    list: Literal[tuple(f"{kind}s" for kind in KINDS)] | None = None  # type: ignore[valid-type]
    json: bool = False
    choices: FileChoices = dataclasses.field(default_factory=FileChoices)

    @property
    def changes(self) -> Sequence[str]:
        """Changes of the config, as ``--set`` takes them."""
        short = {
            "training.epochs": self.epochs,
            "training.batch_size": self.batch_size,
            "seed": self.seed,
        }
        named = [f"{key}={value}" for key, value in short.items() if value is not None]
        return [*self.set, *named]


def main(argv: Sequence[str] | None = None) -> int:
    """Trains, or prints what training would do."""
    return train(parse(Options, argv, "train", __doc__))


def train(options: Options) -> int:
    """Trains as the options say; returns the exit code of the command."""
    if options.list:
        from tfxc.core import registry

        for name in registry.names(options.list.rstrip("s")):
            method = registry.get(options.list.rstrip("s"), name)
            print(f"{name:14} {(method.__doc__ or '').strip().splitlines()[0]}")
        return 0
    _check(options)
    try:
        config, completed = _config(options)
    except Stopped as stop:
        print(f"{stop}; the same command starts again")
        return 128 + stop.signal_number
    with contextlib.ExitStack() as stack:
        rehearsal = None
        if (share := options.rehearse) is not None:
            from tfxc.core.storage.locks import scratch_folder
            from tfxc.training.rehearsal.config import rehearsed

            if options.dry_run:  # one that is only planned leaves nothing
                folder = str(stack.enter_context(scratch_folder("rehearsal")))
                options = dataclasses.replace(options, prepared=folder)
            rehearsal = rehearsed(config, share, options.prepared, sample=options.dry_run)
            config = rehearsal.config
        if options.print_config:
            print(config.to_json())
            return 0
        if options.json:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        code, summary = _train(config, options, completed, rehearsal)
    if summary is not None:
        print(json_text(summary) if options.json else ending(config, summary))
    return code


def ending(config: "Config", summary: Mapping[str, Any]) -> str:
    """Returns what a finished training says last: how good it is, where it is, what can follow.

    Args:
        config: of the run.
        summary: what ``Recipe.run`` returned.
    """
    from tfxc.training.reporting import headline

    seconds = summary.get("seconds")
    if seconds is not None:
        seconds += summary.get("refit", {}).get("seconds", 0)
    dev = summary.get("dev")
    lines = ["trained" if seconds is None else f"trained in {duration(seconds)}"]
    if dev:
        lines[0] += f"; dev {headline(dev, intervals=summary.get('dev_interval'))}"
    if dev and config.refit is not None:
        folds = config.refit.folds is not None
        lines[0] += ", each example by a" if folds else ", of the"
        lines[0] += f" model trained without {'it' if folds else 'these examples'}; "
        lines[0] += "the run is trained on all"
    count = summary.get("dev_examples") if summary.get("dev_interval") else None
    if count is not None and count < _FEW_DEV_EXAMPLES:
        lines.append(f"note: {count:,} examples are few to measure on; see the interval of P@1")
    if "rehearsal" in summary:
        from tfxc.training.rehearsal.rehearsal import summary_lines

        lines += summary_lines(summary["rehearsal"])
    lines += [*_dev_example_lines(config.run), f"run: {config.run}", "next:"]
    data = config.data
    splits = any((data.test, data.dev, data.dev_share, config.refit))
    run = shlex.quote(config.run)
    lines += [
        f"  tfxc evaluate {run}{'' if splits else ' --data FILE'}",
        f"  tfxc predict {run} FILE",
        f"  tfxc serve {run}",
        f"  tfxc export {run}",
    ]
    return "\n".join(lines)


def _dev_example_lines(run: str) -> Iterator[str]:
    """Yields some texts of the dev split, and what the run predicts of them."""
    from tfxc.runs.dev_examples import read_dev_examples

    width = shutil.get_terminal_size().columns
    for place, example in enumerate(read_dev_examples(run)):
        if not place:
            yield "of the dev split:"
        label = example.predicted
        if not example.right:
            label += f", not {'; '.join(example.labels)}"
        shown = one_line(f"{label} <- {' '.join(example.text.split())}")
        yield clipped(f"  {'right' if example.right else 'wrong'}  {shown}", width)


def _config(options: Options) -> "tuple[Config, Completed | None]":
    """Returns the config that the options describe, and what completed that of a file."""
    from tfxc.core.config import parse_config
    from tfxc.data.reading.inspection.completion import completed_of, load_config

    if options.config:
        return load_config(options.config, options.changes), None
    assert options.file is not None, "``_check`` has asked for it"
    with contextlib.ExitStack() as stack:
        if options.json or options.print_config:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        if options.minutes is None:
            completed = completed_of(options.file, options.choices, options.changes)
            for line in completed.lines():
                print(line)
        else:
            completed = _best_in_time(options, options.file, options.minutes)
    return parse_config(completed.tree, where=options.file), completed


def _best_in_time(options: Options, file: str, minutes: float) -> "Completed":
    """Returns the best config that a search of so many minutes finds, or has found before."""
    from tfxc.core.config import changed, parse_config
    from tfxc.data.reading.inspection.completion import presets_of
    from tfxc.data.store.preparation import refuse_changed_sources
    from tfxc.training.timed_search import choose, winner_of

    every = presets_of(file, options.choices, options.changes)
    presets = []
    refusals = []
    for completed in every:
        try:
            config = parse_config(completed.tree, where=file)
            check_config(config)
        except ConfigError as error:
            refusals.append(error)
            continue
        if not options.fresh:  # it would be refused after the search
            refuse_changed_sources(config.data, options.prepared)
        presets.append(completed)
    if not presets:
        raise refusals[0]
    run = presets[0].tree["run"]
    if is_remote(run):
        raise ConfigError(
            f"{run!r} is not a folder of this machine, which --minutes needs",
            where="--run",
            fix="name another one, and copy the run when it is trained",
        )
    for line in presets[0].lines()[:-1]:
        print(line)
    best = None if options.fresh else winner_of(run, presets)
    if best is None:
        given = changed({}, options.changes)
        best = choose(presets, 60 * minutes, given=given, command=_of_children(options))
    for line in best.lines()[-1:]:
        print(line)
    return best


def _of_children(options: Options) -> list[str]:
    """Returns options that processes which train a part of the run, or a try, need as well."""
    values = {"--gpu": options.gpu, "--gpu_usage": options.gpu_usage}
    return [
        word for name, value in values.items() if value is not None for word in (name, str(value))
    ]


def _check(options: Options) -> None:
    """Refuses options that cannot be combined."""
    if bool(options.config) == bool(options.file):
        problem = "neither a data file nor --config is given"
        if options.config:
            problem = f"both --config and a data file, {options.file!r}, are given"
        fix = "write e.g. tfxc train my.csv, or tfxc train --config quickstart"
        if options.set and "=" in (options.file or ""):
            fix = f"write --set {options.file}, if it is a key of the config: each needs its own"
        raise ConfigError(problem, where="FILE", fix=fix)
    if options.minutes is not None:
        for name in _NOT_IN_TIME:
            if getattr(options, name) not in (None, False):
                raise ConfigError(
                    "this option does not apply to --minutes, which searches on a data file",
                    where=option_of(name),
                    fix="leave one of them out; `tfxc search` searches around a config",
                )
    for name in given(options.choices):
        if options.config:
            raise ConfigError(
                "this option is for training on a data file, not for --config",
                where=option_of(name),
                fix="name the file instead of the config, or write it into the config",
            )
    if options.rehearse is not None and options.file:
        raise ConfigError(
            "only the config of a published set can be rehearsed, not a data file",
            where="--rehearse",
            fix="train on the file itself, or name a config with data.rehearsal",
        )
    if options.drop_later and options.from_step is None:
        raise ConfigError(
            "this option needs --from-step",
            where="--drop-later",
            fix="add --from-step N, or leave it out",
        )


def _train(
    config: "Config",
    options: Options,
    completed: "Completed | None",
    rehearsal: "Rehearsal | None",
) -> tuple[int, dict[str, Any] | None]:
    """Checks the config, prepares the data and runs the recipe (see ``training.job``).

    Args:
        config: that of the rehearsal, where there is one.
        completed: what completed the config of a data file, or None.
        rehearsal: ``Rehearsal`` or None.

    Returns:
        Exit code, and the summary or None.
    """
    from tfxc.core import registry
    from tfxc.core.config import load_tree
    from tfxc.core.interrupts import watch_parent
    from tfxc.data.reading.inspection.completion import write_config
    from tfxc.data.store.manifest import Manifest
    from tfxc.data.store.preparation import ensure_prepared
    from tfxc.parallel import cluster
    from tfxc.recipes.base import Context

    check_config(config)
    if config.training.strategy == "multi_worker":
        from tfxc.training.tf_config import check_tf_config

        check_tf_config()  # it says which process writes the run
    if options.gpu is not None or options.gpu_usage is not None:
        from tfxc.training.strategies import choose_gpu

        choose_gpu(options.gpu, options.gpu_usage)
    recipe = registry.create("recipe", config.recipe.section())
    # All that is refused, is refused before the data is prepared.
    if rehearsal is not None and config.refit is not None:
        raise ConfigError("a rehearsal trains once", where="refit", fix="add --set refit=null")
    _check_cluster(options.cluster, config, recipe)
    run = None if options.dry_run else _run_folder(config)
    of_children = ["--prepared", options.prepared, *_of_children(options)]
    prepared = functools.partial(
        ensure_prepared,
        root=options.prepared,
        told=completed is not None and completed.names_told,
        renew=options.fresh and options.repetition is None,  # which share what there is
    )
    with cluster(options.cluster):
        if rehearsal is not None:
            folder = rehearsal.prepared(config.data, options.prepared)
        else:
            folder = prepared(config.data)
        if config.head is not None:
            from tfxc.training.data_dependent import resolved

            config = resolved(config, Manifest.load(folder).num_labels)
        if run is None:
            return _dry_run(config, recipe, folder, options, rehearsal), None
        if completed is not None and not is_remote(config.run):
            # A remote run has it inside, as config.json. One that is there, perhaps changed, stays.
            path = Path(f"{config.run}.json")
            if not path.exists():
                write_config(path, completed.tree)
                print(f"config: {path}")
            elif load_tree(path) != completed.tree:
                print(f"note: {path} is another config; `tfxc train --config {path}` trains it")
        context = Context(
            config=config,
            data_folder=folder,
            run=run,
            repetition=options.repetition,
            # A search has removed the earlier run, and left its winner there.
            fresh=options.fresh and options.minutes is None,
            from_step=options.from_step,
            drop_later=options.drop_later,
            command=tuple(of_children),
            prepare=prepared,
        )
        watch_parent()
        try:
            summary = recipe.run(context)
        except Stopped as stop:
            print(f"{stop}; run the same command again to resume")
            return 128 + stop.signal_number, None
    if rehearsal is not None and options.repetition is None:
        summary = rehearsal.finished(context.folder, summary)
    return 0, summary


def _check_cluster(address: str | None, config: "Config", recipe: "Recipe") -> None:
    """Refuses ``--cluster`` where it would be of no use, before the data is prepared."""
    if address is None:
        return
    if not recipe.uses_cluster:
        raise ConfigError(
            f"recipe {config.recipe.name!r} does not use a cluster; xr_linear, xr_transformer, "
            "kfold and repetitions (one by one) do",
            where="--cluster",
            fix="leave it out",
        )
    if is_remote(config.run):
        raise ConfigError(
            f"{config.run!r} is not a folder that all workers share",
            where="run",
            fix="name a mounted folder, or leave --cluster out",
        )


def _run_folder(config: "Config") -> Path:
    """Returns the run folder; of one on a remote storage the copy here, which is kept the same."""
    if not is_remote(config.run):
        return Path(config.run)
    if config.training.strategy == "multi_worker":
        raise ConfigError(
            f"{config.run!r} is not a folder that all machines share (strategy multi_worker)",
            where="run",
            fix="name a mounted folder, or another training.strategy",
        )
    return mirrored(config.run, "run", writes=True, watch=True)


def check_config(config: "Config") -> None:
    """Checks every method section against its constructor before any work is done."""
    from tfxc.core import registry
    from tfxc.core.settings import SPLIT
    from tfxc.core.storage.reading import existing_file
    from tfxc.data.reading.source_files import expand

    registry.check_section("recipe", config.recipe.section(), where="recipe")
    recipe = registry.get("recipe", config.recipe.name)
    recipe.check_config(config)
    if recipe.trains_network:
        _check_network(config)
    # Some recipes read the files of excluded labels only after the training.
    data = config.data
    names = ("dev", "test")
    measured = names if config.evaluation.test_on_improvement else names[:1]
    for split in measured:
        for kind in config.evaluation.exclude:
            if SPLIT not in kind:
                continue
            if split == "dev" and data.dev_share is not None:
                raise ConfigError(
                    "a file of excluded labels numbers the examples of a dev file, but the dev "
                    "split is a share of the training file",
                    where="evaluation.exclude",
                    fix="write the dev examples into a file and name it in data.dev",
                )
            if getattr(data, split):
                existing_file(expand(kind.replace(SPLIT, split)), fix="check evaluation.exclude")


def _check_network(config: "Config") -> None:
    """Checks the sections of encoder, head and objective, and those of their training."""
    from tfxc.core import registry

    for kind, method in config.network_sections.items():
        if method is not None:
            registry.check_section(kind, method.section(), where=kind)
    for number, method in enumerate(config.techniques):
        registry.check_section("technique", method.section(), where=f"techniques.{number}")
    from tfxc.techniques.base import check_together
    from tfxc.training.optimization.optimizers import get_optimizer
    from tfxc.training.optimization.schedules import get_schedule
    from tfxc.training.step import check_calls
    from tfxc.training.trackers import check_trackers

    techniques = [registry.get("technique", method.name) for method in config.techniques]
    check_together(techniques)
    if config.encoder is not None and config.head is not None:
        network = (config.encoder.name, config.head.name)
        parts = [registry.get(*pair) for pair in zip(("encoder", "head"), network, strict=True)]
        check_calls(config.training, techniques, *parts)
        if parts[1].reads_label_texts:
            from tfxc.training.negatives.chosen import check_hard_labels

            check_hard_labels(config)
    if config.training.augmentation:
        from tfxc.data.images.augmentation import check_augmentation

        check_augmentation(config.training.augmentation)
    optimizer = get_optimizer(config.training.optimizer.section())
    if config.head is not None and config.objective is not None:
        head = config.head.section()
        objective = registry.get("objective", config.objective.name)
        if head.get("update") == "fused":
            from tfxc.training.optimization.fused import check_fused

            of_head = head.get("weights", "float32"), head.get("learning_rate")
            check_fused(objective, optimizer, config.training, techniques, *of_head)
    get_schedule(config.training.schedule.section())
    check_trackers(config.training.trackers)


def _dry_run(
    config: "Config",
    recipe: "Recipe",
    folder: Path,
    options: Options,
    rehearsal: "Rehearsal | None",
) -> int:
    """Prints sizes and trains one step on one batch, in memory only.

    Of a rehearsal, sizes are those of all examples, though only the first are prepared.
    """
    from tfxc.commands.prepare import describe
    from tfxc.data.store.manifest import Manifest

    manifest = Manifest.load(folder)
    if rehearsal is not None:
        manifest = rehearsal.enlarged(manifest)
    print(describe(manifest, manifest.name if rehearsal else folder))
    models = recipe.models_at_once(config)
    config, repetition = recipe.one_model(config, options.repetition)
    outline, data_dependent = recipe.outline(config, manifest)
    for line in outline:
        print(line)
    if data_dependent is None:
        return 0
    from tfxc.training.job import try_one_step
    from tfxc.training.memory.estimate import allocated, estimate, memory_lines, rate_groups

    what = "training" if repetition is None else f"repetition {repetition} in its own process"
    what = "the largest of these training runs" if outline else what
    memory = allocated(config, manifest, repetition, **data_dependent)
    traced = None
    if _fits(memory, config):  # else nothing as large is traced, let alone trained
        traced = estimate(config, folder, repetition, manifest, models, **data_dependent)
        memory = traced.training
    print(f"{memory.parameters:,} parameters; estimated memory of {what}:")
    for line in memory_lines(memory, config.training, traced):
        print(line)
    if not _fits(memory, config):
        print("that does not fit: lower training.batch_size or the model's widths")
        return 2
    for line in rate_groups(config, manifest.dimensions | data_dependent, repetition):
        print(line)
    loss, steps = try_one_step(config, folder, repetition, data_dependent or None)
    if rehearsal is not None:
        steps = rehearsal.steps
    length = "" if outline else f"; training takes {steps:,} steps"
    print(f"tried one batch: loss {loss:.4f}{length}")
    return 0


def _fits(memory: "Memory", config: "Config") -> bool:
    from tfxc.training.memory.estimate import needs

    return all(need.needed <= need.available for need in needs(memory, config.training))
