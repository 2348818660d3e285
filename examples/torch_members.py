"""Trains a small ensemble in PyTorch and writes what its members say of an experiment's inputs, for end2_tf.

python torch_members.py --data=runs/digits.npz --inputs=runs/inputs.npz --output=torch_logits.npz

Nothing of end2_tf is used here, nor of TensorFlow: a file of logits is all that has to cross. Needs PyTorch, which
end2_tf doesn't (`pip install torch`). Takes half a minute on one core.
"""

import argparse

import numpy as np
import torch
from torch import nn

NUM_MEMBERS = 8
EPOCHS = 40
BATCH_SIZE = 32


def build() -> nn.Module:
    """Returns an untrained member: images (batch, 1, 8, 8) to logits (batch, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def as_tensor(images: np.ndarray) -> torch.Tensor:
    """Returns images (n, 8, 8) or (n, 8, 8, 1) of 0 to 255, which is what end2_tf writes, as PyTorch wants them."""
    return torch.from_numpy(images.reshape(-1, 1, 8, 8).astype(np.float32) / 255)


def train(images: torch.Tensor, labels: torch.Tensor, seed: int) -> nn.Module:
    """Trains one member on a random half of the examples.

    Half, so that of each training image four of eight members say something that they didn't learn by heart: what they
    disagree about is then seen on the training images too, and those are what the student is shown.
    """
    torch.manual_seed(seed)
    member = build()
    half = torch.randperm(len(images))[: len(images) // 2]
    optimiser = torch.optim.Adam(member.parameters(), lr=1e-3)
    for _ in range(EPOCHS):
        for batch in half[torch.randperm(len(half))].split(BATCH_SIZE):
            loss = nn.functional.cross_entropy(member(images[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return member.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help=".npz with x_train and y_train")
    parser.add_argument("--inputs", required=True, help=".npz that --write_inputs made")
    parser.add_argument("--output", required=True, help=".npz to write: digests and logits")
    flags = parser.parse_args()
    torch.set_num_threads(1)  # networks this small gain nothing from more
    with np.load(flags.data) as data, np.load(flags.inputs) as asked:
        images, labels = as_tensor(data["x_train"]), torch.from_numpy(data["y_train"].astype(np.int64))
        inputs, digests = as_tensor(asked["inputs"]), asked["digests"]
    members = [train(images, labels, seed) for seed in range(NUM_MEMBERS)]
    with torch.no_grad():
        logits = torch.stack([member(inputs) for member in members], dim=1)  # (n, members, classes)
    np.savez_compressed(flags.output, digests=digests, logits=logits.numpy().astype(np.float16))
    print(f"{flags.output}: logits {tuple(logits.shape)}, in the order of {flags.inputs}")


if __name__ == "__main__":
    main()
