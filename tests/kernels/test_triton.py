"""The kernels in Triton without a GPU: what they find, and what they need of a GPU.

They run in Triton's interpreter; and compiled for a GPU, in a machine that executes what they are compiled to.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
NAMES = ("float64", "one of each", "k > n", "k = 40", "rank-deficient", "duplicates", "zero columns", "not finite")
NAMES += ("strided", "tiny", "out of range", "ridge and l1", "ridge and l1 a problem", "allowed")
NAMES += ("solver bpp", "solver hals")

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton"),
    pytest.mark.slow,  # a minute of one core
]


def output_of(program: str, *arguments: str) -> dict[str, dict]:
    """What a program of this folder prints: Triton decides once in a process whether it compiles or interprets."""
    path = os.pathsep.join([str(HERE.parent), str(HERE.parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    run = subprocess.run(
        [sys.executable, HERE / f"{program}.py", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def executed():
    return output_of("executed_programs", "90")


@pytest.fixture(scope="module", params=["interpreted", "executed"])
def found(request):
    return request.getfixturevalue("executed") if request.param == "executed" else output_of("interpreted_programs")


def test_what_they_are_compiled_to_has_no_races_and_stays_in_its_memory(executed):
    assert executed["faults"] == {}


@pytest.mark.parametrize("name", NAMES)
def test_the_same_as_torch(found, name):
    row = found[name]
    assert row["W"] <= 1e-13
    assert max(row["grad H"], row["grad Y"]) <= 1e-12
    assert row["NaN where they are"]
    assert row.get("KKT", 0.0) <= 1e-12


@pytest.mark.parametrize(("name", "residual"), [("float32", 1e-6), ("bfloat16", 1e-2)])
def test_lower_precision(found, name, residual):
    row = found[name]
    eps = torch.finfo(getattr(torch, name)).eps
    assert max(row["W"], row["grad H"], row["grad Y"]) <= 4 * eps
    assert row["KKT"] <= residual


def test_ill_conditioned_columns_are_marked_and_go_the_way_of_torch(found):
    row = found["condition 1e5"]
    assert row["codes"] == [1]
    assert row["W"] <= 1e-12
    assert row["KKT"] <= 1e-12
    assert max(row["grad H"], row["grad Y"]) <= 1e-9


def test_what_is_easy_is_not_marked(found):
    for name in ("float64", "float32", "k > n", "k = 40", "zero columns", "ridge and l1", "allowed"):
        assert found[name]["codes"] == [0], name


def test_places_in_memory_beyond_32_bits(found):
    assert found["far apart"]["off by"] <= 1e-13


def test_attempts_succeed_where_the_programs_run(found):
    assert len(found["attempts"]) == 9
    assert all(found["attempts"].values())


def test_what_is_out_of_range_is_said(found):
    assert 2 in found["not finite"]["codes"]
    assert 2 in found["out of range"]["codes"]


CONSTRAINTS = ["sum", "sum at most", "upper", "signed", "sum, upper", "sum, signed", "sum at most, upper, signed"]
CONSTRAINTS += ["sum, allowed", "sum, l1, ridge"]


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_constraints_are_walked_to_the_end_and_the_same_as_torch(found, name):
    row = found[name]
    assert row["ended"] == row["columns"] == 8
    assert row["W"] <= 1e-13
    assert max(row["grad H"], row["grad Y"]) <= 1e-12


def test_a_sum_out_of_reach_and_one_that_leaves_a_single_point(found):
    row = found["reach"]
    assert row == {"W": 0.0, "binds": True, "solved": True, "columns": 4}


def test_a_warm_start_changes_nothing(found):
    assert max(found["warm start"].values()) <= 1e-12


def test_the_search_on_a_form_and_other_systems(found):
    row = found["form and systems"]
    assert row["solved"]
    assert max(row["W"], row["systems"]) <= 1e-12


SWEEPS = ["sweeps", "sweeps, no extrapolation", "sweeps, k = 70", "sweeps, one of each", "sweeps, strided"]


@pytest.mark.parametrize(("name", "bound"), [*((name, 1e-14) for name in SWEEPS), ("sweeps, float32", 4e-6)])
def test_sweeps_of_hals_in_one_launch_are_those_of_torch(found, name, bound):
    row = found[name]
    assert row["launches"] == 1
    assert row["X"] <= bound
    assert row["zeros"]


@pytest.mark.parametrize(
    ("name", "bound", "launches"),
    [
        ("factorize, float64", 1e-12, 10),
        ("factorize, float32", 1e-4, 10),
        ("factorize, hoyer", 1e-12, 5),
    ],
)
def test_a_factorization_goes_through_them(found, name, bound, launches):
    row = found[name]
    assert row["launches"] >= launches
    assert row["factors"] <= bound


def test_compiles_for_hopper_without_spills():
    assert_no_spills(output_of("compiled_programs", "90", "30"))


@pytest.mark.parametrize("capability", ["80", "89", "90"])
def test_compiles_without_spills(capability):
    assert_no_spills(output_of("compiled_programs", capability))


def assert_no_spills(rows):
    assert len(rows) >= 15
    assert {name: row for name, row in rows.items() if row["spilled bytes"]} == {}
