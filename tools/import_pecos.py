"""Takes over an XR-Linear model that PECOS has trained, with its label tree.

    python tools/import_pecos.py FOLDER OUTPUT

FOLDER is what PECOS's training wrote (``param.json``, ``ranker/``); libpecos is not needed.
"""

from tfxc import cli


def main(argv=None):
    """Imports one folder."""
    options = cli.parser("import_pecos", __doc__)
    options.prog = "python tools/import_pecos.py"
    options.add_argument("folder", metavar="FOLDER", help="a model of PECOS")
    options.add_argument("output", metavar="OUTPUT", help="where to write ours")
    found = options.parse_args(argv)
    from tfxc.ranker.pecos_import import import_pecos

    tree = import_pecos(found.folder, found.output)
    print(f"{found.output}: layers of {', '.join(f'{size:,}' for size in tree.sizes)} nodes")
    return 0


if __name__ == "__main__":
    cli.run(main)
