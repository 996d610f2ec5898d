"""A Hugging Face Hub on this machine, as far as its client (2.4) asks for one: repositories, commits, files."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

COMMIT = "0" * 40


class HubServer:
    """A context in which the server listens at `url`; `files` are those of each repository, by path."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Nothing is printed."""

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = unquote(urlsplit(self.path).path)
                outer.asked.append(f"{self.command} {path}")
                status, found, more = outer.answer(self.command, path, body)
                data = found if isinstance(found, bytes) else json.dumps(found).encode()
                self.send_response(status)
                for key, value in more.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_POST = do_HEAD = answer

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.handle_error = lambda *_: None
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, command: str, path: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        """Status, body and headers of the answer to a request."""
        plain = {"Content-Type": "application/json"}
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            self.files.setdefault(name, {})
            return 200, {"url": f"{self.url}/{name}", "name": name}, plain
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}, plain
        if "/preupload/" in path:
            asked = json.loads(body)["files"]
            ways = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in asked]
            return 200, {"files": ways}, plain
        if "/commit/" in path:
            name = "/".join(path.split("/")[3:5])
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.files[name][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            found = {"commitOid": COMMIT, "commitUrl": f"{self.url}/{name}/commit/{COMMIT}", "hookOutput": ""}
            return 200, found, plain
        if path.startswith("/api/models/"):
            name = "/".join(path.split("/")[3:5])
            if name not in self.files:
                return 404, {"error": "Repository not found"}, plain | {"X-Error-Code": "RepoNotFound"}
            siblings = [{"rfilename": file, "size": len(data)} for file, data in self.files[name].items()]
            entries = [
                {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for file, data in self.files[name].items()
            ]
            about = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "tags": [], "private": False}
            return 200, entries if "/tree/" in path else about, plain
        if "/resolve/" in path:
            name, _, rest = path.strip("/").partition("/resolve/")
            data = self.files.get(name, {}).get(rest.partition("/")[2])
            if data is None:
                return 404, {"error": "Entry not found"}, plain | {"X-Error-Code": "EntryNotFound"}
            return 200, data, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
        return 200, {}, plain
