"""The page's server as an ASGI application: addresses, events, and the work behind them."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import mimetypes
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, cast

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ridgepole.errors import ConfigError, RidgepoleError
from ridgepole.view import answers
from ridgepole.view.access import Access, error_json
from ridgepole.view.answers import GoneError
from ridgepole.view.catalog import Catalog, Entry
from ridgepole.view.charts import ChartQuery, QueryError, draw, etag_of
from ridgepole.view.copies import LogCopies
from ridgepole.view.indexer import Indexer
from ridgepole.view.page import MISSING_PAGE, page_file
from ridgepole.view.wire import NoSweeps, Sweeps, encode

_POLL_SECONDS = 1.0
_SCAN_SECONDS = 5.0
_LOOK_SECONDS = 0.25  # how often an open stream looks for changes; a stop is seen as quickly
_ALIVE_SECONDS = 15.0
_IDLE_SECONDS = 30.0
_INDEXED = 200
"""The number of newest runs that are read before they are asked for."""
_LARGEST_BODY = 4 << 20
_SANDBOX = "sandbox allow-scripts; default-src 'unsafe-inline' 'unsafe-eval' data: blob:"


class Page:
    """The state of one server.

    Args:
        catalog: The runs.
        token: The secret of the address.
        hosts: More names under which the server may be asked.
        sweeps: The sweeps.
        logs: The logs of other trackers.
    """

    def __init__(
        self,
        catalog: Catalog,
        token: str,
        hosts: tuple[str, ...] = (),
        sweeps: Sweeps | None = None,
        logs: LogCopies | None = None,
    ) -> None:
        self.catalog = catalog
        self.logs = logs or LogCopies((), Path())
        self.sweeps = sweeps or NoSweeps()
        self.instance = secrets.token_hex(4)
        self.indexer = Indexer(catalog, lambda: None)
        self.closing = False
        self._streams = 0
        self._last_request = time.monotonic()
        app = Starlette(routes=self._routes(), lifespan=self._lifespan)
        self.app = Access(app, token, self.instance, hosts)

    def _routes(self) -> list[Route]:
        return [
            Route("/", self._static),
            Route("/assets/{name}", self._static),
            Route("/api/info", self._get(self._info)),
            Route("/api/runs", self._get(self._runs)),
            Route("/api/runs/{key}", self._get(lambda request: answers.run(self.catalog, self._entry(request)))),
            Route("/api/runs/{key}/log", self._get(self._log)),
            Route("/api/runs/{key}/diff", self._get(lambda request: answers.diff(self._entry(request)))),
            Route("/api/runs/{key}/media", self._get(self._media)),
            Route("/api/runs/{key}/system", self._get(lambda request: answers.system_metrics(self._entry(request)))),
            Route("/api/runs/{key}/file/{path:path}", self._file),
            Route("/api/sweeps", self._get(lambda _request: {"sweeps": self.sweeps.listed()})),
            Route("/api/sweeps/{key}", self._get(lambda request: self._sweep(request, self.sweeps.data))),
            Route(
                "/api/sweeps/{key}/importances",
                self._get(lambda request: self._sweep(request, self.sweeps.importances)),
            ),
            Route("/api/labels", self._post(self._labels), methods=["POST"]),
            Route("/api/chart", self._chart, methods=["POST"]),
            Route("/api/changes", self._get(self._changes_now)),
            Route("/api/events", self._events),
        ]

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        await run_in_threadpool(self.catalog.scan)
        self.indexer.start()
        self._index_newest()
        self.logs.start(
            self._logs_changed, lambda: self._is_shown, lambda: {entry.path for entry in self.catalog.entries()}
        )
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            self.closing = True
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            await run_in_threadpool(self.logs.stop)
            await run_in_threadpool(self.indexer.stop)
            await run_in_threadpool(lambda: self.catalog.store(at_end=True))

    async def _watch(self) -> None:
        """Look for changes while a page is open."""
        scanned = time.monotonic()
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            now = time.monotonic()
            if not self._is_shown:
                continue
            if now - scanned >= _SCAN_SECONDS:
                await run_in_threadpool(self.catalog.scan)
                scanned = time.monotonic()
            before = self.catalog.version
            await run_in_threadpool(self.catalog.poll)
            changed = self.catalog.changes(before).runs
            if changed:
                self.indexer.ask(changed)
            self._index_newest()
            if not self.indexer.waiting:
                await run_in_threadpool(self.catalog.store)

    def _logs_changed(self) -> None:
        self.catalog.scan()
        self.catalog.touch_table()  # what the page says of logs is a part of it
        self._index_newest()

    @property
    def _is_shown(self) -> bool:
        """Return whether a page is open, or was lately."""
        return bool(self._streams) or time.monotonic() - self._last_request <= _IDLE_SECONDS

    def _index_newest(self) -> None:
        newest = self.catalog.entries()[:_INDEXED]
        self.indexer.ask(entry.key for entry in newest if entry.columns is None)

    # --- answers

    def _get(self, function: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            self._last_request = time.monotonic()
            return await run_in_threadpool(lambda: _answer(request, lambda: function(request)))

        return endpoint

    def _post(self, function: Callable[[Any], Any]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            self._last_request = time.monotonic()
            given = await _body(request)
            if isinstance(given, Response):
                return given
            return await run_in_threadpool(lambda: _answer(request, lambda: function(given)))

        return endpoint

    def _entry(self, request: Request) -> Entry:
        entry = self.catalog.find(request.path_params["key"])
        if entry is None:
            raise GoneError("there is no such run")
        return entry

    def _info(self, _request: Request) -> dict[str, Any]:
        return answers.info(
            self.catalog,
            self.instance,
            live=True,
            indexing=self.indexer.waiting,
            sweeps=self.sweeps.count(),
            copying=self.logs.waiting,
            problems=self.logs.problems,
        )

    def _runs(self, request: Request) -> dict[str, Any]:
        query = request.query_params
        archived = query.get("archived", "no")
        if archived not in ("no", "yes", "only"):
            raise QueryError("'archived' must be no, yes or only")
        return answers.runs(
            self.catalog,
            filter=query.get("filter", ""),
            sort=query.get("sort", ""),
            archived=cast("answers.Which", archived),
            columns=query.get("columns", "all") != "none",
        )

    def _log(self, request: Request) -> dict[str, Any]:
        query = request.query_params
        return answers.log(self._entry(request), query.get("file", "run.log"), _whole(query, "offset", 0))

    def _media(self, request: Request) -> dict[str, Any]:
        query = request.query_params
        return answers.media(self._entry(request), query.get("name"), _whole(query, "since", -1))

    def _sweep(self, request: Request, ask: Callable[[str], dict[str, Any] | None]) -> dict[str, Any]:
        found = ask(request.path_params["key"])
        if found is None:
            raise GoneError("there is no such sweep")
        return found

    def _labels(self, given: Any) -> dict[str, Any]:
        return answers.change_labels(self.catalog, answers.chosen(self.catalog, given), given)

    def _changes_now(self, request: Request) -> dict[str, Any]:
        event, data = self._since(request.query_params.get("since"))
        return {"id": f"{self.instance}-{self.catalog.version}", "event": event, "data": data}

    # --- other kinds of answers

    async def _chart(self, request: Request) -> Response:
        self._last_request = time.monotonic()
        given = await _body(request)
        if isinstance(given, Response):
            return given
        return await run_in_threadpool(lambda: self._drawn(request, given))

    def _drawn(self, request: Request, given: Any) -> Response:
        try:
            query = ChartQuery.read(given)
        except QueryError as error:
            return _error(400, str(error))
        found = {
            key: self.catalog.columns(entry) for key in query.runs if (entry := self.catalog.find(key)) is not None
        }
        etag = etag_of(query, found)
        unread = [key for key, columns in found.items() if not columns.complete]
        if unread:
            self.indexer.ask(unread, first=True)
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={"etag": etag})
        return Response(draw(query, found), media_type="application/octet-stream", headers={"etag": etag})

    async def _file(self, request: Request) -> Response:
        return await run_in_threadpool(lambda: self._opened(request))

    def _opened(self, request: Request) -> Response:
        path = request.path_params["path"]
        try:
            with answers.open_media(self._entry(request), path) as file:
                data = file.read()
        except GoneError as error:
            return _error(404, str(error))
        kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
        headers = {}
        if kind in ("text/html", "image/svg+xml"):
            headers["content-security-policy"] = _SANDBOX
        etag = _etag(data)
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={"etag": etag})
        return Response(data, media_type=kind, headers=headers | {"etag": etag})

    async def _static(self, request: Request) -> Response:
        self._last_request = time.monotonic()
        name = request.path_params.get("name")
        data = await run_in_threadpool(lambda: page_file("index.html" if name is None else f"assets/{name}"))
        if data is None:
            if name is not None:
                return _error(404, f"the page has no file {name!r}")
            return _packed(request, f"<!doctype html><title>Ridgepole</title><p>{MISSING_PAGE}".encode(), "text/html")
        kind = "text/html" if name is None else mimetypes.guess_type(name)[0] or "application/octet-stream"
        return _packed(request, data, kind)

    async def _events(self, request: Request) -> Response:
        since = request.headers.get("last-event-id") or request.query_params.get("since")
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(self._stream(since), media_type="text/event-stream", headers=headers)

    async def _stream(self, since: str | None) -> AsyncIterator[bytes]:
        self._streams += 1
        try:
            yield b"retry: 2000\n\n"
            version, quiet = -1, 0.0
            while not self.closing:
                if self.catalog.version != version:
                    event, data = self._since(since)
                    version = data["version"]
                    since = f"{self.instance}-{version}"
                    yield _event(event, since, data)
                    quiet = 0.0
                elif quiet >= _ALIVE_SECONDS:
                    yield b": alive\n\n"
                    quiet = 0.0
                await asyncio.sleep(_LOOK_SECONDS)
                quiet += _LOOK_SECONDS
            yield _event("end", since or self.instance, {"version": self.catalog.version})
        finally:
            self._streams -= 1

    def _since(self, since: str | None) -> tuple[str, dict[str, Any]]:
        """Return the event that leads from an id to now."""
        instance, _, version = (since or "").partition("-")
        if instance != self.instance or not version.isdecimal() or int(version) > self.catalog.version:
            return "reset", {"version": self.catalog.version}
        changes = self.catalog.changes(int(version))
        return "change", {
            "version": changes.version,
            "list": changes.table,
            "runs": list(changes.runs),
            "sweeps": changes.table,
        }


async def _body(request: Request) -> Any:
    """Return the decoded body of a request, or the answer that refuses it."""
    size = 0
    parts: list[bytes] = []
    async for part in request.stream():
        size += len(part)
        if size > _LARGEST_BODY:
            return _error(413, f"a query has at most {_LARGEST_BODY} bytes")
        parts.append(part)
    try:
        return orjson.loads(b"".join(parts))
    except ValueError as error:
        return _error(400, f"the query is not JSON: {error}")


def _answer(request: Request, make: Callable[[], Any]) -> Response:
    try:
        value = make()
    except ConfigError as error:
        return _json(request, {"error": answers.described(error)}, 400)
    except QueryError as error:
        return _error(400, str(error))
    except GoneError as error:
        return _error(404, str(error.args[0]) if error.args else "gone")
    except RidgepoleError as error:
        return _error(400, str(error))
    return _json(request, value, 200)


def _json(request: Request, value: Any, status: int) -> Response:
    data = encode(value)
    return _packed(request, data, "application/json", status)


def _packed(request: Request, data: bytes, kind: str, status: int = 200) -> Response:
    """Return data with its `ETag`, compressed if the browser takes that."""
    etag = _etag(data)
    headers = {"etag": etag, "vary": "accept-encoding"}
    if status == 200 and request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    if len(data) > 1000 and "gzip" in request.headers.get("accept-encoding", ""):
        data = gzip.compress(data, 3)
        headers["content-encoding"] = "gzip"
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    return Response(data, status_code=status, media_type=kind, headers=headers)


def _etag(data: bytes) -> str:
    return f'"{hashlib.blake2s(data, digest_size=12).hexdigest()}"'


def _error(status: int, message: str) -> Response:
    return Response(orjson.dumps(error_json(message)), status_code=status, media_type="application/json")


def _event(name: str, identity: str, data: Mapping[str, Any]) -> bytes:
    return f"id: {identity}\nevent: {name}\ndata: ".encode() + orjson.dumps(data) + b"\n\n"


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    try:
        return int(query.get(name, default))
    except ValueError:
        raise QueryError(f"{name!r} must be a whole number") from None
