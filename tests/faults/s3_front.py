"""An S3 endpoint in front of another that answers 503, is slow, or cuts transfers, for as long as it is told to."""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from include.connections import Storage

HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}
BUSY = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>'


@dataclass(frozen=True)
class S3Fault:
    """What befalls requests.

    Args:
        kind: `503`, `slow`, or `cut`: half of an answer's body, or of an upload, and no more.
        methods: which requests.
        count: how many of them; None for all.
        delay: seconds that a slow answer takes.
    """

    kind: str
    methods: tuple[str, ...] = ("GET", "HEAD", "PUT", "POST", "DELETE")
    count: int | None = None
    delay: float = 1.0


class S3Front:
    """`storage` goes through the front; `befallen` counts the requests that a fault met."""

    def __init__(self, storage: Storage) -> None:
        assert storage.endpoint is not None
        self._target = urlsplit(storage.endpoint)
        self._fault: S3Fault | None = None
        self._lock = threading.Lock()
        self.befallen = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.storage = replace(storage, endpoint=f"http://127.0.0.1:{self._server.server_port}")

    def fail(self, fault: S3Fault) -> None:
        with self._lock:
            self._fault, self.befallen = fault, 0

    def heal(self) -> None:
        with self._lock:
            self._fault = None

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _befalls(self, method: str) -> S3Fault | None:
        with self._lock:
            fault = self._fault
            if fault is None or method not in fault.methods or self.befallen == fault.count:
                return None
            self.befallen += 1
            return fault

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def _answer(self) -> None:
                fault = front._befalls(self.command)
                length = int(self.headers.get("content-length") or 0)
                if fault and fault.kind == "cut" and self.command in ("PUT", "POST"):
                    self.rfile.read(length // 2)
                    self.close_connection = True
                    return
                body = self.rfile.read(length)
                if fault and fault.kind == "503":
                    self._send(503, [("Content-Type", "application/xml")], BUSY)
                    return
                if fault and fault.kind == "slow":
                    time.sleep(fault.delay)
                target = http.client.HTTPConnection(front._target.hostname, front._target.port, timeout=60)
                try:
                    target.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        target.putheader(name, value)
                    target.endheaders(body)
                    answer = target.getresponse()
                    self._send(
                        answer.status, answer.getheaders(), answer.read(), cut=bool(fault and fault.kind == "cut")
                    )
                finally:
                    target.close()

            def _send(self, status: int, headers: list[tuple[str, str]], body: bytes, *, cut: bool = False) -> None:
                self.send_response(status)
                stated = next((value for name, value in headers if name.lower() == "content-length"), None)
                for name, value in headers:
                    if name.lower() not in HOP_BY_HOP | {"date", "server"}:
                        self.send_header(name, value)
                self.send_header("Content-Length", stated or str(len(body)))
                self.end_headers()
                if self.command == "HEAD":
                    return
                self.wfile.write(body[: len(body) // 2] if cut else body)
                if cut:
                    self.wfile.flush()
                    self.close_connection = True

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

        return Handler


@contextmanager
def s3_front(storage: Storage) -> Iterator[S3Front]:
    front = S3Front(storage)
    try:
        yield front
    finally:
        front.close()
