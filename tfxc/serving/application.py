"""The HTTP interface as an ASGI application: routes, limits, errors as JSON."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from importlib import resources
from typing import Any

from tfxc.core.errors import DataError, UserError, missing_package
from tfxc.core.escaping import json_text
from tfxc.serving import tensorflow_serving
from tfxc.serving.examples import as_shown
from tfxc.serving.hosts import Hosts
from tfxc.serving.limits import Limits, RequestError, bad_request
from tfxc.serving.metrics import CONTENT_TYPE, Metrics
from tfxc.serving.new_labels import checked_label
from tfxc.serving.openapi import openapi_document
from tfxc.serving.served import Catalog, ServedRun, listed

with missing_package("serve"):
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import FileResponse, Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


_FIELDS = ("features", "images", "k", "model", "texts")
_OF_NEIGHBOURS = ("k", "label", "model")
_OF_LABELS = ("label", "text")
# Pages load nothing from other hosts and run no script but their own.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
# Bodies that are too large are read up to this many times the limit.
_DISCARDED = 16
# Whoever made a run has written the script of its report, which sorts tables. It gets an origin of
# its own, to which the server does not answer, and no connection.
_OF_REPORTS = (
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

    Attributes:
        asgi: the ASGI application, for any server of such.
        full: the one that answers on a connection too many, and closes it.
        draining: whether the server is about to end: clients are asked to close their connections,
            and ``/health`` says 503, so that no new ones come.

    Example:
        >>> Application(Catalog({"run": "runs/quickstart"}), Metrics())  # doctest: +SKIP
    """

    def __init__(self, catalog: Catalog, metrics: Metrics, hosts: Hosts | None = None) -> None:
        self.catalog, self.metrics, self.draining = catalog, metrics, False
        self.hosts = hosts or Hosts()
        model, version = "/v1/models/{name}", "/versions/{version}"
        routes = [
            Route("/", self._page("page.html")),
            Route("/docs", self._page("interface.html")),
            Route("/openapi.json", self._openapi),
            Route("/health", self._health),
            Route("/metrics", self._metrics),
            Route("/models", self._models),
            Route("/predict", self._predict, methods=["POST"]),
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

    async def _refuse_connection(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = RequestError(
            503,
            f"at most {self._limits.connections:,} connections expected, found more",
            where="connection",
            fix="connect again later",
        )
        headers = {"Connection": "close", "Retry-After": "1"}
        await _json({"error": str(error)}, 503, headers)(scope, receive, send)

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
        return _json(openapi_document(self.catalog))

    async def _health(self, _: Request) -> Response:
        if self.draining:
            return _json({"status": "ending"}, 503)
        return _json({"status": "ok"})

    async def _metrics(self, _: Request) -> Response:
        return Response(self.metrics.text(self.catalog), media_type=CONTENT_TYPE)

    async def _models(self, _: Request) -> Response:
        return _json({
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
                    "report": _report_of(slot.current),
                }
                for name, slot in self.catalog.slots.items()
            ]
        })  # fmt: skip

    async def _predict(self, request: Request) -> Response:
        async with self._in_time(request) as body:
            _refuse_others(body, _FIELDS)
            served = self.catalog.find(body.get("model"))
            k = served.checked_k(body.get("k"))
            ids, scores = await self._found(served, served.forms.simple(body), k)
        return _json({
            "model": served.name,
            "version": served.number,
            "probabilities": served.probabilities,
            "predictions": listed(served, ids, scores),
        })  # fmt: skip

    async def _neighbours(self, request: Request) -> Response:
        async with self._in_time(request) as body:
            _refuse_others(body, _OF_NEIGHBOURS)
            served = self.catalog.find(body.get("model"))
            k = served.checked_k(body.get("k"))
            found = await served.similar_labels(body.get("label"), k)
        (neighbours,) = listed(served, *found)
        return _json({
            "model": served.name,
            "version": served.number,
            "label": body["label"],
            "neighbours": neighbours,
        })  # fmt: skip

    async def _add_label(self, request: Request) -> Response:
        _refuse_other_origins(request)
        async with self._in_time(request) as body:
            _refuse_others(body, _OF_LABELS)
            name, text = checked_label(body.get("label"), body.get("text"))
            # Where the time is over, the label is there a little later.
            adding = asyncio.ensure_future(self.catalog.add_label(name, text))
            models = await asyncio.shield(adding)
        return _json({"label": name, "text": text, "models": models})

    async def _served_predict(self, request: Request) -> Response:
        async with self._in_time(request) as body:
            served = self._named(request)
            chunk = tensorflow_serving.examples_of(body, served)
            ids, scores = await self._found(served, chunk, served.k)
        return _json(tensorflow_serving.answer_of(body, served, ids, scores))

    async def _served_status(self, request: Request) -> Response:
        return _json(tensorflow_serving.status_of(self._named(request)))

    async def _served_metadata(self, request: Request) -> Response:
        name = request.path_params["name"]
        return _json(tensorflow_serving.metadata_of(name, self._named(request)))

    async def _report(self, request: Request) -> Response:
        """A file of the run's report."""
        path = _report_file(self._named(request), request.path_params["file"])
        if path is None:
            raise HTTPException(404)
        kind = "text/plain; charset=utf-8" if path.endswith(".md") else None
        return FileResponse(path, media_type=kind, headers={"Content-Security-Policy": _OF_REPORTS})

    def _named(self, request: Request) -> ServedRun:
        return self.catalog.find(
            request.path_params["name"], request.path_params.get("version")
        )  # fmt: skip

    async def _found(self, served: ServedRun, chunk: Any, k: int) -> Any:
        """Ids and scores of the examples of a request."""
        if len(chunk) > self._limits.examples:
            raise RequestError(
                413,
                f"at most {self._limits.examples:,} examples expected, found {len(chunk):,}",
                where="body",
                fix="send them in several requests",
            )
        return await served.batcher.submit(chunk, k)

    @contextlib.asynccontextmanager
    async def _in_time(self, request: Request) -> AsyncIterator[dict[str, Any]]:
        """Yields the body, a JSON object; what is done inside must end within the time limit."""
        status, step = 408, "the whole request"
        try:
            async with asyncio.timeout(self._limits.seconds):
                body = _parsed(await self._body(request))
                status, step = 504, "the answer"
                yield body
        except TimeoutError:
            raise RequestError(
                status,
                f"{step} expected within {self._limits.seconds:g} seconds, found none",
                where="time",
                fix="send fewer examples, or send them again later",
            ) from None

    async def _body(self, request: Request) -> bytes:
        """The body of a request.

        Of one that is too large the rest is read as well, but for very large ones: many clients
        read no answer before they have sent everything. Those that ask first get theirs at once.
        """
        most, size, found = self._limits.body_bytes, 0, bytearray()
        length = request.headers.get("content-length", "")
        announced = int(length) if length.isdecimal() and len(length) < 20 else 0
        if announced > most and "expect" in request.headers:
            raise _too_large(most, announced)
        async for part in request.stream():
            size += len(part)
            if size <= most:
                found += part
            elif size > _DISCARDED * most:
                break
        if size > most:
            raise _too_large(most, max(size, announced))
        return bytes(found)


class _Observed:
    """Counts and times requests, and asks clients to close connections when the server ends."""

    def __init__(self, inner: ASGIApp, routes: list[Route], application: Application) -> None:
        self._inner, self._application = inner, application
        self._metrics = application.metrics
        # Addresses with a version are counted with those without one, which come later.
        self._patterns: dict[Any, str] = {route.endpoint: route.path for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                # A body that is not read to its end leaves no place for another request.
                if self._application.draining or status in (408, 413):
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
                message["headers"] = [
                    *message["headers"], (b"x-content-type-options", b"nosniff")
                ]  # fmt: skip
            await send(message)

        inner = self._inner
        try:
            self._application.hosts.check(scope["headers"])
        except RequestError as error:
            inner = _json({"error": str(error)}, error.status)
        self._metrics.in_flight += 1
        try:
            await inner(scope, receive, send_on)
        finally:
            self._metrics.in_flight -= 1
            route = self._patterns.get(scope.get("endpoint"), "other")
            self._metrics.answered(route, status, time.perf_counter() - begun)


def _too_large(most: int, found: int) -> RequestError:
    return RequestError(
        413,
        f"a body of at most {most:,} bytes expected, found {found:,}",
        where="body",
        fix="send fewer examples at once",
    )


def _parsed(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body."""
    try:
        found = json.loads(body.decode("utf-8"), parse_constant=_not_json)
    except UnicodeDecodeError as error:
        raise bad_request(
            f"UTF-8 expected, found the byte {body[error.start]:#04x} at {error.start}", "body"
        ) from None
    except RecursionError:
        raise bad_request("JSON of a few levels expected, found too many", "body") from None
    except ValueError as error:
        problem = _json_problem(error) if body else "an empty body"
        raise bad_request(f"JSON expected, found none ({problem})", "body") from None
    if not isinstance(found, dict):
        raise bad_request(
            f"a JSON object expected, found {as_shown(found)}",
            "body",
            'send for example {"texts": ["..."]}',
        )
    return found


def _refuse_other_origins(request):
    """Refuses a form that a page of another host may have sent: browsers ask for JSON first."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/json":
        raise RequestError(
            415,
            f"Content-Type application/json expected, found {kind[:60] or 'none'}",
            where="header",
            fix="send it with this header",
        )


def _refuse_others(body, known):
    """Refuses fields that a request does not have."""
    unknown = sorted(set(body) - set(known))
    if unknown:
        shown = ", ".join(repr(name[:40]) for name in unknown[:4])
        raise bad_request(f"{', '.join(known)} expected, found {shown}", "body")


def _json_problem(error):
    """What is wrong with a text that is no JSON, in words that are not Python's."""
    if "int_max_str_digits" in str(error):
        return "a number of too many digits"
    return str(error)[:100]


def _not_json(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    content = json_text(value).encode("utf-8")
    return Response(content, status, headers, media_type="application/json")


def _report_file(served: ServedRun, name: str) -> str | None:
    """The path of a file in the run's own folder ``report``; None if a link leads elsewhere.

    Runs may come from other people, and a link in them could lead to any file of this machine.
    """
    folder = os.path.join(os.path.realpath(served.version.folder), "report")
    path = os.path.realpath(os.path.join(folder, name.replace("\0", "")))
    return path if path.startswith(folder + os.sep) and os.path.isfile(path) else None


def _report_of(served: ServedRun) -> str | None:
    """The address of the run's report, or None."""
    for file in ("report.html", "report.md"):
        if _report_file(served, file):
            return f"/reports/{served.name}/{file}"
    return None


async def _http_error(request: Request, error: HTTPException) -> Response:
    """Of a wrong address or method."""
    text = f"{request.method} {request.url.path[:200]}: {error.detail}"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        text = f"{request.url.path[:200]}: {allowed} expected, found {request.method}"
    elif error.status_code == 404:
        text = f"{request.url.path[:200]}: no such address. To fix it: see /docs."
    return _json({"error": text}, error.status_code, error.headers)


async def _user_error(_: Request, error: UserError) -> Response:
    status = 500
    if isinstance(error, RequestError):
        status = error.status
    elif isinstance(error, DataError):
        status = 400
    retry = {"Retry-After": "1"} if status == 429 else None
    return _json({"error": str(error)}, status, retry)


async def _gone(_: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _bug(_: Request, error: Exception) -> Response:
    """The server goes on, and writes the traceback to its log."""
    return _json({"error": "an error of the server; its log says more"}, 500)
