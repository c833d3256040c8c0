"""A hub on this machine: it speaks the upload protocol that ``huggingface_hub`` speaks, and keeps what it is sent."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

TOKEN = "hf_of_a_test"
LFS = (".safetensors", ".parquet", ".mp4")


@dataclass
class Hub:
    """What was sent: repositories by (kind, name), with whether they are private, and their files."""

    url: str = ""
    private: dict[tuple[str, str], bool] = field(default_factory=dict)
    files: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    read_only: bool = False


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer({"error": "Invalid credentials in Authorization header"}, 401)
        else:
            known = self.path == "/api/whoami-v2"
            self.answer({"name": "somebody", "type": "user", "auth": {}} if known else {}, 200 if known else 404)

    def do_PUT(self) -> None:
        data = self.body()
        assert self.path == f"/store/{hashlib.sha256(data).hexdigest()}"
        self.hub.objects[self.path.rsplit("/", 1)[1]] = data
        self.answer({})

    def do_POST(self) -> None:
        data = self.body()
        assert self.headers["Authorization"] == f"Bearer {TOKEN}"
        if self.path == "/api/repos/create":
            self.create(json.loads(data))
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(data)["files"]
            modes = [{"path": each["path"], "uploadMode": "lfs" if each["path"].endswith(LFS) else "regular",
                      "shouldIgnore": False} for each in files]  # fmt: skip
            self.answer({"files": modes})
        elif self.path.endswith("/info/lfs/objects/batch"):
            wanted = json.loads(data)["objects"]
            self.answer({"transfer": "basic", "objects": [
                {**each, "actions": {"upload": {"href": f"{self.hub.url}/store/{each['oid']}"}}} for each in wanted
            ]})  # fmt: skip
        else:
            self.commit([json.loads(line) for line in data.splitlines()])

    def create(self, asked: dict[str, Any]) -> None:
        key = (asked.get("type") or "model", f"{asked.get('organization') or 'somebody'}/{asked['name']}")
        if self.hub.read_only:
            self.answer({"error": "You don't have the rights to create a model under this namespace"}, 403)
            return
        prefix = "datasets/" if key[0] == "dataset" else ""
        if key in self.hub.private:
            self.answer({"error": "exists", "url": f"{self.hub.url}/{prefix}{key[1]}"}, 409)
            return
        self.hub.private[key] = asked.get("private") or asked.get("visibility") == "private"
        self.answer({"url": f"{self.hub.url}/{prefix}{key[1]}", "name": key[1]})

    def commit(self, lines: list[dict[str, Any]]) -> None:
        kind, owner, name = self.path.removeprefix("/api/").split("/")[:3]
        kept = self.hub.files.setdefault((kind.removesuffix("s"), f"{owner}/{name}"), {})
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                kept[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                kept[value["path"]] = self.hub.objects[value["oid"]]
        self.answer({"commitUrl": f"{self.hub.url}/{owner}/{name}/commit/0", "commitOid": "0" * 40})


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that answers at its ``url`` while within."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
