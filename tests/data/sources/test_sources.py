from __future__ import annotations

import pytest

from end2_tf.data import sources
from end2_tf.errors import ConfigError


def find(name="spirals", field="data", path=None, **options):
    return sources.find(name, field=field, options=options, path=path)


def test_defaults_are_filled_in():
    reader = find(noise=0.25)
    assert reader.options["noise"] == 0.25
    assert reader.options["num_test_per_class"] == 10000
    assert str(reader) == "data 'spirals'"


def test_every_name_but_a_file_goes_to_tfds():
    assert find("cifar10").module.__name__.endswith(".tfds")
    assert find("ring").module.__name__.endswith(".ring")


def test_misspelt_option_names_the_nearest():
    with pytest.raises(ConfigError, match=r"data\.options is 'nois', .*Did you mean 'noise'\?"):
        find(nois=0.3)


@pytest.mark.parametrize("name", ["seed", "name", "data_dir"])
def test_context_is_no_option(name):
    with pytest.raises(ConfigError, match=f"data.options is '{name}'"):
        sources.find("own_data", field="data", options={name: 1}, path="x.npz")


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("noise", -1, "greater than or equal to 0"),
        ("noise", "much", "a valid number"),
        ("noise", float("nan"), "a finite number"),
        ("num_per_class", 0, "greater than or equal to 1"),
        ("num_per_class", 1.5, "a valid integer"),
    ],
)
def test_wrong_values_name_field_value_and_range(option, value, allowed):
    with pytest.raises(ConfigError, match=rf"data\.ood\.far\.options\.{option} is {value!r}\. Allowed: {allowed}"):
        find(field="data.ood.far", **{option: value})


def test_path_for_a_source_without():
    with pytest.raises(
        ConfigError, match=r"data\.path is 'x\.npz', but the source 'spirals' reads no path\. Set data\.name=own_data"
    ):
        find(path="x.npz")


def test_path_may_be_an_option():
    reader = sources.find("own_data", field="data.auxiliary", options={"path": "x.npz"})
    assert reader.path == "x.npz"
    assert "path" not in reader.options
    with pytest.raises(ConfigError, match=r"data\.auxiliary\.options\.path is 3"):
        sources.find("own_data", field="data.auxiliary", options={"path": 3})
