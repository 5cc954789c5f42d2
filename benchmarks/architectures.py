"""The networks of the benchmark that no library of the `export` extra defines, written by hand in torch.

Each constructor returns an `nn.Module` in the layout of its paper; weights are whatever torch draws, because the
export keeps only the graph. Images are f32[n, 3, h, w] everywhere.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


def _conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution with "same" padding and no bias, and its batch normalisation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class Bottleneck(nn.Module):
    """1x1 reduce, 3x3, 1x1 expand, with a projected shortcut where the shape changes (He et al. 2015, v1.5 strides)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.branch = nn.Sequential(
            *_conv_norm(inputs, width, 1),
            nn.ReLU(),
            *_conv_norm(width, width, 3, stride),
            nn.ReLU(),
            *_conv_norm(width, outputs, 1),
        )
        changes = stride != 1 or inputs != outputs
        self.shortcut = nn.Sequential(*_conv_norm(inputs, outputs, 1, stride)) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.branch(x) + self.shortcut(x))


class ResNet50(nn.Module):
    """ResNet-50: f32[n, 3, h, w] -> f32[n, 1000]."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv_norm(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        blocks: list[nn.Module] = []
        inputs = 64
        for width, depth, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            for index in range(depth):
                blocks.append(Bottleneck(inputs, width, stride if index == 0 else 1))
                inputs = 4 * width
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        return self.classifier(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


class InvertedResidual(nn.Module):
    """1x1 expand, 3x3 depthwise, 1x1 project, linear at the end (Sandler et al. 2018)."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [*_conv_norm(inputs, hidden, 1), nn.ReLU6()] if expansion != 1 else []
        self.branch = nn.Sequential(
            *expand,
            *_conv_norm(hidden, hidden, 3, stride, groups=hidden),
            nn.ReLU6(),
            *_conv_norm(hidden, outputs, 1),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x) if self.residual else self.branch(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 at width 1.0: f32[n, 3, h, w] -> f32[n, 1000]."""

    # (expansion, channels, blocks, stride of the first): table 2 of the paper
    STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_conv_norm(3, 32, 3, 2), nn.ReLU6()]
        inputs = 32
        for expansion, channels, depth, stride in self.STAGES:
            for index in range(depth):
                layers.append(InvertedResidual(inputs, channels, stride if index == 0 else 1, expansion))
                inputs = channels
        layers += [*_conv_norm(inputs, 1280, 1), nn.ReLU6()]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


class ChannelsFirstNorm(nn.LayerNorm):
    """Layer normalisation over the channels of f32[n, c, h, w]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNextBlock(nn.Module):
    """7x7 depthwise, then a channels-last feed-forward with a layer scale (Liu et al. 2022)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, 4 * channels)
        self.project = nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.rand(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.project(functional.gelu(self.expand(y)))
        return x + self.scale * y.permute(0, 3, 1, 2)


class ConvNextTiny(nn.Module):
    """ConvNeXt-tiny: f32[n, 3, h, w] -> f32[n, 1000]."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 96, 4, 4), ChannelsFirstNorm(96, eps=1e-6)]
        for stage, (channels, depth) in enumerate(((96, 3), (192, 3), (384, 9), (768, 3))):
            if stage > 0:
                layers += [ChannelsFirstNorm(channels // 2, eps=1e-6), nn.Conv2d(channels // 2, channels, 2, 2)]
            layers += [ConvNextBlock(channels) for _ in range(depth)]
        self.features = nn.Sequential(*layers)
        self.norm = ChannelsFirstNorm(768, eps=1e-6)
        self.classifier = nn.Linear(768, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.adaptive_avg_pool2d(self.features(x), 1)
        return self.classifier(torch.flatten(self.norm(x), 1))


class ConvSilu(nn.Sequential):
    """Convolution, batch normalisation and SiLU, the unit of the detector."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__(*_conv_norm(inputs, outputs, kernel, stride), nn.SiLU())


class CrossStage(nn.Module):
    """Cross-stage partial block: half the channels go through `depth` residual pairs, half pass by."""

    def __init__(self, inputs: int, outputs: int, depth: int, residual: bool) -> None:
        super().__init__()
        half = outputs // 2
        self.main, self.bypass = ConvSilu(inputs, half), ConvSilu(inputs, half)
        self.pairs = nn.ModuleList(nn.Sequential(ConvSilu(half, half), ConvSilu(half, half, 3)) for _ in range(depth))
        self.merge = ConvSilu(2 * half, outputs)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.main(x)
        for pair in self.pairs:
            y = y + pair(y) if self.residual else pair(y)
        return self.merge(torch.cat((y, self.bypass(x)), 1))


class PoolingPyramid(nn.Module):
    """Three 5x5 max poolings in a row, all four stages joined."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce, self.merge = ConvSilu(channels, channels // 2), ConvSilu(2 * channels, channels)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        stages = [self.reduce(x)]
        for _ in range(3):
            stages.append(self.pool(stages[-1]))
        return self.merge(torch.cat(stages, 1))


class DetectionHead(nn.Module):
    """Anchor-based head: three feature maps -> (f32[n, boxes, 4], f32[n, boxes, 1 + classes]).

    Boxes are centre and size in pixels of the image, scores lie between 0 and 1.
    """

    STRIDES = (8, 16, 32)
    ANCHORS = (
        ((10, 13), (16, 30), (33, 23)),
        ((30, 61), (62, 45), (59, 119)),
        ((116, 90), (156, 198), (373, 326)),
    )

    def __init__(self, channels: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.values = 5 + classes
        self.convs = nn.ModuleList(nn.Conv2d(c, 3 * self.values, 1) for c in channels)
        self.register_buffer("anchors", torch.tensor(self.ANCHORS, dtype=torch.float32).view(3, 1, 3, 1, 1, 2))

    def forward(self, maps: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        levels = [self._decode(conv(x), i) for i, (conv, x) in enumerate(zip(self.convs, maps, strict=True))]
        joined = torch.cat(levels, 1)
        return joined[..., :4], joined[..., 4:]

    def _decode(self, x: Tensor, level: int) -> Tensor:
        n, _, h, w = x.shape
        x = x.view(n, 3, self.values, h, w).permute(0, 1, 3, 4, 2).sigmoid()
        rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        grid = torch.stack((columns, rows), 2).to(x.dtype)
        centre, size, scores = x.split((2, 2, self.values - 4), 4)
        centre = (centre * 2 - 0.5 + grid) * self.STRIDES[level]
        size = (size * 2) ** 2 * self.anchors[level]
        return torch.cat((centre, size, scores), 4).view(n, -1, self.values)


class Detector(nn.Module):
    """A one-stage detector: CSP backbone, path-aggregation neck, sigmoid head; sides are multiples of 32.

    f32[n, 3, h, w] -> (f32[n, b, 4] boxes, f32[n, b, 81] scores), b = 3 * (1/64 + 1/256 + 1/1024) * h * w
    """

    def __init__(self, classes: int = 80, width: int = 32) -> None:
        super().__init__()
        c1, c2, c3, c4, c5 = (width * 2**i for i in range(5))
        self.stem = nn.Sequential(ConvSilu(3, c1, 6, 2), ConvSilu(c1, c2, 3, 2), CrossStage(c2, c2, 1, True))
        self.stem[0][0].padding = (2, 2)
        self.stage3 = nn.Sequential(ConvSilu(c2, c3, 3, 2), CrossStage(c3, c3, 2, True))
        self.stage4 = nn.Sequential(ConvSilu(c3, c4, 3, 2), CrossStage(c4, c4, 3, True))
        self.stage5 = nn.Sequential(ConvSilu(c4, c5, 3, 2), CrossStage(c5, c5, 1, True), PoolingPyramid(c5))
        self.lateral5, self.up4 = ConvSilu(c5, c4), CrossStage(2 * c4, c4, 1, False)
        self.lateral4, self.up3 = ConvSilu(c4, c3), CrossStage(2 * c3, c3, 1, False)
        self.down3, self.out4 = ConvSilu(c3, c3, 3, 2), CrossStage(2 * c3, c4, 1, False)
        self.down4, self.out5 = ConvSilu(c4, c4, 3, 2), CrossStage(2 * c4, c5, 1, False)
        self.head = DetectionHead((c3, c4, c5), classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x3 = self.stage3(self.stem(x))
        x4 = self.stage4(x3)
        top = self.lateral5(self.stage5(x4))
        middle = self.lateral4(self.up4(torch.cat((self._double(top), x4), 1)))
        y3 = self.up3(torch.cat((self._double(middle), x3), 1))
        y4 = self.out4(torch.cat((self.down3(y3), middle), 1))
        y5 = self.out5(torch.cat((self.down4(y4), top), 1))
        return self.head((y3, y4, y5))

    @staticmethod
    def _double(x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=2.0, mode="nearest")


class LstmTagger(nn.Module):
    """Bidirectional two-layer LSTM tagger: i64[n, s] token ids -> f32[n, s, tags] scores."""

    def __init__(self, vocabulary: int = 10_000, width: int = 256, tags: int = 17) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, num_layers=2, bidirectional=True, batch_first=True)
        self.classifier = nn.Linear(2 * width, tags)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.lstm(self.embedding(tokens))
        return self.classifier(states)


def _channels(value: float) -> int:
    """`value` rounded to a multiple of 8, at most a tenth below it (MobileNet's rule)."""
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * value else rounded + 8


class SqueezeExcite(nn.Module):
    """Channels scaled by a hard sigmoid of their means, through a bottleneck of a quarter (Hu et al. 2017)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, _channels(channels / 4), 1)
        self.expand = nn.Conv2d(_channels(channels / 4), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = functional.relu(self.reduce(functional.adaptive_avg_pool2d(x, 1)))
        return x * functional.hardsigmoid(self.expand(scale))


class MobileNetV3(nn.Module):
    """MobileNetV3-large: f32[n, 3, h, w] -> f32[n, 1000] (Howard et al. 2019)."""

    # (kernel, hidden channels, channels, squeeze-and-excite, activation, stride): table 1 of the paper
    BLOCKS = (
        (3, 16, 16, False, nn.ReLU, 1),
        (3, 64, 24, False, nn.ReLU, 2),
        (3, 72, 24, False, nn.ReLU, 1),
        (5, 72, 40, True, nn.ReLU, 2),
        (5, 120, 40, True, nn.ReLU, 1),
        (5, 120, 40, True, nn.ReLU, 1),
        (3, 240, 80, False, nn.Hardswish, 2),
        (3, 200, 80, False, nn.Hardswish, 1),
        (3, 184, 80, False, nn.Hardswish, 1),
        (3, 184, 80, False, nn.Hardswish, 1),
        (3, 480, 112, True, nn.Hardswish, 1),
        (3, 672, 112, True, nn.Hardswish, 1),
        (5, 672, 160, True, nn.Hardswish, 2),
        (5, 960, 160, True, nn.Hardswish, 1),
        (5, 960, 160, True, nn.Hardswish, 1),
    )

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_conv_norm(3, 16, 3, 2), nn.Hardswish()]
        inputs = 16
        for kernel, hidden, outputs, squeezes, activation, stride in self.BLOCKS:
            layers.append(_mobile_block(inputs, outputs, hidden, kernel, stride, squeezes, activation))
            inputs = outputs
        layers += [*_conv_norm(inputs, 960, 1), nn.Hardswish()]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(960, 1280), nn.Hardswish(), nn.Linear(1280, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(functional.adaptive_avg_pool2d(self.features(x), 1), 1))


class Residual(nn.Sequential):
    """x + f(x), f being the layers in a row."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def _mobile_block(
    inputs: int, outputs: int, hidden: int, kernel: int, stride: int, squeezes: bool, activation: type[nn.Module]
) -> nn.Module:
    """1x1 expand, depthwise, squeeze-and-excite, 1x1 project; residual where the shape stays."""
    expand = [*_conv_norm(inputs, hidden, 1), activation()] if hidden != inputs else []
    layers = (
        *expand,
        *_conv_norm(hidden, hidden, kernel, stride, groups=hidden),
        activation(),
        *([SqueezeExcite(hidden)] if squeezes else []),
        *_conv_norm(hidden, outputs, 1),
    )
    return (Residual if stride == 1 and inputs == outputs else nn.Sequential)(*layers)


class SuperResolution(nn.Module):
    """16 residual blocks and a pixel shuffle (Lim et al. 2017, baseline): f32[n, 3, h, w] -> f32[n, 3, 2 h, 2 w]."""

    def __init__(self, width: int = 64, depth: int = 16) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.body = Residual(*(self._block(width) for _ in range(depth)), nn.Conv2d(width, width, 3, padding=1))
        self.tail = nn.Sequential(nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.body(self.head(x)))

    @staticmethod
    def _block(width: int) -> nn.Module:
        return Residual(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))


class GruLanguageModel(nn.Module):
    """Two-layer GRU language model: i64[n, s] token ids -> f32[n, s, vocabulary] scores of the next token."""

    def __init__(self, vocabulary: int = 10_000, width: int = 512) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.gru = nn.GRU(width, width, num_layers=2, batch_first=True)
        self.classifier = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.gru(self.embedding(tokens))
        return self.classifier(states)


class Mixture(nn.Module):
    """Top-2 mixture of 4 experts: f32[n, width] -> f32[n, width].

    Each expert gathers the rows that chose it (how many, the data decide) and adds its weighted results to them.
    """

    def __init__(self, width: int = 256, experts: int = 4) -> None:
        super().__init__()
        self.router = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)) for _ in range(experts)
        )

    def forward(self, x: Tensor) -> Tensor:
        scores, chosen = torch.topk(torch.softmax(self.router(x), 1), 2)
        scores = scores / scores.sum(1, keepdim=True)
        result = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows, places = torch.where(chosen == number)
            result = result.index_add(0, rows, expert(x[rows]) * scores[rows, places].unsqueeze(1))
        return result


def mlp() -> nn.Module:
    """Two-layer perceptron: f32[n, 784] -> f32[n, 10]."""
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10))


def odd_chain() -> nn.Module:
    """Three matrix products of odd sizes: f32[n, 257] -> f32[n, 33]."""
    sizes = (257, 129, 65, 33)
    return nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in pairwise(sizes)))
