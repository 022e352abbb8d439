"""A model behind HTTP on the loopback interface: batches, retries, budget, token, and every kind of bad answer."""

import importlib.util
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


def test_the_plugin_refuses_what_cannot_be():
    with pytest.raises(UsageError, match="must start with http"):
        Http("localhost:80", "v1").build(Spec("image", (8, 8, 1), 2))
    with pytest.raises(UsageError, match="1 or 3 channels"):
        Http("http://localhost", "v1", encoding="png").build(Spec("tabular", (4,), 2, "float32", "f"))
