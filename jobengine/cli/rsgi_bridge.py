"""The WSGI application on granian's event loop (RSGI, granian's own interface).

granian's WSGI lends a thread to each call, which blocks while it waits for the writer.
Here such calls run in fibers on the event loop's thread, as they do under waitress;
calls that read the database go to a pool of threads.
"""

import asyncio
import io
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import structlog

from jobengine.api import problems
from jobengine.cli.addresses import plain
from jobengine.cli.fibers import Fibers
from jobengine.cli.http_channel import HEADERS
from jobengine.cli.http_parser import NO_HOST, ONCE, framing_mistake, repeated
from jobengine.cli.http_server import BODY_HEADROOM, SettingsOfServer, writes
from jobengine.domain.errors import JobEngineError
from jobengine.store.writing import latches

_log = structlog.get_logger(component="http")

_ONCE = {f"HTTP_{name}" for name in ONCE}
_BODILESS = ("GET", "HEAD", "DELETE", "OPTIONS")
# granian names itself where an answer names no server.
_NAMELESS = ("server", "")


class _Answer(NamedTuple):
    """What the application answered."""

    status: int
    headers: list[tuple[str, str]]
    body: Iterable[bytes]


class _Refused(Exception):
    """A request that does not come to the application; its text is for the client."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title


class RsgiBridge:
    """Speaks RSGI to granian and WSGI to the application."""

    def __init__(self, app: Any, settings: SettingsOfServer) -> None:
        self._app = app
        self._body_max = settings.max_body_bytes
        self._pace = settings.pace
        self._pool = ThreadPoolExecutor(settings.threads, "reader")
        self._fibers: Fibers

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called by granian on the thread of its event loop."""
        self._loop = loop
        self._fibers = Fibers(self._wake)
        latches.use_on_this_thread(self._fibers.latch)

    def _wake(self) -> None:
        self._loop.call_soon_threadsafe(self._fibers.run)

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        """Answers a request."""
        try:
            environ = _environ(scope)
            body = b"" if scope.method in _BODILESS else await self._timely_body(environ, protocol)
        except _Refused as refused:
            _refuse(protocol, refused.status, refused.title, str(refused))
            return
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = environ.get("CONTENT_LENGTH") or str(len(body))
        gone = self._watch(environ, protocol) if _may_wait(environ) else None
        try:
            await self._answer(scope, protocol, environ)
        except Exception:  # noqa: BLE001  what the application does not handle; the client gets a 500
            _log.exception("unexpected error", method=scope.method)
            _refuse(protocol, 500, "Internal Server Error")
        finally:
            if gone is not None:
                gone.cancel()  # or it would wait for as long as the connection lives

    async def _answer(self, scope: Any, protocol: Any, environ: dict[str, Any]) -> None:
        if writes(scope.method, scope.path):
            answer = await self._in_fiber(environ)
        else:
            answer = await self._loop.run_in_executor(self._pool, self._call, environ)
        if isinstance(answer.body, list):
            protocol.response_bytes(answer.status, answer.headers, b"".join(answer.body))
        else:
            await self._stream(protocol, answer)

    async def _in_fiber(self, environ: dict[str, Any]) -> _Answer:
        done: asyncio.Future[_Answer] = self._loop.create_future()

        def call() -> None:
            try:
                done.set_result(self._call(environ))
            except Exception as error:  # noqa: BLE001  handed on
                done.set_exception(error)

        self._fibers.add(call)
        self._fibers.run()
        return await done

    def _call(self, environ: dict[str, Any]) -> _Answer:
        head: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], _error: Any = None) -> None:
            head[:] = status, headers

        body = self._app(environ, start_response)
        status, headers = head
        lowered = [(name.lower(), value) for name, value in headers]
        return _Answer(int(status[:3]), [*lowered, _NAMELESS], body)

    async def _stream(self, protocol: Any, answer: _Answer) -> None:
        """Sends a long answer, a chunk at a time, as fast as the client takes it."""
        chunks = iter(answer.body)
        try:
            transport = protocol.response_stream(answer.status, answer.headers)
            run = self._loop.run_in_executor
            while (chunk := await run(self._pool, next, chunks, None)) is not None:
                await asyncio.wait_for(transport.send_bytes(chunk), self._pace.seconds)
        except (RuntimeError, TimeoutError) as error:
            _log.info("client left a list", reason=type(error).__name__)
        except JobEngineError:
            pass  # broken off, and logged; granian cannot end the connection, but it is no JSON
        finally:
            close = getattr(answer.body, "close", None)
            if close is not None:
                close()

    async def _timely_body(self, environ: dict[str, Any], protocol: Any) -> bytes:
        """See _body. Raises _Refused where it does not come whole, or not in time."""
        try:
            async with asyncio.timeout(self._pace.whole):
                return await self._body(environ, protocol)
        except TimeoutError as error:
            detail = f"expected the request within {self._pace.whole:.0f} seconds"
            raise _Refused(408, "Request Timeout", detail) from error
        except RuntimeError as error:  # granian's, of a client that sends no more
            detail = "expected as many bytes of body as Content-Length says"
            raise _Refused(400, "Bad Request", detail) from error

    async def _body(self, environ: dict[str, Any], protocol: Any) -> bytes:
        """The body, as far as the application could accept it.

        One that is longer than a job may be, by up to the headroom, is read as a whole: granian
        closes a connection with something unread, and a client that still sends would meet
        the reset instead of the 413. And a form may be longer.
        """
        length, most = environ.get("CONTENT_LENGTH", ""), self._body_max * BODY_HEADROOM
        if length.isdigit() and int(length) <= most:
            return bytes(await protocol())
        if length.isdigit():
            return b""  # the application answers by the length alone
        body = bytearray()
        async for chunk in protocol:
            body += chunk
            if len(body) > most:
                break
        return bytes(body)

    def _watch(self, environ: dict[str, Any], protocol: Any) -> "asyncio.Future[None]":
        """Lets the application see that a waiting client has gone, as waitress does."""
        gone: asyncio.Future[None] = asyncio.ensure_future(protocol.client_disconnect())
        environ["waitress.client_disconnected"] = gone.done
        return gone


def _may_wait(environ: dict[str, Any]) -> bool:
    return "HTTP_PREFER" in environ or "wait=" in environ["QUERY_STRING"]


def _environ(scope: Any) -> dict[str, Any]:
    """The environment of PEP 3333, but for the body."""
    host, _, port = scope.server.rpartition(":")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": scope.path.encode("utf-8").decode("latin-1"),
        "QUERY_STRING": scope.query_string,
        "REMOTE_ADDR": plain(scope.client.rpartition(":")[0]),
        "SERVER_NAME": host,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in scope.headers.items():
        key = _key(name)
        if key is None:
            continue
        if key in environ:
            if key in _ONCE:
                raise _Refused(400, "Bad Request", repeated(key.removeprefix("HTTP_")))
            value = f"{environ[key]}, {value}"
        environ[key] = value
    mistake = _mistake(environ, scope.http_version)
    if mistake is not None:
        raise _Refused(400, "Bad Request", mistake)
    return environ


def _mistake(environ: dict[str, Any], version: str) -> str | None:
    """As http_parser.Parser, of what granian lets through."""
    coding = environ.get("HTTP_TRANSFER_ENCODING")
    if coding is not None:
        length = "CONTENT_LENGTH" in environ
        mistake = framing_mistake([coding.encode()], length=length, version=version)
        if mistake is not None:
            return mistake
    return NO_HOST if version == "1.1" and "HTTP_HOST" not in environ else None


def _refuse(protocol: Any, status: int, title: str, detail: str = "") -> None:
    """Answers with a problem, and closes the connection: nobody knows what follows on it."""
    headers = [(name.lower(), value) for name, value in HEADERS]
    head = [("content-type", problems.MEDIA_TYPE), ("connection", "close"), *headers, _NAMELESS]
    protocol.response_bytes(status, head, problems.body(status, title, detail=detail))


@lru_cache(maxsize=1000)  # clients choose the names
def _key(name: str) -> str | None:
    """A header's key in the environment; None where it could be taken for another's."""
    if "_" in name:
        return None
    key = name.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
