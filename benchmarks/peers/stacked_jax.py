"""Members in JAX: an epoch is one compiled `lax.scan` over batches, `vmap`ped over members, which keeps its buffers.

python benchmarks/peers/stacked_jax.py DATA.npz MEMBERS
"""

from __future__ import annotations

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
from turns import take

HIDDEN, BATCH, RATE = (64, 64, 64), 100, 3e-3
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-7


def initial(key, sizes):
    keys, gains = jax.random.split(key, len(sizes) - 1), [2] * (len(sizes) - 2) + [1]  # as ours
    return [
        (jax.random.normal(k, (a, b)) * np.sqrt(gain / a), jnp.zeros(b))
        for k, gain, a, b in zip(keys, gains, sizes, sizes[1:], strict=False)
    ]


def forward(weights, x):
    for kernel, bias in weights[:-1]:
        x = jax.nn.relu(x @ kernel + bias)
    return x @ weights[-1][0] + weights[-1][1]


def loss(weights, x, y):
    log_probs = jax.nn.log_softmax(forward(weights, x))
    return -jnp.mean(jnp.take_along_axis(log_probs, y[:, None], axis=1))


def step(state, batch):
    weights, first, second, count = state
    gradient = jax.grad(loss)(weights, *batch)
    count = count + 1
    first = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, first, gradient)
    second = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, second, gradient)
    rate = RATE * jnp.sqrt(1 - BETA2**count) / (1 - BETA1**count)
    weights = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) + EPSILON), weights, first, second)
    return (weights, first, second, count), None


def main(path: str, num: int) -> None:
    data = {name: jnp.asarray(values) for name, values in np.load(path).items()}
    x, y = data["x_train"], data["y_train"]
    steps = len(x) // BATCH
    sizes = [x.shape[1], *HIDDEN, int(y.max()) + 1]

    @functools.partial(jax.jit, donate_argnums=0)
    def epoch(states, key):
        def one(state, own):
            rows = jax.random.permutation(own, len(x))[: steps * BATCH].reshape(steps, BATCH)
            return jax.lax.scan(step, state, (x[rows], y[rows]))[0]

        return jax.vmap(one)(states, jax.random.split(key, num))

    weights = jax.vmap(lambda key: initial(key, sizes))(jax.random.split(jax.random.key(0), num))
    states = (weights, jax.tree.map(jnp.zeros_like, weights), jax.tree.map(jnp.zeros_like, weights), jnp.zeros(num))
    done = 0

    def epochs(number: int) -> None:
        nonlocal states, done
        for _ in range(number):
            states, done = epoch(states, jax.random.key(done)), done + 1
        jax.block_until_ready(states)

    def error() -> float:
        logits = jax.vmap(lambda own: forward(own, data["x_val"]))(states[0])
        return float((logits.argmax(-1) != data["y_val"]).mean())

    take(epochs, error, f"jax {jax.__version__}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
