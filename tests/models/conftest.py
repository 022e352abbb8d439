"""torchvision from PyPI beside a CPU torch: its compiled operators are missing, and importing it fails on two schemas.

Declared beforehand, its models and timm's run; nothing here needs the operators. Only where torchvision is installed.
"""

import importlib.util

import torch

_LIBRARY = None

if importlib.util.find_spec("torchvision") is not None and not torch.cuda.is_available():
    _LIBRARY = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _LIBRARY.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
