"""The network of the authors' notebook: three hidden layers of 256 units with GELU (Hendrycks & Gimpel 2017).

Weights begin as normal vectors of length 1 an output unit, divided by sqrt(a + b): a = 1 for the layer that sees pixels
and 0.425 for the others, b = 1 for the layer that gives logits and 0.425 for the others; biases begin at 0.
"""


def mlp(spec, *, hidden: int = 256, layers: int = 3):
    """Fully connected, on pixels in [0, 1]."""
    import math

    import torch
    from torch import nn

    widths = [math.prod(spec.model_shape), *[hidden] * layers, spec.classes]
    parts: list[nn.Module] = [nn.Flatten()]
    for i in range(layers + 1):
        linear = nn.Linear(widths[i], widths[i + 1])
        gain = (1.0 if i == 0 else 0.425) + (1.0 if i == layers else 0.425)
        with torch.no_grad():
            linear.weight.copy_(nn.functional.normalize(torch.randn_like(linear.weight), dim=1) / gain**0.5)
            linear.bias.zero_()
        parts += [linear, nn.GELU(approximate="tanh")] if i < layers else [linear]
    return nn.Sequential(*parts)
