"""Serve runs over HTTP, with a page to try them.

    tfxc serve RUN
    tfxc serve RUN small=RUN2 --port 8000 --poll 10

The server answers at http://127.0.0.1:8501/ (a page), POST /predict and TensorFlow Serving's REST
addresses (POST /v1/models/NAME:predict, GET /v1/models/NAME). /docs describes them. NAME is the
name of the run folder, or what NAME=RUN says. RUN may also be a folder of runs named 1, 2, ...; the
highest number is served. Or it is a file of tfxc ensemble --output, whose runs answer together.

SIGHUP, or --poll, loads a newer version without losing a request. SIGTERM finishes the requests in
flight and ends the server.

There is no authentication and no TLS: use --host only behind a proxy that has both. Requests must
name the server by its own address; --allow-host allows further names.
"""

import contextlib
import dataclasses
import gc
import socket
import sys
from collections.abc import Sequence
from typing import Annotated

from tfxc.core.bounds import Count, Natural, NotNegative, Option
from tfxc.core.command_options import parse
from tfxc.core.errors import ConfigError
from tfxc.core.shared_options import TrustOption
from tfxc.inference.search_options import SearchOptions
from tfxc.serving.limits import Limits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(TrustOption):
    """Options of ``tfxc serve``.

    Attributes:
        runs: run folder, or a file of tfxc ensemble --output; NAME=RUN gives it another name.
        host: address to listen on.
        port: port to listen on; 0 takes any free port.
        allow_host: another name that requests may give as Host, and whose pages may use the server,
            e.g. the name of a proxy; repeat it for several names; None means none.
        k: number of labels per example if the request does not say, or all of a run that has fewer;
            None means 5.
        scores: answer with scores even where there are probabilities.
        label_texts: let runs with head label_text also find the labels of this file, JSON lines
            {"label": ..., "text": ...}; anybody who reaches the server may add labels to it, on the
            page or by POST /labels; None means no labels are added.
        feedback: append what users of the page, or POST /feedback, say a text's labels should have
            been to this file, JSON lines {"text": ..., "labels": [...]}, which tfxc train reads;
            anybody who reaches the server may add lines; None means nothing is taken.
        poll: look for newer versions every so many seconds; 0 means only on SIGHUP.
        processes: number of processes that answer, each of which loads the runs; the weights of
            linear rankers are in memory once.
        drain: how long after SIGTERM the server still accepts connections, so that clients learn
            that it is ending.
        search: how labels are searched, see docs/scale.md
        limits: limits
    """

    runs: Annotated[Sequence[str], Option("RUN", positional=True, mirror="reads")]
    host: Annotated[str, Option("ADDRESS")] = "127.0.0.1"
    port: Natural = 8501
    allow_host: Annotated[Sequence[str], Option("NAME", repeated=True, remote=True)] = ()
    k: Count | None = None
    scores: bool = False
    label_texts: Annotated[str | None, Option("FILE")] = None
    feedback: Annotated[str | None, Option("FILE")] = None
    poll: Annotated[NotNegative, Option("SECONDS")] = 0.0
    processes: Count = 1
    drain: Annotated[NotNegative, Option("SECONDS")] = 1.0
    search: SearchOptions = SearchOptions()
    limits: Limits = Limits()


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until a signal."""
    options = parse(Options, argv, "serve", __doc__)
    if options.label_texts and options.processes > 1:
        raise ConfigError(
            "labels that are added reach one process only",
            where="--label-texts",
            fix="leave out --processes",
        )
    from tfxc.serving.processes import Handles, serve_in_processes
    from tfxc.serving.server import listen

    handles = Handles.inherited()
    if handles is None and options.processes > 1:
        with listen(options.host, options.port) as listener:
            return serve_in_processes(argv or sys.argv[1:], options.processes, listener)
    from tfxc.serving.application import Application
    from tfxc.serving.connections import checked_connections
    from tfxc.serving.feedback import Feedback
    from tfxc.serving.hosts import Hosts
    from tfxc.serving.metrics import Metrics
    from tfxc.serving.new_labels import NewLabels
    from tfxc.serving.served import Catalog, RunOptions, paths_by_name
    from tfxc.serving.server import Timing, serve

    limits = dataclasses.replace(
        options.limits,
        connections=checked_connections(
            None if options.limits.connections == Limits.connections else options.limits.connections
        ),
        k=max(options.limits.k, options.k or 1),
    )
    paths = paths_by_name(options.runs)
    if handles is None:
        listener = listen(options.host, options.port)
    else:
        listener = socket.socket(fileno=handles.listener)
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
        feedback = Feedback(options.feedback) if options.feedback else None
        timing = Timing(options.drain, options.poll)
        serve(Application(catalog, metrics, hosts, feedback), listener, timing, handles)
    return 0
