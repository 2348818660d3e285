import pytest

from end2_tf import advice, config, registry


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"transfer.mode": "clean"}, "show it changed ones: --set transfer.mode=views --set transfer.augmentation."),
        ({"transfer.augmentation.jitter": 0}, "show it changed ones: --set transfer.augmentation.jitter"),
        ({}, "change them more"),
        ({"transfer.mode": "clean", "ensemble.predictions": "said.npz"}, "inputs that no member was trained on"),
    ],
)
def test_members_that_agree_too_much_are_told_with_what_to_do(changes, told):
    experiment = config.override(registry.experiments()["spirals_mlp_end2"], changes)
    said = advice.on_transfer_inputs({"transfer": 0.02, "validation": 0.05}, experiment)
    assert "surer than they are" in said
    assert told in said
    assert advice.on_transfer_inputs({"transfer": 0.03, "validation": 0.05}, experiment) is None


def test_members_are_odd_if_there_is_one_or_they_guess():
    assert advice.on_members(5, error=0.1, num_classes=10) == []
    (alone,) = advice.on_members(1, error=0.1, num_classes=10)
    assert "bring more" in alone
    (guessing,) = advice.on_members(5, error=0.5, num_classes=2)
    assert "near chance" in guessing
    assert advice.on_members(5, error=0.5, num_classes=10) == []
