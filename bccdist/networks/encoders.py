"""The two encoders (paper, section 2.2.1): five blocks, each halving the resolution.

Tensors are [n, c, h, w]. An encoder returns its five feature maps from the finest (half the input's
resolution) to the coarsest (a 32nd).
"""

from torch import Tensor, nn

STEM_KERNEL = 7
RESNET34_BLOCKS = (3, 4, 6, 3)
"""Residual blocks of layer1 to layer4."""


def conv_bn_relu(in_channels: int, out_channels: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps the size up to its stride, then batch normalisation and ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


class PlainEncoder(nn.Module):
    """The original UNet's encoder with strides in place of max-pooling.

    A 7x7 stem with stride 2, then four blocks of two 3x3 convolutions, the first with stride 2.
    """

    def __init__(self, width: int) -> None:
        """Build with `width` filters in the stem; each block doubles them."""
        super().__init__()
        self.channels = tuple(width << block for block in range(5))
        self.stem = conv_bn_relu(3, width, kernel=STEM_KERNEL, stride=2)
        self.blocks = nn.ModuleList(
            nn.Sequential(conv_bn_relu(fine, coarse, stride=2), conv_bn_relu(coarse, coarse))
            for fine, coarse in zip(self.channels[:-1], self.channels[1:], strict=True)
        )

    def forward(self, x_N3HW: Tensor) -> list[Tensor]:
        """Five feature maps, finest first."""
        features = [self.stem(x_N3HW)]
        for block in self.blocks:
            features.append(block(features[-1]))
        return features


class BasicBlock(nn.Module):
    """ResNet's block of two 3x3 convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        """Build; the shortcut is a 1x1 convolution where the shape changes."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[n, in, h, w] to [n, out, h / stride, w / stride]."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + self.downsample(x))  # type: ignore[no-any-return]


class ResNet34Encoder(nn.Module):
    """Exactly the convolutional backbone of ResNet34, with torchvision's names for its parts."""

    def __init__(self, width: int) -> None:
        """Build with `width` filters in the stem (64 in ResNet34)."""
        super().__init__()
        self.channels = (width, width, width * 2, width * 4, width * 8)
        self.conv1 = nn.Conv2d(3, width, STEM_KERNEL, stride=2, padding=STEM_KERNEL // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _residual_layer(self.channels[layer], self.channels[layer + 1], num_blocks, stride=1 if layer == 0 else 2)
            for layer, num_blocks in enumerate(RESNET34_BLOCKS)
        )

    def forward(self, x_N3HW: Tensor) -> list[Tensor]:
        """Five feature maps, finest first."""
        features = [self.relu(self.bn1(self.conv1(x_N3HW)))]
        features.append(self.layer1(self.maxpool(features[0])))
        for layer in (self.layer2, self.layer3, self.layer4):
            features.append(layer(features[-1]))
        return features


def _residual_layer(in_channels: int, out_channels: int, num_blocks: int, *, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride=stride)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels, stride=1) for _ in range(num_blocks - 1)))
