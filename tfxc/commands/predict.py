"""Predict labels for a file, a pipe or typed lines.

    tfxc predict --run RUN texts.txt
    tfxc predict --run RUN --run RUN2 test.jsonl --k 3 --output labels.jsonl
    tfxc predict --run RUN X.tst.npz --pairs PAIRS.npz --output scores.npz

FILE is any readable data file (its labels are ignored) or plain text, one text per line. Without
FILE, or with -, each line of standard input is answered at once with one line of JSON; on a
terminal there is a prompt ("exit" or Ctrl-D quits). Lines are texts, or for models on features
'id:value ...' (sparse), numbers (dense) or paths of image files. For models on images, FILE may
also be a folder or an image, and each answer contains the image's name.

The scores of labels are probabilities where the model has any. Without --k, all labels are listed
that reach --min-score; without that, if the model decides on each label by itself, all of a
probability of 0.5 (or that reach the config's evaluation.threshold), else the best 5. If --run is
given several times, the predictions of the runs, which must have the same labels, are combined.
With --cluster, the workers of a Dask scheduler predict the examples of FILE.

The ending of --output says what is written: .jsonl JSON lines, as without it; .txt table rows; .npz
the matrix of scores (scipy.sparse, a row per example, a column per label) that PECOS writes; .csv
and .parquet the columns of FILE, then predicted_labels and predicted_scores. evaluate --predictions
measures all of them but .txt.
"""

import argparse
import contextlib
import dataclasses
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfxc.core import cli
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.escaping import json_text, one_line

if TYPE_CHECKING:
    from tfxc.inference.predictors import Predictions


_PROMPT = "> "
_NO_LABEL = "(no label)"
_ENSEMBLE = "softmax_average"
_LISTED = 20
# Formats by the ending of --output: of lines, and of files as a whole.
_LINES_BY_ENDING = {".jsonl": "jsonl", ".txt": "table"}
_FILES = (".csv", ".npz", ".parquet")
# Examples of a task of a cluster, for each of which a worker reads the weights of all networks.
_OF_SEVERAL_NETWORKS = 16_384
_NOT_OF_PAIRS = (
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


def main(argv: Sequence[str] | None = None) -> int:
    """Predicts labels for a file, a pipe or typed lines."""
    options = _parser().parse_args(argv)
    if options.output == "-":
        options.output = None
    cli.check_keeps_input(options.output, options.file)
    if options.pairs:
        _score_pairs(options)
        return 0
    _check_output(options)
    cli.check_shared_output(options, options.run or [options.model])
    typed = options.file == "-" and sys.stdin.isatty()
    if typed:
        _check_typed(options)
    predictor = _predictor(options, typed)
    _check_texts(predictor.input_kind, options)
    if options.file == "-":
        _check_lines(predictor.input_kind, options)
    if typed:
        return _interactive(predictor, options.min_score)
    names = predictor.names
    if options.file == "-":
        source = None
        answers = _answers_of_pipe(predictor, options.batch_size)
    else:
        source = _source(options, predictor.input_kind)
        answers = _answers_of_file(predictor, source, options)
    if options.cluster:
        del predictor, answers  # the model is not needed here any more
        gc.collect()  # networks refer to themselves
        answers = _answers_of_workers(source, options)
    with contextlib.closing(answers):
        _write(options, names, source, answers)
    return 0


def _predictor(options, typed):
    from tfxc.inference.predictors import EnsemblePredictor

    _check(options)
    if options.model:
        from tfxc.inference.savedmodel import SavedModelPredictor

        return SavedModelPredictor(options.model, options.k)
    from tfxc.runs.loaded import load_run

    if len(options.run) == 1:
        loaded = load_run(options.run[0], options.trust, options.step)
        loaded.streamed = options.file != "-"
        loaded.search_with(options.beam, options.post_processor)
        return _predictor_of_run(loaded, options, typed)
    predictors = _predictors_of_runs(options)
    method = options.ensemble or _ENSEMBLE
    return EnsemblePredictor(predictors, method, options.k, options.weights)


def _predictors_of_runs(options):
    """By run; of a file, each is loaded to check it, and again when its turn comes."""
    from tfxc.inference.predictors import RunPredictor
    from tfxc.inference.protocol import RankerModel
    from tfxc.runs.loaded import load_run

    runs = {path: load_run(path, options.trust) for path in options.run}
    predictors = {}
    rankers = 0
    for path, loaded in runs.items():
        loaded.streamed = options.file != "-"
        loaded.require_labels()
        if isinstance(loaded.model, RankerModel):
            rankers += 1
            loaded.search_with(options.beam, options.post_processor)
        listed = options.top or max(_LISTED, options.k or 0)
        listed = min(listed, loaded.manifest["num_labels"])
        with _named(path):
            predictors[path] = RunPredictor(loaded, listed, options.probabilities)
        if loaded.streamed:
            loaded.release()
    if not rankers:
        loaded.search_with(options.beam, options.post_processor)  # refuses them
    return predictors


def _predictor_of_run(loaded, options, typed):
    """Of the best labels, or of all that reach a threshold."""
    from tfxc.inference.predictors import DecidingPredictor, RunPredictor
    from tfxc.metrics.classification import Decision
    from tfxc.training.evaluation import decision_of

    asked = True if options.probabilities else False if options.scores else None
    likely = loaded.model.has_probabilities if asked is None else asked
    if options.k is None and options.min_score is not None:
        return DecidingPredictor(loaded, Decision(options.min_score, likely))
    if options.k is None and not typed:
        given = loaded.config.evaluation.threshold
        decision = decision_of(loaded.model, loaded.single_label, given)
        if decision.threshold is not None and asked in (None, decision.probabilities):
            print(f"{decision}; --k K lists the best K", file=sys.stderr)
            return DecidingPredictor(loaded, decision)
    return RunPredictor(loaded, options.k, likely)


def _score_pairs(options):
    """Scores the labels that a matrix names and writes them as a matrix."""
    import numpy as np
    import scipy.sparse

    from tfxc.core.progress import Progress
    from tfxc.core.storage.files import atomic_file
    from tfxc.data.given_features import with_features

    _check_pair_options(options)
    loaded, pairs = _ranker_of_pairs(options)
    source = with_features(_open(options, loaded.input_kind), options.features, loaded.input_kind)
    scores = [np.empty(0, np.float32)]
    likely = loaded.model.has_probabilities and not options.scores
    _check_pairs(options, source.num_examples, pairs)
    done = 0
    with Progress("scoring", pairs.shape[0], "examples") as progress:
        for chunk in source.chunks(options.batch_size):
            rows = pairs[done : done + len(chunk)]
            done = done + len(chunk)
            _check_pairs(options, max(done, pairs.shape[0]), pairs)
            features = loaded.features_of(chunk, options.file)
            scores.append(loaded.model.score_pairs(features, rows, likely).data)
            progress.advance(len(chunk))
    _check_pairs(options, done, pairs)
    pairs.data = np.concatenate(scores)
    with atomic_file(options.output, "wb") as stream:
        scipy.sparse.save_npz(stream, pairs)
    print(f"written: {options.output}, scores of {pairs.nnz:,} pairs")


def _check_pair_options(options):
    """Refuses what does not apply to the scoring of pairs."""
    for name in _NOT_OF_PAIRS:
        if getattr(options, name) not in (None, False):
            raise ConfigError(
                "no such option expected with --pairs, which names the labels to score",
                where=cli.option_of(name),
                fix="leave it out",
            )
    if not (options.output or "").endswith(".npz"):
        raise ConfigError(
            f"a file name ending in .npz expected with --pairs, found {options.output}",
            where="--output",
            fix="name one, e.g. --output scores.npz",
        )
    if options.file == "-":
        raise ConfigError(
            "a file of examples expected with --pairs, found standard input",
            where="FILE",
            fix="name the file",
        )
    if len(options.run) > 1:
        raise ConfigError(
            f"one run expected with --pairs, found {len(options.run)}",
            where="--run",
            fix="give --run once",
        )


def _ranker_of_pairs(options):
    """The run that scores pairs, and these."""
    from tfxc.inference.protocol import RankerModel
    from tfxc.ops.csr import load_sparse
    from tfxc.runs.loaded import load_run

    pairs = load_sparse(options.pairs)
    pairs.sum_duplicates()
    loaded = load_run(options.run[0], options.trust, options.step)
    if not isinstance(loaded.model, RankerModel):
        raise ConfigError(
            f"a run with a linear ranker expected with --pairs, found one with the "
            f"{loaded.model.searched_part}",
            where="--run",
            fix="search with --k as many labels as there are",
        )
    loaded.search_with(None, options.post_processor)
    if options.probabilities:
        loaded.model.check_probabilities()
    num_labels = loaded.manifest["num_labels"]
    if pairs.shape[1] != num_labels:
        raise DataError(
            f"a column for each of the run's {num_labels:,} labels expected, found "
            f"{pairs.shape[1]:,}",
            where=options.pairs,
            fix="give the columns in the order of the run's assets/labels.txt",
        )
    return loaded, pairs


def _check_pairs(options, examples, pairs):
    """Refuses pairs of another number of examples, once that is known."""
    if examples is not None and examples != pairs.shape[0]:
        raise DataError(
            f"a row for each of the {examples:,} examples of {options.file} expected, found "
            f"{pairs.shape[0]:,}",
            where=options.pairs,
            fix="give the examples and the rows of the same file",
        )


@contextlib.contextmanager
def _named(run):
    """Names the run, one of several, in the errors of what is requested of it."""
    try:
        yield
    except ConfigError as error:
        where = f"{run}: {error.where}" if error.where else run
        raise ConfigError(error.problem, where=where, fix=error.fix) from None


def _check(options):
    """Refuses options that cannot be combined, before anything is loaded."""
    if options.model:
        for name in ("probabilities", "scores", "beam", "post_processor", "step"):
            if getattr(options, name) is not None and getattr(options, name) is not False:
                raise ConfigError(
                    "a run expected, found a SavedModel, which outputs the scores of its export",
                    where=cli.option_of(name),
                    fix="give --run instead of --model"
                    + (", or export with --probabilities" if name == "probabilities" else ""),
                )
    runs = [Path(os.path.realpath(run)) for run in options.run or ()]
    several = len(runs) > 1
    if len(set(runs)) < len(runs):
        raise ConfigError(
            "distinct runs expected, found one twice", where="--run", fix="name each run once"
        )
    for name in ("ensemble", "weights", "top"):
        if getattr(options, name) and not several:
            raise ConfigError(
                f"several runs expected, found {len(runs)}",
                where=f"--{name}",
                fix="give --run several times",
            )
    if several and options.step is not None:
        raise ConfigError(
            f"one run expected, found {len(runs)}",
            where="--step",
            fix="give --run once, or leave it out",
        )
    if several and options.probabilities and options.ensemble != "average":
        raise ConfigError(
            "--ensemble average expected with probabilities of several runs, found "
            f"{options.ensemble or _ENSEMBLE}",
            where="--probabilities",
            fix="add --ensemble average, or leave it out",
        )


def _check_output(options):
    """Refuses a file that has no place for what is asked, before any work."""
    if options.output is None:
        return
    layout = _layout_of_lines(options)
    if options.format not in (None, layout):
        raise ConfigError(
            f"{Path(options.output).name} does not hold the format {options.format}",
            where="--format",
            fix="leave it out: the ending of --output says what is written",
        )
    if layout is None:
        for name in ("with_id", "with_text"):
            if getattr(options, name):
                raise ConfigError(
                    "this option is for lines (.jsonl, .txt)",
                    where=cli.option_of(name),
                    fix="leave it out; .csv and .parquet repeat all columns of FILE",
                )
    if Path(options.output).suffix == ".parquet":
        from tfxc.data.parsing.arrow_tables import arrow

        arrow("--output")  # before anything is predicted


def _layout_of_lines(options):
    """The format of the lines in ``--output``; None where it is a file as a whole."""
    if _is_stream(options.output):
        return options.format or "jsonl"
    return _LINES_BY_ENDING.get(Path(options.output).suffix)


def _is_stream(name):
    """Whether it is a device or a pipe, whose name says nothing of what is written."""
    return Path(name).is_char_device() or Path(name).is_fifo()


def _check_lines(input_kind, options):
    """Refuses standard input where an example is more than a line of it."""
    from tfxc.data.given_features import with_features
    from tfxc.data.kinds import INPUTS

    if INPUTS[input_kind].prompt is None:
        raise ConfigError(
            f"a file of {INPUTS[input_kind].description} expected, found standard input",
            where="FILE",
            fix="name a file" + ("" if options.features else ", and its features with --features"),
        )
    with_features(None, options.features, input_kind)  # refuses them


def _check_typed(options):
    """Refuses what does not apply to answers on a terminal."""
    for name in ("output", "format", "with_id", "with_text"):
        if getattr(options, name):
            raise ConfigError(
                "a file or a pipe expected with this option, found a terminal",
                where=cli.option_of(name),
                fix="name the file, or leave it out",
            )


def _check_texts(input_kind, options):
    """Refuses to repeat texts where examples are something else."""
    from tfxc.data.kinds import INPUTS, TEXT

    if options.with_text and INPUTS[input_kind].chunk_field != TEXT.chunk_field:
        raise ConfigError(
            f"a model on texts expected with this option, found one on "
            f"{INPUTS[input_kind].description}",
            where="--with-text",
            fix="leave it out",
        )


def _answers_of_pipe(predictor, batch_size):
    """Yields chunks, each with the ids and scores that were found for it."""
    from tfxc.data.typed_examples import chunks_of_pipe

    pipe = sys.stdin.fileno()
    for chunk in chunks_of_pipe(pipe, predictor.input_kind, predictor.num_features, batch_size):
        yield chunk, predictor.find(chunk, "standard input")


def _answers_of_file(predictor, source, options):
    """As ``_answers_of_pipe``."""
    from tfxc.core.progress import Progress

    # On a terminal the line would be drawn between the answers.
    shown = Progress("predicting", unit="examples") if options.output else None
    with shown or contextlib.nullcontext():
        chunks = source.chunks(options.batch_size)
        for chunk, found in predictor.find_over(chunks, options.file):
            yield chunk, found
            if shown:
                shown.advance(len(chunk))


def _answers_of_workers(source, options):
    """As ``_answers_of_pipe``, by the workers of a cluster."""
    from tfxc.core.progress import Progress
    from tfxc.inference.shared_chunks import shared_answers
    from tfxc.parallel import cluster
    from tfxc.runs.folder import RunFolder

    several = any(RunFolder(Path(run)).has_runs_inside for run in options.run or ())
    examples = _OF_SEVERAL_NETWORKS if several else None
    runs = options.run and [os.path.abspath(run) for run in options.run]
    job = {**vars(options), "run": runs, "model": options.model and os.path.abspath(options.model)}
    batches = _numbered(source.chunks(options.batch_size))
    with (
        cluster(options.cluster),
        shared_answers(open_predictor, job, batches, options.output, examples) as answers,
        Progress("predicting", unit="examples") as progress,
    ):
        for _, size, found in answers:
            yield found
            progress.advance(size)


def _numbered(chunks):
    """Yields the number of the first example of each chunk, and the chunk."""
    first = 0
    for chunk in chunks:
        yield first, chunk
        first += len(chunk)


def open_predictor(job):
    """The ``Work`` of a worker of a cluster: chunks without what is large, and ids and scores.

    It has all runs of an ensemble in memory. Of a run of several networks it has one at a time, and
    reads all of them for each task.

    Args:
        job: the command's options, a dict.
    """
    from tfxc.inference.predictors import EnsemblePredictor

    options = argparse.Namespace(**job)
    predictor = _predictor(options, typed=False)
    several = {"keep": True} if isinstance(predictor, EnsemblePredictor) else {}

    def answers(_, chunks):
        for chunk, found in predictor.find_over(chunks, options.file, **several):
            images = None if chunk.images is None else []
            yield dataclasses.replace(chunk, features=None, images=images), found

    return answers


def _source(options, input_kind):
    from tfxc.data.given_features import with_features

    return with_features(_open(options, input_kind), options.features, input_kind)


def _open(options, input_kind):
    from tfxc.data.formats import open_like, open_unlabelled

    given = dict(options.reader_option)
    if not options.run:
        return open_unlabelled(options.file, input_kind, options.reader, given)
    from tfxc.runs.folder import RunFolder

    data = RunFolder(options.run[0]).config().data
    return open_like(options.file, data, input_kind, options.reader, given)


def _interactive(predictor, min_score):
    """Prompts for one example after the other until "exit", Ctrl-D or Ctrl-C."""
    with contextlib.suppress(ImportError):  # there is none on some systems
        import readline  # noqa: F401  (gives input() its line editing)

    from tfxc.data.kinds import INPUTS
    from tfxc.data.typed_examples import chunk_of_lines

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
    """Scores and labels of one example, one line each."""
    (pairs,) = _pairs(predictions, min_score)
    lines = (f"{score:10.4f}  {one_line(label)}" for label, score in pairs)
    return "\n".join(lines) or f"  {_NO_LABEL}"


def _pairs(predictions, min_score):
    """For each example the (label, score) pairs that count."""
    for labels, scores in zip(predictions.labels, predictions.scores.tolist(), strict=True):
        pairs = zip(labels, scores, strict=True)
        yield [(n, s) for n, s in pairs if n and (min_score is None or s >= min_score)]


def _write(options, names, source, answers):
    """Writes or prints answers as the options say.

    Args:
        options: of the command.
        names: of the labels, by id.
        source: the ``Reader`` of the examples; None of standard input.
        answers: see ``_answers_of_pipe``.
    """
    from tfxc.inference.predictors import named

    if options.output and Path(options.output).suffix in _FILES:
        from tfxc.inference.prediction_files import write_predictions
        from tfxc.ranker.calibration import at_least

        if options.min_score is not None:
            answers = ((chunk, at_least(*found, options.min_score)) for chunk, found in answers)
        write_predictions(options.output, names, source and source.table(), answers)
        return
    with _output(options.output) as stream:
        plain = options.file == "-" or not stream.isatty()
        layout = options.format or ("jsonl" if plain else "table")
        if options.output:
            layout = _layout_of_lines(options)
        first = 0
        for chunk, found in answers:
            stream.write(_lines(named(*found, names), chunk, first, layout, options))
            stream.flush()
            first += len(chunk)


def _lines(predictions, chunk, first, layout, options):
    """``Predictions`` of a ``Chunk`` as text, a line each; ``first`` examples came before."""
    lines = []
    for row, pairs in enumerate(_pairs(predictions, options.min_score)):
        number = first + row + 1
        name = chunk.names[row] if chunk.names else None
        said = {"name": name} if chunk.images is not None and name else {}
        if options.with_id:
            said["id"] = name or number
        if options.with_text:
            said["text"] = chunk.texts[row]
        lines.append(_LAYOUTS[layout](name or number, said, pairs) + "\n")
    return "".join(lines)


def _json_line(_name, said, pairs):
    labels = [label for label, _ in pairs]
    scores = [round(score, 6) for _, score in pairs]
    return json_text({**said, "labels": labels, "scores": scores})


def _table_line(name, said, pairs):
    ranked = " | ".join(f"{score:.3f} {one_line(label)}" for label, score in pairs) or _NO_LABEL
    text = f"  <- {one_line(said['text'])}" if "text" in said else ""
    return f"{one_line(name):>8}  {ranked}{text}"


_LAYOUTS = {"jsonl": _json_line, "table": _table_line}


def _output(path):
    if path:
        from tfxc.core.storage.files import atomic_file

        return atomic_file(path)
    sys.stdout.reconfigure(encoding="utf-8")
    return contextlib.nullcontext(sys.stdout)


def _parser():
    options = cli.parser("predict", __doc__)
    cli.add_trust_option(options)
    model = options.add_mutually_exclusive_group(required=True)
    model.add_argument(
        "--run",
        action="append",
        metavar="RUN",
        help="run folder (may be given several times: an ensemble)",
    )
    model.add_argument("--model", metavar="FOLDER", help="SavedModel written by tfxc export")
    cli.add_step_option(options)
    cli.add_file_options(options)
    cli.add_cluster_option(options)
    cli.add_features_option(options)
    _add_answer_options(options)
    _add_ensemble_options(options)
    options.add_argument(
        "--pairs",
        metavar="MATRIX",
        help="score these labels of each example (.npz) instead of searching (default: search)",
    )
    cli.add_beam_options(options)
    options.add_argument(
        "--output",
        type=_output_name,
        metavar="FILE",
        help="file to write: .jsonl, .txt, .npz, .csv or .parquet (default: print)",
    )
    options.add_argument(
        "--format",
        choices=sorted(_LAYOUTS),
        help="one JSON object or table row per example (default: table on a terminal, else jsonl)",
    )
    return options


def _output_name(text):
    if text == "-" or _is_stream(text):
        return text
    return cli.ending(*_LINES_BY_ENDING, *_FILES)(text)


def _add_answer_options(options):
    """What an answer contains."""
    options.add_argument(
        "--k", type=int, help="labels per example, at most (default: as many as count, or 5)"
    )
    units = options.add_mutually_exclusive_group()
    units.add_argument(
        "--probabilities",
        action="store_true",
        help="refuse a model without probabilities (default: they are printed if it has any)",
    )
    units.add_argument(
        "--scores", action="store_true", help="print scores even if there are probabilities"
    )
    options.add_argument(
        "--min-score",
        type=cli.number,
        help="omit labels with a lower score, or probability if these are printed (default: none)",
    )
    options.add_argument(
        "--with-id",
        action="store_true",
        help="begin each answer with the example's id: what --reader-option id_field=NAME names, "
        "else its number from 1",
    )
    options.add_argument(
        "--with-text", action="store_true", help="repeat the text in each answer (default: no)"
    )


def _add_ensemble_options(options):
    """How the predictions of several runs are combined."""
    options.add_argument(
        "--ensemble",
        choices=cli.ENSEMBLES,
        help=f"how to combine the best labels of several runs (default: {_ENSEMBLE})",
    )
    options.add_argument(
        "--weights",
        type=cli.numbers,
        metavar="W,W",
        help="weight of each of several runs, e.g. 2,1 (default: all alike)",
    )
    options.add_argument(
        "--top",
        type=cli.positive,
        help=f"labels to combine from each of several runs (default: {_LISTED}, at least --k)",
    )
