"""A server's bad line: an HTTP proxy on loopback that refuses, cuts, delays and stalls calls."""

import socket
import threading
import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Fault", "Proxy"]


@dataclass(frozen=True)
class Fault:
    """What befalls the next calls, `times` of them, whose path ends with `path`.

    `request`, `response`: the connection is cut after so many bytes of it; of a request that is cut its server has these bytes, a response that is
    cut belongs to a call that was served.  `delay`: seconds before the call is passed on.  `stall`: it is never answered.  `status`: it is not passed
    on but answered with this HTTP status.
    """

    path: str = ""
    times: int = 1
    request: int | None = None
    response: int | None = None
    delay: float = 0.0
    stall: bool = False
    status: int | None = None


class Proxy:
    """Passes calls on to a server on this machine."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.faults: list[list[object]] = []  # each with the number of calls that it is still for
        self.met: list[str] = []  # paths of the calls that a fault befell
        self.changed = threading.Condition()
        self.server: ThreadingHTTPServer | None = None
        self.port = 0
        self.accept()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self, fault: Fault) -> None:
        with self.changed:
            self.faults.append([fault, fault.times])

    def heal(self) -> None:
        """No faults any more, those in progress among them."""
        with self.changed:
            self.faults = []
            self.changed.notify_all()

    def take(self, path: str) -> Fault | None:
        with self.changed:
            for entry in self.faults:
                fault, left = entry
                assert isinstance(fault, Fault)
                assert isinstance(left, int)
                if left > 0 and path.endswith(fault.path):
                    entry[1] = left - 1
                    self.met.append(path)
                    self.changed.notify_all()
                    return fault
        return None

    def wait_for_all(self) -> None:
        """Until every fault has befallen its calls."""
        with self.changed:
            assert self.changed.wait_for(lambda: not any(left for _, left in self.faults), 60), self.faults

    def accept(self) -> None:
        """Take connections, again on the port that it had."""
        proxy = self

        class Handler(_Handler):
            def setup(self) -> None:
                self.proxy = proxy
                super().setup()

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def refuse(self) -> None:
        """Take none, and cut those that there are at their next call."""
        assert self.server is not None
        self.server.shutdown()
        self.server.server_close()
        self.server = None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one piece
    proxy: Proxy

    def pass_on(self) -> None:
        proxy = self.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.close_connection = self.close_connection or proxy.server is None
        if proxy.server is None:
            return
        fault = proxy.take(self.path.partition("?")[0]) or Fault()
        if fault.stall:
            with proxy.changed:
                proxy.changed.wait_for(lambda: not proxy.faults)
            self.close_connection = True
            return
        time.sleep(fault.delay)
        if fault.request is not None:
            head = "".join(f"{key}: {value}\r\n" for key, value in self.headers.items())
            with socket.create_connection(("127.0.0.1", proxy.target)) as server:
                server.sendall(f"{self.command} {self.path} HTTP/1.1\r\n{head}\r\n".encode() + body[: fault.request])
            self.close_connection = True
            return
        if fault.status is not None:
            self.send_response(fault.status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        connection = HTTPConnection("127.0.0.1", proxy.target, timeout=60)
        try:
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, HTTPException):  # it is down: so is the proxy
            self.close_connection = True
            return
        finally:
            connection.close()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.getheader("Content-Type", ""))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content if fault.response is None else content[: fault.response])
        self.wfile.flush()
        self.close_connection = self.close_connection or fault.response is not None

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on

    def log_message(self, *_: object) -> None: ...
