"""A model behind an HTTP endpoint: a black box asked in batches, with retries and a budget of queries.

The protocol is that of TensorFlow Serving and KServe (version 1): POST a JSON object {"instances": [...]}, get
{"predictions": [...]}, one row of scores for each instance. An instance is the nested list of the input's numbers
(`encoding: json`: exact, and large), or {"b64": ...} of a PNG (`encoding: png`: small, rounds to 8 bits).

Tried again, after a pause that doubles or that the server asks for (Retry-After): a broken connection, a timeout, an
answer 429 or 5xx. Everything else is an error at once. An endpoint that cannot be had fails its own cells and no
others. Every instance sent counts, a retry too; past the budget nothing more is sent. What the endpoint runs is not
ours to know: results carry the flag `external`, and the version that the grid declares stands in the digest where a
hash of weights would.

A request goes to the address that the grid names and nowhere else: no redirect is followed, so neither the token nor
the examples reach another host, and a POST stays one. One request, its answer read whole, takes at most `timeout`
seconds and `LARGEST` bytes. What an address keeps secret stays out of plans, results and messages: see
`testbed.models.addresses`.
"""

from __future__ import annotations

import base64
import io
import json
import os
import time
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final, Literal

import numpy as np

from testbed.errors import DataError, visible
from testbed.models.addresses import filled, shown, without_values
from testbed.models.black_box import Answer, BlackBox, Scores
from testbed.models.posting import Reply, post
from testbed.types import Floats

_LONGEST_PAUSE: Final = 60.0
_AGAIN: Final = frozenset({408, 425, 429})

#: Bytes of one answer; a batch of 64 rows of 21,841 classes in JSON is under 32 MB.
LARGEST: Final = 2**26
_BEGIN: Final = 200


@dataclass(frozen=True)
class Endpoint:
    """Where to ask and how.

    batch      instances in one request
    retries    times one request is tried again; `pause` seconds before the first, doubling
    timeout    seconds for one request, from the first byte sent to the last byte of its answer
    budget     instances that one job may send, None for no limit
    token_env  environment variable whose value is sent as a bearer token
    """

    url: str
    batch: int = 64
    retries: int = 4
    pause: float = 0.5
    timeout: float = 30.0
    budget: int | None = None
    token_env: str | None = None

    def headers(self) -> dict[str, str]:
        """What goes with a request."""
        plain = {"Content-Type": "application/json"}
        if self.token_env is None:
            return plain
        token = os.environ.get(self.token_env)
        if not token:
            raise DataError(f"{shown(self.url)}: the environment variable {self.token_env} with the token is not set")
        if not (token.isascii() and token.isprintable()):
            raise DataError(
                f"{shown(self.url)}: the token in the environment variable {self.token_env} holds what no header can "
                "(a line break, perhaps); set it anew"
            )
        return {**plain, "Authorization": f"Bearer {token}"}


class EndpointNet(BlackBox):
    """The classifier behind an endpoint; counts the instances it has sent in `sent`."""

    def __init__(
        self, endpoint: Endpoint, classes: int, scores: Scores = "logits", encoding: Literal["json", "png"] = "json"
    ) -> None:
        super().__init__(shown(endpoint.url), classes, scores)
        self.endpoint, self.encoding, self.sent = endpoint, encoding, 0

    def query(self, x: Floats) -> Answer:
        """Scores of float32 `[n ...]`, asked `batch` at a time."""
        step = self.endpoint.batch
        rows = [self._ask(x[start : start + step]) for start in range(0, len(x), step)]
        return Answer(np.concatenate(rows) if rows else np.empty((0, self.classes)))

    def _ask(self, x: Floats) -> Any:
        instances = [as_png(one) for one in x] if self.encoding == "png" else x.tolist()
        answer = self._post(json.dumps({"instances": instances}).encode(), len(x))
        rows = answer.get("predictions") if isinstance(answer, dict) else None
        if not isinstance(rows, list) or len(rows) != len(x):
            got = f"{len(rows)} rows" if isinstance(rows, list) else "no list 'predictions'"
            raise DataError(f"{self.what}: expected a JSON object with {len(x)} rows in 'predictions', got {got}")
        try:
            scores = np.array(rows)
        except ValueError:
            scores = np.array(None)  # rows of several lengths
        if scores.dtype.kind not in "iuf":
            raise DataError(f"{self.what}: 'predictions' must hold rows of numbers, all of one length")
        return scores.astype(np.float64).reshape(len(x), -1)

    def _post(self, body: bytes, count: int) -> Any:
        """The parsed answer to one request, tried again where trying helps."""
        said = ""
        for attempt in range(self.endpoint.retries + 1):
            self._spend(count)
            try:
                return _once(self.endpoint, body)
            except _Again as error:
                said = str(error)
                if attempt < self.endpoint.retries:
                    time.sleep(min(error.after or self.endpoint.pause * 2**attempt, _LONGEST_PAUSE))
        raise DataError(f"{self.what}: {said}, {self.endpoint.retries + 1} times")

    def _spend(self, count: int) -> None:
        budget = self.endpoint.budget
        if budget is not None and self.sent + count > budget:
            raise DataError(
                f"{self.what}: the budget of {budget} queries a job is spent ({self.sent} sent, {count} more wanted); "
                "raise `budget`, or give the attack fewer steps or the set fewer examples"
            )
        self.sent += count


class _Again(Exception):
    """The request failed in a way that may pass; `after` is the pause that the server asks for, in seconds."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


def _once(endpoint: Endpoint, body: bytes) -> Any:
    where, address = shown(endpoint.url), filled(endpoint.url)
    headers = endpoint.headers()
    token = headers.get("Authorization", "").removeprefix("Bearer ")

    def plain(text: str) -> str:
        return _plain(text, address, token)

    def begin() -> str:
        return plain(reply.data.decode(errors="replace"))[:_BEGIN]

    try:
        reply = post(address, body, headers, endpoint.timeout, LARGEST)
    except (OSError, HTTPException) as error:
        raise _Again(f"cannot be reached ({type(error).__name__}: {plain(str(error))})") from None
    if 300 <= reply.status < 400:
        raise DataError(f"{where} {plain(_redirected(reply))}")
    if reply.status >= 400:
        said = f"answers {reply.status} {plain(reply.reason)}: {begin()}"
        if reply.status in _AGAIN or reply.status >= 500:
            raise _Again(said, _seconds(reply.headers.get("Retry-After")))
        raise DataError(f"{where} {said}")
    if not reply.whole:
        raise DataError(f"{where}: the answer to one request passes {LARGEST:,} bytes; ask for fewer with `batch`")
    try:
        return json.loads(reply.data)
    except (ValueError, RecursionError):
        kind = plain(reply.headers.get("Content-Type") or "no content type")
        raise DataError(f"{where}: expected JSON, got {kind}: {begin()}") from None


def _redirected(reply: Reply) -> str:
    to = reply.headers.get("Location") or ""
    named = f" to {visible(shown(to))}" if to else ""
    return (
        f"answers {reply.status}, a redirect{named}: none is followed; if that is the right address, write it as `url`"
    )


def _seconds(text: str | None) -> float | None:
    """Retry-After where it is a number of seconds; a date is not read."""
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:
        return None


def _plain(text: str, address: str, token: str) -> str:
    """A text for messages: one line, without the token and the values of the address that was asked."""
    text = text.replace(token, "...") if token else text
    return visible(without_values(" ".join(text.split()), address))


def as_png(image: Floats) -> dict[str, str]:
    """{"b64": PNG} of float32 `[c h w]` in [0, 1], one or three channels, rounded to 8 bits."""
    from PIL import Image

    pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    out = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(out, format="PNG")
    return {"b64": base64.b64encode(out.getvalue()).decode()}
