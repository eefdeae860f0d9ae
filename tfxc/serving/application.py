"""The HTTP interface as an ASGI application: routes, limits, errors as JSON."""

import asyncio
import concurrent.futures
import contextlib
import functools
import gc
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic_core import from_json

from tfxc.core.errors import DataError, UserError, missing_package
from tfxc.core.escaping import json_text
from tfxc.core.storage.locks import scratch_folder
from tfxc.serving import tensorflow_serving
from tfxc.serving.examples import as_shown
from tfxc.serving.feedback import Feedback
from tfxc.serving.hosts import Hosts
from tfxc.serving.labelled_files import Stopped, ending_of_name, label_file
from tfxc.serving.limits import Limits, RequestError, bad_request
from tfxc.serving.metrics import CONTENT_TYPE, Metrics
from tfxc.serving.new_labels import checked_label
from tfxc.serving.openapi import openapi_document
from tfxc.serving.requests import (
    FeedbackRequest,
    FileRequest,
    LabelRequest,
    NeighboursRequest,
    PredictRequest,
    ServedRequest,
    read_request,
)
from tfxc.serving.served import Catalog, ServedRun, listed

with missing_package("serve"):
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import FileResponse, Response, StreamingResponse
    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


_Request = TypeVar("_Request")
_EXAMPLE = 'send for example {"texts": ["..."]}'
# Pages load nothing from other hosts and run no script but their own.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
# Bytes of a body that are parsed in a millisecond or two, sooner than another thread has them.
_PARSED_AT_ONCE = 32 << 10
# Of a body, which then takes up to 25 times its size when it is parsed.
_MOST_LISTS = 1 << 20
_PART_BYTES = 1 << 16
_SECONDS_BETWEEN_LOOKS = 0.5  # at whether a client still waits for its file
# Whoever made a run has written the script of its report, which sorts tables. It gets an origin of
# its own, to which the server does not answer, and no connection.
_REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


class Application:
    """What answers requests about the runs of a catalog.

    Args:
        catalog: ``Catalog``.
        metrics: ``Metrics``.
        hosts: ``Hosts`` that requests may name; None for those of 127.0.0.1.
        feedback: ``Feedback`` that requests may add to; None refuses them.

    Attributes:
        asgi: the ASGI application, for any server of such.
        full: the one that answers on a connection too many, and closes it.
        draining: whether the server is about to end: clients are asked to close their connections,
            and ``/health`` says 503, so that no new ones come.

    Example:
        >>> Application(Catalog({"run": "runs/quickstart"}), Metrics())  # doctest: +SKIP
    """

    def __init__(
        self,
        catalog: Catalog,
        metrics: Metrics,
        hosts: Hosts | None = None,
        feedback: Feedback | None = None,
    ) -> None:
        self.catalog = catalog
        self._feedback = feedback
        self._labelling = False  # a file
        self.metrics = metrics
        self.draining = False
        self.hosts = hosts or Hosts()
        self._held = 0  # bytes of the bodies of all requests that are not answered yet
        self._parser = concurrent.futures.ThreadPoolExecutor(1, "parse")
        model = "/v1/models/{name}"
        version = "/versions/{version}"
        routes = [
            Route("/", self._page("page.html")),
            Route("/docs", self._page("api.html")),
            Route("/openapi.json", self._openapi),
            Route("/health", self._health),
            Route("/metrics", self._metrics),
            Route("/models", self._models),
            Route("/predict", self._predict, methods=["POST"]),
            Route("/predict-file", self._predict_file, methods=["POST"]),
            Route("/feedback", self._add_feedback, methods=["POST"]),
            Route("/neighbours", self._neighbours, methods=["POST"]),
            Route("/labels", self._add_label, methods=["POST"]),
            Route(f"{model}{version}:predict", self._served_predict, methods=["POST"]),
            Route(f"{model}:predict", self._served_predict, methods=["POST"]),
            Route(f"{model}{version}/metadata", self._served_metadata),
            Route(f"{model}/metadata", self._served_metadata),
            Route(f"{model}{version}", self._served_status),
            Route(model, self._served_status),
            Route("/reports/{name}/{file:path}", self._report),
        ]
        handlers: Mapping[Any, Any] = {
            HTTPException: _http_error,
            UserError: _user_error,
            ClientDisconnect: _gone,
            Exception: _bug,
        }
        inner = Starlette(routes=routes, exception_handlers=handlers, lifespan=self._lifespan)
        self.asgi: ASGIApp = _Observed(inner, routes, self)
        self.full: ASGIApp = _Observed(self._refuse_connection, routes, self)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        self.catalog.close()
        self._parser.shutdown(wait=False)

    async def _refuse_connection(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = RequestError(
            503,
            f"{self._limits.connections:,} connections are in use, as many as the server takes",
            where="connection",
            fix="connect again later",
        )
        await _refusal(error)(scope, receive, send)

    @property
    def _limits(self) -> Limits:
        return self.catalog.limits

    def _page(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        content = resources.files("tfxc.serving").joinpath(name).read_bytes()

        async def page(_: Request) -> Response:
            headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
            return Response(content, headers=headers, media_type="text/html")

        return page

    async def _openapi(self, _: Request) -> Response:
        return _json(openapi_document(self.catalog, self._feedback is not None))

    async def _health(self, _: Request) -> Response:
        if self.draining:
            return _json({"status": "ending"}, 503)
        return _json({"status": "ok"})

    async def _metrics(self, _: Request) -> Response:
        return Response(self.metrics.text(self.catalog), media_type=CONTENT_TYPE)

    async def _models(self, _: Request) -> Response:
        return _json(
            {
                "models": [
                    {
                        "name": name,
                        "version": slot.current.number,
                        "examples": list(slot.current.forms.fields),
                        "num_labels": slot.current.num_labels,
                        "probabilities": slot.current.probabilities,
                        "k": slot.current.k,
                        "max_k": slot.current.max_k,
                        "neighbours": slot.current.neighbours,
                        "takes_labels": slot.current.takes_labels,
                        "decides": not slot.current.decision.best_alone,
                        "texts": [example.text for example in slot.current.dev_examples],
                        "report": next(
                            (
                                f"/reports/{slot.current.name}/{file}"
                                for file in ("report.html", "report.md")
                                if _report_file(slot.current, file)
                            ),
                            None,
                        ),
                    }
                    for name, slot in self.catalog.slots.items()
                ],
                "feedback": self._feedback is not None,
                "max_file_bytes": self._limits.file_bytes,
            }
        )

    async def _predict(self, request: Request) -> Response:
        def read(body: bytearray) -> tuple[ServedRun, Any, int, int]:
            asked = _parsed(body, PredictRequest)
            served = self.catalog.find(asked.model)
            k = served.checked_k(asked.k)
            return served, served.forms.simple(vars(asked)), served.depth(k), k

        async with self._in_time(request) as body:
            served, ids, scores, k = await self._answered(body, read)
        return _json(
            {
                "model": served.name,
                "version": served.number,
                "probabilities": served.probabilities,
                "predictions": listed(served, ids, scores, k),
            }
        )

    async def _neighbours(self, request: Request) -> Response:
        async with self._in_time(request) as body:
            asked = await self._apart(body, _parsed, body, NeighboursRequest)
            served = self.catalog.find(asked.model)
            k = served.checked_k(asked.k)
            ids, scores = await served.similar_labels(asked.label, k)
        names = served.names
        pairs = zip(ids[0].tolist(), scores[0].tolist(), strict=True)
        neighbours = [
            {"label": names[number], "id": number, "score": score} for number, score in pairs
        ]
        return _json(
            {
                "model": served.name,
                "version": served.number,
                "label": asked.label,
                "neighbours": neighbours,
            }
        )

    async def _predict_file(self, request: Request) -> Response:
        """Answers with the file of the request, as ``tfxc predict --output`` writes it."""
        fields = request.query_params
        twice = [name for name in fields if len(fields.getlist(name)) > 1]
        if twice:
            raise bad_request(f"{twice[0][:40]!r} is given twice", "address", "give it once")
        asked = read_request(FileRequest, fields, "address")
        served = self.catalog.find(asked.model)
        ending = ending_of_name(asked.name)
        k = str(asked.k)
        is_number = k.isascii() and k.isdecimal() and len(k) < 20
        wanted = None if asked.k is None else served.checked_k(int(k) if is_number else k)
        if self._labelling:
            raise RequestError(
                503,
                "another file is being labelled",
                where="file",
                fix="send this one again later",
            )
        self._labelling = True
        try:
            with scratch_folder("labelled") as folder:
                source = folder / f"file{ending}"
                target = folder / "labelled.csv"
                await self._save(request, source)
                await self._until_gone(request, label_file, served, wanted, source, target)
                content = target.open("rb")  # which is there without its folder
        finally:
            self._labelling = False
        size = os.fstat(content.fileno()).st_size
        headers = {
            "Content-Length": str(size),
            "Content-Disposition": 'attachment; filename="labelled.csv"',
        }
        return StreamingResponse(_parts(content), headers=headers, media_type="text/csv")

    async def _save(self, request: Request, path: Path) -> None:
        """Writes the body of a request to a file."""
        most = self._limits.file_bytes
        length = request.headers.get("content-length", "")
        size = int(length) if length.isdecimal() and len(length) < 20 else 0
        try:
            async with asyncio.timeout(self._limits.seconds):
                with path.open("wb") as stream:
                    if size <= most:
                        size = 0
                        async for part in request.stream():
                            size += len(part)
                            if size > most:
                                break
                            stream.write(part)
        except TimeoutError:
            raise _too_late("the file was not complete", self._limits.seconds, 408) from None
        if size > most:
            raise RequestError(
                413,
                f"it has more than {most:,} bytes, the most that this server labels",
                where="file",
                fix="label it with tfxc predict RUN FILE --output labelled.csv",
            )

    async def _until_gone(
        self, request: Request, work: Callable[..., None], *arguments: object
    ) -> None:
        """Calls ``work(*arguments, stop)`` in a thread, and stops it when nobody waits for it."""
        stop = threading.Event()
        call = functools.partial(work, *arguments, stop)
        working = asyncio.get_running_loop().run_in_executor(None, call)
        while not (await asyncio.wait([working], timeout=_SECONDS_BETWEEN_LOOKS))[0]:
            if self.draining or await request.is_disconnected():
                stop.set()
        try:
            await working
        except Stopped:
            raise RequestError(503, "the server is ending", where="file") from None

    async def _add_feedback(self, request: Request) -> Response:
        _check_json(request)
        if self._feedback is None:
            problem = "this server takes no feedback"
            raise RequestError(404, problem, where="feedback", fix="start it with --feedback FILE")
        async with self._in_time(request) as body:
            asked = await self._apart(body, _parsed, body, FeedbackRequest)
            loop = asyncio.get_running_loop()
            adding = loop.run_in_executor(None, self._feedback.add, asked.text, asked.labels)
            await asyncio.shield(adding)
        return _json({"labels": asked.labels})

    async def _add_label(self, request: Request) -> Response:
        _check_json(request)
        async with self._in_time(request) as body:
            asked = await self._apart(body, _parsed, body, LabelRequest)
            name, text = checked_label(asked.label, asked.text)
            # Where the time is over, the label is there a little later.
            adding = asyncio.ensure_future(self.catalog.add_label(name, text))
            models = await asyncio.shield(adding)
        return _json({"label": name, "text": text, "models": models})

    async def _served_predict(self, request: Request) -> Response:
        def read(body: bytearray) -> tuple[ServedRun, Any, int, bool]:
            asked = _parsed(body, ServedRequest)
            served = self._named(request)
            chunk = tensorflow_serving.examples_of(asked, served)
            return served, chunk, served.k, asked.inputs is not None

        async with self._in_time(request) as body:
            served, ids, scores, by_column = await self._answered(body, read)
        return _json(tensorflow_serving.answer_of(served, ids, scores, by_column))

    async def _served_status(self, request: Request) -> Response:
        return _json(tensorflow_serving.status_of(self._named(request)))

    async def _served_metadata(self, request: Request) -> Response:
        name = request.path_params["name"]
        return _json(tensorflow_serving.metadata_of(name, self._named(request)))

    async def _report(self, request: Request) -> Response:
        """Sends a file of the run's report."""
        path = _report_file(self._named(request), request.path_params["file"])
        if path is None:
            raise HTTPException(404)
        kind = "text/plain; charset=utf-8" if path.endswith(".md") else None
        return FileResponse(
            path, media_type=kind, headers={"Content-Security-Policy": _REPORT_POLICY}
        )

    def _named(self, request: Request) -> ServedRun:
        return self.catalog.find(request.path_params["name"], request.path_params.get("version"))

    async def _answered(
        self, body: bytearray, read: Callable[[bytearray], tuple[ServedRun, Any, int, Any]]
    ) -> tuple[ServedRun, Any, Any, Any]:
        """Returns the labels of the examples of a request.

        Args:
            body: of the request.
            read: body -> run, ``Chunk`` of the examples, number of labels, and what else the answer
                depends on. What the body is parsed into is not kept: it may be 25 times as large.

        Returns:
            the run, ids and scores, see ``ServedRun.search``, and what else ``read`` has returned.
        """
        while True:
            served, chunk, k, form = await self._apart(body, read, body)
            if not served.batcher.closed:
                break
            await asyncio.sleep(0)  # a newer version has come meanwhile
        ids, scores = await served.batcher.submit(chunk, k)
        return served, ids, scores, form

    async def _apart(
        self, body: bytearray, function: Callable[..., Any], *arguments: object
    ) -> Any:
        """Calls what reads a body; of large bodies one at a time, in a thread."""
        if len(body) <= _PARSED_AT_ONCE:
            return function(*arguments)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._parser, _uncollected, function, *arguments)

    @contextlib.asynccontextmanager
    async def _in_time(self, request: Request) -> AsyncIterator[bytearray]:
        """Yields the body; what is done inside must end within the time limit."""
        status = 408
        problem = "the request was not complete"
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.seconds):
                await self._receive(request, body)
                status = 504
                problem = "there was no answer"
                yield body
        except TimeoutError:
            raise _too_late(problem, self._limits.seconds, status) from None
        finally:
            self._held -= len(body)

    async def _receive(self, request: Request, body: bytearray) -> None:
        """Appends the body of a request; what it holds is counted in ``_held``."""
        most = self._limits.body_bytes
        length = request.headers.get("content-length", "")
        announced = int(length) if length.isdecimal() and len(length) < 20 else 0
        if announced > most:
            raise _too_large(f"{announced:,}", most)
        async for part in request.stream():
            if len(body) + len(part) > most:
                raise _too_large(f"more than {most:,}", most)
            if self._held + len(part) > max(self._limits.total_bytes, most):
                raise RequestError(
                    503,
                    f"the requests that wait for an answer already take {self._held:,} bytes",
                    where="body",
                    fix="send this request again later",
                )
            body += part
            self._held += len(part)


class _Observed:
    """Counts and times requests, and asks clients to close connections when the server ends."""

    def __init__(self, inner: ASGIApp, routes: list[Route], application: Application) -> None:
        self._inner = inner
        self._application = application
        self._metrics = application.metrics
        # Addresses with a version are counted with those without one, which come later.
        self._patterns: dict[Any, str] = {route.endpoint: route.path for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        begun = time.perf_counter()
        status = 500

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                # A body that is not read to its end leaves no place for another request.
                if self._application.draining or status in (408, 413, 503):
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
                message["headers"] = [*message["headers"], (b"x-content-type-options", b"nosniff")]
            await send(message)

        inner = self._inner
        try:
            self._application.hosts.check(scope["headers"])
        except RequestError as error:
            inner = _refusal(error)
        self._metrics.in_flight += 1
        try:
            await inner(scope, receive, send_on)
        finally:
            self._metrics.in_flight -= 1
            route = self._patterns.get(scope.get("endpoint"), "other")
            self._metrics.answered(route, status, time.perf_counter() - begun)


def _check_json(request: Request) -> None:
    """Refuses what a form could have sent, perhaps on a page of another host.

    Browsers ask before they send JSON there.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/json":
        raise RequestError(
            415,
            f"the Content-Type is {kind[:60] or 'missing'}",
            where="header",
            fix="send application/json with this header",
        )


def _parts(stream: IO[bytes]) -> Iterator[bytes]:
    with stream:
        while part := stream.read(_PART_BYTES):
            yield part


def _too_late(problem: str, seconds: float, status: int) -> RequestError:
    fix = "send fewer examples, or send them again later"
    return RequestError(status, f"{problem} within {seconds:g} seconds", where="time", fix=fix)


def _too_large(size: str, most: int) -> RequestError:
    fix = f"send at most {most:,} at once"
    return RequestError(413, f"the body has {size} bytes", where="body", fix=fix)


def _uncollected(function: Callable[..., Any], *arguments: object) -> Any:
    """Calls ``function(*arguments)`` without the collector of cycles.

    That would look at every list of a large body several times, while no other thread runs.
    """
    gc.disable()
    try:
        return function(*arguments)
    except UserError as error:
        error.__context__ = None  # it holds what the body was parsed into, as the traceback does
        raise error.with_traceback(None) from None
    finally:
        gc.enable()


def _parsed(body: bytearray, declaration: type[_Request]) -> _Request:
    """Returns the request that a body holds as a JSON object."""
    lists = body.count(b"[") + body.count(b"{")
    if lists > _MOST_LISTS:
        raise RequestError(
            413,
            f"the body has {lists:,} lists and objects",
            where="body",
            fix=f"send at most {_MOST_LISTS:,} at once",
        )
    try:
        fields = from_json(body, allow_inf_nan=False, cache_strings="none")
    except ValueError as error:
        # In words that are not the parser's.
        problem = str(error).replace("invalid unicode code point", "bytes that are not UTF-8")
        if "number out of range" in problem:
            problem = "a number of too many digits"
        elif "bytes that are not UTF-8" not in problem:
            problem = problem[:100]
        problem = problem if body else "it is empty"
        raise bad_request(f"this is not JSON ({problem})", "body", _EXAMPLE) from None
    if not isinstance(fields, dict):
        raise bad_request(
            f"this is not a JSON object but {as_shown(fields)}",
            "body",
            _EXAMPLE,
        )
    return read_request(declaration, fields)


def _json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    content = json_text(value).encode("utf-8")
    return Response(content, status, headers, media_type="application/json")


def _report_file(served: ServedRun, name: str) -> str | None:
    """Returns the path of a file in the run's folder ``report``; None if a link leads elsewhere.

    Runs may come from other people, and a link in them could lead to any file of this machine.
    """
    folder = os.path.join(os.path.realpath(served.version.folder), "report")
    path = os.path.realpath(os.path.join(folder, name.replace("\0", "")))
    return path if path.startswith(folder + os.sep) and os.path.isfile(path) else None


async def _http_error(request: Request, error: HTTPException) -> Response:
    """Answers to a wrong address or method."""
    text = f"{request.method} {request.url.path[:200]}: {error.detail}"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        text = f"{request.url.path[:200]}: {request.method} is not allowed. Use {allowed}."
    elif error.status_code == 404:
        text = f"{request.url.path[:200]}: no such address. See /docs."
    return _json({"error": text}, error.status_code, error.headers)


async def _user_error(_: Request, error: UserError) -> Response:
    return _refusal(error)


def _refusal(error: UserError) -> Response:
    status = 500
    if isinstance(error, RequestError):
        status = error.status
    elif isinstance(error, DataError):
        status = 400
    retry = {"Retry-After": "1"} if status in (429, 503) else None
    return _json({"error": str(error)}, status, retry)


async def _gone(_: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _bug(_: Request, error: Exception) -> Response:
    """Answers where the server is at fault, which goes on, and logs the traceback."""
    return _json({"error": "an error of the server; its log says more"}, 500)
