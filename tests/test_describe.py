import keras
import pytest

from end2_tf import cli, describe


def _describe(capsys, experiment, *more):
    assert cli.main(["main.py", f"--experiment={experiment}", "--describe", "--data_dir=/nowhere", *more]) == 0
    return capsys.readouterr().out


def test_imagenet_is_planned_without_its_data(capsys):
    said = _describe(capsys, "imagenet_resnet50_end2")
    assert "TFDS set 'imagenet2012' isn't in /nowhere" in said
    assert "member     25,636,712 weights,  7,715,946,496 FLOPs forward an example" in said
    # 10 members and 90 epochs of 1,255,543 images, three forward passes' worth each
    flops = 3 * 7_715_946_496 * 1_255_543 * 90 * 10
    assert f"ensemble 10 members, 90 epochs: {flops:.2e} FLOPs" in said
    assert f"50 TFLOP/s (an H100, of a VGG-16): members {flops / 5e13 / 3600:.0f}" in said
    # three of four students ask ten members as well
    students = (4 * 3 + 3 * 10) * 7_715_946_496 * 1_255_543 * 90
    assert f"students 4 by 4 methods: {students:.2e} FLOPs, members asked online included" in said
    assert "--strategy=mirrored on all GPUs of a machine, or TF_CONFIG on several" in said


def test_members_and_students_cost_what_they_are_shown(capsys):
    said = _describe(
        capsys,
        "imagenet_resnet50_end2",
        *("--set", "ensemble.held_out_fraction=0.25", "--set", "transfer.inputs=held_out"),
        *("--set", "student.methods=single_matched,end2", "--set", "data.shard_rows=none"),
    )
    epoch = 7_715_946_496 * 1_255_543 * 90
    assert f"ensemble 10 members, 90 epochs: {3 * 0.75 * epoch * 10:.2e} FLOPs" in said
    assert f"students 2 by 2 methods: {(3 + 0.25 * (3 + 10)) * epoch:.2e} FLOPs" in said


def test_of_small_networks_flops_say_little(capsys):
    assert "expect minutes" in _describe(capsys, "spirals_mlp_end2", "--smoke")
    assert "expect minutes" not in _describe(capsys, "imagenet_resnet50_end2")


def test_the_papers_hundred_members(capsys):
    said = _describe(capsys, "cifar10_vgg16", "--set=data.ood=svhn_cropped")
    assert "member     70,330,698 weights" in said  # 70,322,250, and the batch norms' moving statistics
    assert "ensemble 100 members, 45 epochs" in said
    # Of a Prior Network's 45 epochs, half as many as the other methods with auxiliary inputs have.
    flops = 3 * 737_583_104 * 45_000 * 3 * (90 * (1 + 1 + 1 + 1 + 2 + 2 + 2) + 45 * 2)
    assert f"students 24 by 8 methods: {flops:.2e} FLOPs" in said
    assert "transfer 95,000 inputs" in said  # 45,000 and the auxiliary 50,000, as they are
    assert "members 28,132.3 MB, transfer set 190.0 MB" in said  # 95,000 × 100 × 10 × 2 bytes
    assert "students 0.1 h the longest: side by side, one a GPU" in said


LAYERS = keras.layers


@pytest.mark.parametrize(
    ("layer", "shape", "multiply_adds"),
    [
        (LAYERS.Dense(5), (7,), 7 * 5),
        (LAYERS.Dense(5), (4, 6, 7), 4 * 6 * 7 * 5),  # once a position
        (LAYERS.Conv2D(5, 3, 2, padding="same"), (8, 6, 2), 4 * 3 * 9 * 2 * 5),
        (LAYERS.Conv2D(6, 3, padding="same", groups=2), (8, 8, 4), 64 * 9 * 2 * 6),
        (LAYERS.Conv3D(5, 3, padding="same"), (4, 4, 4, 2), 64 * 27 * 2 * 5),
        (LAYERS.Conv1D(5, 3, padding="same"), (8, 2), 8 * 3 * 2 * 5),
        (LAYERS.DepthwiseConv2D(3, padding="same", depth_multiplier=2), (8, 8, 4), 64 * 9 * 4 * 2),
        (LAYERS.SeparableConv2D(5, 3, padding="same"), (8, 8, 4), 64 * (9 * 4 + 4 * 5)),
        (LAYERS.Conv2DTranspose(5, 3, 2, padding="same"), (4, 4, 2), 16 * 9 * 2 * 5),
        (LAYERS.EinsumDense("abc,cde->abde", (None, 3, 5)), (6, 7), 6 * 7 * 3 * 5),
        (LAYERS.EinsumDense("...x,xy->...y", 5), (6, 4, 7), 6 * 4 * 7 * 5),
        (LAYERS.BatchNormalization(), (8, 8, 4), 0),
    ],
)
def test_flops_of_a_layer(layer, shape, multiply_adds):
    inputs = keras.Input(shape)
    inner = keras.Model(inputs, layer(inputs))
    outer = keras.Model(inputs, inner(inputs))
    for model in (inner, outer):
        assert describe.forward_flops(model, shape) == 2 * multiply_adds


def test_flops_of_attention_and_of_open_sizes():
    inputs = keras.Input((6, 8))
    attention = keras.Model(inputs, LAYERS.MultiHeadAttention(2, 4)(inputs, inputs))
    projections, products = (
        4 * 6 * 8 * 8,
        2 * 2 * 6 * 6 * 4,
    )  # queries, keys, values, results; Q·K and its sum of values
    assert describe.forward_flops(attention, (6, 8)) == 2 * (projections + products)
    inputs = keras.Input((None, None, 3))
    assert describe.forward_flops(keras.Model(inputs, LAYERS.Conv2D(4, 1)(inputs)), (5, 6, 3)) == 2 * 5 * 6 * 3 * 4
