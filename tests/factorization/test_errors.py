"""Bad arguments: the message names the argument, what was expected, what came."""

import math

import pytest
import torch

from diffnmf.errors import ConvergenceWarning
from diffnmf.factorization import ANLS, HALS, factorize, initialize

Y = torch.rand(2, 6, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((Y.numpy(), 2), {}, TypeError, r"Y: expected a torch.Tensor; got ndarray"),
        ((Y.long(), 2), {}, TypeError, r"Y: expected a real floating-point dtype; got torch.int64"),
        ((Y.to(torch.complex64), 2), {}, TypeError, r"Y: expected a real floating-point dtype; got torch.complex64"),
        ((Y[0, 0], 2), {}, ValueError, r"Y: expected a matrix .* at least 2 dimensions; got \(5,\)"),
        ((Y[0, :, 0], 2), {}, ValueError, r"Y: .*got \(6,\) \(Y\.unsqueeze\(-1\) is a matrix of one column\)"),
        ((Y[:, :0], 2), {}, ValueError, r"Y: expected at least one row and one column; got \(2, 0, 5\)"),
        ((Y[0, :, :0], 2), {}, ValueError, r"Y: expected at least one row and one column; got \(6, 0\)"),
        ((Y[:0, :, :0], 2), {}, ValueError, r"Y: expected at least one row and one column; got \(0, 6, 0\)"),
        (
            (Y.to_sparse(), 2),
            {},
            TypeError,
            r"Y: expected a dense tensor, or a matrix of layout .*sparse_csr; .*sparse_coo \(use Y.to_sparse_csr\(\)",
        ),
        ((Y, 2), {"H0": torch.rand(6, 2).to_sparse()}, TypeError, r"H0: expected a dense tensor"),
        ((Y - 0.5, 2), {}, ValueError, r"Y: expected entries ≥ 0; got -0.\d+ \(clip with .clamp\(min=0\)\)"),
        ((Y, 0), {}, ValueError, r"k: expected an int ≥ 1; got 0"),
        ((Y, 2.0), {}, TypeError, r"k: expected an int ≥ 1; got 2.0"),
        (
            (Y, 2),
            {"method": "svd"},
            ValueError,
            r"method: expected one of anls, .*published_hals, spa, unit_columns; got 'svd'",
        ),
        ((Y, 2), {"method": HALS}, TypeError, r"method: expected a name .* or a method instance"),
        ((Y, 2), {"init": "zeros"}, ValueError, r"init: expected one of auto, .*; got 'zeros'"),
        ((Y, 2), {"init": 3}, TypeError, r"init: expected one of auto, .*; got 3"),
        ((Y, 6), {"init": "spa"}, ValueError, r"k: expected at most m = 5"),
        ((Y, 6), {"method": "spa"}, ValueError, r"k: expected at most m = 5"),
        ((Y, 2), {"tol": -1.0}, ValueError, r"tol: expected a finite number ≥ 0; got -1.0"),
        ((Y, 2), {"tol": None}, TypeError, r"tol: expected a finite number ≥ 0; got None"),
        ((Y, 2), {"max_iter": -1}, ValueError, r"max_iter: expected an int ≥ 0; got -1"),
        ((Y, 2), {"max_iter": 5.0}, TypeError, r"max_iter: expected an int"),
        ((Y, 2), {"seed": -1}, ValueError, r"seed: expected an int ≥ 0; got -1"),
        ((Y, 2), {"l1_H": -0.5}, ValueError, r"l1_H: expected a finite number ≥ 0; got -0.5"),
        ((Y, 2), {"l1_W": float("nan")}, ValueError, r"l1_W: expected a finite number"),
        ((Y, 2), {"ridge_H": "much"}, TypeError, r"ridge_H: expected a finite number ≥ 0; got 'much'"),
        ((Y, 2), {"ridge_W": True}, TypeError, r"ridge_W: expected a finite number ≥ 0; got True"),
        ((Y, 2), {"H0": torch.rand(5, 2)}, ValueError, r"H0: .* broadcasts to \(2, 6, 2\); got \(5, 2\)"),
        ((Y, 2), {"W0": torch.rand(3, 2, 5)}, ValueError, r"W0: .* broadcasts to \(2, 2, 5\); got \(3, 2, 5\)"),
        ((Y, 2), {"W0": -torch.rand(2, 5)}, ValueError, r"W0: expected entries ≥ 0; got -"),
        ((Y, 2), {"H0": torch.ones(6, 2, dtype=torch.int64)}, TypeError, r"H0: expected a real floating-point dtype"),
        ((Y, 2), {"H0": torch.rand(6, 2, device="meta")}, ValueError, r"H0: expected the device of Y, cpu; got meta"),
        ((Y, 2), {"callback": 3}, TypeError, r"callback: expected a function of \(iteration, H, W\); got 3"),
        ((Y, 2), {"method": "spa", "W0": torch.rand(2, 5)}, ValueError, r"H0, W0: expected none for method SPA"),
        ((Y, 2), {"method": "spa", "l1_H": 1.0}, ValueError, r'l1_H, ridge_H: expected 0 for method "spa"'),
        (
            (Y, 2),
            {"method": "published_hals", "l1_H": 1.0},
            ValueError,
            r"l1_H, ridge_H, ridge_W: expected 0 for .*unit norm",
        ),
        ((Y, 2), {"method": "published_hals", "ridge_W": 1.0}, ValueError, r"use l1_W, or method \"hals\""),
        ((Y, 2), {"sweeps": 3}, TypeError, r"unexpected keyword argument 'sweeps'"),
    ],
)
def test_bad_argument(arguments, options, error, message):
    with pytest.raises(error, match=message):
        factorize(*arguments, **options)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: HALS(sweeps=0), ValueError, "sweeps: expected an int ≥ 1; got 0"),
        (lambda: HALS(extrapolate=1), TypeError, "extrapolate: expected True or False; got 1"),
        (lambda: HALS(revive="yes"), TypeError, "revive: expected True or False; got 'yes'"),
        (lambda: ANLS(steps=-1), ValueError, "steps: expected an int ≥ 0; got -1"),
        (lambda: ANLS(tol=1e-3), TypeError, "unexpected keyword argument 'tol'"),
    ],
)
def test_options_are_checked_when_a_method_is_made(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_initialize_checks_as_factorize_does():
    with pytest.raises(ValueError, match="init: expected one of"):
        initialize(Y, 2, "zeros")
    with pytest.raises(ValueError, match="Y: expected entries ≥ 0"):
        initialize(-Y, 2)
    with pytest.raises(ValueError, match="Y: expected at least one row"):
        initialize(Y[:, :0], 2)


class TestNotFinite:
    """The warning says what the matter is: no number of iterations helps against NaN."""

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_all_of_them(self, bad):
        with pytest.warns(ConvergenceWarning) as caught:
            factorize(torch.full((6, 5), bad), 2)
        assert len(caught) == 1
        message = str(caught[0].message)
        assert "1 of 1 problems hold NaN or infinity" in message
        assert "remove or replace" in message
        assert "not converged" not in message
        assert "max_iter" not in message

    def test_some_of_them(self):
        broken = torch.stack([Y[0], Y[1], Y[0]])
        broken[1, 2, 3] = math.nan
        with pytest.warns(ConvergenceWarning, match="1 of 3 problems hold NaN.*2 of 3 problems .*2 iterations"):
            factorize(broken, 2, tol=1e-9, max_iter=2)

    def test_of_a_given_factor(self):
        W0 = torch.rand(2, 2, 5)
        W0[1] = math.nan
        with pytest.warns(ConvergenceWarning, match="1 of 2 problems hold NaN or infinity in Y, H0 or W0"):
            factorize(Y, 2, W0=W0)

    def test_none_of_them(self):
        with pytest.warns(ConvergenceWarning) as caught:
            factorize(Y, 2, tol=1e-9, max_iter=2)
        assert "NaN" not in str(caught[0].message)
