"""Turn the raw files of a config into sharded records.

    tfxc prepare --config configs/quickstart.json

Training prepares the data if necessary. This command prepares them in advance, prepares them again
(--force), checks them (--verify), or shares the work out to a cluster (--cluster). It prints the
sizes of the prepared data.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tfxc.core.bounds import Count, Option
from tfxc.core.command_options import parse
from tfxc.core.shared_options import ConfigOptions

if TYPE_CHECKING:
    from tfxc.data.store.manifest import Manifest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(ConfigOptions):
    """Options of ``tfxc prepare``.

    Attributes:
        jobs: number of processes; None means one per core.
        cluster: let the workers of this Dask scheduler, e.g. tcp://host:8786, read, cut and write
            the data; None means this machine does all.
        force: prepare again, even if prepared data exist.
        verify: compare all files with their checksums.
    """

    jobs: Count | None = None
    cluster: Annotated[str | None, Option("ADDRESS", remote=True)] = None
    force: bool = False
    verify: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Prepares the data of a config, checks prepared data, or prints what it holds."""
    options = parse(Options, argv, "prepare", __doc__)
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
