"""The artifacts of the stand-in W&B server: versions by digest, with aliases, their manifests and files."""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Version:
    """A version of an artifact: its files by name, and what the client said of it."""

    name: str
    kind: str
    index: int
    digest: str
    aliases: list[str]
    run: str | None
    metadata: str | None = None
    state: str = "PENDING"
    manifest: bytes = b""
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """Its id, which addresses carry."""
        return f"{self.name}.{self.index}"


class Artifacts:
    """What a project has of artifacts; `url` is the server's."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.versions: list[Version] = []
        self.uploads = 0  # files that came

    def find(self, name: str) -> Version | None:
        """The version that "backbone:v3", "backbone:latest" or "team/saccade/backbone:v3" names."""
        name, _, version = name.rpartition("/")[2].partition(":")
        own = [each for each in self.versions if each.name == name and each.state == "COMMITTED"]
        return next((v for v in own if version in (f"v{v.index}", *v.aliases)), None)

    def by_identity(self, identity: str) -> Version:
        """The version of an id."""
        return next(each for each in self.versions if each.identity == identity)

    def create(self, given: dict[str, Any]) -> dict[str, Any]:
        """A new version, or the old one of that digest; it takes over the aliases."""
        name, digest = given["artifactCollectionName"], given["digest"]
        own = [each for each in self.versions if each.name == name]
        aliases = [each["alias"] for each in given.get("aliases") or []]
        found = next((each for each in own if each.digest == digest), None)
        if found is None:
            found = Version(name, given["artifactTypeName"], len(own), digest, [], given.get("runName"))
            found.metadata = given.get("metadata")
            self.versions.append(found)
        for each in own:
            each.aliases = [alias for alias in each.aliases if alias not in aliases]
        found.aliases += [alias for alias in aliases if alias not in found.aliases]
        latest = max((each.index for each in own if each.state == "COMMITTED"), default=None)
        sequence = {"id": name, "latestArtifact": None if latest is None else {"id": name, "versionIndex": latest}}
        return {"artifact": {"id": found.identity, "state": found.state, "artifactSequence": sequence}}

    def membership(self, version: Version) -> dict[str, Any]:
        """A version as a member of its collection, as GraphQL has it."""
        node = self.node(version)
        collection = {"__typename": "ArtifactSequence"} | node["artifactSequence"]
        return {
            "__typename": "ArtifactCollectionMembership", "id": version.identity, "versionIndex": version.index,
            "createdAt": "2026-01-01T00:00:00", "aliases": node["aliases"], "artifactCollection": collection,
            "artifact": node,
        }  # fmt: skip

    def node(self, version: Version) -> dict[str, Any]:
        """A version as GraphQL has it."""
        project = {"id": "project", "internalId": "1", "name": "saccade", "entity": {"name": "team"}}
        sequence = {"__typename": "ArtifactSequence", "id": version.name, "name": version.name, "project": project}
        aliases = [
            {"__typename": "ArtifactAlias", "id": each, "alias": each, "artifactCollection": sequence}
            for each in version.aliases
        ]
        address = f"{self.url}/storage-artifacts/{version.identity}/manifest"
        return {
            "__typename": "Artifact", "id": version.identity, "artifactSequence": sequence,
            "versionIndex": version.index, "artifactType": {"id": version.kind, "name": version.kind},
            "description": None, "metadata": version.metadata,
            "ttlDurationSeconds": -1, "ttlIsInherited": False, "aliases": aliases, "tags": [], "historyStep": None,
            "state": version.state, "size": sum(map(len, version.files.values())), "digest": version.digest,
            "commitHash": version.digest, "fileCount": len(version.files), "createdAt": "2026-01-01T00:00:00",
            "updatedAt": "2026-01-01T00:00:00",
            "currentManifest": {"id": "m", "file": {"id": "f", "directUrl": address}},
        }  # fmt: skip


def md5(data: bytes) -> str:
    """The digest by which W&B names a file's content."""
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def entries(version: Version) -> dict[str, Any]:
    """The files that a manifest lists."""
    return json.loads(version.manifest)["contents"]
