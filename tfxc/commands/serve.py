"""Serve runs over HTTP, with a page to try them.

    tfxc serve RUN
    tfxc serve RUN small=RUN2 --port 8000 --poll 10

Answers at http://127.0.0.1:8501/ (a page), POST /predict and TensorFlow Serving's REST addresses
(POST /v1/models/NAME:predict, GET /v1/models/NAME). /docs describes them. NAME is the name of the
run folder, or what NAME=RUN says. RUN may also be a folder of runs named 1, 2, ...: the highest is
served. SIGHUP, or --poll, loads a newer version without losing a request; SIGTERM finishes the
requests in flight and ends.

There is no authentication and no TLS: give --host only behind a proxy that has both. Requests must
name the server by its own address; --allow-host adds names.
"""

import argparse
import contextlib
import dataclasses
import gc
from collections.abc import Sequence

from tfxc.core import cli
from tfxc.serving.limits import Limits

# Options of numbers, the attribute of ``Limits`` that each sets, and what it says.
_LIMITS = (
    ("--max-examples", "examples", "examples in a request; more: 413"),
    ("--max-bytes", "body_bytes", "bytes of a request's body; more: 413"),
    ("--max-total-bytes", "total_bytes", "bytes of all bodies that wait for an answer; more: 503"),
    ("--max-k", "k", "labels per example; more: 400"),
    ("--max-queue", "queue", "examples that wait for a run; more: 429"),
    ("--batch-size", "batch", "examples that are searched at once"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until a signal."""
    options = _parser().parse_args(argv)
    from tfxc.serving.application import Application
    from tfxc.serving.connections import checked_connections
    from tfxc.serving.hosts import Hosts
    from tfxc.serving.metrics import Metrics
    from tfxc.serving.new_labels import NewLabels
    from tfxc.serving.served import Catalog, RunOptions, paths_by_name
    from tfxc.serving.server import Timing, listen, serve

    numbers = {
        field: getattr(options, option.removeprefix("--").replace("-", "_"))
        for option, field, _ in _LIMITS
    }
    numbers["connections"] = checked_connections(options.max_connections)
    limits = Limits(**numbers, seconds=options.timeout, wait=options.batch_wait)
    limits = dataclasses.replace(limits, k=max(limits.k, options.k or 1))
    paths = paths_by_name(options.runs)
    listener = listen(options.host, options.port)
    hosts = Hosts(listener.getsockname()[0], options.host, options.allow_host)
    with contextlib.ExitStack() as stack:
        stack.enter_context(listener)
        # What is loaded is left out of garbage collections: that after a reload is then quick.
        gc.collect()
        gc.freeze()
        stack.callback(gc.unfreeze)
        metrics = Metrics()
        new_labels = NewLabels(options.label_texts) if options.label_texts else None
        opening = RunOptions(options.trust, options.k, options.scores, new_labels, options.search)
        catalog = Catalog(paths, limits, opening, metrics.searched)
        for name, slot in catalog.slots.items():
            print(f"{name}: version {slot.current.number}, {slot.current.version.folder}")
        serve(Application(catalog, metrics, hosts), listener, Timing(options.drain, options.poll))
    return 0


def _parser() -> argparse.ArgumentParser:
    options = cli.parser("serve", __doc__)
    cli.add_trust_option(options)
    options.add_argument(
        "runs", nargs="+", metavar="RUN", help="run folder, or NAME=RUN to give it another name"
    )
    options.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (default: %(default)s)"
    )
    options.add_argument(
        "--port",
        type=cli.seed,
        default=8501,
        help="port to listen at, 0 for any that is free (default: %(default)s)",
    )
    options.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name of the server that requests may give as Host, and whose pages may use "
        "it, e.g. that of a proxy; repeat it for several (default: none)",
    )
    options.add_argument(
        "--k",
        type=cli.positive,
        help="number of labels per example where a request does not say it (default: 5, or all if "
        "there are fewer)",
    )
    options.add_argument(
        "--scores",
        action="store_true",
        help="answer with scores even where there are probabilities",
    )
    options.add_argument(
        "--search",
        metavar="METHOD",
        help="how labels are searched, e.g. approximate, see docs/scale.md (default: exactly)",
    )
    options.add_argument(
        "--label-texts",
        metavar="FILE",
        help="let runs with head label_text also find the labels of this file, JSON lines "
        '{"label": ..., "text": ...}; the page and POST /labels add labels to it, which anybody '
        "who reaches the server may do (default: no labels are added)",
    )
    options.add_argument(
        "--poll",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="look for newer versions this often (default: only on SIGHUP)",
    )
    options.add_argument(
        "--drain",
        type=_seconds,
        default=1.0,
        metavar="SECONDS",
        help="after SIGTERM, time for clients to learn that the server ends, before it refuses "
        "connections (default: %(default)s)",
    )
    group = options.add_argument_group("limits")
    for option, field, text in _LIMITS:
        default = getattr(Limits, field)
        group.add_argument(
            option,
            type=cli.positive,
            default=default,
            metavar="N",
            help=f"{text} (default: {default})",
        )
    group.add_argument(
        "--max-connections",
        type=cli.positive,
        metavar="N",
        help=f"connections at a time; more: 503 (default: {Limits.connections}, or fewer where the "
        "process may open few files)",
    )
    group.add_argument(
        "--timeout",
        type=_positive_seconds,
        default=Limits.seconds,
        metavar="SECONDS",
        help="time from a request to its answer, and time in which a client has to send or read; "
        "longer: 408 or 504, or the connection is closed (default: %(default)s)",
    )
    group.add_argument(
        "--batch-wait",
        type=_seconds,
        default=Limits.wait,
        metavar="SECONDS",
        help="time that an idle run waits for more requests, to search all together (default: "
        "%(default)s)",
    )
    return options


def _seconds(text: str) -> float:
    seconds = cli.number(text)
    if seconds < 0:
        raise argparse.ArgumentTypeError(f"{text!r} seconds are less than 0")
    return seconds


def _positive_seconds(text: str) -> float:
    seconds = _seconds(text)
    if not seconds:
        raise argparse.ArgumentTypeError("0 seconds are too few")
    return seconds
