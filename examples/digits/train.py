"""Trains the digit classifier on scikit-learn's 8x8 digits and exports it: `python examples/digits/train.py`.

Needs the `export` extra and pillow. Writes digits.onnx and, from the pictures held back for testing, one PNG per digit.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

FOLDER = Path(__file__).parent
EPOCHS = 60
BATCH = 64
# Pictures are enlarged by this factor, so that a person can see them.
ENLARGED = 8


def network() -> nn.Module:
    """f32[n, 1, 8, 8], ink from 0 to 1 -> f32[n, 10] probabilities."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 2 * 2, 10),
        nn.Softmax(dim=1),
    )


def train(model: nn.Module, pictures: torch.Tensor, labels: torch.Tensor) -> None:
    """Minimises the cross entropy over `EPOCHS` passes, in place."""
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-4)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(pictures)).split(BATCH):
            loss = nn.functional.nll_loss(torch.log(model(pictures[batch]) + 1e-9), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


def accuracy(model: nn.Module, pictures: torch.Tensor, labels: torch.Tensor) -> float:
    with torch.no_grad():
        return float((model(pictures).argmax(1) == labels).float().mean())


def export(model: nn.Module, path: Path) -> None:
    """Writes the model to `path`, its batch dynamic."""
    torch.onnx.export(
        model,
        (torch.zeros(2, 1, 8, 8),),
        path,
        dynamo=False,
        input_names=["pictures"],
        output_names=["probabilities"],
        dynamic_axes={"pictures": {0: "batch"}, "probabilities": {0: "batch"}},
    )


def save_pictures(pictures: np.ndarray, labels: np.ndarray, folder: Path) -> None:
    """Writes the first picture of each digit as dark ink on white, enlarged."""
    folder.mkdir(exist_ok=True)
    for digit in range(10):
        ink = pictures[int(np.argmax(labels == digit)), 0]
        grey = np.round(255 * (1 - ink)).astype(np.uint8)
        image = Image.fromarray(grey.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1))
        image.save(folder / f"{digit}.png", optimize=True)


def main() -> None:
    torch.manual_seed(0)
    digits = load_digits()
    pictures = (digits.images / 16).astype(np.float32)[:, None]
    train_x, test_x, train_y, test_y = train_test_split(
        pictures, digits.target, test_size=0.2, random_state=0, stratify=digits.target
    )
    model = network()
    train(model, torch.from_numpy(train_x), torch.from_numpy(train_y))
    model.eval()
    correct = accuracy(model, torch.from_numpy(test_x), torch.from_numpy(test_y))
    print(f"accuracy on {len(test_x)} pictures held back: {correct:.1%}")
    export(model, FOLDER / "digits.onnx")
    save_pictures(test_x, test_y, FOLDER / "pictures")


if __name__ == "__main__":
    main()
