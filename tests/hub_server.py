"""A Hugging Face Hub on this machine, as far as its client (2.4) asks for one: repositories, commits, files."""

import base64
import hashlib
import json
from typing import Any

from tests.http_server import HttpServer

COMMIT = "0" * 40


class HubServer(HttpServer):
    """A context in which the server listens at `url`; `files` are those of each repository, by path."""

    def __init__(self) -> None:
        super().__init__(self.answer)
        self.files: dict[str, dict[str, bytes]] = {}

    def answer(self, command: str, path: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        """Status, body and headers of the answer to a request."""
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            self.files.setdefault(name, {})
            return 200, {"url": f"{self.url}/{name}", "name": name}, {}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}, {}
        if "/preupload/" in path:
            asked = json.loads(body)["files"]
            ways = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in asked]
            return 200, {"files": ways}, {}
        if "/commit/" in path:
            name = "/".join(path.split("/")[3:5])
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.files[name][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            found = {"commitOid": COMMIT, "commitUrl": f"{self.url}/{name}/commit/{COMMIT}", "hookOutput": ""}
            return 200, found, {}
        if path.startswith("/api/models/"):
            name = "/".join(path.split("/")[3:5])
            if name not in self.files:
                return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
            siblings = [{"rfilename": file, "size": len(data)} for file, data in self.files[name].items()]
            entries = [
                {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for file, data in self.files[name].items()
            ]
            about = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "tags": [], "private": False}
            return 200, entries if "/tree/" in path else about, {}
        if "/resolve/" in path:
            name, _, rest = path.strip("/").partition("/resolve/")
            data = self.files.get(name, {}).get(rest.partition("/")[2])
            if data is None:
                return 404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"}
            return 200, data, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
        return 200, {}, {}
