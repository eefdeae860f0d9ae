"""Measure how well embeddings separate pairs of the same class from pairs of different classes.

    tfxc verify --run RUN --pairs pairs.txt --images FOLDER
    tfxc verify --embeddings vectors.npy --pairs pairs.npz

The metrics are accuracy over ten folds, VAL, true accept rates at given false accept rates, area
under the curve, and equal error rate. Embeddings come from a run's encoder or from a file. Pairs
come from one of

  --pairs FILE              .bin (InsightFace), .npz, pairs.txt of LFW, or "name1 name2 same"
  --pairs-from-labels FILE  drawn from any readable data with one label per example
  --ijb ROOT --target ijbc  IJB-B or IJB-C 1:1, templates of images

Prints a table and writes verification-NAME.json and .npz (per-pair values) into the run folder.

    tfxc verify --run RUN --gallery enrolled/ --probes cameras/
    tfxc verify --run RUN --ijb ROOT --target ijbc --identify

Identification (1:N) searches for probes in galleries instead. Each of them is a folder with one
sub-folder of images per person, or a text file of "name person" with --images or --embeddings. The
metrics are the ranks of the right person, and the true positive identification rate at given false
positive identification rates. They are written to identification-NAME.json and .npz.

docs/verification.md describes how each metric is computed.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from annotated_types import Ge, Gt, Lt

from tfxc.core.bounds import Count, Natural, Option
from tfxc.core.command_options import given, parse
from tfxc.core.errors import ConfigError, option_of
from tfxc.core.shared_options import ReaderOptions, TrustOption

if TYPE_CHECKING:
    import numpy as np

    from tfxc.data.verification.pairs import PairSource
    from tfxc.data.verification.templates import Templates
    from tfxc.metrics.verification import ScoresResult

_Target = Literal["ijbb", "ijbc"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(TrustOption, ReaderOptions):
    """Options of ``tfxc verify``.

    Attributes:
        run: run folder.
        embeddings: file of embeddings: .npy (m, dim), or .npz with embeddings and names.
        halves: add the two halves of each embedding: those of an image and its mirror image.
        pairs: file of pairs, each with a flag that is 1 if both belong to the same class.
        pairs_from_labels: draw pairs from the examples of this file, each of which has one label.
        ijb: folder of an IJB set, with meta/ and loose_crop/.
        gallery: people to search among: a folder with a sub-folder of images for each, or a text
            file of names and people; several galleries are measured one by one.
        probes: images to search for in the galleries: a folder or a text file, like that of
            --gallery.
        identify: identify (1:N) the probes of --ijb in its galleries.
        target: which set is in ROOT.
        images: folder of the images named in a text file.
        reader: format of the labelled FILE; None means by its name.
        reader_options: option of the reader, e.g. split=test (may be given several times).
        num_pairs: number of pairs to draw; None means 6000.
        seed: seed for drawing pairs; None means 0.
        disjoint_classes: draw each class for only one fold.
        folds: number of folds; None means 10.
        far: false accept rate of VAL; None means 0.001.
        no_flip: do not add the mirror images' embeddings.
        batch_size: examples per batch; None means the config's.
        output: folder to write to; None means RUN.
        roc: file for a plot of the ROC curve, e.g. roc.svg.
    """

    run: Annotated[
        str | None,
        Option("RUN", name="--run", positional=True, excludes="vectors", mirror="reads"),
    ] = None
    embeddings: Annotated[str | None, Option("FILE", excludes="vectors")] = None
    halves: bool = False
    pairs: Annotated[str | None, Option("FILE", excludes="measured!")] = None
    pairs_from_labels: Annotated[str | None, Option("FILE", excludes="measured!")] = None
    ijb: Annotated[str | None, Option("ROOT", excludes="measured!")] = None
    gallery: Annotated[Sequence[str], Option("PATH", repeated=True, excludes="measured!")] = ()
    probes: Annotated[str | None, Option("PATH")] = None
    identify: bool = False
    target: _Target | None = None
    images: Annotated[str | None, Option("FOLDER")] = None
    num_pairs: Count | None = None
    seed: Natural | None = None
    disjoint_classes: bool = False
    folds: Annotated[int, Ge(2)] | None = None
    far: Annotated[float, Gt(0), Lt(1)] | None = None
    no_flip: bool = False
    batch_size: Count | None = None
    output: Annotated[str | None, Option("FOLDER", mirror="writes")] = None
    roc: Annotated[str | None, Option("FILE")] = None


def main(argv: Sequence[str] | None = None) -> int:
    """Measures one run or one file of embeddings."""
    options = parse(Options, argv, "verify", __doc__)
    _check(options)
    if options.identify or options.gallery:
        _identify(options)
        return 0
    compared = str(options.ijb or options.pairs or options.pairs_from_labels)
    if options.ijb:
        from tfxc.data.verification.templates import open_templates
        from tfxc.metrics.verification import pair_scores, verify_scores

        name = str(options.target)
        templates = open_templates(options.ijb, name)
        ids, pooled, flip = _pooled(options, templates)
        scores = pair_scores(pooled, templates.rows_of(ids))
        result = verify_scores(scores, templates.same)
        values = {"same": templates.same, "score": scores}
    else:
        name = Path(compared).name
        result, values, flip = _compare_pairs(options)
    title = f"{options.run or options.embeddings or compared} on {name}"
    print(f"{title}: {result.num_pairs:,} pairs, {result.num_same:,} of them the same")
    print(result.table())
    if options.roc:
        from tfxc.reports.plots import roc_curve

        roc_curve(result.roc, title, options.roc)
        print(f"written: {options.roc}")
    record = {
        "run": options.run,
        "embeddings": options.embeddings,
        "data": compared,
        "flip": flip,
        "metrics": result.to_dict(),
    }
    _write(options.output or options.run, f"verification-{name}", record, values)
    return 0


def _identify(options: Options) -> None:
    """Measures how often probes are identified."""
    from tfxc.data.verification.subjects import open_subjects
    from tfxc.data.verification.templates import open_template_subjects
    from tfxc.metrics.identification import Gallery, identify

    vectors: Any
    if options.ijb:
        name = str(options.target)
        images, people = open_template_subjects(options.ijb, name)
        _, vectors, flip = _pooled(options, images)
    else:
        assert options.probes is not None, "``_check`` has asked for it"
        name = Path(options.probes).name
        vectors, names = _given_embeddings(options)
        flip = options.halves and not options.no_flip
        people = open_subjects(
            options.gallery, options.probes, images=options.images, embeddings=vectors, names=names
        )
        if people.source is not None:
            vectors, flip = _embed(options, people.source)
    galleries = [Gallery(vectors[gallery.rows], gallery.subjects) for gallery in people.galleries]
    result = identify(vectors[people.probes.rows], people.probes.subjects, galleries)
    sizes = " and ".join(f"{size:,}" for size in result.gallery_sizes)
    print(
        f"{options.run or options.embeddings} on {name}: {result.num_probes:,} probes, "
        f"{result.num_mated:,} of them of people in galleries of {sizes}"
    )
    print(result.table())
    record = {
        "run": options.run,
        "embeddings": options.embeddings,
        "data": {"ijb": options.ijb, "gallery": options.gallery, "probes": options.probes},
        "flip": flip,
        "metrics": result.to_dict(),
    }
    values = {"row": people.probes.rows, "subject": people.probes.subjects}
    values |= {"found": result.subjects, "score": result.scores, "rank": result.mate_ranks}
    _write(options.output or options.run, f"identification-{name}", record, values)


def _check(options: Options) -> None:
    """Refuses meaningless combinations, before anything is loaded."""
    embedded = options.embeddings or (options.pairs or "").endswith(".npz")
    if not options.run and not embedded:
        raise ConfigError("neither --run nor --embeddings is given", fix="add one")
    drawing = ("reader", "reader_option", "num_pairs", "seed", "disjoint_classes")
    needs = [("target", "ijb"), ("halves", "embeddings"), ("identify", "ijb")]
    needs += [("probes", "gallery"), ("gallery", "probes")]
    needs += [] if options.gallery else [("images", "pairs")]
    needs += [("batch_size", "run")] + [(name, "pairs_from_labels") for name in drawing]
    names = given(options)
    for option, needed in needs:
        if option in names and needed not in names:
            raise ConfigError(
                f"this option needs {option_of(needed)}",
                where=option_of(option),
                fix=f"add {option_of(needed)} or leave it out",
            )
    if options.ijb and (options.folds or options.far):
        raise ConfigError("--folds and --far do not apply to --ijb", fix="remove them")
    if options.identify or options.gallery:
        for option in ("folds", "far", "roc"):
            if option in names:
                raise ConfigError(
                    "this option is for pairs, not for galleries and probes",
                    where=option_of(option),
                    fix="leave it out",
                )
    if options.ijb and not options.target:
        raise ConfigError(
            "the set in the folder of --ijb is not named",
            where="--target",
            fix=f"give one of {', '.join(get_args(_Target))}",
        )
    _check_images(options)
    if options.no_flip and not (options.run or options.halves):
        raise ConfigError(
            "--embeddings are used as they are, and nothing is added to them",
            where="--no-flip",
            fix="leave it out",
        )
    if options.roc:
        from tfxc.reports.charts import check_svg

        check_svg(options.roc, "--roc")


def _check_images(options: Options) -> None:
    """Refuses a folder of images that nothing names images of."""
    if not options.images:
        return
    given_paths = [*options.gallery, options.probes] if options.gallery else [options.pairs]
    paths = [path for path in given_paths if path is not None]
    problem = None
    if options.embeddings:
        problem = "--embeddings are used in place of images"
    elif all(Path(path).is_dir() or path.endswith((".bin", ".npz")) for path in paths):
        problem = f"no text file names images of this folder: they are in {', '.join(paths)}"
    if problem:
        raise ConfigError(problem, where="--images", fix="leave it out")


def _compare_pairs(
    options: Options,
) -> "tuple[ScoresResult, dict[str, np.ndarray], bool]":
    """Returns result, values per pair, and whether mirror images are part of it."""
    from tfxc.data.reading.formats import open_reader
    from tfxc.data.verification.pairs import open_pairs, pairs_of_reader
    from tfxc.metrics.verification import check_folds, pair_distances, verify_pairs

    embeddings, names = _given_embeddings(options)
    if options.pairs:
        pairs = open_pairs(options.pairs, images=options.images, embeddings=embeddings, names=names)
    else:
        assert options.pairs_from_labels is not None, "one of the two is given"
        pairs = pairs_of_reader(
            open_reader(options.pairs_from_labels, options.reader, **options.reader_options),
            options.num_pairs or 6000,
            options.seed or 0,
            options.folds or 10,
            options.disjoint_classes,
            embeddings,
        )
    folds = options.folds or 10
    check_folds(folds, len(pairs.same))
    embeddings = pairs.embeddings
    flip = options.halves and not options.no_flip
    if options.run:
        if pairs.source is None:
            raise ConfigError(
                "this file has no examples that a run could encode",
                where=options.pairs,
                fix="leave --run out",
            )
        embeddings, flip = _embed(options, pairs.source)
    elif embeddings is None:
        raise ConfigError(
            "these pairs have no embeddings, and there is no run that computes them",
            where=options.pairs,
            fix="add --run",
        )
    distances = pair_distances(embeddings, pairs.pairs)
    result = verify_pairs(distances, pairs.same, folds, options.far or 1e-3)
    values = {"pairs": pairs.pairs, "same": pairs.same}
    values |= {"distance": distances, "correct": result.correct}
    return result, values, flip


def _given_embeddings(options: Options) -> "tuple[np.ndarray | None, np.ndarray | None]":
    """Returns embeddings of ``--embeddings`` with their names, or None and None."""
    if not options.embeddings:
        return None, None
    from tfxc.data.verification.pairs import load_embeddings
    from tfxc.metrics.verification import add_halves

    embeddings, names = load_embeddings(options.embeddings)
    if options.halves and options.no_flip:
        embeddings = embeddings[:, : embeddings.shape[1] // 2]
    elif options.halves:
        embeddings = add_halves(embeddings)
    return embeddings, names


def _embed(options: Options, source: "PairSource") -> "tuple[np.ndarray, bool]":
    """Returns float32 vectors (m, dim) by the run, and whether images were mirrored."""
    from tfxc.data.examples.kinds import SPARSE
    from tfxc.runs.loaded import load_run

    assert options.run is not None, "what else has no embeddings is refused"
    loaded = load_run(options.run, options.trust)
    kind = loaded.kind
    examples: Any = source.sparse() if kind is SPARSE else source
    flip = kind.is_image and not options.no_flip
    embedder = loaded.embedder("--run", flip)
    batch_size = options.batch_size or loaded.config.evaluation.batch_size
    return embedder.over_rows(loaded.rows(examples), batch_size, examples.num_examples), flip


def _pooled(options: Options, templates: "Templates") -> "tuple[np.ndarray, np.ndarray, bool]":
    """Returns sorted template ids, their vectors, and whether mirror images are part of them."""
    from tfxc.data.verification.templates import AlignedFaces
    from tfxc.metrics.verification import pool_templates

    embeddings, _ = _given_embeddings(options)
    flip = options.halves and not options.no_flip
    if embeddings is None:
        embeddings, flip = _embed(options, AlignedFaces(templates))
    ids, pooled = pool_templates(
        embeddings, templates.template_ids, templates.media_ids, templates.scores
    )
    return ids, pooled, flip


def _write(
    folder: str | None, name: str, record: Mapping[str, Any], values: Mapping[str, Any]
) -> None:
    import numpy as np

    from tfxc.core.storage.files import atomic_files, write_json

    if folder is None:
        print("not written: neither --run nor --output is given")
        return
    path = "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
    with atomic_files(folder) as scratch:
        write_json(scratch / f"{path}.json", record)
        np.savez_compressed(scratch / f"{path}.npz", **values)
    print(f"written: {Path(folder) / path}.json and .npz (per pair, or per probe)")
