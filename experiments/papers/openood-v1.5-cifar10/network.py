"""The ResNet-18 for 32x32 images that the leaderboard's CIFAR-10 checkpoints are of, with their names of weights."""


def resnet18(spec):
    """Logits from images in [0, 1]; CIFAR-10's mean and deviation are taken off inside."""
    import torch
    from torch import nn

    from testbed.models.nets.common import Normalise

    class Block(nn.Module):
        def __init__(self, inside, outside, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
            self.bn1, self.bn2 = nn.BatchNorm2d(outside), nn.BatchNorm2d(outside)
            narrow = nn.Conv2d(inside, outside, 1, stride, bias=False)
            wider = inside != outside or stride != 1
            self.shortcut = nn.Sequential(narrow, nn.BatchNorm2d(outside)) if wider else nn.Sequential()

        def forward(self, x):
            y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
            return (y + self.shortcut(x)).relu()

    class ResNet18(nn.Module):
        def __init__(self):
            super().__init__()
            self.normalise = Normalise((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
            self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64)
            widths = (64, 64, 128, 256, 512)
            for i in range(4):
                first = Block(widths[i], widths[i + 1], 1 if i == 0 else 2)
                setattr(self, f"layer{i + 1}", nn.Sequential(first, Block(widths[i + 1], widths[i + 1], 1)))
            self.fc = nn.Linear(512, spec.classes)

        def forward(self, x):
            x = self.bn1(self.conv1(self.normalise(x))).relu()
            for i in range(4):
                x = getattr(self, f"layer{i + 1}")(x)
            return self.fc(torch.flatten(x.mean((2, 3)), 1))

    return ResNet18()
