"""The LeNet-5 of uncertainty-baselines with Monte-Carlo dropout (Gal & Ghahramani 2016) before both linear layers.

In training, dropout as usual. In use, the mean of the softmax over `passes` sub-networks, as log-probabilities. Each
sub-network's units are drawn once, from a fixed seed, and serve every image, so an image's answer depends neither on
its neighbours in the batch nor on the order of batches; the authors draw anew for each image.
"""


def mc_dropout(spec, *, rate: float = 0.3, passes: int = 30):
    """Logits of `passes` averaged sub-networks, as log-probabilities."""
    import math

    import torch
    from torch import nn

    from testbed.models.nets.lenet import LeNet5

    channels, h, w = spec.model_shape

    class McDropout(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = LeNet5((channels, h, w), spec.classes, "uncertainty", rate)
            draws = torch.Generator().manual_seed(0)
            wide, narrow = self.net.dense[1].in_features, self.net.linear.in_features
            for name, units in (("first", wide), ("second", narrow)):
                kept = torch.rand(passes, units, generator=draws) >= rate
                self.register_buffer(name, kept / (1 - rate), persistent=False)

        def forward(self, x):
            if self.training:
                return self.net(x)
            features = self.net.convolutions(x).flatten(1)
            dense, linear = self.net.dense[1], self.net.linear
            weight = self.first[:, None, :] * dense.weight
            hidden = torch.einsum("nd,pud->npu", features, weight) + dense.bias
            logits = linear(hidden.relu() * self.second)
            return logits.log_softmax(-1).logsumexp(1) - math.log(passes)

    return McDropout()
