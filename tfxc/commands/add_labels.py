"""Add new labels to a trained run and write the result as a new run.

    tfxc add-labels RUN --label-texts new.jsonl --output RUN2
    tfxc add-labels RUN --data new.jsonl --output RUN2

--label-texts adds labels to a run with head label_text. The file holds lines {"label": ..., "text":
...}. Their texts are encoded and nothing is trained; the old labels keep their ids and vectors, bit
for bit.

--data adds labels to a linear ranker, with or without an encoder, from a file of examples. Each
label joins the leaf of the label tree that is nearest to its examples. Only the classifiers under
those leaves are trained again, on the new examples and the run's own data, which must be available.
Everything else stays the same, bit for bit: the other classifiers, the ids of the old labels, the
encoder of an XR-Transformer.

A run of recipe memory or fuse takes both without its data: a label by its text, or examples of old
and new labels, which are appended to its memory. A label that it knows by examples alone can be
given a text later. A ranker and the trees of a fusion stay as they are.

RUN is not changed. See docs/label_texts.md, docs/xr_linear.md and docs/rare_labels.md.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

from tfxc.core.bounds import Option, Positive
from tfxc.core.command_options import given, parse, refuse
from tfxc.core.escaping import one_line
from tfxc.core.shared_options import PreparedOption, ReaderOptions, RunOption


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions(ReaderOptions, PreparedOption):
    """How labels are added by examples.

    Attributes:
        reader: format of FILE; None means by its name.
        reader_options: option of the reader, e.g. sep=, (may be given several times).
        features: features of the examples in FILE, .npz (SciPy) or .npy, for runs whose terms are
            "given"; None means those in FILE.
        memory_gb: how much memory training may use, in GB; None means as in the run's recipe.
    """

    features: Annotated[str | None, Option("MATRIX")] = None
    memory_gb: Positive | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(RunOption):
    """Options of ``tfxc add-labels``.

    Attributes:
        label_texts: JSON lines with the name and the text of each new label.
        data: file with examples of the new labels.
        output: run folder to write.
        of_data: with --data
    """

    label_texts: Annotated[str | None, Option("TEXTS", excludes="labels!")] = None
    data: Annotated[str | None, Option("FILE", excludes="labels!", remote=True)] = None
    output: Annotated[str, Option("RUN2", mirror="writes")]
    of_data: DataOptions = dataclasses.field(default_factory=DataOptions)


def main(argv: Sequence[str] | None = None) -> int:
    """Adds labels to one run."""
    options = parse(Options, argv, "add-labels", __doc__)
    of_data = options.of_data
    if options.label_texts is not None:
        refuse(of_data, given(of_data), "this option is for labels that are added with --data")
    from tfxc.recipes.memory.updates import add_examples, add_texts, has_memory
    from tfxc.runs.loaded import load_run

    # A memory needs no TensorFlow, which the modules of the others import.
    loaded = load_run(options.run, options.trust)
    if options.label_texts is not None:
        known = 0
        if has_memory(loaded):
            names, known = add_texts(loaded, options.label_texts, options.output)
        else:
            from tfxc.runs.new_labels import add_labels_by_text

            names = add_labels_by_text(loaded, options.label_texts, options.output)
        more = f"; {known:,} labels known by examples alone have a text now" if known else ""
        print(f"{_added(options.output, names)}{more}")
        return 0
    from tfxc.reports.measurement import reader_of_file

    assert options.data is not None, "one of the two is given"
    in_file = (options.data, of_data.reader, of_data.reader_options, of_data.features)
    if has_memory(loaded):
        refuse(of_data, ("prepared", "memory_gb"), "nothing is trained for a memory")
        reader = reader_of_file(loaded, *in_file)
        print(_added(options.output, add_examples(loaded, reader, options.output)))
        return 0
    from tfxc.data.store.preparation import ensure_prepared
    from tfxc.recipes.xr_transformer.add_labels import add_new_labels, check_run

    check_run(loaded, options.output)
    reader = reader_of_file(loaded, *in_file)
    folder = ensure_prepared(loaded.config.data, of_data.prepared)
    done = add_new_labels(loaded, reader, options.output, folder, of_data.memory_gb)
    print(_added(options.output, done.names))
    print(f"trained again: {done.affected:,} of {done.blocks:,} blocks of labels")
    return 0


def _added(output: str, names: Sequence[str]) -> str:
    shown = ", ".join(map(one_line, names[:5])) + (", …" if len(names) > 5 else "")
    return f"{output}: {len(names):,} new labels" + (f" ({shown})" if names else "")
