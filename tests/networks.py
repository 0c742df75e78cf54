"""Small networks that tests share. Weights of the real ones: shared/data/README.md."""

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, max_pool2d, pad, relu


class MLP(nn.Module):
    """Tabular rows [N, inputs] to logits [N, outputs]."""

    def __init__(self, inputs: int = 5, outputs: int = 3, hidden: int = 16) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        self.last = nn.Linear(hidden, outputs)

    def forward(self, rows: Tensor) -> Tensor:
        return self.last(relu(self.first(rows)))


class CNN(nn.Module):
    """Images [N, channels, H, W] to logits, with BatchNorm and dropout."""

    def __init__(self, channels: int = 1, outputs: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(8, outputs)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.drop(relu(self.norm(self.conv(images))).mean(dim=(2, 3))))


class LeNet(nn.Module):
    """MNIST images [N, 1, 28, 28] in [0, 1] to log-probabilities; the weights of mnist/lenet.pth."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, 5)
        self.conv2 = nn.Conv2d(10, 20, 5)
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = relu(max_pool2d(self.conv1(images), 2))
        hidden = relu(max_pool2d(self.conv2(hidden), 2))
        return log_softmax(self.fc2(relu(self.fc1(hidden.flatten(1)))), dim=1)


def fgsm_trained() -> nn.Sequential:
    """MNIST images in [0, 1] to logits; the weights of mnist/fgsm_trained.pth and mnist/certified.pth."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1568, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


class Block(nn.Module):
    """Two convolutions and an option-A shortcut: subsample by 2, zero-pad the channels on both sides."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.padding = stride, (outputs - inputs) // 2

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.bn2(self.conv2(relu(self.bn1(self.conv1(images)))))
        short = images[:, :, :: self.stride, :: self.stride]
        return relu(hidden + pad(short, (0, 0, 0, 0, self.padding, self.padding)))


class ResNet20(nn.Module):
    """CIFAR images [N, 3, 32, 32], normalised, to logits; the weights of cifar10/resnet20.th."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(Block(16, 16, 1), Block(16, 16, 1), Block(16, 16, 1))
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
        self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
        self.linear = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = relu(self.bn1(self.conv1(images)))
        hidden = self.layer3(self.layer2(self.layer1(hidden)))
        return self.linear(hidden.mean(dim=(2, 3)))


def seeded(build: type[nn.Module], seed: int = 0, **arguments: int) -> nn.Module:
    """A network with weights that depend on the seed alone, in eval mode; other draws are not disturbed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(**arguments).eval()
