"""Predict labels for a file, a pipe or typed lines.

    tfxc predict RUN texts.txt
    tfxc predict --run RUN --run RUN2 test.jsonl --k 3 --output labels.jsonl
    tfxc predict --run RUN X.tst.npz --pairs PAIRS.npz --output scores.npz

RUN is a run folder; put it first, or after --run.

FILE is any readable data file (its labels are ignored), or plain text with one text per line. For
models on images, FILE may also be a folder or an image, and each answer contains the image's name.

Without FILE, or with -, each line of standard input is answered at once with one line of JSON; on a
terminal there is a prompt ("exit" or Ctrl-D quits). Lines are texts or, for models on features,
'id:value ...' (sparse), numbers (dense) or paths of image files.

The scores of labels are probabilities if the model has any. With --k, the best K labels are listed;
with --min-score alone, all labels that reach it. With neither, a run that has learned which labels
to return lists those; another one that decides on each label by itself lists all labels with a
probability of 0.5 or more (or those that reach the config's evaluation.threshold); and any other
model lists the best 5.

If --run is given several times, the predictions of the runs, which must have the same labels, are
combined. With --cluster, the workers of a Dask scheduler predict the examples of FILE.

The ending of --output says what is written:

  .jsonl           JSON lines, as without --output
  .txt             table rows
  .npz             the matrix of scores that PECOS writes
                   (scipy.sparse; a row per example,
                   a column per label)
  .csv             the columns of FILE, then label_1,
                   score_1, label_2, score_2, ...
  .parquet         the columns of FILE, then
                   predicted_labels, predicted_scores

A .csv file has predicted_labels and predicted_scores, too, where the number of labels depends on
the example; --k K makes K columns of them. It has the delimiter ";" and a byte order mark if FILE
has, so that Excel opens both alike.

evaluate --predictions measures all of them but .txt.
"""

import contextlib
import dataclasses
import gc
import os
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from tfxc.core import cli
from tfxc.core.bounds import Count, Option
from tfxc.core.command_options import given, parse, refuse, restored
from tfxc.core.errors import ConfigError, DataError, as_option, option_of
from tfxc.core.escaping import json_text, one_line
from tfxc.core.shared_options import FileOptions, TrustOption
from tfxc.inference.search_options import SearchOptions

if TYPE_CHECKING:
    import numpy as np
    import scipy.sparse

    from tfxc.data.examples.chunk import Chunk
    from tfxc.data.reading.formats.base import Reader
    from tfxc.inference.ensemble_file import EnsembleFile
    from tfxc.inference.prediction_files import Answer
    from tfxc.inference.predictors import Predictions, Predictor
    from tfxc.inference.shared_chunks import Work
    from tfxc.runs.loaded import LoadedRun


_PROMPT = "> "
_NO_LABEL = "(no label)"
_ENSEMBLE = "softmax_average"
_LISTED = 20
_LAYOUTS = ("jsonl", "table")
# Layouts by the ending of --output, and the endings of files that are not lines.
_LINES_BY_ENDING = {".jsonl": "jsonl", ".txt": "table"}
_FILES = (".csv", ".npz", ".parquet")
# Examples of a task of a cluster, for each of which a worker reads the weights of all networks.
_TASK_OF_SEVERAL_NETWORKS = 16_384
_OPTIONS_WITHOUT_PAIRS = (
    "k",
    "min_score",
    "ensemble",
    "weights",
    "top",
    "format",
    "beam",
    "model",
    "with_id",
    "with_text",
    "cluster",
)


def _is_stream(name: str) -> bool:
    """Tells whether it is a device or a pipe, whose name says nothing of what is written."""
    return Path(name).is_char_device() or Path(name).is_fifo()


def _output_name(text: str) -> str:
    if text == "-" or _is_stream(text):
        return text
    return cli.ending(*_LINES_BY_ENDING, *_FILES)(text)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(TrustOption, FileOptions):
    """Options of ``tfxc predict``.

    Attributes:
        run: run folder, or a file of tfxc ensemble --output; repeat it to combine runs.
        model: SavedModel written by tfxc export.
        features: features of the examples in FILE, .npz (SciPy) or .npy, for runs whose terms are
            "given"; None means those in FILE.
        k: list the best K labels of each example; None means all labels that the model decides for,
            or the best 5.
        probabilities: print probabilities, and refuse a model that has none; without this option,
            such a model prints scores.
        scores: print scores even if there are probabilities.
        min_score: omit labels whose score, or printed probability, is lower; None means omit none.
        with_id: begin each answer with the example's id: the field that --reader-option
            id_field=NAME names, else the example's number, from 1.
        with_text: repeat the text in each answer.
        ensemble: how to combine the best labels of several runs; None means softmax_average.
        weights: weight of each of several runs, e.g. 2,1; None means all alike.
        top: number of labels to combine from each of several runs; None means 20, or --k if that is
            more.
        pairs: score the labels that this matrix (.npz) marks for each example, instead of searching
            for the best labels; None means search.
        output: file to write: .jsonl, .txt, .npz, .csv or .parquet; None means print.
        format: print one JSON object (jsonl) or one table row per example; None means table on a
            terminal, else jsonl.
        search: how labels are searched
    """

    run: Annotated[
        Sequence[str], Option("RUN", repeated=True, first=True, excludes="model!", mirror="reads")
    ] = ()
    model: Annotated[str | None, Option("FOLDER", excludes="model!")] = None
    features: Annotated[str | None, Option("MATRIX")] = None
    k: Annotated[int | None, Option("K")] = None
    probabilities: Annotated[bool, Option(excludes="units")] = False
    scores: Annotated[bool, Option(excludes="units")] = False
    min_score: float | None = None
    with_id: bool = False
    with_text: bool = False
    ensemble: Literal[cli.ENSEMBLES] | None = None  # type: ignore[valid-type]
    weights: Annotated[Sequence[float] | None, Option("W,W")] = None
    top: Count | None = None
    pairs: Annotated[str | None, Option("MATRIX")] = None
    output: Annotated[str | None, Option("FILE", read=_output_name, mirror="writes")] = None
    format: Literal[_LAYOUTS] | None = None  # type: ignore[valid-type]
    search: SearchOptions = SearchOptions()


def main(argv: Sequence[str] | None = None) -> int:
    """Predicts labels for a file, a pipe or typed lines."""
    options = parse(Options, argv, "predict", __doc__)
    if options.output == "-":
        options = dataclasses.replace(options, output=None)
    cli.check_keeps_input(options.output, options.file)
    if options.pairs:
        _score_pairs(options)
        return 0
    _check_output(options)
    cli.check_shared_output(
        options.cluster, options.file, options.output, options.run or [str(options.model)]
    )
    typed = options.file == "-" and sys.stdin.isatty()
    if typed:
        refuse(
            options,
            ("output", "format", "with_id", "with_text"),
            "this option does not apply to examples that are typed on a terminal",
            fix="name a file of examples, or leave it out",
        )
    with as_option("k"):
        predictor = _predictor(options, typed)
    _check_input(predictor.input_kind, options)
    if typed:
        return _interactive(predictor, options.min_score)
    names = predictor.names
    k = None if predictor.decides else predictor.k
    source: Reader | None = None
    answers: Generator[Answer, None, None]
    if options.file == "-":
        from tfxc.data.reading.typed_examples import chunks_of_pipe

        chunks = chunks_of_pipe(
            sys.stdin.fileno(), predictor.input_kind, predictor.num_features, options.batch_size
        )
        answers = ((chunk, predictor.find(chunk, "standard input")) for chunk in chunks)
    else:
        from tfxc.data.reading.given_features import with_features

        kind = predictor.input_kind
        source = with_features(_open(options, kind), options.features, kind)
        answers = _answers_of_file(predictor, source, options)
    if options.cluster:
        assert source is not None, "standard input is refused"
        del predictor, answers  # the model is not needed here any more
        gc.collect()  # networks refer to themselves
        answers = _answers_of_workers(source, options)
    with contextlib.closing(answers):
        _write(options, names, source, answers, k)
    return 0


def _with_runs(options: Options) -> "tuple[Options, EnsembleFile | None]":
    """Returns options that name the runs of a file of several, and the file."""
    from tfxc.inference.ensemble_file import EnsembleFile

    file = EnsembleFile.in_place_of(options.run, options, ("ensemble", "weights", "top"))
    if file is None:
        return options, None
    options = dataclasses.replace(
        options, run=file.runs, ensemble=file.method, weights=file.weights, top=file.top
    )
    return options, file


def _predictor(options: Options, typed: bool) -> "Predictor":
    path = options.run[0] if options.run else ""
    options, file = _with_runs(options)
    decision = None if file is None else file.decision
    likely = decision is not None and decision.calibration is not None and not options.scores
    if file is not None and options.probabilities and not likely and file.method != "average":
        raise ConfigError(
            f"no probabilities have been learned of {path}",
            where="--probabilities",
            fix="learn them with tfxc decide, or leave it out",
        )
    _check_model_options(options, likely)
    if options.model:
        from tfxc.inference.savedmodel import SavedModelPredictor

        return SavedModelPredictor(options.model, options.k)
    from tfxc.decision.decision import Decision
    from tfxc.inference.predictors import (
        DecidingPredictor,
        EnsemblePredictor,
        RunPredictor,
        deciding_predictor,
    )
    from tfxc.runs.loaded import load_run, load_runs

    search = dataclasses.replace(options.search, streamed=options.file != "-")
    if len(options.run) == 1:
        loaded = load_run(options.run[0], options.trust, search)
        loaded.require_labels()
        wanted = True if options.probabilities else False if options.scores else None
        likely = loaded.model.has_probabilities if wanted is None else wanted
        if options.k is None and options.min_score is not None:
            return DecidingPredictor(loaded, Decision(options.min_score, likely))
        if options.k is None and not typed:
            deciding = deciding_predictor(loaded, wanted)
            if deciding is not None:
                print(f"{deciding.decision}; --k K lists the best K", file=sys.stderr)
                return deciding
        return RunPredictor(loaded, options.k, likely)
    # Of a file, each run is loaded to check it, and again when its turn comes.
    runs = load_runs(options.run, options.trust, search)
    predictors: dict[str, RunPredictor] = {}
    decided = False
    for path, loaded in runs.items():
        loaded.require_labels()
        decided |= loaded.model.decision.rule is not None
        listed = options.top or max(_LISTED, options.k or 0)
        listed = min(listed, loaded.manifest["num_labels"])
        try:
            own = options.probabilities and not likely
            predictors[path] = RunPredictor(loaded, listed, own)
        except ConfigError as error:
            where = f"{path}: {error.where}" if error.where else path
            raise ConfigError(error.problem, where=where, fix=error.fix) from None
        if search.streamed:
            loaded.release()
    method = options.ensemble or _ENSEMBLE
    combined = (method, options.k, options.weights)
    ensemble = EnsemblePredictor(predictors, *combined, decision, likely)
    if file is not None:
        file.check_labels(ensemble.names, path)
    if ensemble.rule is not None:
        print(f"{ensemble.rule}; --k K lists the best K", file=sys.stderr)
    elif options.k is None and decided:
        line = f"several runs: the best {ensemble.k} labels; what one run returns does not apply"
        print(line, file=sys.stderr)
    return ensemble


def _score_pairs(options: Options) -> None:
    """Scores the labels that a matrix names and writes them as a matrix."""
    import numpy as np
    import scipy.sparse

    from tfxc.core.progress import Progress
    from tfxc.core.storage.files import atomic_file
    from tfxc.data.reading.given_features import with_features

    problem = "this option does not apply to --pairs, which names the labels to score"
    refuse(options, _OPTIONS_WITHOUT_PAIRS, problem)
    if not (options.output or "").endswith(".npz"):
        raise ConfigError(
            f"the scores of --pairs are written as .npz, not as {options.output}"
            if options.output
            else "the scores of --pairs need a file",
            where="--output",
            fix="name one, e.g. --output scores.npz",
        )
    if options.file == "-":
        raise ConfigError(
            "the examples of --pairs cannot come from standard input",
            where="FILE",
            fix="name the file",
        )
    if len(options.run) > 1:
        raise ConfigError(
            f"--pairs scores labels with one run, but {len(options.run)} are given",
            where="--run",
            fix="give --run once",
        )
    assert options.pairs is not None and options.output is not None
    loaded, pairs = _ranker_and_pairs(options, options.pairs)
    source = with_features(_open(options, loaded.input_kind), options.features, loaded.input_kind)
    scores = [np.empty(0, np.float32)]
    likely = loaded.model.has_probabilities and not options.scores
    _check_rows(options, source.num_examples, pairs)
    done = 0
    with Progress("scoring", pairs.shape[0], "examples") as progress:
        for chunk in source.chunks(options.batch_size):
            rows = pairs[done : done + len(chunk)]
            done += len(chunk)
            _check_rows(options, max(done, pairs.shape[0]), pairs)
            features = loaded.features_of(chunk, options.file)
            scores.append(_scored(loaded, features, rows, likely).data)
            progress.advance(len(chunk))
    _check_rows(options, done, pairs)
    pairs.data = np.concatenate(scores)
    with atomic_file(options.output, "wb") as stream:
        scipy.sparse.save_npz(stream, pairs)
    print(f"written: {options.output}, scores of {pairs.nnz:,} pairs")


def _scored(
    loaded: "LoadedRun", features: Any, pairs: "scipy.sparse.csr_matrix", probabilities: bool
) -> "scipy.sparse.csr_matrix":
    """Returns the scores of some labels of a batch, or their probabilities.

    These depend on a label's place among all, which is looked for in the list of a search.
    """
    from tfxc.decision.decision import SEARCHED

    scores = loaded.model.score_pairs(features, pairs)
    if not probabilities:
        return scores
    calibration = loaded.model.decision.calibration
    _, best = loaded.model.find_top_k(features, min(SEARCHED, loaded.model.num_labels))
    for row, of_list in enumerate(best):
        own = scores.data[scores.indptr[row] : scores.indptr[row + 1]]
        places = (of_list > own[:, None]).sum(axis=1)
        own[:] = calibration.at(own, places, of_list[0])
    return scores


def _ranker_and_pairs(options: Options, matrix: str) -> "tuple[LoadedRun, scipy.sparse.csr_matrix]":
    """Returns the run that scores pairs, and these."""
    from tfxc.inference.protocol import RankerModel
    from tfxc.ops.csr import load_sparse
    from tfxc.runs.loaded import load_run

    pairs = load_sparse(matrix)
    pairs.sum_duplicates()
    loaded = load_run(options.run[0], options.trust, options.search)
    if not isinstance(loaded.model, RankerModel):
        raise ConfigError(
            f"--pairs needs a linear ranker, but this run searches with the "
            f"{loaded.model.searched_part}",
            where="--run",
            fix="leave --pairs out, and set --k to the number of labels",
        )
    if options.probabilities:
        loaded.model.check_probabilities()
    num_labels = loaded.manifest["num_labels"]
    if pairs.shape[1] != num_labels:
        raise DataError(
            f"the matrix has {pairs.shape[1]:,} columns, but the run has {num_labels:,} labels",
            where=options.pairs,
            fix="give the columns in the order of the run's assets/labels.txt",
        )
    return loaded, pairs


def _check_rows(options: Options, examples: int | None, pairs: "scipy.sparse.csr_matrix") -> None:
    """Refuses pairs of another number of examples, once that is known."""
    if examples is not None and examples != pairs.shape[0]:
        raise DataError(
            f"the matrix has {pairs.shape[0]:,} rows, but {options.file} has {examples:,} examples",
            where=options.pairs,
            fix="give a matrix with one row for each example of FILE",
        )


def _check_model_options(options: Options, likely: bool) -> None:
    """Refuses options that cannot be combined, before anything is loaded.

    Args:
        likely: whether probabilities of several runs together were learned.
    """
    if options.model:
        for name in given(options):
            if name in ("probabilities", "scores") or name in given(options.search):
                raise ConfigError(
                    "a SavedModel outputs only the scores that it was exported with",
                    where=option_of(name),
                    fix="give --run instead of --model"
                    + (", or export with --probabilities" if name == "probabilities" else ""),
                )
    runs = [Path(os.path.realpath(run)) for run in options.run]
    several = len(runs) > 1
    if len(set(runs)) < len(runs):
        raise ConfigError("the same run is named twice", where="--run", fix="name each run once")
    for name in ("ensemble", "weights", "top"):
        if getattr(options, name) and not several:
            raise ConfigError(
                "this option combines several runs, but there is only one model",
                where=f"--{name}",
                fix="give --run several times",
            )
    if several and options.search.step is not None:
        raise ConfigError(
            f"a step belongs to a single run, but {len(runs)} runs are given",
            where="--step",
            fix="give --run once, or leave it out",
        )
    if several and options.probabilities and options.ensemble != "average" and not likely:
        raise ConfigError(
            f"several runs combined by {options.ensemble or _ENSEMBLE} have no probabilities",
            where="--probabilities",
            fix="add --ensemble average, learn them (tfxc ensemble --output, tfxc decide), or "
            "leave it out",
        )


def _check_output(options: Options) -> None:
    """Refuses a file that has no place for what is asked, before any work."""
    if options.output is None:
        return
    layout = _layout_of_lines(options.output, options.format)
    if options.format not in (None, layout):
        raise ConfigError(
            f"the ending of {Path(options.output).name} asks for another format than "
            f"{options.format}",
            where="--format",
            fix="leave --format out, or give --output another ending",
        )
    if layout is None:
        refuse(
            options,
            ("with_id", "with_text"),
            "this option is for lines (.jsonl, .txt)",
            fix="leave it out; .csv and .parquet repeat all columns of FILE",
        )
    if Path(options.output).suffix == ".parquet":
        from tfxc.data.reading.parsing.arrow_tables import arrow

        arrow("--output")  # before anything is predicted


def _layout_of_lines(output: str, layout: str | None) -> str | None:
    """Returns the format of the lines in ``--output``; None where it is a file as a whole."""
    if _is_stream(output):
        return layout or "jsonl"
    return _LINES_BY_ENDING.get(Path(output).suffix)


def _check_input(input_kind: str, options: Options) -> None:
    """Refuses to repeat texts where there are none, and examples that do not fit into lines."""
    from tfxc.data.examples.kinds import INPUTS, TEXT
    from tfxc.data.reading.given_features import with_features

    kind = INPUTS[input_kind]
    if options.with_text and kind.chunk_field != TEXT.chunk_field:
        raise ConfigError(
            f"the model reads {kind.description}, not texts",
            where="--with-text",
            fix="leave it out",
        )
    if options.file == "-":
        if kind.prompt is None:
            more = "" if options.features else ", and its features with --features"
            raise ConfigError(
                f"{kind.description} cannot come from standard input",
                where="FILE",
                fix=f"name a file{more}",
            )
        with_features(None, options.features, input_kind)  # refuses them


def _answers_of_file(
    predictor: "Predictor", source: "Reader", options: Options
) -> "Generator[Answer, None, None]":
    """Yields chunks, each with the ids and scores of its labels."""
    from tfxc.core.progress import Progress

    # On a terminal the line would be drawn between the answers.
    shown = Progress("predicting", unit="examples") if options.output else None
    with shown or contextlib.nullcontext():
        chunks = source.chunks(options.batch_size)
        for chunk, labels in predictor.find_over(chunks, options.file):
            yield chunk, labels
            if shown:
                shown.advance(len(chunk))


def best_labels(options: Options) -> "tuple[np.ndarray, np.ndarray]":
    """Returns the best ``options.k`` labels of all examples of a file.

    Returns:
        ids int32 and scores float32 (examples, k), padded with -1 and minus infinity.
    """
    import numpy as np

    from tfxc.data.reading.given_features import with_features

    predictor = _predictor(options, typed=False)
    kind = predictor.input_kind
    source = with_features(_open(options, kind), options.features, kind)
    answers = [labels for _, labels in _answers_of_file(predictor, source, options)]
    if not answers:
        raise DataError("there is no example", where=options.file)
    ids, scores = map(np.concatenate, zip(*answers, strict=True))
    return ids, scores


def _answers_of_workers(source: "Reader", options: Options) -> "Generator[Answer, None, None]":
    """As ``_answers_of_file``, by the workers of a cluster."""
    from tfxc.core.progress import Progress
    from tfxc.inference.shared_chunks import shared_answers
    from tfxc.parallel import cluster
    from tfxc.runs.folder import RunFolder

    runs = _with_runs(options)[0].run
    several = any(RunFolder(Path(run)).has_runs_inside for run in runs)
    examples = _TASK_OF_SEVERAL_NETWORKS if several else None
    assert options.output is not None, "``check_shared_output`` has asked for it"
    job = dataclasses.asdict(
        dataclasses.replace(
            options,
            run=[os.path.abspath(run) for run in options.run],
            model=options.model and os.path.abspath(options.model),
        )
    )
    batches = _numbered(source.chunks(options.batch_size))
    with (
        cluster(options.cluster),
        shared_answers(open_predictor, job, batches, options.output, examples) as answers,
        Progress("predicting", unit="examples") as progress,
    ):
        for answer in answers:
            yield answer.found
            progress.advance(answer.size)


def _numbered(chunks: "Iterable[Chunk]") -> "Iterator[tuple[int, Chunk]]":
    """Yields the number of the first example of each chunk, and the chunk."""
    first = 0
    for chunk in chunks:
        yield first, chunk
        first += len(chunk)


def open_predictor(job: dict[str, Any]) -> "Work":
    """Returns the ``Work`` of a worker: chunks without what is large, and ids and scores.

    It has all runs of an ensemble in memory. Of a run of several networks it has one at a time, and
    reads all of them for each task.

    Args:
        job: the command's options, a dict.
    """
    from tfxc.inference.predictors import EnsemblePredictor

    options = restored(Options, job)
    predictor = _predictor(options, typed=False)
    several = {"keep": True} if isinstance(predictor, EnsemblePredictor) else {}

    def answers(_: int, chunks: "Iterator[Chunk]") -> "Iterator[Answer]":
        for chunk, labels in predictor.find_over(chunks, options.file, **several):
            images: list[Any] | None = None if chunk.images is None else []
            yield dataclasses.replace(chunk, features=None, images=images), labels

    return answers


def _open(options: Options, input_kind: str) -> "Reader":
    from tfxc.data.reading.formats import open_like, open_unlabelled

    options, _ = _with_runs(options)
    reader_options = options.reader_options
    if not options.run:
        return open_unlabelled(options.file, input_kind, options.reader, reader_options)
    from tfxc.runs.folder import RunFolder

    data = RunFolder(options.run[0]).config().data
    return open_like(options.file, data, input_kind, options.reader, reader_options)


def _interactive(predictor: "Predictor", min_score: float | None) -> int:
    """Prompts for one example after the other until "exit", Ctrl-D or Ctrl-C."""
    with contextlib.suppress(ImportError):  # there is none on some systems
        import readline  # noqa: F401  (gives input() its line editing)

    from tfxc.data.examples.kinds import INPUTS
    from tfxc.data.reading.typed_examples import chunk_of_lines

    print(f"Type {INPUTS[predictor.input_kind].prompt}, then press Enter; exit or Ctrl-D quits.")
    while True:
        try:
            line = input(_PROMPT)
            if line.strip() == "exit":
                return 0
            if line.strip():
                chunk = chunk_of_lines([line], predictor.input_kind, predictor.num_features, "line")
                print(ranking(predictor(chunk, "line"), min_score))
        except DataError as error:
            print(error)
        except (EOFError, KeyboardInterrupt):
            print()
            return 0


def ranking(predictions: "Predictions", min_score: float | None = None) -> str:
    """Returns scores and labels of one example, one line each."""
    (pairs,) = _pairs(predictions, min_score)
    lines = (f"{score:10.4f}  {one_line(label)}" for label, score in pairs)
    return "\n".join(lines) or f"  {_NO_LABEL}"


def _pairs(
    predictions: "Predictions", min_score: float | None
) -> Iterator[list[tuple[str, float]]]:
    """Yields for each example the (label, score) pairs that count."""
    for labels, scores in zip(predictions.labels, predictions.scores.tolist(), strict=True):
        pairs = zip(labels, scores, strict=True)
        yield [(n, s) for n, s in pairs if n and (min_score is None or s >= min_score)]


def _write(
    options: Options,
    names: Sequence[str],
    source: "Reader | None",
    answers: "Iterable[Answer]",
    k: int | None,
) -> None:
    """Writes or prints answers as the options say.

    Args:
        options: of the command.
        names: of the labels, by id.
        source: the ``Reader`` of the examples; None of standard input.
        answers: see ``_answers_of_file``.
        k: number of labels of every example; None where it depends on the example.
    """
    from tfxc.inference.predictors import named

    if options.output and Path(options.output).suffix in _FILES:
        from tfxc.decision.decision import at_least
        from tfxc.inference.prediction_files import write_predictions

        if options.min_score is not None:
            answers = ((chunk, at_least(*labels, options.min_score)) for chunk, labels in answers)
        write_predictions(options.output, names, source, answers, k)
        return
    opened: contextlib.AbstractContextManager[Any]
    if options.output:
        from tfxc.core.storage.files import atomic_file

        opened = atomic_file(options.output)
    else:
        cast(Any, sys.stdout).reconfigure(encoding="utf-8")
        opened = contextlib.nullcontext(sys.stdout)
    with opened as stream:
        plain = options.file == "-" or not stream.isatty()
        layout = options.format or ("jsonl" if plain else "table")
        if options.output:
            layout = _layout_of_lines(options.output, options.format) or "jsonl"
        first = 0
        for chunk, (ids, scores) in answers:
            stream.write(_lines(named(ids, scores, names), chunk, first, layout, options))
            stream.flush()
            first += len(chunk)


def _lines(
    predictions: "Predictions", chunk: "Chunk", first: int, layout: str, options: Options
) -> str:
    """Writes ``Predictions`` of a ``Chunk`` as lines; ``first`` examples came before."""
    lines = []
    texts = chunk.texts or ()
    for row, pairs in enumerate(_pairs(predictions, options.min_score)):
        name = chunk.names[row] if chunk.names else None
        shown = name or first + row + 1
        if layout == "table":
            ranked = " | ".join(f"{score:.3f} {one_line(label)}" for label, score in pairs)
            text = f"  <- {one_line(texts[row])}" if options.with_text else ""
            lines.append(f"{one_line(shown):>8}  {ranked or _NO_LABEL}{text}\n")
            continue
        answer: dict[str, Any] = {"name": name} if chunk.images is not None and name else {}
        if options.with_id:
            answer["id"] = shown
        if options.with_text:
            answer["text"] = texts[row]
        answer["labels"] = [label for label, _ in pairs]
        answer["scores"] = [round(score, 6) for _, score in pairs]
        lines.append(json_text(answer) + "\n")
    return "".join(lines)
