"""Networks of our own tasks: the CIFAR ResNets, and a small one for the embedded digits."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class PaddedShortcut(nn.Module):
    """The shortcut without parameters ("option A"): every second position, zero channels on both sides."""

    def __init__(self, added: int) -> None:
        super().__init__()
        self.added = added

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C + added, H/2, W/2)."""
        return F.pad(x_NCHW[:, :, ::2, ::2], (0, 0, 0, 0, self.added // 2, self.added - self.added // 2))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm around a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = PaddedShortcut(outputs - inputs) if stride > 1 else nn.Identity()

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H/stride, W/stride)."""
        inner = F.relu(self.bn1(self.conv1(x_NCHW)))
        return F.relu(self.bn2(self.conv2(inner)) + self.shortcut(x_NCHW))


class CifarResNet(nn.Module):
    """ResNet for 32x32 inputs: a stem, three stages of ``blocks`` basic blocks with 16, 32, 64 channels, a linear
    layer.

    Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2.
    """

    def __init__(self, blocks: int, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, 1)
        self.layer2 = self._stage(16, 32, blocks, 2)
        self.layer3 = self._stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, classes)

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
        rest = (BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1))
        return nn.Sequential(BasicBlock(inputs, outputs, stride), *rest)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, 3, H, W) images -> (N, classes) logits."""
        x_NCHW = F.relu(self.bn1(self.conv1(x_NCHW)))
        x_NCHW = self.layer3(self.layer2(self.layer1(x_NCHW)))
        logits: Tensor = self.linear(x_NCHW.mean((2, 3)))
        return logits


def cifar_resnet(depth: int, classes: int = 10) -> CifarResNet:
    """The CIFAR ResNet of a depth of 6 b + 2 layers: 20, 32, 44, 56, 110.

    Raises:
        ValueError: the depth is not of that form.
    """
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"a CIFAR ResNet has 6 b + 2 layers (20, 32, 44, 56, 110), got depth {depth}")
    return CifarResNet((depth - 2) // 6, classes)


def digits_network(classes: int = 10) -> nn.Sequential:
    """Six 3x3 convolutions with batch norm, of like cost, for 28x28 gray digits; trains in seconds on a CPU."""
    channels = (1, 16, 16, 32, 32, 48, 48)
    strides = (1, 2, 1, 2, 1, 1)
    body: list[nn.Module] = []
    for inputs, outputs, stride in zip(channels[:-1], channels[1:], strides, strict=True):
        convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        body += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], classes))
