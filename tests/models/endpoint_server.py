"""A prediction server on the loopback interface that misbehaves as told."""

import base64
import contextlib
import http.server
import io
import json
import threading

import numpy as np
from PIL import Image


class Server:
    """`predict` maps float arrays `[n ...]` to rows; each of `faults` is spent on one request before one is answered.

    A fault is a status code, a (code, headers) pair, "drop" (the connection is closed), or bytes sent as HTML.
    """

    def __init__(self, predict, faults=()):
        self.predict, self.faults, self.requests, self.headers = predict, list(faults), [], []

    def answer(self, handler):
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        self.requests.append(len(body["instances"]))
        self.headers.append(dict(handler.headers))
        fault = self.faults.pop(0) if self.faults else None
        if fault == "drop":
            handler.close_connection = True
            return
        if isinstance(fault, bytes):
            self.send(handler, 200, fault, {"Content-Type": "text/html"})
        elif fault is not None:
            code, headers = fault if isinstance(fault, tuple) else (fault, {})
            self.send(handler, code, b"busy", headers)
        else:
            x = np.array([decoded(one) for one in body["instances"]], dtype=np.float32)
            rows = np.asarray(self.predict(x)).tolist()
            self.send(handler, 200, json.dumps({"predictions": rows}).encode(), {"Content-Type": "application/json"})

    @staticmethod
    def send(handler, code, data, headers):
        handler.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)


def decoded(instance):
    """A JSON instance as numbers, or a base64 PNG as float32 `[c h w]` in [0, 1]."""
    if not isinstance(instance, dict):
        return instance
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(instance["b64"]))), dtype=np.float32) / 255
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


@contextlib.contextmanager
def serving(predict, faults=()):
    """The server and its URL, for as long as the context lasts."""
    server = Server(predict, faults)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            server.answer(self)

        def log_message(self, *_):
            return

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{listener.server_port}/v1/models/net:predict"
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
