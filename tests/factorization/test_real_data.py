"""The classical rows of the table of the GAN-UNET paper, as DESIGN section 4 reads them, on a few groups."""

import pytest
import torch
from helpers import needs_data, slow

from diffnmf.data import GroupSampler, group_matrix, load_dataset
from diffnmf.factorization import PAPER, factorize
from diffnmf.layers import NNLSLayer
from diffnmf.metrics import column_error

pytestmark = needs_data

K = 30
OURS = {"method": "hals", "init": "random", "max_iter": 100, "tol": 0.0}


def groups(name: str, count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Training and test groups of 40 images in random order, (count, n, 40) each."""
    split = load_dataset(name)
    return tuple(  # type: ignore[return-value]
        group_matrix(images, torch.cat([GroupSampler(images, seed=s).epoch(0) for s in range(count)])[:count])
        for images in (split.train, split.test)
    )


def fitted_and_frozen(Y, Z, preset) -> tuple[float, float]:
    """Eq. (4) of HW on the groups that it was fitted to, and on others that it never saw."""
    result = factorize(Y, K, **preset)
    Y_hat = result.H @ result.W
    return column_error(Y, Y_hat).mean().item(), column_error(Z.to(Y), Y_hat).mean().item()


@pytest.mark.parametrize(
    ("name", "preset", "fitted", "frozen"),
    [
        ("mnist", PAPER["mu"], (1.68, 2.0), (9.4, 10.1)),
        ("mnist", OURS, (1.45, 1.6), (9.5, 10.1)),
        *slow(
            ("fashion", PAPER["mu"], (1.85, 2.1), (10.4, 11.4)),
            ("fashion", OURS, (1.1, 1.27), (10.5, 11.5)),
            ("faces", PAPER["mu"], (2.8, 3.1), (11.5, 12.2)),
            ("faces", OURS, (1.65, 1.9), (11.8, 12.5)),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_fitted_and_frozen(name, preset, fitted, frozen):
    values = fitted_and_frozen(*groups(name), preset)
    for value, (low, high) in zip(values, (fitted, frozen), strict=True):
        assert low < value < high


def test_published_hals_loses_a_third_of_the_components():
    Y, Z = groups("mnist")
    Y = Y.double()
    fitted, frozen = fitted_and_frozen(Y, Z, PAPER["hals"])
    assert 3.1 < fitted < 4.1
    assert 8.8 < frozen < 9.7
    result = factorize(Y, K, **PAPER["hals"])
    dead = (torch.linalg.vector_norm(result.W, dim=-1) < 1e-8).sum(-1).double()
    assert 7 < dead.mean() < 18


def test_anls_and_its_other_protocols():
    Y, Z = groups("mnist", 3)
    preset = {**PAPER["anls"], "max_iter": 50}
    result, again = factorize(Y, K, **preset), factorize(Z, K, **preset)
    assert 1.4 < column_error(Y, result.H @ result.W).mean() < 1.7
    assert 1.4 < column_error(Z, again.H @ again.W).mean() < 1.7
    refit_w = column_error(Z, result.H @ NNLSLayer()(result.H, Z)).mean()
    assert 5.0 < refit_w < 6.0


def test_presets_name_methods_and_iterations():
    assert {name: preset["max_iter"] for name, preset in PAPER.items()} == {"mu": 200, "anls": 100, "hals": 100}
    assert all(preset["init"] == "uniform" and preset["tol"] == 0 for preset in PAPER.values())
