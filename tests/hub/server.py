"""A Hub on this machine: the HTTP protocol that `huggingface_hub` speaks, over repositories in memory.

It keeps what it is sent as git does: blobs by content, a tree a commit, branches. Large files go the way of git LFS:
batch, upload to a second origin (one PUT, or parts), verify, then a commit that names their sha256. Xet is not there.
It answers as the real one where a client could tell: status codes, `X-Error-Code`, `X-Repo-Commit`, ETags, a redirect
to the storage, errors in JSON.

    with HubServer() as hub:
        HfApi(endpoint=hub.url, token=hub.token).create_repo("user/name")
        hub.repos["user/name"].files()

On the command line it runs a command that sees it as the Hub, and ends with it:

    python tests/hub/server.py python scripts/push_to_hub.py --model runs/student --repo_id user/student
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".onnx", ".data")  # as .gitattributes has them
LFS_SIZE = 10_000_000  # larger files must go through LFS whatever their name
GITATTRIBUTES = "".join(
    f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES
)


@dataclass(frozen=True)
class Blob:
    """A file of a commit."""

    content: bytes
    lfs: bool = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        version = "version https://git-lfs.github.com/spec/v1"
        return f"{version}\noid sha256:{self.sha256}\nsize {len(self.content)}\n".encode()

    @property
    def oid(self) -> str:
        """The hash that git gives to the blob: of the pointer where the content is in LFS."""
        stored = self.pointer if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()

    def listing(self, path: str) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "type": "file",
            "path": path,
            "size": len(self.content),
            "oid": self.oid,
        }
        if self.lfs:
            entry["lfs"] = {
                "oid": self.sha256,
                "size": len(self.content),
                "pointerSize": len(self.pointer),
            }
        return entry


@dataclass(frozen=True)
class Commit:
    title: str
    parent: Commit | None
    tree: dict[str, Blob]

    @property
    def oid(self) -> str:
        digest = hashlib.sha1(f"{self.title}\0{self.parent and self.parent.oid}".encode())
        for path, blob in sorted(self.tree.items()):
            digest.update(f"{path}\0{blob.oid}\0".encode())
        return digest.hexdigest()


@dataclass
class Repo:
    """A repository: its branches, each the newest commit of a chain."""

    id: str
    kind: str  # models, spaces or datasets
    private: bool
    sdk: str | None = None
    branches: dict[str, Commit] = field(default_factory=dict)

    def files(self, branch: str = "main") -> dict[str, bytes]:
        """The files of a branch, without the .gitattributes that every repository begins with."""
        tree = self.branches[branch].tree
        return {path: blob.content for path, blob in tree.items() if path != ".gitattributes"}

    def commits(self, branch: str = "main") -> list[Commit]:
        """The commits of a branch, the newest first, without the one that created the repository."""
        found, commit = [], self.branches[branch]
        while commit.parent is not None:
            found.append(commit)
            commit = commit.parent
        return found

    def commit(self, revision: str) -> Commit | None:
        """The commit that a branch or a full hash names."""
        if revision in self.branches:
            return self.branches[revision]
        for commit in self.branches.values():
            at: Commit | None = commit
            while at is not None:
                if at.oid == revision:
                    return at
                at = at.parent
        return None


@dataclass
class Fault:
    """A fault that requests meet instead of their answer."""

    pattern: str
    status: int | str  # or "reset": the connection is cut after half of the body
    times: int
    headers: dict[str, str]


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message, **headers}
        if code is not None:
            self.headers["X-Error-Code"] = code


class HubServer:
    """The server, on two free ports of this machine: the Hub and the storage of its large files.

    Attributes:
        url: of the Hub, for HF_ENDPOINT.
        token: the only one that is accepted. It belongs to `user`, who may write below `user/` and `team/`.
        repos: by id; those of Spaces begin with `spaces/`, data sets with `datasets/`.
        requests: each as "METHOD /path?query", in the order of their arrival. Of the storage: "METHOD storage/...".
        sent: of each request all that was sent, but for the header that is meant to hold the token.
        part_size: bytes of a part where large files are to be uploaded in parts; None: in one piece.
    """

    user = "user"
    namespaces = ("user", "team")

    def __init__(self) -> None:
        self.token = f"hf_{secrets.token_hex(17)}"
        self.repos: dict[str, Repo] = {}
        self.requests: list[str] = []
        self.sent: list[bytes] = []
        self.part_size: int | None = None
        self.objects: dict[str, bytes] = {}  # LFS: sha256 to content, as it was claimed
        self.parts: dict[tuple[str, int], bytes] = {}
        self.signature = secrets.token_hex(8)  # of links to the storage
        self.lock = threading.RLock()
        self._faults: list[Fault] = []
        self._to_corrupt = 0
        self._servers = [self._server(Hub), self._server(Storage)]
        self.url, self.storage_url = (
            f"http://127.0.0.1:{server.server_port}" for server in self._servers
        )

    def _server(self, handler: type[Handler]) -> ThreadingHTTPServer:
        bound = type(handler.__name__, (handler,), {"hub": self})
        return Server(("127.0.0.1", 0), bound)

    def __enter__(self) -> HubServer:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    # ---- faults ----

    def fail(
        self,
        pattern: str,
        status: int | str,
        *,
        times: int = 1,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Answer the next requests in another way.

        Args:
            pattern: regular expression, searched in "METHOD /path?query" as in `requests`.
            status: an HTTP status, or "reset" to cut the connection after half of the body was read.
            times: how often.
            headers: of the answer.
        """
        self._faults.append(Fault(pattern, status, times, headers or {}))

    def heal(self) -> None:
        """Forget all faults that were asked for."""
        self._faults.clear()

    def corrupt_uploads(self, times: int = 1) -> None:
        """Damage the next large files that are uploaded, so that their sha256 is not the one announced."""
        self._to_corrupt = times

    def fault(self, request: str) -> Fault | None:
        with self.lock:
            for fault in self._faults:
                if fault.times > 0 and re.search(fault.pattern, request):
                    fault.times -= 1
                    return fault
        return None

    def store(self, sha256: str, content: bytes) -> None:
        if self._to_corrupt:
            self._to_corrupt -= 1
            content = bytes([content[0] ^ 1]) + content[1:]
        self.objects[sha256] = content

    # ---- for the processes that talk to it ----

    def environment(self, home: Path) -> dict[str, str]:
        """The environment of a process for which this is the Hub.

        Args:
            home: an empty folder, for its cache.
        """
        dropped = re.compile(r"HF_|HUGGING|.*_proxy$", re.IGNORECASE)
        kept = {name: value for name, value in os.environ.items() if not dropped.match(name)}
        return {
            **kept,
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": self.token,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }


class Server(ThreadingHTTPServer):
    """Silent about clients that hang up."""

    def handle_error(self, *arguments: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*arguments)


class Handler(BaseHTTPRequestHandler):
    """The common part of both origins: reading requests, faults, answers."""

    hub: HubServer
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # headers and body in one segment, or each answer waits 40 ms for an ACK
    routes: tuple[tuple[str, str, Callable[..., None]], ...] = ()
    prefix = ""

    def log_message(self, *_: Any) -> None:
        pass

    def do_any(self) -> None:
        request = f"{self.command} {self.prefix}{self.path}"
        self.hub.requests.append(request)
        fault = self.hub.fault(request)
        if fault is not None and fault.status == "reset":
            self._reset()
            return
        self.body = self._read()
        headers = [f"{k}: {v}" for k, v in self.headers.items() if k.lower() != "authorization"]
        self.hub.sent.append("\n".join([request, *headers, ""]).encode() + self.body)
        try:
            if fault is not None:
                self._fail(int(fault.status), fault.headers)
            else:
                self._dispatch()
        except Refusal as refusal:
            self.answer({"error": str(refusal)}, refusal.status, refusal.headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_any  # names that http.server looks for

    def _dispatch(self) -> None:
        url = urlsplit(self.path)
        self.query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        for methods, pattern, answer in self.routes:
            match = re.fullmatch(pattern, url.path)
            if match and self.command in methods.split():
                parts = [part and unquote(part) for part in match.groups()]
                with self.hub.lock:
                    answer(self, *parts)
                return
        raise Refusal(404, f"this server has no {self.command} {url.path}")

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _fail(self, status: int, headers: dict[str, str]) -> None:
        if status < 500:
            raise Refusal(status, "as the test asked for", **headers)
        # What is broken is seldom able to write JSON.
        page = b"<html><body>as the test asked for</body></html>"
        self.answer(page, status, {"Content-Type": "text/html", **headers})

    def _reset(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
        # Zero seconds to linger: closing sends RST and not FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def json(self) -> Any:
        return json.loads(self.body)

    def answer(
        self, content: Any, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        """Send bytes, or anything else as JSON."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        raw = isinstance(content, bytes)
        media_type = "application/octet-stream" if raw else "application/json"
        headers = {"Content-Type": media_type, **(headers or {})}
        if raw:
            status, data, headers = self._range(status, data, headers)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _range(
        self, status: int, data: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes, dict[str, str]]:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        headers["Accept-Ranges"] = "bytes"
        if status != 200 or match is None:
            return status, data, headers
        first, last = int(match[1]), min(int(match[2] or len(data) - 1), len(data) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return 206, data[first : last + 1], headers


class Storage(Handler):
    """Where large files lie, reached by signed links. It wants no token, and refuses one."""

    prefix = "storage"

    def _check(self) -> None:
        if "Authorization" in self.headers:
            raise Refusal(400, "a signed link and an Authorization header")
        if self.query.get("signature") != self.hub.signature:
            raise Refusal(403, "the signature is wrong")

    def upload(self, sha256: str) -> None:
        self._check()
        self.hub.store(sha256, self.body)
        self.answer({})

    def upload_part(self, sha256: str, number: str) -> None:
        self._check()
        self.hub.parts[sha256, int(number)] = self.body
        self.answer({}, headers={"ETag": hashlib.md5(self.body).hexdigest()})

    def download(self, sha256: str) -> None:
        self._check()
        self.answer(self.hub.objects[sha256], headers={"ETag": f'"{sha256}"'})

    routes = (
        ("PUT", r"/([0-9a-f]{64})", upload),
        ("PUT", r"/([0-9a-f]{64})/(\d+)", upload_part),
        ("GET HEAD", r"/([0-9a-f]{64})", download),
    )


class Hub(Handler):
    """The Hub itself."""

    # ---- who may do what ----

    def authenticated(self) -> bool:
        header = self.headers.get("Authorization")
        if header is not None and header != f"Bearer {self.hub.token}":
            raise Refusal(401, "Invalid credentials in Authorization header")
        return header is not None

    def must_be_authenticated(self) -> None:
        if not self.authenticated():
            raise Refusal(401, "Invalid username or password.")

    def repo(self, kind: str | None, repo_id: str, *, write: bool = False) -> Repo:
        known = self.authenticated()
        repo = self.hub.repos.get(_key(kind, repo_id))
        if repo is None or (repo.private and not known):
            raise Refusal(404 if known else 401, "Repository not found", "RepoNotFound")
        if write:
            self.must_be_authenticated()
            self.check_namespace(repo_id.partition("/")[0])
        return repo

    def check_namespace(self, namespace: str) -> None:
        if namespace not in self.hub.namespaces:
            raise Refusal(403, f'You don\'t have the rights to write to "{namespace}"')

    def at(self, repo: Repo, revision: str) -> Commit:
        commit = repo.commit(revision)
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    # ---- accounts and repositories ----

    def whoami(self) -> None:
        self.must_be_authenticated()
        organisations = [{"type": "org", "name": name} for name in self.hub.namespaces[1:]]
        self.answer({"type": "user", "name": self.hub.user, "orgs": organisations})

    def create_repo(self) -> None:
        self.must_be_authenticated()
        wanted = self.json()
        namespace = wanted.get("organization") or self.hub.user
        self.check_namespace(namespace)
        kind = f"{wanted.get('type', 'model')}s"
        repo_id = f"{namespace}/{wanted['name']}"
        key = _key(kind, repo_id)
        url = f"{self.hub.url}/{key}"
        if key in self.hub.repos:
            content = {"error": f"You already created this {kind[:-1]} repo", "url": url}
            self.answer(content, 409)
            return
        first = Commit("initial commit", None, {".gitattributes": Blob(GITATTRIBUTES.encode())})
        private = wanted.get("visibility") == "private"
        repo = Repo(repo_id, kind, private, wanted.get("sdk"), {"main": first})
        self.hub.repos[key] = repo
        self.answer({"url": url, "name": repo_id, "id": repo_id})

    def create_branch(self, kind: str, repo_id: str, branch: str) -> None:
        repo = self.repo(kind, repo_id, write=True)
        if branch in repo.branches:
            raise Refusal(409, f"Reference already exists: refs/heads/{branch}")
        start = self.json().get("startingPoint", "main")
        repo.branches[branch] = self.at(repo, start)
        self.answer({})

    def refs(self, kind: str, repo_id: str) -> None:
        repo = self.repo(kind, repo_id)
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit.oid}
            for name, commit in repo.branches.items()
        ]
        self.answer({"branches": branches, "converts": [], "tags": [], "pullRequests": []})

    def info(self, kind: str, repo_id: str, revision: str | None = None) -> None:
        repo = self.repo(kind, repo_id)
        commit = self.at(repo, revision or "main")
        siblings = []
        for path, blob in commit.tree.items():
            sibling: dict[str, Any] = {"rfilename": path}
            if "blobs" in self.query:
                sibling |= {"size": len(blob.content), "blobId": blob.oid}
                if blob.lfs:
                    lfs = {"sha256": blob.sha256, "size": len(blob.content)}
                    sibling["lfs"] = lfs | {"pointerSize": len(blob.pointer)}
            siblings.append(sibling)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        content: dict[str, Any] = {
            "id": repo.id,
            "modelId": repo.id,
            "author": repo.id.partition("/")[0],
            "sha": commit.oid,
            "private": repo.private,
            "gated": False,
            "disabled": False,
            "createdAt": now,
            "lastModified": now,
            "tags": [],
            "siblings": siblings,
        }
        card = commit.tree.get("README.md")
        if card is not None:
            content["cardData"] = _metadata(card.content.decode())
        if repo.sdk is not None:
            content["sdk"] = repo.sdk
        self.answer(content)

    def tree(self, kind: str, repo_id: str, revision: str, folder: str | None = None) -> None:
        commit = self.at(self.repo(kind, repo_id), revision)
        prefix = f"{folder}/" if folder else ""
        paths = [path for path in sorted(commit.tree) if path.startswith(prefix)]
        if folder and not paths:
            raise Refusal(404, f"{folder} does not exist on {revision}", "EntryNotFound")
        recursive = self.query.get("recursive", "").lower() in ("1", "true")
        listed: dict[str, dict[str, Any]] = {}
        for path in paths:
            parts = path.removeprefix(prefix).split("/")
            for depth in range(1, len(parts) if recursive else min(2, len(parts))):
                parent = prefix + "/".join(parts[:depth])
                oid = hashlib.sha1(parent.encode()).hexdigest()
                listed[parent] = {"type": "directory", "path": parent, "oid": oid, "size": 0}
            if recursive or len(parts) == 1:
                listed[path] = commit.tree[path].listing(path)
        self.answer(list(listed.values()))

    def paths_info(self, kind: str, repo_id: str, revision: str) -> None:
        commit = self.at(self.repo(kind, repo_id), revision)
        if "json" in self.headers.get("Content-Type", ""):
            paths = self.json()["paths"]
        else:
            paths = parse_qs(self.body.decode()).get("paths", [])
        self.answer([commit.tree[path].listing(path) for path in paths if path in commit.tree])

    # ---- upload ----

    def validate_yaml(self) -> None:
        wanted = self.json()
        errors = card_errors(wanted["content"]) if wanted["repoType"] == "model" else []
        content = {"errors": [{"message": error} for error in errors], "warnings": []}
        self.answer(content, 400 if errors else 200)

    def preupload(self, kind: str, repo_id: str, revision: str) -> None:
        commit = self.at(self.repo(kind, repo_id, write=True), revision)
        files = []
        for file in self.json()["files"]:
            path = file["path"]
            lfs = path.endswith(LFS_SUFFIXES) or file["size"] > LFS_SIZE
            entry = {
                "path": path,
                "uploadMode": "lfs" if lfs else "regular",
                "shouldIgnore": False,
            }
            if path in commit.tree:
                there = commit.tree[path]
                entry["oid"] = there.sha256 if there.lfs else there.oid
            files.append(entry)
        self.answer({"files": files})

    def lfs_batch(self, spaces: str | None, repo_id: str) -> None:
        self.repo(spaces and "spaces", repo_id, write=True)
        answered = []
        for wanted in self.json()["objects"]:
            sha256, size = wanted["oid"], wanted["size"]
            answer: dict[str, Any] = {"oid": sha256, "size": size}
            if sha256 not in self.hub.objects:
                signed = f"?signature={self.hub.signature}"
                link = f"{self.hub.storage_url}/{sha256}"
                verify = {"href": f"{self.hub.url}/{spaces or ''}{repo_id}.git/info/lfs/verify"}
                upload: dict[str, Any] = {"href": link + signed}
                if self.hub.part_size is not None and size > self.hub.part_size:
                    parts = range(1, -(-size // self.hub.part_size) + 1)
                    upload["href"] = f"{self.hub.url}/api/complete_multipart"
                    upload["header"] = {"chunk_size": str(self.hub.part_size)}
                    upload["header"] |= {f"{n}": f"{link}/{n}{signed}" for n in parts}
                answer["actions"] = {"upload": upload, "verify": verify}
            answered.append(answer)
        self.answer({"transfer": "basic", "objects": answered})

    def lfs_complete(self) -> None:
        done = self.json()
        sha256, content = done["oid"], b""
        for part in done["parts"]:
            data = self.hub.parts.pop((sha256, part["partNumber"]))
            if hashlib.md5(data).hexdigest() != part["etag"]:
                raise Refusal(400, f"part {part['partNumber']} has another ETag")
            content += data
        self.hub.store(sha256, content)
        self.answer({})

    def lfs_verify(self, spaces: str | None, repo_id: str) -> None:
        self.repo(spaces and "spaces", repo_id, write=True)
        wanted = self.json()
        content = self.hub.objects.get(wanted["oid"], b"")
        if hashlib.sha256(content).hexdigest() != wanted["oid"] or len(content) != wanted["size"]:
            self.hub.objects.pop(wanted["oid"], None)
            raise Refusal(400, f"The sha256 of the uploaded object is not {wanted['oid']}")
        self.answer({})

    def commit(self, kind: str, repo_id: str, branch: str) -> None:
        repo = self.repo(kind, repo_id, write=True)
        head = self.at(repo, branch)
        tree, title = dict(head.tree), ""
        for line in self.body.splitlines():
            key, value = (parsed := json.loads(line))["key"], parsed["value"]
            if key == "header":
                title = value["summary"]
                if value.get("parentCommit") not in (None, head.oid):
                    raise Refusal(412, "A commit has happened since. Please refresh and try again.")
            elif key == "file":
                tree[value["path"]] = Blob(base64.b64decode(value["content"]))
            elif key == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    raise Refusal(400, f"the LFS object {value['oid']} was not uploaded")
                tree[value["path"]] = Blob(self.hub.objects[value["oid"]], lfs=True)
            elif key in ("deletedFile", "deletedFolder"):
                gone = value["path"].rstrip("/")
                kept = {
                    path: blob
                    for path, blob in tree.items()
                    if path != gone and not path.startswith(f"{gone}/")
                }
                if len(kept) == len(tree):
                    raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
                tree = kept
            else:
                raise Refusal(400, f"unknown operation {key}")
        # As the real Hub does: a commit that changes nothing is a commit all the same.
        repo.branches[branch] = made = Commit(title, head, tree)
        url = f"{self.hub.url}/{_key(kind, repo_id)}/commit/{made.oid}"
        self.answer({"success": True, "commitOid": made.oid, "commitUrl": url, "hookOutput": ""})

    # ---- download ----

    def resolve(self, kind: str | None, repo_id: str, revision: str, path: str) -> None:
        commit = self.at(self.repo(kind and kind.rstrip("/"), repo_id), revision)
        headers = {"X-Repo-Commit": commit.oid}
        if path not in commit.tree:
            raise Refusal(404, "Entry not found", "EntryNotFound", **headers)
        blob = commit.tree[path]
        if not blob.lfs:
            self.answer(blob.content, headers=headers | {"ETag": f'"{blob.oid}"'})
            return
        headers["ETag"] = f'"{blob.oid}"'
        headers["X-Linked-Etag"] = f'"{blob.sha256}"'
        headers["X-Linked-Size"] = str(len(blob.content))
        headers["Location"] = f"{self.hub.storage_url}/{blob.sha256}?signature={self.hub.signature}"
        self.answer({}, 302, headers)

    _kind, _id, _revision = r"/api/(models|spaces|datasets)", r"([^/]+/[^/]+?)", r"([^/]+)"
    routes = (
        ("GET", r"/api/whoami-v2", whoami),
        ("POST", r"/api/repos/create", create_repo),
        ("POST", r"/api/validate-yaml", validate_yaml),
        ("POST", r"/api/complete_multipart", lfs_complete),
        ("POST", rf"{_kind}/{_id}/branch/{_revision}", create_branch),
        ("GET", rf"{_kind}/{_id}/refs", refs),
        ("POST", rf"{_kind}/{_id}/preupload/{_revision}", preupload),
        ("POST", rf"{_kind}/{_id}/commit/{_revision}", commit),
        ("POST", rf"{_kind}/{_id}/paths-info/{_revision}", paths_info),
        ("GET", rf"{_kind}/{_id}/tree/{_revision}(?:/(.+))?", tree),
        ("GET", rf"{_kind}/{_id}/revision/{_revision}", info),
        ("GET", rf"{_kind}/{_id}", info),
        ("POST", rf"/(spaces/)?{_id}\.git/info/lfs/objects/batch", lfs_batch),
        ("POST", rf"/(spaces/)?{_id}\.git/info/lfs/verify", lfs_verify),
        ("GET HEAD", rf"/(spaces/|datasets/)?{_id}/resolve/{_revision}/(.+)", resolve),
    )


def _key(kind: str | None, repo_id: str) -> str:
    return f"{kind}/{repo_id}" if kind in ("spaces", "datasets") else repo_id


def _metadata(card: str) -> Any:
    block = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    return yaml.safe_load(block[1]) if block else {}


def card_errors(card: str) -> list[str]:
    """The faults in the metadata of a card, by the Hub's documentation of model cards."""
    try:
        metadata = _metadata(card)
    except yaml.YAMLError as error:
        return [f"the metadata is no YAML: {error}"]
    if not isinstance(metadata, dict):
        return ["the metadata is no mapping"]
    errors = []
    patterns = {
        "license": r"[a-z0-9.-]+",
        "pipeline_tag": r"[a-z-]+",
        "language": r"[a-z]{2,3}",
        "library_name": r"[a-z0-9_-]+",
        "base_model": r"[\w.-]+(/[\w.-]+)?",
        "datasets": r"[\w.-]+(/[\w.-]+)?",
        "tags": r"[^\n]{1,100}",
    }
    for name, pattern in patterns.items():
        values = metadata.get(name, [])
        for value in values if isinstance(values, list) else [values]:
            if not isinstance(value, str) or not re.fullmatch(pattern, value):
                errors.append(f'"{name}" must not be {value!r}')
    try:
        for model in metadata.get("model-index", []):
            assert isinstance(model["name"], str)
            for result in model["results"]:
                assert isinstance(result["task"]["type"], str)
                # the pattern of the Hub's own refusal, see https://github.com/embeddings-benchmark/mteb/issues/1111
                assert re.fullmatch(r"([\w-]+/)?[\w.-]+", result["dataset"]["type"], re.ASCII)
                assert isinstance(result["dataset"]["name"], str)
                assert result["metrics"]
                for metric in result["metrics"]:
                    assert isinstance(metric["type"], str)
                    assert isinstance(metric["value"], float | int)
    except (AssertionError, KeyError, TypeError) as error:
        errors.append(f'"model-index" has another form: {error!r}')
    return errors


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(f"usage: python {sys.argv[0]} COMMAND [ARGUMENT ...]")
    with HubServer() as hub, tempfile.TemporaryDirectory() as home:
        environment = hub.environment(Path(home))
        sys.exit(subprocess.run(sys.argv[1:], env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
