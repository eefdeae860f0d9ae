"""Show the size of a run or of a config.

    tfxc info --run RUN
    tfxc info --config configs/quickstart.json

Lists each weight with its shape and bytes, the layers of a linear ranker, and the numbers of labels
and features. For a config, it also lists the memory that training needs, and learning rates that
differ between weights. Nothing is trained and no weight is allocated. With --verify, every file of
the run is first compared with its checksum.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tfxc.core.bounds import Option
from tfxc.core.command_options import parse
from tfxc.core.errors import ConfigError
from tfxc.core.shared_options import OptionalConfigOptions, TrustOption

if TYPE_CHECKING:
    from tfxc.core.settings import Config

_FLOAT = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(TrustOption, OptionalConfigOptions):
    """Options of ``tfxc info``.

    Attributes:
        run: run folder.
        verify: first compare all files of the run with their checksums.
    """

    run: Annotated[
        str | None,
        Option("RUN", name="--run", positional=True, excludes="subject!", mirror="reads"),
    ] = None
    config: Annotated[str | None, Option("FILE", excludes="subject!")] = None
    verify: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the sizes of one run or config."""
    options = parse(Options, argv, "info", __doc__)
    if options.verify:
        if not options.run:
            raise ConfigError(
                "a config has no files to verify",
                where="--verify",
                fix="give --run, or check the data with tfxc prepare --verify",
            )
        from tfxc.runs.folder import RunFolder

        RunFolder(Path(options.run)).verify()
        print("all checksums match")
    lines = _run_lines(options.run, options.trust) if options.run else _config_lines(options)
    print("\n".join(lines))
    return 0


def _run_lines(path: str, trust: bool) -> Iterator[str]:
    from tfxc.core import registry
    from tfxc.core.storage.files import folder_bytes
    from tfxc.ranker.sizes import size_lines
    from tfxc.runs.loaded import load_run

    loaded = load_run(path, trust)
    yield from _data_lines(loaded.manifest)
    if loaded.config.encoder is not None:
        keeps_head = registry.get("recipe", loaded.config.recipe.name).keeps_head
        yield from _weight_lines(loaded.config, loaded.dimensions, keeps_head)
    yield from size_lines(loaded.folder.path)
    yield f"on disk: {folder_bytes(loaded.folder.path) / 1e6:,.1f} MB in {loaded.folder.path}"
    summary = loaded.folder.summary()
    if summary is None:
        yield "training: not finished"
    else:
        dev = summary.get("dev", {}).items()
        shown = [f", dev {name} {100 * value:.2f}" for name, value in dev if name.startswith("P@")]
        steps = f" at step {summary['steps']:,}" if "steps" in summary else ""
        yield f"training: finished{steps}{''.join(shown)}"


def _config_lines(options: Options) -> Iterator[str]:
    from tfxc.core import registry
    from tfxc.data.reading.inspection.completion import load_config
    from tfxc.data.store.manifest import prepared_folder
    from tfxc.data.store.preparation import check_prepared
    from tfxc.training.memory.estimate import estimate, memory_lines, rate_groups

    assert options.config is not None, "a run or a config is given"
    config = load_config(options.config, options.set)
    folder = prepared_folder(config.data, options.prepared)
    if not folder.is_dir():
        raise ConfigError(
            f"the data are not prepared, so that the numbers of labels and features are not known: "
            f"there is no {folder}",
            where=options.config,
            fix=f"run tfxc prepare --config {options.config}",
        )
    manifest = check_prepared(folder)
    yield from _data_lines(manifest.model_dump())
    registry.get("recipe", config.recipe.name).check_config(config)
    recipe = registry.create("recipe", config.recipe.section())
    outline, data_dependent = recipe.outline(config, manifest)
    yield from outline
    if data_dependent is not None:
        dimensions = manifest.dimensions | data_dependent
        yield from _weight_lines(config, dimensions)
        models = recipe.models_at_once(config)
        repetition = recipe.one_model(config, None)[1]
        memory = estimate(config, folder, repetition, models=models, **data_dependent)
        several = recipe.num_models(config) > 1
        yield f"estimated memory of training{' of one model' if several else ''}:"
        yield from memory_lines(memory.training, config.training, memory)
        yield from rate_groups(config, dimensions, repetition)


def _data_lines(manifest: dict[str, Any]) -> Iterator[str]:
    from tfxc.data.examples.kinds import KINDS

    described = KINDS[manifest["feature_kind"]].describe(manifest)
    yield f"{manifest['name']}: {manifest['num_labels']:,} labels, {described}"
    for name, split in manifest["splits"].items():
        yield f"  {name:6} {split['examples']:>12,} examples"


def _weight_lines(
    config: "Config", dimensions: dict[str, Any], with_head: bool = True
) -> Iterator[str]:
    """Yields a line per weight, then the sum; of one model where the recipe trains several."""
    from tfxc.core import registry
    from tfxc.model import make_components
    from tfxc.training.memory.estimate import weight_shapes

    recipe = registry.create("recipe", config.recipe.section())
    count = recipe.num_models(config)
    repetition = recipe.one_model(config, None)[1]
    encoder, head, _ = make_components(config, **dimensions, repetition=repetition)
    assert config.encoder is not None, "of one with weights"
    shapes = weight_shapes(encoder, head)
    parts = [f"encoder {config.encoder.name}"] * len(encoder.trainable_weights)
    if with_head:
        assert config.head is not None, "of a recipe that keeps it"
        parts += [f"head {config.head.name}"] * (len(shapes) - len(parts))
    shown = shapes[: len(parts)]
    for part, weight in zip(parts, shown, strict=True):
        place = " x ".join(f"{length:,}" for length in weight.shape)
        yield (
            f"  {part:20} {weight.name:12} {place:>22} {weight.size:>15,} "
            f"{weight.bytes / 1e6:>10,.1f} MB"
        )
    total = sum(weight.size for weight in shown)
    held = sum(weight.bytes for weight in shown)
    kind = "as float32" if held == _FLOAT * total else "of float32 and bfloat16"
    times = f", {count} times: {count * total:,} parameters" if count > 1 else ""
    yield (
        f"{total:,} parameters{' per model' if times else ''}{times}, "
        f"{held * count / 1e6:,.1f} MB {kind}"
    )
