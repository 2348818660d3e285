"""Members in PyTorch: `torch.func.vmap` over stacked weights and Adam in its fused form; `compile` compiles the step.

python benchmarks/peers/stacked_torch.py DATA.npz MEMBERS [compile]
"""

from __future__ import annotations

import itertools
import sys

import numpy as np
import torch
from torch.func import functional_call, grad, stack_module_state, vmap
from turns import take

HIDDEN, BATCH, RATE = (64, 64, 64), 100, 3e-3


def network(features: int, classes: int) -> torch.nn.Module:
    sizes = [features, *HIDDEN]
    layers: list[torch.nn.Module] = []
    for inside, outside in itertools.pairwise(sizes):
        layers += [dense(inside, outside, gain=2), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, dense(sizes[-1], classes, gain=1))


def dense(inside: int, outside: int, gain: float) -> torch.nn.Linear:
    """Returns a layer with initial values as ours."""
    layer = torch.nn.Linear(inside, outside)
    torch.nn.init.normal_(layer.weight, std=(gain / inside) ** 0.5)
    torch.nn.init.zeros_(layer.bias)
    return layer


def main(path: str, num: int, compiled: bool) -> None:
    torch.manual_seed(0)
    data = {name: torch.from_numpy(values) for name, values in np.load(path).items()}
    x, y = data["x_train"], data["y_train"]
    classes = int(y.max()) + 1
    stacked, _ = stack_module_state([network(x.shape[1], classes) for _ in range(num)])
    weights = {name: values.detach().clone() for name, values in stacked.items()}
    prototype = network(x.shape[1], classes).to("meta")

    def loss(own, inputs, labels):
        return torch.nn.functional.cross_entropy(functional_call(prototype, own, (inputs,)), labels)

    gradients = vmap(grad(loss))
    if compiled:
        gradients = torch.compile(gradients)
    optimizer = torch.optim.Adam(list(weights.values()), lr=RATE, fused=True)

    def epochs(number: int) -> None:
        for _ in range(number):
            order = torch.argsort(torch.rand(num, len(x)), dim=1)
            inputs, labels = x[order], y[order]
            for start in range(0, len(x), BATCH):
                found = gradients(weights, inputs[:, start : start + BATCH], labels[:, start : start + BATCH])
                for name, values in weights.items():
                    values.grad = found[name]
                optimizer.step()

    def error() -> float:
        with torch.no_grad():
            logits = vmap(lambda own: functional_call(prototype, own, (data["x_val"],)))(weights)
        return float((logits.argmax(-1) != data["y_val"]).float().mean())

    take(epochs, error, f"torch {torch.__version__}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), "compile" in sys.argv[3:])
