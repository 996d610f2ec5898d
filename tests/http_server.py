"""An HTTP server on this machine that a test gives its answers: what the stand-ins of W&B and of the Hub share."""

import gzip
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

# method, path, body -> status, a body of bytes or one that becomes JSON, further headers
Answer = Callable[[str, str, bytes], tuple[int, Any, dict[str, str]]]


class HttpServer:
    """A context in which a server listens at `url`. One request is answered at a time."""

    def __init__(self, answer: Answer) -> None:
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Nothing is printed."""

            def reply(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                with outer.lock:
                    status, found, headers = answer(self.command, unquote(urlsplit(self.path).path), body)
                data = found if isinstance(found, bytes) else json.dumps(found).encode()
                self.send_response(status)
                for key, value in ({"Content-Type": "application/json"} | headers).items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_HEAD = reply

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.handle_error = lambda *_: None  # of a client that was killed
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
