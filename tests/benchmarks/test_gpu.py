from __future__ import annotations

import gpu
import keras
import numpy as np
import pytest
import tensorflow as tf
import timing

from end2_tf import config, registry
from end2_tf.heads._base import PUBLISHED

HAS_GPU = bool(tf.config.list_physical_devices("GPU"))


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line(capsys):
    assert timing.main(gpu.__doc__, gpu.measure, []) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: there is no GPU here, and benchmarks/gpu.py measures one. Allowed without: --quick, a try.\n"


def test_flops_of_vgg16_are_those_of_its_layers():
    sides = {32: [(3, 64), (64, 64)], 16: [(64, 128), (128, 128)], 8: [(128, 256), (256, 256), (256, 256)]}
    sides |= {4: [(256, 512), (512, 512), (512, 512)], 2: [(512, 512)] * 3}
    convolutions = sum(side**2 * 9 * a * b for side, layers in sides.items() for a, b in layers)
    dense = 49 * 512 * 2048 + 2048 * 2048 + 2048 * 10
    # The average pooling at the end is a matrix product too, of almost nothing.
    assert gpu.flops_of({}) == pytest.approx(2 * (convolutions + dense), rel=1e-3)


def test_members_an_hour():
    experiment = registry.experiments()[gpu.EXPERIMENT]
    num, epochs = experiment.data.expected.train, experiment.ensemble.epochs
    assert gpu.members_an_hour(3600 / (epochs * np.ceil(num / 100)), 100, experiment) == pytest.approx(1)


def test_products_keep_their_size_and_count():
    assert 0 < gpu.product(64, "TF32")() < 10
    assert gpu.peak_flops(100, 2.0) == gpu.PRODUCTS * 2 * 100**3 / 2


@pytest.mark.slow
def test_steps_learn_alike_in_each_variant():
    settings = config.Optimizer(learning_rate=1e-3, schedule="constant")
    for mixed in gpu.PRECISIONS.values():
        made = gpu.step({**gpu.NARROW, "dropout": 0.0}, settings, 8, mixed, compiled=False)
        losses = [made() for _ in range(20)]
        assert losses[-1] < losses[0]


@pytest.mark.slow
def test_a_small_students_steps_are_the_loops():
    steps = gpu.student_steps(mixed=False, compiled=False, quick=True)
    first, second = steps(), steps()
    assert first.shape == (gpu.STEPS, 2)
    assert (first[:, 1] == 8).all()  # examples of each step
    assert second[:, 0].sum() < first[:, 0].sum()  # it learns


@pytest.mark.slow
def test_students_answer_alike_with_xla_and_without():
    keras.utils.set_random_seed(0)
    plain = gpu.forward(gpu.NARROW, 4, compiled=False)()
    keras.utils.set_random_seed(0)
    fused = gpu.forward(gpu.NARROW, 4, compiled=True)()
    assert set(plain) == {"probs", "alphas", "logits", *PUBLISHED}
    for name, values in plain.items():
        np.testing.assert_allclose(fused[name], values, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_a_try_has_all_rows(monkeypatch):
    monkeypatch.setattr(gpu, "COMPILED", {"no XLA": False, "XLA": False})  # compiling takes a minute
    rows = {row.what.rsplit(" (", 1)[0]: row for row in gpu.measure(quick=True)}
    for precision in gpu.PRECISIONS:
        for how in gpu.COMPILED:
            assert rows[f"VGG-16 members an hour, {precision}, {how}"].median > 0
            assert rows[f"model FLOPs utilisation, {precision}, {how}"].median > 0
    assert {f"student's latency, batch {size}, XLA" for size in (1, 256)} < set(rows)
    assert rows["a step in TF32 / in bfloat16, no XLA"].unit == "×"
    assert rows["a small student's step, bfloat16, XLA"].median > 0
    assert rows["a small student's step without XLA / with it, TF32"].unit == "×"
    experiment = registry.experiments()[gpu.EXPERIMENT]
    seconds = gpu.members_an_hour(1.0, 8, experiment) / rows["VGG-16 members an hour, TF32, no XLA"].median
    reached = 3 * 8 * gpu.flops_of({**experiment.ensemble.options, **gpu.NARROW}) / seconds
    peak = 1e12 * rows["matrix product, TF32"].median
    assert rows["model FLOPs utilisation, TF32, no XLA"].median == pytest.approx(100 * reached / peak)
