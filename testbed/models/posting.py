"""One POST to one address, bounded in time and size, that goes nowhere else.

No redirect is followed: an answer 3xx is an answer. urllib's own timeout is one of each read, which a server that sends
a byte now and then never meets; so a timer cuts the connection when the whole has taken too long.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from typing import Any


@dataclass(frozen=True)
class Reply:
    """An answer of any status; `whole` is False where it was cut because it is larger than was asked for."""

    status: int
    reason: str
    headers: Message
    data: bytes
    whole: bool


def post(url: str, body: bytes, headers: dict[str, str], seconds: float, largest: int) -> Reply:
    """The answer, at most `largest` bytes of it, within `seconds` from the first byte sent to the last one read.

    Raises TimeoutError past that, OSError or http.client.HTTPException where the connection breaks.
    """
    watch = _Watch(seconds)
    opener = urllib.request.build_opener(_Stay, watch.handler(False), watch.handler(True))
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")
    with watch.running():
        try:
            answer = opener.open(request, timeout=seconds)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            data = answer.read(largest + 1)
            if len(data) <= largest and not answer.isclosed():
                data += answer.read(1)  # an answer that breaks off is told only where its end is looked for
        return Reply(answer.status, str(answer.reason), answer.headers, data[:largest], len(data) <= largest)


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


class _Watch:
    """Shuts the sockets of a request down when its time is over."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.over = seconds, False
        self._sockets: list[socket.socket] = []

    def handler(self, secure: bool) -> Any:
        """A handler of urllib whose connections are watched."""
        base: Any = urllib.request.HTTPSHandler if secure else urllib.request.HTTPHandler
        connection: Any = http.client.HTTPSConnection if secure else http.client.HTTPConnection

        def made(*args: Any, **kwargs: Any) -> Any:
            found = connection(*args, **kwargs)
            found.connect = self._keeping(found, found.connect)
            return found

        def opened(handler: Any, request: Any) -> Any:
            extra = {"context": handler._context} if secure else {}
            return handler.do_open(made, request, **extra)

        return type("Watched", (base,), {"https_open" if secure else "http_open": opened})()

    def _keeping(self, connection: Any, connect: Callable[[], None]) -> Callable[[], None]:
        def connected() -> None:
            connect()
            self._sockets.append(connection.sock)
            if self.over:
                self._end()

        return connected

    def _end(self) -> None:
        self.over = True
        for one in list(self._sockets):
            with contextlib.suppress(OSError):  # closed already
                one.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """TimeoutError in place of whatever the cut connection led to."""
        timer = threading.Timer(self.seconds, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (OSError, http.client.HTTPException, ValueError):
            if not self.over:
                raise
        finally:
            timer.cancel()
        if self.over:
            raise TimeoutError(f"the answer was not whole after {self.seconds:g} s")
