"""Merging: against a slow and plain version of itself, on what it must find exactly, and as start and method."""

import math

import numpy as np
import pytest
import torch
from nmf_problems import random_matrix, relative_errors
from sklearn.datasets import load_digits

from diffnmf.errors import ConvergenceWarning
from diffnmf.factorization import Merge, factorize, initialize, merge
from diffnmf.factorization.gram_merging import merge_gram


def by_hand(Y: np.ndarray, k: int) -> list[tuple[list[int], np.ndarray]]:
    """Agglomerative merging by SVDs of pairs: the members of each component, and its unit direction."""
    parts = [([j], Y[:, j].copy()) for j in range(Y.shape[1])]
    while len(parts) > k:
        losses = {
            (a, b): np.linalg.svd(np.stack([parts[a][1], parts[b][1]], 1), compute_uv=False)[1]
            for a in range(len(parts))
            for b in range(a + 1, len(parts))
        }
        a, b = min(losses, key=losses.__getitem__)
        U, s, _ = np.linalg.svd(np.stack([parts[a][1], parts[b][1]], 1), full_matrices=False)
        parts[a] = (parts[a][0] + parts[b][0], s[0] * np.abs(U[:, 0]))
        del parts[b]
    return [(sorted(members), g / np.linalg.norm(g)) for members, g in parts]


@pytest.mark.parametrize("k", [1, 3, 7, 11, 12])
def test_it_merges_what_loses_least(k):
    Y = random_matrix(3, 9, 12, seed=k)
    A = merge_gram(Y.mT @ Y, k)
    for y, a in zip(Y, A, strict=True):
        expected = by_hand(y.numpy(), k)
        found = [sorted(row.nonzero().squeeze(1).tolist()) for row in a]
        assert found == [members for members, _ in expected]
        directions = torch.from_numpy(np.stack([direction for _, direction in expected], 1))
        torch.testing.assert_close(y @ a.T, directions, rtol=1e-9, atol=1e-11)


def test_columns_of_few_directions_are_found_exactly():
    generator = torch.Generator().manual_seed(0)
    parts = torch.rand(2, 30, 4, generator=generator, dtype=torch.float64)
    lengths = torch.rand(2, 1, 20, generator=generator, dtype=torch.float64) + 0.1
    Y = parts[..., torch.arange(20) % 4] * lengths
    H, W = merge(Y, 4)
    assert relative_errors(Y, H, W).max() < 1e-7
    assert ((W > 1e-9).sum(1) == 1).all()


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (12, 12)])
@pytest.mark.parametrize("k", [1, 5, 12])
def test_the_side_with_enough_members_is_merged(shape, k):
    Y = random_matrix(2, *shape)
    H, W = merge(Y, k)
    assert H.shape == (2, shape[0], k)
    assert W.shape == (2, k, shape[1])
    assert (H >= 0).all()
    assert (W >= 0).all()
    mean = Y.mean((1, 2), keepdim=True).expand_as(Y)
    assert (relative_errors(Y, H, W) < torch.linalg.matrix_norm(Y - mean) / torch.linalg.matrix_norm(Y)).all()


def test_more_components_than_the_smaller_side():
    Y = random_matrix(2, 30, 8)
    H, W = merge(Y, 20)
    assert relative_errors(Y, H, W).max() < 0.1


def test_as_many_components_as_members_are_exact():
    Y = random_matrix(2, 30, 8)
    H, W = merge(Y, 8, steps=0)
    assert relative_errors(Y, H, W).max() < 1e-5


def test_nothing_to_merge_is_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match=r"k: expected at most max\(n, m\) = 12.*got 13.*random"):
        merge(random_matrix(1, 12, 5), 13)
    with pytest.raises(ValueError, match="k: expected"):
        factorize(random_matrix(1, 12, 5), 13, init="merge")


@pytest.mark.parametrize("options", [{"steps": -1}, {"sweeps": 0}])
def test_numbers_of_steps_that_are_none_are_named(options):
    for call in (lambda **given: merge(random_matrix(1, 12, 5), 2, **given), Merge):
        with pytest.raises(ValueError, match=f"{next(iter(options))}: expected an int ≥"):
            call(**options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_and_duplicate_columns(dtype):
    Y = random_matrix(3, 20, 10, dtype=dtype)
    Y[0] = 0
    Y[1, :, 3:] = 0
    Y[2, :, 5:] = Y[2, :, :5]
    H, W = merge(Y, 5)
    assert H.isfinite().all()
    assert W.isfinite().all()
    assert (H[0] @ W[0] == 0).all()
    assert relative_errors(Y[1:], H[1:], W[1:]).max() < 1e-3


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_it_does_not_depend_on_the_scale_of_Y(scale):
    Y = random_matrix(2, 20, 10)
    plain, scaled = (factorize(x, 4, method="merge") for x in (Y, Y * scale))
    torch.testing.assert_close(scaled.errors, plain.errors, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("dtype", "power"), [(torch.float64, 660), (torch.float32, 80)])
@pytest.mark.parametrize("wide", [False, True])
def test_the_function_itself_squares_nothing_that_leaves_the_range(dtype, power, wide):
    Y = random_matrix(3, 20, 10).to(dtype)
    Y = Y.mT if wide else Y
    scales = torch.tensor([2.0**-power, 1.0, 2.0**power], dtype=torch.float64).to(dtype)[:, None, None]
    H, W = merge(Y, 4)
    H_scaled, W_scaled = merge(Y * scales, 4)
    assert torch.equal(H_scaled, H * scales if wide else H)  # what is not merged has the size of Y
    assert torch.equal(W_scaled, W if wide else W * scales)


def test_a_problem_does_not_depend_on_its_neighbours():
    Y = random_matrix(5, 30, 14)
    H, W = merge(Y, 6)
    for number in range(5):
        alone = merge(Y[number : number + 1], 6)
        torch.testing.assert_close(alone[0][0], H[number], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone[1][0], W[number], rtol=1e-4, atol=1e-5)


def test_pieces_of_a_batch_make_no_difference(monkeypatch):
    Y = random_matrix(7, 30, 14)
    whole = merge(Y, 6)
    monkeypatch.setattr("diffnmf.factorization.merging.ENTRIES", 2 * 3 * 14 * 14)
    for one, other in zip(merge(Y, 6), whole, strict=True):
        torch.testing.assert_close(one, other)


def test_steps_in_gram_space_lower_the_error_of_bare_merging():
    Y = random_matrix(20, 60, 30, rank=8)
    errors = [relative_errors(Y, *merge(Y, 6, steps=steps)).mean() for steps in (0, 1, 4)]
    assert errors[0] > errors[1] > errors[2]


def test_of_many_columns_a_sample_is_merged(monkeypatch):
    images = torch.from_numpy(load_digits().data[:300]).T[None] / 16
    Y = torch.cat((images, images.flip(2)), dim=1).repeat(1, 3, 1)  # (1, 384, 300)
    at_once = relative_errors(Y, *merge(Y, 10)).item()
    monkeypatch.setattr("diffnmf.factorization.merging.DIRECT", 100)
    assert at_once < relative_errors(Y, *merge(Y, 10)).item() < 1.1 * at_once


class TestAsStartAndMethod:
    def test_the_method_is_the_start_without_rounds(self):
        Y = random_matrix(3, 30, 14)
        factors = factorize(Y, 5, method="merge")
        H, W = initialize(Y, 5, "merge")
        torch.testing.assert_close(factors.H, H)
        torch.testing.assert_close(factors.W, W)
        torch.testing.assert_close(factors.errors[-1], relative_errors(Y, H, W).double(), rtol=1e-4, atol=1e-6)
        assert factors.converged.all()
        assert (factors.iterations == 1).all()

    def test_rounds_go_on_from_it(self):
        Y = random_matrix(3, 30, 14)
        start = factorize(Y, 5, method="merge").errors[-1]
        factors = factorize(Y, 5, init="merge", max_iter=5, tol=0.0)
        torch.testing.assert_close(factors.errors[0], start, rtol=1e-5, atol=1e-7)
        assert (factors.errors[-1] < start).all()

    def test_options(self):
        Y = random_matrix(2, 30, 14)
        bare = factorize(Y, 5, method=Merge(steps=0))
        assert (bare.errors[-1] >= factorize(Y, 5, method=Merge()).errors[-1]).all()
        with pytest.raises(ValueError, match="sweeps"):
            Merge(sweeps=0)
        with pytest.raises(TypeError, match="steps"):
            Merge(steps=1.5)

    def test_penalties(self):
        Y = random_matrix(2, 30, 14)
        with pytest.raises(ValueError, match="l1_H, ridge_H"):
            factorize(Y, 5, method="merge", l1_H=0.1)
        plain, sparse = (factorize(Y, 5, method="merge", l1_W=l1) for l1 in (0.0, 2.0))
        assert (sparse.W == 0).sum() > (plain.W == 0).sum()

    def test_a_problem_that_is_not_finite_spoils_no_other(self):
        Y = random_matrix(3, 20, 10)
        alone = factorize(Y[2:], 4, method="merge")
        Y[1, 2, 3] = math.nan
        with pytest.warns(ConvergenceWarning):
            factors = factorize(Y, 4, method="merge")
        assert factors.H[1].isnan().all()
        torch.testing.assert_close(factors.H[2:], alone.H, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision(self, dtype):
        factors = factorize(random_matrix(1, 20, 10, dtype=dtype), 4, init="merge", tol=0.0, max_iter=2)
        assert factors.H.dtype == dtype
        assert factors.H.isfinite().all()


class TestAuto:
    def test_it_is_the_default(self):
        Y = random_matrix(2, 30, 14)
        for one, other in zip(initialize(Y, 5), initialize(Y, 5, "auto"), strict=True):
            assert torch.equal(one, other)

    def test_every_problem_keeps_the_better_start(self):
        """Merging wins on images; it cannot take planted sparse parts apart."""
        images = torch.zeros(1, 200, 150, dtype=torch.float64)
        images[:, :64] = torch.from_numpy(load_digits().data[:150]).T / 16
        Y = torch.cat([images, planted(1, 200, 150)])
        start = factorize(Y, 20, max_iter=0, tol=0.0)
        merged = factorize(Y, 20, init="merge", max_iter=5, tol=0.0)
        torch.testing.assert_close(start.H[0], merged.H[0])
        assert start.errors[0, 1] < 0.8 * merged.errors[-1, 1]

    @pytest.mark.parametrize("scale", [1e-6, 7.0, 1e9])
    def test_it_is_the_same_in_any_units(self, scale):
        Y = torch.cat([random_matrix(1, 60, 40), planted(1, 60, 40)])
        plain, scaled = (factorize(x, 6, max_iter=0, tol=0.0).errors for x in (Y, Y * scale))
        torch.testing.assert_close(scaled, plain, rtol=1e-6, atol=0)

    def test_where_there_is_nothing_to_merge_it_is_random(self):
        Y = random_matrix(2, 6, 5)
        for one, other in zip(initialize(Y, 9, seed=3), initialize(Y, 9, "random", seed=3), strict=True):
            assert torch.equal(one, other)

    def test_multiplicative_updates_begin_at_random(self):
        Y = random_matrix(2, 30, 14)
        one, other = (factorize(Y, 5, method="mu", init=init, max_iter=3, tol=0.0) for init in (None, "random"))
        assert torch.equal(one.H, other.H)

    def test_a_good_start_is_not_asked_for_more_than_a_bad_one(self):
        images = torch.from_numpy(load_digits().data[:240]) / 16
        Y = images.reshape(6, 40, 64).mT
        good, bad = (factorize(Y, 8, init=init, tol=1e-3, max_iter=2000) for init in ("merge", "random"))
        assert good.iterations.sum() < bad.iterations.sum()


def planted(batch: int, n: int, m: int) -> torch.Tensor:
    """Each column a sum of few of 20 sparse parts, with noise: merging whole columns cannot take them apart."""
    generator = torch.Generator().manual_seed(0)

    def sparse(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator) * (torch.rand(shape, generator=generator) > 0.9)

    return (sparse(batch, n, 20) @ sparse(batch, 20, m)).double()


@pytest.mark.usefixtures("compiled")
@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace")  # it says that of each place where it gives up
@pytest.mark.slow
def test_under_torch_compile_the_kernel_reads_memory_that_is_still_there():
    """Where torch.compile gives up and goes on, a tensor that is known by its address alone is freed."""
    Y = random_matrix(1, 64, 40).float()  # the kernel takes a copy in float64, which nothing else holds
    for found, expected in zip(torch.compile(merge, backend="eager")(Y, 16), merge(Y, 16), strict=True):
        assert torch.equal(found, expected)
