"""Print "REPETITIONS JOBS RUN" of a config with recipe "repetitions"; used by train.sh.

    python tools/plan_repetitions.py --config my.json

It also prepares the data and writes the run's config and assets, so that repetitions started
together find both. JOBS is how many fit into memory and cores at a time.
"""

import dataclasses
import sys
from pathlib import Path

from tfxc.core import cli
from tfxc.core.command_options import parse
from tfxc.core.shared_options import ConfigOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(ConfigOptions):
    """Options of the tool.

    Attributes:
        fresh: as for tfxc train.
    """

    fresh: bool = False


def main(argv=None):
    """Plans the repetitions of a config."""
    options = parse(Options, argv, "tools/plan_repetitions.py", __doc__)
    from tfxc.commands.train import check_config
    from tfxc.core import registry
    from tfxc.core.errors import ConfigError
    from tfxc.data.reading.inspection.completion import load_config
    from tfxc.data.store.preparation import ensure_prepared
    from tfxc.recipes.base import Context
    from tfxc.recipes.bases.processes import begin_runs, parallel_jobs
    from tfxc.recipes.repetitions.recipe import repetition_count

    config = load_config(options.config, options.set)
    check_config(config)
    if config.recipe.name != "repetitions":
        raise ConfigError(
            f"train.sh trains recipe 'repetitions', not {config.recipe.name!r}",
            where="recipe.name",
            fix="add OPTIONS='--set recipe.name=repetitions', or use python -m tfxc.train",
        )
    recipe = registry.create("recipe", config.recipe.section())
    count = repetition_count(config)
    recipe.one_model(config, 0)  # refuses recipes without separate processes
    folder = ensure_prepared(config.data, options.prepared)
    fit = parallel_jobs(recipe, config, folder, count)
    begin_runs(Context(config, folder, Path(config.run), fresh=options.fresh))
    print(count, recipe.parallel or fit, config.run)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
