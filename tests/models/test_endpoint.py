"""A model behind HTTP on the loopback interface: batches, retries, budget, token, and every kind of bad answer."""

import importlib.util
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from testbed.errors import DataError, UsageError
from testbed.models.endpoint import Endpoint, EndpointNet
from testbed.models.outside import Http
from testbed.types import Spec

_spec = importlib.util.spec_from_file_location("endpoint_server", Path(__file__).parent / "endpoint_server.py")
endpoint_server = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(endpoint_server)
serving = endpoint_server.serving


def sums(x):
    total = x.reshape(len(x), -1).astype(np.float64).sum(1, keepdims=True)
    return np.hstack([total, -total])


def net(url, encoding="json", **settings):
    return EndpointNet(Endpoint(url, **{"pause": 0.01, "timeout": 5.0, **settings}), 2, encoding=encoding)


X = torch.rand(7, 1, 2, 3, generator=torch.Generator().manual_seed(0))


def test_a_set_is_asked_in_batches_and_every_number_arrives():
    with serving(sums) as (server, url):
        logits = net(url, batch=3)(X)

    assert server.requests == [3, 3, 1]
    np.testing.assert_allclose(logits, sums(X.numpy()), rtol=1e-6)


def test_png_instances_are_the_eight_bit_image():
    with serving(sums) as (_, url):
        logits = net(url, encoding="png")(X)

    np.testing.assert_allclose(logits, sums(np.rint(X.numpy() * 255) / 255), rtol=1e-6)


@pytest.mark.parametrize("fault", [503, 500, (429, {"Retry-After": "0.01"}), "drop"])
def test_what_may_pass_is_tried_again(fault):
    with serving(sums, [fault, fault]) as (server, url):
        model = net(url)
        logits = model(X)

    assert server.requests == [7, 7, 7] and model.sent == 21
    np.testing.assert_allclose(logits, sums(X.numpy()), rtol=1e-6)


def test_after_the_last_retry_the_last_reason_is_said():
    with serving(sums, [503] * 9) as (server, url), pytest.raises(DataError, match=r"answers 503 .*3 times"):
        net(url, retries=2)(X)
    assert len(server.requests) == 3


def test_nobody_there_is_said(unused_port=9):
    with pytest.raises(DataError, match="cannot be reached"):
        net(f"http://127.0.0.1:{unused_port}/", retries=1)(X)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (404, "answers 404"),
        ((401, {}), "answers 401"),
        (b"<html>log in</html>", "expected JSON, got text/html: <html>log in"),
        (b'{"outputs": []}', "no list 'predictions'"),
        (b'{"predictions": [[1, 2]]}', "expected a JSON object with 7 rows in 'predictions', got 1 rows"),
        (b'{"predictions": [[1], [2], [3], [4], [5], [6], ["a"]]}', "rows of numbers"),
    ],
)
def test_an_answer_that_will_not_pass_is_an_error_at_once(fault, says):
    with serving(sums, [fault]) as (server, url), pytest.raises(DataError, match=says):
        net(url)(X)
    assert len(server.requests) == 1


def test_a_wrong_number_of_classes_is_named():
    with (
        serving(lambda x: np.zeros((len(x), 5))) as (_, url),
        pytest.raises(DataError, match="5 classes, the data has 2"),
    ):
        net(url)(X)


def test_past_the_budget_nothing_is_sent():
    with serving(sums) as (server, url):
        model = net(url, batch=3, budget=6)
        with pytest.raises(DataError, match=r"budget of 6 queries a job is spent \(6 sent, 1 more wanted\)"):
            model(X)
    assert server.requests == [3, 3]


def test_a_retry_counts_against_the_budget():
    with serving(sums, [503]) as (server, url), pytest.raises(DataError, match="budget of 10 queries"):
        net(url, budget=10)(X)
    assert server.requests == [7]


def test_the_token_is_sent_from_the_environment_and_asked_for_where_absent(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "secret")
    with serving(sums) as (server, url):
        net(url, token_env="MY_TOKEN")(X)
        monkeypatch.delenv("MY_TOKEN")
        with pytest.raises(DataError, match="MY_TOKEN"):
            net(url, token_env="MY_TOKEN")(X)
    assert [h.get("Authorization") for h in server.headers] == ["Bearer secret"]


@pytest.mark.parametrize(
    "fault",
    [
        b"bad header Bearer hunter2token",
        b"x" * 188 + b" hunter2token",  # cut in the middle, the rest would still tell
        (302, {"Location": "http://elsewhere.test/hunter2token"}),
    ],
)
def test_a_token_that_comes_back_is_not_shown(monkeypatch, fault):
    monkeypatch.setenv("MY_TOKEN", "hunter2token")
    with serving(sums, [fault]) as (_, url), pytest.raises(DataError) as said:
        net(url, token_env="MY_TOKEN")(X)
    assert "hunter2" not in str(said.value) and "..." in str(said.value)


def test_a_token_that_no_header_holds_is_not_shown(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "hunter2secret\n")
    with pytest.raises(DataError, match="MY_TOKEN holds what no header can") as said:
        net("http://127.0.0.1:9/", token_env="MY_TOKEN")(X)
    assert "hunter2" not in str(said.value)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(code, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "secret")
    with serving(sums) as (other, there), serving(sums) as (server, url):
        server.faults = [(code, {"Location": f"{there}?key=hunter2secret"})]
        with pytest.raises(DataError, match=rf"answers {code}, a redirect to {there}\?key=\.\.\.: none is followed"):
            net(url, token_env="MY_TOKEN")(X)
    assert server.requests == [7] and server.gets == 0
    assert other.requests == [] and other.gets == 0


def test_a_value_from_the_environment_is_sent_and_never_shown(monkeypatch):
    monkeypatch.setenv("MY_KEY", "hunter2 &secret")
    with serving(sums, [404, b"no hunter2%20%26secret or hunter2 &secret"]) as (server, url):
        model = net(url + "?version=3&key=${MY_KEY}")
        for says in ("answers 404", "expected JSON, got text/html: no ... or ..."):
            with pytest.raises(DataError) as said:
                model(X)
            assert says in str(said.value) and "hunter2" not in str(said.value) and "?version=...&key=..." in model.what
        assert server.paths[0].endswith("?version=3&key=hunter2%20%26secret")
        monkeypatch.delenv("MY_KEY")
        with pytest.raises(DataError, match="the environment variable MY_KEY, which url names, is not set"):
            model(X)


def test_a_server_that_drips_does_not_hold_a_request():
    began = time.monotonic()
    with serving(sums, ["drip"]) as (_, url), pytest.raises(DataError, match=r"not whole after 0\.3 s"):
        net(url, retries=0, timeout=0.3)(X)
    assert time.monotonic() - began < 5


def test_an_answer_has_a_largest_size(monkeypatch):
    monkeypatch.setattr("testbed.models.endpoint.LARGEST", 1000)
    with serving(sums, [b"[" * 1001]) as (_, url), pytest.raises(DataError, match="passes 1,000 bytes"):
        net(url)(X)
    with serving(lambda x: np.zeros((len(x), 2))) as (_, url):
        assert net(url)(X).shape == (7, 2)


@pytest.mark.parametrize(
    "body",
    ['{"predictions": [["1", "2"]]}', '{"predictions": [[true, false]]}', '{"predictions": [{"a": 1}]}', "[" * 100_000],
)
def test_only_numbers_are_scores(body):
    with serving(sums, [body.encode()]) as (_, url), pytest.raises(DataError, match=r"rows of numbers|expected JSON"):
        net(url)(X[:1])


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://me:hunter2@host/v1", "holds a name or password before the host"),
        ("https://hunter2@host/v1", "token_env"),
        ("https://host/v1?api_key=hunter2", r"write api_key=\$\{VARIABLE\}"),
        ("https://host/v1?hunter2", "a bare word"),
        ("https://host/v1#hunter2", "never sent"),
        ("https://host/${hunter2}", "may be a value behind"),
        ("ftp://host/v1", "must start with http"),
        ("https:///v1", "a host"),
        ("https://host:99999/v1", "not an address"),
        ("https://host/v1\n", "must start"),
    ],
)
def test_an_address_with_a_secret_or_without_a_host_is_refused(url, says):
    with pytest.raises(UsageError, match=says) as said:
        Http(url, "v1")
    assert "hunter2" not in str(said.value)
    Http("https://host/v1?api-version=2024-02-01&key=${KEY}", "v1")


def test_the_plugin_refuses_what_cannot_be():
    with pytest.raises(UsageError, match="must start with http"):
        Http("localhost:80", "v1").build(Spec("image", (8, 8, 1), 2))
    with pytest.raises(UsageError, match="1 or 3 channels"):
        Http("http://localhost", "v1", encoding="png").build(Spec("tabular", (4,), 2, "float32", "f"))
