"""A server on this machine that speaks OpenAI's API, answers from the pixels, and has bad days."""

import base64
import io
import itertools
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image


class Handler(BaseHTTPRequestHandler):
    """OpenAI's chat completions: prefers the brighter of two videos. ``server.moods`` says what goes wrong next."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.under_way += 1
            self.server.most = max(self.server.most, self.server.under_way)
            mood = next(self.server.moods)
        try:
            self.answer(body, mood)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with self.server.lock:
                self.server.under_way -= 1

    def answer(self, body: dict, mood: str):
        if mood == "slow":
            time.sleep(1.0)
        if mood == "drop":
            self.connection.close()
            return
        if mood in ("500", "429", "400"):
            self.send_response(int(mood))
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = json.dumps({"choices": []} if mood == "no choices" else self.server.reply(body)).encode()
        data = {"not json": b"<html>", "nested": b"[" * 100_000}.get(mood, data)
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if mood == "cut" else data)

    def log_message(self, *_):
        pass


def brighter(body: dict) -> dict:
    """The reply of a model that thinks and then names the brighter video, with probabilities."""
    assert body["messages"][0]["role"] == "system" and body["temperature"] == 0.0 and body["max_tokens"] == 512
    parts = body["messages"][1]["content"]
    second = next(i for i, part in enumerate(parts) if part.get("text") == "Video 2:")
    light = [
        np.mean([np.asarray(image(part)).mean() for part in half if part["type"] == "image_url"])
        for half in (parts[:second], parts[second:])
    ]
    label = "1" if light[0] > light[1] else "2"
    tokens = ["<think>", f"{light[0]:.0f} {light[1]:.0f} 1", "</think>", "<answer>", label, "</answer>"]
    tops = [[{"token": token, "logprob": -0.1}] for token in tokens]
    tops[4] = [{"token": label, "logprob": np.log(0.6)}, {"token": "12"[label == "1"], "logprob": np.log(0.2)}]
    steps = [{"token": token, "logprob": -0.1, "top_logprobs": top} for token, top in zip(tokens, tops, strict=True)]
    return {"choices": [{"message": {"content": "".join(tokens)}, "logprobs": {"content": steps}}]}


def image(part: dict) -> Image.Image:
    kind, _, data = part["image_url"]["url"].partition(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


@contextmanager
def serving(moods=(), reply=brighter):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.lock, server.bodies, server.under_way, server.most = threading.Lock(), [], 0, 0
    server.moods, server.reply = itertools.chain(moods, itertools.repeat("well")), reply
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
