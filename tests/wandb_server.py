"""A W&B server on this machine, as far as its client (0.31) asks for one: runs, their lines, their files.

It answers the client's GraphQL requests (RunResumeStatus, UpsertBucket, CreateRunFiles, Viewer, ServerInfo, and Runs
and their history, with which runs are read), takes in the file stream, line by line at the offsets that the client
names, and what is uploaded.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from tests.http_server import HttpServer
from tests.wandb_artifacts import Artifacts

PROJECT = {"id": "project", "name": "saccade", "entity": {"id": "entity", "name": "team"}}


@dataclass
class Page:
    """What the server knows of one run."""

    config: str = "{}"
    streams: dict[str, dict[int, str]] = field(default_factory=dict)  # file -> number of the line -> line
    sent: list[tuple[str, int]] = field(default_factory=list)  # every line that came: file, number
    files: list[str] = field(default_factory=list)  # as they came
    opened: int = 0  # how often
    exits: list[int] = field(default_factory=list)

    def take(self, body: dict[str, Any]) -> None:
        """A piece of the file stream."""
        for name, piece in (body.get("files") or {}).items():
            lines = self.streams.setdefault(name, {})
            for number, line in enumerate(piece["content"], piece["offset"]):
                lines[number] = line
                self.sent.append((name, number))
        if body.get("complete"):
            self.exits.append(body["exitcode"])

    def lines(self, name: str = "wandb-history.jsonl") -> list[dict[str, Any]]:
        """The lines of a stream, in order, without what W&B adds."""
        rows = [json.loads(line) for _, line in sorted(self.streams.get(name, {}).items())]
        return [{key: value for key, value in row.items() if not key.startswith("_")} for row in rows]

    def node(self, name: str) -> dict[str, Any]:
        """The run as a list of a project's runs has it."""
        last = max(self.streams.get("wandb-history.jsonl", {-1: ""}))
        about = {"state": "finished" if self.exits == [0] else "crashed", "group": None, "jobType": None}
        about |= {"commit": None, "readOnly": False, "createdAt": "2026-01-01T00:00:00", "heartbeatAt": None}
        about |= {"systemMetrics": "{}", "user": {"name": "user", "username": "user"}, "projectId": 1}
        return self.bucket(name) | about | {"historyKeys": {"lastStep": last, "keys": {}, "sets": []}}

    def bucket(self, name: str) -> dict[str, Any]:
        """The run as GraphQL has it."""
        count = {file: len(lines) for file, lines in self.streams.items()}
        tail = {file: json.dumps([lines[max(lines)]] if lines else []) for file, lines in self.streams.items()}
        summary = self.streams.get("wandb-summary.json", {0: "{}"})
        return {
            "id": f"id of {name}",
            "name": name,
            "displayName": name,
            "description": None,
            "config": self.config,
            "sweepName": None,
            "project": PROJECT,
            "summaryMetrics": summary[max(summary)],
            "logLineCount": 0,
            "historyLineCount": count.get("wandb-history.jsonl", 0),
            "eventsLineCount": count.get("wandb-events.jsonl", 0),
            "historyTail": tail.get("wandb-history.jsonl", "[]"),
            "eventsTail": tail.get("wandb-events.jsonl", "[]"),
            "tags": [],
            "notes": None,
            "wandbConfig": '{"t": {"1": [1]}}',  # the client's telemetry: a run without it counts as not begun
        }


class WandbServer(HttpServer):
    """A context in which the server listens at `url`; `pages` are the runs that it received, by id."""

    def __init__(self) -> None:
        super().__init__(lambda method, path, body: (200, self.answer(path, body), {}))
        self.pages: dict[str, Page] = {}
        self.artifacts = Artifacts(self.url)
        self.views: list[dict[str, Any]] = []  # reports and workspaces, as they were saved

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        """The answer to a request."""
        parts = path.strip("/").split("/")
        if parts[-1] == "graphql":
            asked = json.loads(body)
            return {"data": self._graphql(asked["query"], asked.get("variables") or {})}
        if parts[-1] == "file_stream":
            self.pages.setdefault(parts[-2], Page()).take(json.loads(body))
        if parts[0] == "storage-artifacts":
            version = self.artifacts.by_identity(parts[1])
            if not body:
                return version.manifest if parts[2] == "manifest" else version.files["/".join(parts[3:])]
            self.artifacts.uploads += 1
            if parts[2] == "manifest":
                version.manifest = body
            else:
                version.files["/".join(parts[3:])] = body
        if parts[0] == "storage":
            self.pages.setdefault(parts[1], Page()).files.append("/".join(parts[2:]))
        return {}

    def _graphql(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        name = given.get("name") or given.get("run") or ""
        if "upsertView(" in query:
            place = {"id": "project", "name": given.get("projectName"), "entityName": given.get("entityName")}
            view = given | {"id": f"view{len(self.views)}", "project": place, "updatedAt": "2026-01-01T00:00:00"}
            self.views.append(view)
            return {"upsertView": {"view": view, "inserted": True}}
        if "ProjectInternalId" in query:
            return {"project": PROJECT | {"internalId": "UHJvamVjdEludGVybmFsSWQ6MQ=="}}  # ProjectInternalId:1
        if "models(" in query:  # the projects of an entity
            node = {"id": "project", "name": "saccade", "entityName": "team", "createdAt": "2026-01-01T00:00:00"}
            info = {"endCursor": None, "hasNextPage": False}
            return {
                "models": {
                    "edges": [{"node": node | {"isBenchmark": False, "user": None}, "cursor": "c"}],
                    "pageInfo": info,
                }
            }
        if "rtifact" in query:
            return self._artifact(query, given)
        if "upsertBucket" in query:
            new = name not in self.pages
            page = self.pages.setdefault(name, Page())
            page.opened += 1
            page.config = given.get("config") or page.config
            return {"upsertBucket": {"bucket": page.bucket(name), "inserted": new}}
        if "runs(filters" in query:
            edges = [{"node": page.node(name), "cursor": name} for name, page in self.pages.items()]
            page_info = {"endCursor": None, "hasNextPage": False}
            return {
                "project": PROJECT
                | {"internalId": "1", "runCount": len(edges), "readOnly": False}
                | {"runs": {"edges": edges, "pageInfo": page_info}}
            }
        if "RunHistoryKeys" in query or "RunParquetHistory" in query:
            page = self.pages[given.get("runName") or name]
            rows = [json.loads(line) for _, line in sorted(page.streams.get("wandb-history.jsonl", {}).items())]
            live = {"parquetUrls": [], "liveData": rows}
            return {"project": PROJECT | {"run": page.node(name) | {"parquetHistory": live}}}
        if "history(minStep" in query:
            lines = self.pages[name].streams.get("wandb-history.jsonl", {})
            wanted = [line for number, line in sorted(lines.items()) if given["minStep"] <= number < given["maxStep"]]
            return {"project": PROJECT | {"run": {"history": wanted}}}
        if "createRunFiles" in query:
            files = [{"name": file, "uploadUrl": f"{self.url}/storage/{name}/{file}"} for file in given["files"]]
            return {"createRunFiles": {"runID": name, "uploadHeaders": [], "files": files}}
        if "bucket(" in query:
            page = self.pages.get(name)
            return {"model": PROJECT | {"bucket": page.bucket(name) if page else None}}
        return self._about()

    def _artifact(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request about artifacts."""
        known, place = self.artifacts, f"{self.url}/storage-artifacts"
        if "createArtifact(" in query:
            return {"createArtifact": known.create(given.get("input") or given)}
        if "createArtifactManifest(" in query or "updateArtifactManifest(" in query:
            identity = given.get("artifactID") or given.get("artifactManifestID")
            file = {"id": "file", "name": "manifest", "displayName": "manifest", "uploadHeaders": []}
            file |= {"uploadUrl": f"{place}/{identity}/manifest"}
            word = "createArtifactManifest" if "createArtifactManifest(" in query else "updateArtifactManifest"
            return {word: {"artifactManifest": {"id": identity, "file": file}}}
        if "createArtifactFiles(" in query:
            nodes = []
            for each in (given.get("input") or given)["artifactFiles"]:
                identity, name = each["artifactID"], each["name"]
                node = {"id": name, "name": name, "displayName": name, "uploadHeaders": [], "storagePath": name}
                node |= {"uploadUrl": f"{place}/{identity}/file/{name}", "uploadMultipartUrls": None}
                nodes.append({"node": node | {"artifact": {"id": identity}}})
            return {"createArtifactFiles": {"files": {"edges": nodes}}}
        if "commitArtifact(" in query:
            version = known.by_identity(given.get("artifactID") or given["input"]["artifactID"])
            version.state = "COMMITTED"
            return {"commitArtifact": {"artifact": {"id": version.identity, "digest": version.digest}}}
        version = known.find(given.get("name") or "")
        if "artifactMembership(" in query:
            version = known.find(f"{given['collection']}:{given['alias']}")
            files = [
                {"__typename": "File", "name": name, "directUrl": f"{place}/{version.identity}/file/{name}"}
                for name in version.files
            ]
            info = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
            found = {"files": {"pageInfo": info, "edges": [{"node": each} for each in files]}}
            return {
                "project": {"artifactCollection": {"__typename": "ArtifactSequence", "artifactMembership": found}}
            }
        if "artifactCollectionMembership(" in query:
            found = known.membership(version) if version else None
            return {"project": PROJECT | {"internalId": "1", "artifactCollectionMembership": found}}
        if "artifact(id:" in query:
            return {"artifact": known.node(known.by_identity(given.get("id") or given["artifactID"]))}
        return {"project": PROJECT | {"artifact": known.node(version) if version else None}}

    def _about(self) -> dict[str, Any]:
        server = {"cliVersionInfo": {"max_cli_version": "99.0.0"}, "latestLocalVersionInfo": None, "features": []}
        viewer = {"id": "user", "entity": "team", "username": "team", "flags": "{}", "teams": {"edges": []}}
        return {"viewer": viewer, "serverInfo": server}
