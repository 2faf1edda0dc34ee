"""Serve the page on a port of the loopback, or on a Unix socket, until Ctrl-C."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import signal
import socket
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from ridgepole.errors import RunDirError
from ridgepole.view.extra import need
from ridgepole.view.wire import Sweeps

DEFAULT_PORT = 6464
_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The place where the page is served.

    Attributes:
        url: The address with the token.
        socket: The path of the Unix socket; None for a port.
    """

    url: str
    socket: Path | None = None


def serve(
    roots: Sequence[Path],
    *,
    port: int | None = None,
    unix: bool = False,
    hosts: Sequence[str] = (),
    sweeps: Sweeps | None = None,
    announce: Callable[[Address], None],
) -> None:
    """Serve the page until SIGINT, SIGTERM or SIGHUP.

    Args:
        roots: Directories of runs, or run directories.
        port: The port; a usual one, or else any free one, when None.
        unix: Whether to listen on a Unix socket that only this user can open, and on no port.
        hosts: More names under which the server may be asked, such as that of a proxy.
        sweeps: The sweeps to show.
        announce: Called with the address as soon as connections are accepted.

    Raises:
        RunDirError: If a root does not exist, or the port is in use.
        MissingExtraError: If the packages of the extra `view` are not installed.
    """
    need("ridgepole view", "starlette", "uvicorn", "numpy")
    import uvicorn

    from ridgepole.view.app import Page
    from ridgepole.view.catalog import Catalog
    from ridgepole.view.copies import LogCopies
    from ridgepole.view.index_cache import IndexCache, default_folder

    for root in roots:
        if not root.is_dir():
            raise RunDirError(f"{root} is not a directory of runs")
    token = secrets.token_urlsafe(24)
    folder = default_folder()
    logs = LogCopies([root.resolve() for root in roots], folder)
    catalog = Catalog(roots, IndexCache(folder), folder, logs.folders)
    page = Page(catalog, token, tuple(hosts), sweeps, logs)
    with contextlib.ExitStack() as stack:
        listener, address = stack.enter_context(_unix(token) if unix else _loopback(port, token))
        config = uvicorn.Config(
            page.app,
            access_log=False,
            lifespan="on",
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=1,
            ws="none",
        )

        class Server(uvicorn.Server):
            @contextlib.contextmanager
            def capture_signals(self) -> Generator[None, None, None]:
                """End on a signal without raising it again: this is how a page is closed."""

                def stop(number: int, frame: FrameType | None) -> None:
                    del number, frame
                    page.closing = self.should_exit = True

                numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
                before = {number: signal.signal(number, stop) for number in numbers}
                try:
                    yield
                finally:
                    for number, handler in before.items():
                        signal.signal(number, handler)

            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                announce(address)

        Server(config).run(sockets=[listener])


@contextlib.contextmanager
def _loopback(port: int | None, token: str) -> Iterator[tuple[socket.socket, Address]]:
    try:
        listener = socket.create_server((_HOST, DEFAULT_PORT if port is None else port))
    except OSError as error:
        if port is not None or error.errno != errno.EADDRINUSE:
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"can't be used: {error.strerror}"
            raise RunDirError(f"port {port} {reason}; name another with --port, or none") from error
        listener = socket.create_server((_HOST, 0))
    with listener:
        yield listener, Address(url=f"http://{_HOST}:{listener.getsockname()[1]}/?token={token}")


@contextlib.contextmanager
def _unix(token: str) -> Iterator[tuple[socket.socket, Address]]:
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(tempfile.mkdtemp(prefix="ridgepole-", dir=base if base and os.access(base, os.W_OK) else None))
    path = folder / "view.sock"
    listener: Any = socket.socket(socket.AF_UNIX)
    try:
        with listener:
            listener.bind(str(path))  # in a directory that only this user can enter
            path.chmod(0o600)
            listener.listen()
            yield listener, Address(url=f"http://localhost/?token={token}", socket=path)
    finally:
        path.unlink(missing_ok=True)
        folder.rmdir()
