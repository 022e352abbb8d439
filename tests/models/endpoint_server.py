"""A prediction server on the loopback interface that misbehaves as told."""

import base64
import contextlib
import http.server
import io
import json
import threading
import time

import numpy as np
from PIL import Image


class Server:
    """`predict` maps float arrays `[n ...]` to rows; each of `faults` is spent on one request before one is answered.

    A fault is a status code, a (code, headers) pair, "drop" (the connection is closed), "drip" (a header now and
    then, for ever), or bytes sent as HTML. `paths` are what was asked for, with the query.
    """

    def __init__(self, predict, faults=()):
        self.predict, self.faults, self.requests, self.headers = predict, list(faults), [], []
        self.paths, self.gets = [], 0

    def answer(self, handler):
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        self.requests.append(len(body["instances"]))
        self.headers.append(dict(handler.headers))
        self.paths.append(handler.path)
        fault = self.faults.pop(0) if self.faults else None
        if fault == "drop":
            handler.close_connection = True
            return
        if fault == "drip":
            with contextlib.suppress(OSError):
                handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
                while True:
                    handler.wfile.write(b"X-Wait: 1\r\n")
                    time.sleep(0.05)
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

        def do_GET(self):
            server.gets += 1
            self.send_error(405)

        def log_message(self, *_):
            return

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{listener.server_port}/v1/models/net:predict"
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
