"""Models fetched from the hub by their libraries, against a server on loopback that speaks the hub's HTTP API.

The weights are random. transformers and timm are extras that the tests do not install: each runs where it is there.
"""

import importlib.util
import json

import pytest

FETCH = """
import json, sys
import torch
from testbed import plugins
from testbed.errors import TestbedError
from testbed.models import build
from testbed.types import Spec

found = {}
for name, (ref, params, bare) in json.loads(sys.argv[1]).items():
    plugin = plugins.read("model", ref)
    try:
        net = build.module(plugin.build(**plugin.validate(params)), Spec("image", (32, 32, 3), 10), bare=bare).eval()
        with torch.no_grad():
            found[name] = net(torch.full((1, 3, 32, 32), 0.25)).flatten().tolist()
    except TestbedError as error:
        found[name] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""

MAKE_TRANSFORMERS = """
import json, sys
import torch
from transformers import ResNetConfig, ResNetForImageClassification

torch.manual_seed(int(sys.argv[2]))
config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=10)
net = ResNetForImageClassification(config).eval()
net.save_pretrained(sys.argv[1])
constants = {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
open(sys.argv[1] + "/preprocessor_config.json", "w").write(json.dumps(constants))
with torch.no_grad():
    print(json.dumps(net(torch.full((1, 3, 32, 32), -1.0)).logits.flatten().tolist()))
"""

MAKE_TIMM = """
import json, sys
import timm, torch
from safetensors.torch import save_file

torch.manual_seed(int(sys.argv[2]))
net = timm.create_model("resnet10t").eval()
save_file(net.state_dict(), sys.argv[1] + "/model.safetensors")
mean, std = (torch.tensor(net.default_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
with torch.no_grad():
    print(json.dumps(net((torch.full((1, 3, 32, 32), 0.25) - mean) / std).flatten().tolist()))
"""


def needs(library):
    absent = importlib.util.find_spec(library) is None
    return pytest.mark.skipif(absent, reason=f"{library} is not installed: it is an extra")


class Fetching:
    """A hub whose model repositories come from scripts, and processes that fetch from it."""

    def __init__(self, hub_server, folder):
        self.hub, self.folder = hub_server.Hub(), folder
        self.libraries = hub_server.Libraries(self.hub, folder / "hf")

    def publish(self, name, script, seed, tag):
        """Commit what the script writes; the logits it prints."""
        made = self.folder / f"{name.replace('/', '-')}-{seed}"
        made.mkdir()
        ended = self.libraries.python("-c", script, made, seed, offline=True)
        assert ended.returncode == 0, ended.stderr
        self.hub.repo("models", name).commit({f.name: f.read_bytes() for f in made.iterdir()}, tag=tag)
        return json.loads(ended.stdout.splitlines()[-1])

    def fetch(self, cases, offline=False):
        ended = self.libraries.python("-c", FETCH, json.dumps(cases), offline=offline)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout.splitlines()[-1])


@pytest.fixture
def fetching(hub_server, tmp_path):
    return Fetching(hub_server, tmp_path)


@pytest.mark.slow
@needs("transformers")
def test_a_transformers_classifier_by_name_and_revision(fetching, hub_server):
    with hub_server.serving(fetching.hub):
        first = fetching.publish("lab/tiny", MAKE_TRANSFORMERS, 0, tag="v1")
        second = fetching.publish("lab/tiny", MAKE_TRANSFORMERS, 1, tag="v2")
        ref = "transformers:lab/tiny"
        cases = {"main": (ref, {}, False), "v1": (ref, {"revision": "v1"}, False), "bare": (ref, {}, True)}
        online = fetching.fetch(cases | {"v3": (ref, {"revision": "v3"}, False)})
    offline = fetching.fetch(cases | {"new": ("transformers:lab/gone", {}, False)}, offline=True)

    assert online["main"] == pytest.approx(second, abs=1e-5) and online["v1"] == pytest.approx(first, abs=1e-5)
    assert len(online["bare"]) == 10 and online["bare"] != pytest.approx(second, abs=1e-5)
    assert online["v3"].startswith("DataError: model 'transformers:lab/tiny' cannot be had: ") and "v3" in online["v3"]
    assert offline["main"] == online["main"] and offline["v1"] == online["v1"]
    assert offline["new"].startswith("DataError: model 'transformers:lab/gone' cannot be had: ")


@pytest.mark.slow
@needs("timm")
def test_a_timm_model_with_its_tag(fetching, hub_server):
    with hub_server.serving(fetching.hub):
        logits = fetching.publish("timm/resnet10t.c3_in1k", MAKE_TIMM, 0, tag="v1")
        cases = {"fetched": ("timm:resnet10t.c3_in1k", {}, False), "bare": ("timm:resnet10t.c3_in1k", {}, True)}
        online = fetching.fetch(cases | {"absent": ("timm:resnet14t.c3_in1k", {}, False)})
    offline = fetching.fetch(cases, offline=True)

    assert online["fetched"] == pytest.approx(logits, abs=1e-4) and len(online["bare"]) == 10
    assert online["absent"].startswith("DataError: model 'timm:resnet14t.c3_in1k' cannot be had: ")
    assert offline["fetched"] == online["fetched"]
