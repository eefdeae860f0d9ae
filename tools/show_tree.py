"""Show a tree of label clusters with the labels' names.

    python tools/show_tree.py tree.npz --names prepared/SET/labels.txt
    python tools/show_tree.py tree.npz --names labels.txt --label baking
    python tools/show_tree.py tree.npz --names labels.txt --output tree.html

A node is shown as its number of labels and a few of their names. --label shows the path to a label
and its neighbours. --output writes the complete tree, as .html that can be unfolded, or as .md.
"""

from pathlib import Path

from tfxc.core import cli
from tfxc.core.errors import ConfigError
from tfxc.core.escaping import html_text, markdown_text, one_line

_MIN_WIDTH = 3  # names by which a cluster is recognised


def main(argv=None):
    """Prints or writes the tree."""
    options = cli.tool_parser("show_tree", __doc__)
    options.add_argument("tree", metavar="FILE", help="tree written by tools/build_tree.py")
    options.add_argument(
        "--names", metavar="FILE", help="file of the labels' names, one per line (default: numbers)"
    )
    options.add_argument(
        "--depth", type=cli.positive, default=2, help="levels to print (default: %(default)s)"
    )
    options.add_argument(
        "--most",
        type=cli.positive,
        default=20,
        help="most children of a node to print (default: %(default)s)",
    )
    options.add_argument("--label", metavar="NAME", help="show the path to this label")
    options.add_argument(
        "--output", metavar="FILE", help="write the complete tree to a .html or .md file"
    )
    found = options.parse_args(argv)
    writers = {".html": as_html, ".md": as_markdown}
    suffix = Path(found.output).suffix if found.output else None
    if found.output and suffix not in writers:
        raise ConfigError(f"a name that ends in .html or .md expected, found {found.output!r}",
                          where="--output")  # fmt: skip
    from tfxc.core.storage.files import atomic_file
    from tfxc.labels.cluster_tree import ClusterTree

    named = NamedTree(ClusterTree.load(found.tree), found.names)
    if found.output:
        with atomic_file(found.output) as stream:
            stream.writelines(f"{line}\n" for line in writers[suffix](named))
        print(f"{found.output}: {one_line(named.title(-1, 0))}")
        return 0
    lines = path_to(named, found.label) if found.label else as_text(named, found.depth, found.most)
    print("\n".join(lines))
    return 0


class NamedTree:
    """A tree whose labels have names.

    Args:
        tree: ``ClusterTree``.
        path: file with a name per label; None = the labels' numbers.

    Raises:
        ConfigError: the file has another number of names.
    """

    def __init__(self, tree, path=None):
        from tfxc.labels.vocabulary import LabelVocabulary

        self.tree = tree
        self.names = [str(label) for label in range(tree.num_labels)]
        if path:
            self.names = LabelVocabulary.load(path).names
            if len(self.names) != tree.num_labels:
                raise ConfigError(
                    f"{tree.num_labels:,} names, one for each label of the tree, expected, "
                    f"found {len(self.names):,}",
                    where="--names",
                )

    def children(self, level, node):
        """Nodes of the level below that are under a node; the root is node 0 of level -1."""
        nodes, splits = self.tree.children(level + 1)
        return nodes[splits[node] : splits[node + 1]].tolist()

    def is_label(self, level):
        """Whether the nodes of a level are labels."""
        return level == self.tree.depth - 1

    def title(self, level, node):
        """What a node is called."""
        if self.is_label(level):
            return self.names[node]
        labels = range(len(self.names)) if level < 0 else self.tree.labels_under(level, node)
        names = ", ".join(self.names[label] for label in labels[:_MIN_WIDTH])
        more = ", …" if len(labels) > _MIN_WIDTH else ""
        what = "all" if level < 0 else f"cluster {level}.{node}"
        return f"{what}: {len(labels):,} labels ({names}{more})"


def as_text(named, depth, most, level=-1, node=0):
    """Lines of the tree to a depth, indented."""
    yield "  " * (level + 1) + one_line(named.title(level, node))
    if level + 1 >= min(depth, named.tree.depth):
        return
    children = named.children(level, node)
    for child in children[:most]:
        yield from as_text(named, depth, most, level + 1, child)
    if len(children) > most:
        yield "  " * (level + 2) + f"… {len(children) - most:,} more"


def path_to(named, name):
    """Lines from the root to a label, then the labels that share its leaf."""
    from tfxc.core.registry import nearest

    if name not in named.names:
        raise ConfigError(f"unknown label {name!r}{nearest(name, named.names)}", where="--label")
    way = [named.names.index(name)]
    for parents in named.tree.parents[:0:-1]:
        way.insert(0, int(parents[way[0]]))
    above = 0 if len(way) == 1 else way[-2]
    last = named.tree.depth - 1
    for level, node in enumerate([0, *way], -1):
        yield "  " * (level + 1) + one_line(named.title(level, node))
    others = [label for label in named.children(last - 1, above) if label != way[-1]]
    names = ", ".join(one_line(named.names[label]) for label in others)
    yield f"next to it: {names or 'nothing'}"


def as_markdown(named, level=-1, node=0):
    """Lines of the whole tree as a nested list."""
    yield "  " * (level + 1) + f"- {markdown_text(named.title(level, node))}"
    if not named.is_label(level):
        for child in named.children(level, node):
            yield from as_markdown(named, level + 1, child)


def as_html(named):
    """Lines of a page on which every node unfolds."""
    yield '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Label tree</title>'
    yield "<style>body{font-family:sans-serif}details,p{margin:.2em 0 .2em 1.2em}</style>"
    yield "</head><body>"
    yield from _unfolding(named, -1, 0)
    yield "</body></html>"


def _unfolding(named, level, node):
    title = html_text(named.title(level, node))
    if named.is_label(level):
        yield f"<p>{title}</p>"
        return
    yield f"<details{' open' if level < 0 else ''}><summary>{title}</summary>"
    for child in named.children(level, node):
        yield from _unfolding(named, level + 1, child)
    yield "</details>"


if __name__ == "__main__":
    cli.run(main)
