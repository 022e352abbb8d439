"""The Hugging Face hub's HTTP API on the loopback interface: as much of it as reading a repository takes.

    GET  /api/{datasets,models}/REPO[/revision/REV]     what the repository holds, and the commit of the revision
    GET  /api/{datasets,models}/REPO/tree/REV[/FOLDER]  its files with sizes and hashes
    POST /api/{datasets,models}/REPO/paths-info/REV     the same of named paths
    GET, HEAD  [/datasets]/REPO/resolve/REV/FILE        a file, with its commit and ETag; ranges are honoured

Errors carry the X-Error-Code that the client tells them apart by.
"""

import contextlib
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import urllib.parse
from dataclasses import dataclass, field


@dataclass
class Repo:
    """Commits in order; `main` is the last, or the one that a tag names."""

    commits: dict = field(default_factory=dict)
    tags: dict = field(default_factory=dict)

    def commit(self, files, tag=None):
        """Add a commit of `{path: bytes}` and give its hash."""
        content = b"".join(path.encode() + data for path, data in sorted(files.items()))
        name = hashlib.sha1(content + str(len(self.commits)).encode()).hexdigest()
        self.commits[name] = dict(files)
        self.tags["main"] = name
        if tag:
            self.tags[tag] = name
        return name

    def at(self, revision):
        """(commit, files) of a branch, tag or commit; None where there is none."""
        name = self.tags.get(revision, revision)
        return (name, self.commits[name]) if name in self.commits else None


@dataclass
class Hub:
    """Repositories by "datasets/org/name" or "models/org/name"; `asked` holds the method and path of each request."""

    url: str = ""
    repos: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)

    def repo(self, kind, name):
        """The repository, made where it is not there."""
        return self.repos.setdefault(f"{kind}/{name}", Repo())


class Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self):
        self._answer()

    do_HEAD = do_POST = do_GET

    def _answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = [urllib.parse.unquote(p) for p in urllib.parse.urlsplit(self.path).path.strip("/").split("/")]
        self.hub.asked.append((self.command, "/".join(path)))
        api = path[0] == "api"
        rest = path[1:] if api else path if path[0] == "datasets" else ["models", *path]
        repo, rest = self.hub.repos.get("/".join(rest[:3])), rest[3:]
        if repo is None:
            return self._error(401 if api else 404, "RepoNotFound", "Repository not found")
        verb, revision = rest[0] if rest else "revision", rest[1] if len(rest) > 1 else "main"
        at = repo.at(revision)
        if at is None:
            return self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        commit, files = at
        if verb == "resolve":
            return self._file(commit, files, "/".join(rest[2:]))
        if verb == "revision":
            siblings = [{"rfilename": name} for name in sorted(files)]
            info = {"id": "/".join(path[2:4]), "sha": commit, "siblings": siblings, "tags": [], "private": False}
            return self._json(info | {"lastModified": "2026-01-02T03:04:05.000Z", "downloads": 0, "likes": 0})
        if verb == "tree":
            return self._tree(files, "/".join(rest[2:]))
        if verb == "paths-info":
            wanted = urllib.parse.parse_qs(body.decode()).get("paths", [])
            return self._json([entry(name, files[name]) for name in wanted if name in files])
        return self._error(404, "", "no such route")

    def _tree(self, files, folder):
        inside = f"{folder}/" if folder else ""
        found = {name: data for name, data in files.items() if name.startswith(inside)}
        if not found:
            return self._error(404, "EntryNotFound", f"{folder} does not exist")
        folders = {inside + name[len(inside) :].split("/")[0] for name in found if "/" in name[len(inside) :]}
        recursive = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query).get("recursive") == ["true"]
        here = [entry(name, data) for name, data in found.items() if recursive or "/" not in name[len(inside) :]]
        trees = [{"type": "directory", "path": name, "oid": oid(name.encode()), "size": 0} for name in sorted(folders)]
        return self._json([*trees, *here])

    def _file(self, commit, files, name):
        if name not in files:
            return self._error(404, "EntryNotFound", f"{name} does not exist", {"X-Repo-Commit": commit})
        data = files[name]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{oid(data)}"', "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range", "")
        if asked.startswith("bytes="):
            first, _, last = asked[6:].partition("-")
            start, end = int(first), min(int(last or len(data) - 1), len(data) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
            return self._send(206, data[start : end + 1], headers)
        return self._send(200, data, headers)

    def _json(self, value):
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, code, name, message, headers=()):
        body = json.dumps({"error": message}).encode()
        self._send(code, body, {"X-Error-Code": name, "X-Error-Message": message, **dict(headers)})

    def _send(self, code, data, headers):
        self.send_response(code)
        for name, value in {**headers, "Content-Length": len(data)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_):
        pass


def oid(data):
    """The name git gives to a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def entry(name, data):
    """A file as a tree lists it."""
    return {"type": "file", "path": name, "oid": oid(data), "size": len(data)}


class Server:
    """Serves a hub from its own thread; stopped and started again, it has the same port."""

    def __init__(self, hub):
        self.handler, self.port = type("Bound", (Handler,), {"hub": hub}), 0
        self.start()
        hub.url = f"http://127.0.0.1:{self.port}"

    def start(self):
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), self.handler)
        self.port = self.http.server_port
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@contextlib.contextmanager
def serving(hub):
    """The server of a hub, for as long as the context lasts."""
    server = Server(hub)
    try:
        yield server
    finally:
        server.stop()


class Libraries:
    """Fresh processes that use the server at `hub.url` and the cache below `home`."""

    def __init__(self, hub, home):
        self.hub, self.home = hub, home

    def python(self, *arguments, offline=False, **more):
        hidden = ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_TOKEN", "HTTP_PROXY", "http_proxy")
        kept = {name: value for name, value in os.environ.items() if name not in hidden}
        own = {"HF_ENDPOINT": self.hub.url, "HF_HOME": str(self.home), "HF_HUB_OFFLINE": str(int(offline))}
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            capture_output=True, text=True, timeout=120, check=False, env=kept | own, **more,
        )  # fmt: skip
