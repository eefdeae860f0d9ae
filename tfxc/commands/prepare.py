"""Turn the raw files of a config into sharded records.

    tfxc prepare --config configs/quickstart.json

Training prepares the data if necessary; this command prepares them ahead, again (--force), or
checks them (--verify), and can share the work out to a cluster (--cluster). It prints the sizes of
the prepared data.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfxc.core import cli

if TYPE_CHECKING:
    from tfxc.data.store.manifest import Manifest


def main(argv: Sequence[str] | None = None) -> int:
    """Prepares the data of a config, checks prepared data, or prints what it holds."""
    options = _parser().parse_args(argv)
    from tfxc.data.reading.inspection.completion import load_config
    from tfxc.data.store.manifest import Manifest, prepared_folder
    from tfxc.data.store.preparation import ensure_prepared, prepare
    from tfxc.parallel import cluster

    config = load_config(options.config, options.set)
    with cluster(options.cluster):
        if options.force:
            folder = prepared_folder(config.data, options.prepared)
            prepare(config.data, folder, jobs=options.jobs)
        else:
            folder = ensure_prepared(config.data, options.prepared, jobs=options.jobs)
    if options.verify:
        from tfxc.data.sources.shards import verify

        verify(folder)
        print("all checksums match")
    print(describe(Manifest.load(folder), folder))
    return 0


def describe(manifest: "Manifest", folder: str | Path) -> str:
    """Returns what a prepared folder holds, as text."""
    described = manifest.kind.describe(manifest.model_dump())
    lines = [f"{folder}: {manifest.num_labels:,} labels, {described}, layout {manifest.layout}"]
    for name, split in manifest.splits.items():
        features = f"{split.nonzeros / max(split.examples, 1):,.1f} features and "
        shards = f"{len(split.shards)} shards, " if split.shards else ""
        lines.append(
            f"  {name:6} {split.examples:>10,} examples, {shards}"
            f"{'' if manifest.image_shape else features}{split.mean_labels:.2f} labels each"
        )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    options = cli.parser("prepare", __doc__)
    cli.add_config_options(options)
    options.add_argument(
        "--jobs", type=cli.positive, help="number of processes (default: one per core)"
    )
    options.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="let the workers of this Dask scheduler, e.g. tcp://host:8786, read, cut and write "
        "(default: this machine does)",
    )
    options.add_argument(
        "--force", action="store_true", help="prepare again, even if prepared data exist"
    )
    options.add_argument(
        "--verify", action="store_true", help="compare all files with their checksums"
    )
    return options
