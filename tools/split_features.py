"""Split a feature set into train/, val/ and test/.

    python tools/split_features.py features/all --output features --val 0.05 --test 0.05

The same set, sizes and seed produce the same rows. After a stop, the same command resumes.
"""

from tfxc.core import cli


def main(argv=None):
    """Splits a feature set."""
    options = cli.tool_parser("split_features", __doc__)
    options.add_argument("features", metavar="FOLDER", help="feature set")
    options.add_argument("--output", required=True, metavar="FOLDER", help="folder to write")
    for name in ("val", "test"):
        options.add_argument(
            f"--{name}",
            type=cli.number,
            default=0.05,
            help="number or share of the rows (default: %(default)s)",
        )
    options.add_argument("--seed", type=cli.seed, default=0, help="seed of the order (default: 0)")
    found = options.parse_args(argv)
    from tfxc.data.feature_sets.feature_set import FeatureSet
    from tfxc.data.feature_sets.split import split_features

    features = FeatureSet(found.features)
    sizes = split_features(features, found.output, found.val, found.test, found.seed)
    for name, size in sizes.items():
        if size:
            print(f"{found.output}/{name}: {size:,} rows")
    return 0


if __name__ == "__main__":
    cli.run(main)
