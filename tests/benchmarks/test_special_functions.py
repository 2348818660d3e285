"""Bounds on the errors that the script measures, over concentrations from 1e-8 to 1e8 and their cancellations."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from end2_tf import dirichlet

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "special_functions.py"
spec = importlib.util.spec_from_file_location("special_functions", SCRIPT)
special_functions = importlib.util.module_from_spec(spec)
spec.loader.exec_module(special_functions)
FAMILIES = special_functions.families(rows=4)

# Float64's and float32's. Near its zero at infinity w is a small difference of logarithms, so are u's slopes; both are
# added to larger terms where they are used.
BOUND = {"float64": 5e-14, "float32": 1e-5}
WIDER = {
    ("total uncertainty, served", "float32"): 1e-7,
    ("knowledge uncertainty, served", "float32"): 1e-7,
    ("w, from log-gamma", "float64"): 2e-13,
    ("w, from log-gamma", "float32"): 5e-5,
    ("slope of u, from trigamma", "float64"): 2e-12,
    ("slope of u, from trigamma", "float32"): 2e-5,
    # A divergence of 1e-7 nats, of terms near 1: 1e-15 absolutely.
    ("KL, 1e-3 apart", "float64"): 5e-8,
    ("KL, 1e-3 apart", "float32"): np.inf,
    ("proxy losses, 1e-3 apart", "float64"): 5e-8,
    ("precision matched to knowledge", "float64"): 5e-12,
    ("its gradient ±", "float64"): 1e-12,
}
CASES = [(name, dtype) for name, quantity in special_functions.QUANTITIES.items() for dtype in quantity.dtypes]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_errors_are_within_their_bounds(name, dtype):
    for family, concentrations in FAMILIES.items():
        errors = special_functions.errors(special_functions.QUANTITIES[name], concentrations, dtype)
        assert errors.max() <= WIDER.get((name, dtype), BOUND[dtype]), family


def test_an_error_is_seen():
    """A thousandth too much."""
    quantity = special_functions.QUANTITIES["knowledge uncertainty"]
    wrong = quantity._replace(compute=lambda a: dirichlet.mutual_information(a) * np.float32(1.001))
    assert special_functions.errors(wrong, FAMILIES["ties"], "float32").max() == pytest.approx(1e-3, rel=0.01)
