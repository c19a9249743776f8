"""What every path launches and waits for on an accelerator, on a simulated one: upper bounds, and no mixed devices.

A bound is the count when it was written; what needs more has become slower. Of kernels it leaves one in twenty, since
versions of torch make the same operation of different parts.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("simulated_paths.py")
SLACK = 1.05
# Path -> kernels, waits, uploads. tests/simulated_paths.py NAME --lines says where they come from.
BOUNDS: dict[str, tuple[int, int, int]] = {
    "layer forward, Triton, float32": (12, 1, 0),
    "layer backward, Triton, float32": (7, 0, 0),
    "layer forward, Triton, float64": (10, 1, 0),
    "layer backward, Triton, float64": (23, 0, 0),
    "nnls with diagnostics": (787, 4, 0),
    "layer with penalties and a warm start": (515, 1, 0),
    "layer, hard columns": (2113, 31, 0),
    "iteration, hals, k = 30": (357, 1, 0),
    "iteration, hals, k = 30, Triton": (39, 1, 0),
    "metrics": (108, 0, 0),
    "GANUNMF.factorize, refined": (918, 8, 1),
    "scoring": (661, 8, 0),
    "ahead of 128 groups: PCA and starts by merging": (12, 3, 4),
    "layer on a device without float64": (8, 3, 3),
    "factorize on a device without float64": (0, 0, 0),
    "the simulation itself": (5, 2, 1),
    "groups": (1, 0, 0),
    "layer forward, unrolled, float32": (498, 1, 0),
    "layer backward, unrolled, float32": (34, 0, 0),
    "layer forward, unrolled, float64": (524, 1, 0),
    "layer backward, unrolled, float64": (49, 0, 0),
    "layer forward, bpp, float32": (305, 1, 0),
    "layer backward, bpp, float32": (34, 0, 0),
    "layer forward, bpp, float64": (331, 1, 0),
    "layer backward, bpp, float64": (49, 0, 0),
    "layer forward, hals, float32": (527, 1, 0),
    "layer backward, hals, float32": (34, 0, 0),
    "layer forward, hals, float64": (553, 1, 0),
    "layer backward, hals, float64": (49, 0, 0),
    "layer forward, ls_hals, float32": (212, 0, 0),
    "layer backward, ls_hals, float32": (317, 0, 0),
    "layer forward, ls_hals, float64": (199, 0, 0),
    "layer backward, ls_hals, float64": (314, 0, 0),
    "factorize, anls": (18605, 51, 0),
    "factorize, mu": (861, 9, 2),
    "factorize, hals": (5393, 12, 0),
    "factorize, unit_columns": (5721, 11, 0),
    "factorize, published_hals": (4227, 10, 0),
    "factorize, shuffled, one of two has converged": (709, 14, 8),
    "factorize, merge": (725, 4, 0),
    "factorize, spa": (689, 5, 0),
    "start, auto": (2378, 8, 0),
    "start, merge": (771, 7, 0),
    "start, random": (121, 7, 2),
    "start, uniform": (118, 7, 2),
    "start, nndsvd": (164, 8, 0),
    "start, nndsvda": (171, 8, 0),
    "start, nndsvdar": (179, 8, 2),
    "start, spa": (735, 8, 0),
    "generator, unrolled": (530, 1, 0),
    "training step, unrolled": (760, 1, 0),
    "generator, fc": (44, 0, 1),
    "training step, fc": (272, 0, 0),
    "generator, mixture": (540, 1, 0),
    "training step, mixture": (791, 1, 0),
    "generator, merge": (571, 3, 2),
    "training step, merge": (823, 1, 0),
    "generator, spa": (571, 3, 2),
    "training step, spa": (823, 1, 0),
}


@pytest.fixture(scope="module")
def paths():
    folder = PROGRAM.parent
    python_path = os.pathsep.join([str(folder), str(folder.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    run = subprocess.run(
        [sys.executable, PROGRAM],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": python_path, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_every_path_has_a_bound(paths):
    assert paths.keys() == BOUNDS.keys()


@pytest.mark.parametrize("name", BOUNDS)
def test_no_more_than(paths, name):
    path = paths[name]
    assert "error" not in path, path["error"]
    kernels, waits, uploads = BOUNDS[name]
    assert path["kernels"] <= SLACK * kernels
    assert path["waits"] <= waits, path["where"]
    assert path["uploads"] <= uploads, path["where"]


def test_the_simulation_sees_what_it_should(paths):
    seen = paths["the simulation itself"]
    assert (seen["kernels"], seen["waits"], seen["uploads"]) == (5, 2, 1)


def test_the_simulation_refuses_mixed_devices():
    program = (
        "import os, torch; from simulated_accelerator import on_device\n"
        "try:\n    on_device(torch.ones(2)) + torch.ones(2)\n"
        "except RuntimeError as error:\n    print(error, flush=True)\nos._exit(0)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROGRAM.parent), str(PROGRAM.parent.parent)])}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, check=False)
    assert "expected all tensors on simulated:0" in run.stdout, run.stderr
