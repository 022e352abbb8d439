"""torchvision from PyPI beside a CPU torch: its compiled operators are missing, and importing it fails on two schemas.

Declared beforehand, its models and timm's run; nothing here needs the operators. Only for that pair of builds: where
the operators are there, declaring them again ends the process.
"""

import importlib.metadata

import torch

_LIBRARY = None


def _built_for_gpus() -> bool:
    try:
        return not importlib.metadata.version("torchvision").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:
        return False


if torch.__version__.endswith("+cpu") and _built_for_gpus():
    _LIBRARY = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _LIBRARY.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
