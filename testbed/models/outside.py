"""Models that are not ours, as plug-ins: an ONNX file, an HTTP endpoint. Black boxes: scores are all they give.

They state `gradients = False`, so a plan refuses attacks that need gradients on them, and detectors that need features
they do not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from testbed.errors import UsageError
from testbed.models.zoo import Statistics
from testbed.parameters import Checked, Count, CountOrNone, Positive
from testbed.types import Spec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Onnx(Checked):
    """An ONNX file, named by `weights`; it takes floats in [0, 1], or what `normalise` makes of them.

    scores    what the output holds: "logits", or "probs"
    output    name of that output; by default the first
    features  name of an output with penultimate features, for detectors that need them
    channels  "first" [n c h w], or "last" [n h w c]
    """

    scores: Literal["logits", "probs"] = "logits"
    output: str | None = None
    features: str | None = None
    channels: Literal["first", "last"] = "first"
    normalise: Statistics = "none"

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ("image", "tabular", "series")
    gradients: ClassVar[bool] = False
    weights_from: ClassVar[str] = "file"
    packages: ClassVar[tuple[str, ...]] = ("onnxruntime",)

    def build(self, spec: Spec) -> nn.Module:
        """The black box, which runs once it has its file."""
        from testbed.models.nets import common
        from testbed.models.onnx import OnnxNet

        constants = None
        if self.normalise != "none":
            constants = common.normalise(self.normalise, common.image_spec(spec, "onnx")[0])
        return OnnxNet(spec.classes, self.scores, self.output, self.features, self.channels, constants)


@dataclass(frozen=True)
class Http(Checked):
    """A model behind an HTTP endpoint that speaks the prediction protocol of TensorFlow Serving and KServe v1.

    url            the address, without a name or password; a value behind '?' as `${NAME}`, an environment variable
    model_version  what runs there, in your words: it stands in the digest where a hash of weights would. Change it
                   whenever the model behind the endpoint changes
    budget         instances that one job may send; also checked against the plan's estimate for the whole grid
    others         as in `testbed.models.endpoint.Endpoint`; `scores` as in `onnx`
    """

    url: str
    model_version: str
    scores: Literal["logits", "probs"] = "logits"
    encoding: Literal["json", "png"] = "json"
    batch: Count = 64
    retries: CountOrNone = 4
    timeout: Positive = 30.0
    budget: Count | None = None
    token_env: str | None = None

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ("image", "tabular", "series")
    gradients: ClassVar[bool] = False
    external: ClassVar[bool] = True
    weights_from: ClassVar[str] = "nowhere"

    def __post_init__(self) -> None:
        from testbed.models.addresses import check_address

        check_address(self.url, "model 'http'")

    def build(self, spec: Spec) -> nn.Module:
        """The black box; nothing is asked yet."""
        from testbed.models.endpoint import Endpoint, EndpointNet

        if self.encoding == "png" and (spec.kind != "image" or spec.model_shape[0] not in (1, 3)):
            raise UsageError("model 'http': `encoding: png` takes images with 1 or 3 channels")
        endpoint = Endpoint(
            self.url, self.batch, self.retries, timeout=self.timeout, budget=self.budget, token_env=self.token_env
        )
        return EndpointNet(endpoint, spec.classes, self.scores, self.encoding)
