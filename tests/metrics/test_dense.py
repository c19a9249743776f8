"""Every score says which of its arguments is no dense tensor, instead of failing somewhere inside of torch."""

import pytest
import torch

from diffnmf import metrics

Y, H, W = torch.rand(2, 6, 5), torch.rand(2, 6, 3), torch.rand(2, 3, 5)
CALLS = {
    "column_error": {"Y": Y, "Y_hat": Y},
    "copying": {"H": H, "Y": Y},
    "dead_components": {"H": H, "W": W},
    "excess_over_svd": {"Y": Y, "Y_hat": Y, "k": 2},
    "hoyer_H": {"H": H},
    "hoyer_W": {"W": W},
    "hoyer_sparsity": {"X": H, "dim": -1},
    "nnls_kkt_residual": {"H": H, "Y": Y, "W": W},
    "part_overlap": {"H": H},
    "permutation_consistency": {"H": H, "H_permuted": H},
    "projected_gradient": {"Y": Y, "H": H, "W": W},
    "relative_error": {"Y": Y, "Y_hat": Y},
    "slot_consistency": {"H": H},
    "summarize": {"Y": Y, "H": H, "W": W},
    "symmetry_adjusted_error": {"H": H, "H_true": H},
    "zero_share": {"H": H},
}
ARGUMENTS = [
    (score, name) for score, given in CALLS.items() for name, value in given.items() if isinstance(value, torch.Tensor)
]


def test_every_score_is_here():
    assert set(CALLS) == {name for name in metrics.__all__ if name != "SlotConsistency"}


@pytest.mark.parametrize(("score", "name"), ARGUMENTS)
def test_sparse_tensors(score, name):
    given = {**CALLS[score], name: CALLS[score][name].to_sparse()}
    with pytest.raises(TypeError, match=rf"^{name}: expected a dense tensor; .*\(use {name}\.to_dense\(\)\)"):
        getattr(metrics, score)(**given)


@pytest.mark.parametrize(("score", "name"), ARGUMENTS)
def test_arrays(score, name):
    given = {**CALLS[score], name: CALLS[score][name].numpy()}
    with pytest.raises(TypeError, match=rf"^{name}: expected a torch\.Tensor.*; got ndarray \(use torch\.as_tensor\)"):
        getattr(metrics, score)(**given)


@pytest.mark.parametrize(("score", "name"), ARGUMENTS)
def test_whole_numbers(score, name):
    """As images are kept: a score of floats comes out, or the argument is named."""
    given = {**CALLS[score], name: (255 * CALLS[score][name]).to(torch.uint8)}
    if score in ("permutation_consistency", "projected_gradient", "slot_consistency"):  # in float64 through and through
        getattr(metrics, score)(**given)
        return
    with pytest.raises(
        TypeError, match=rf"^{name}: expected a real floating-point dtype; got torch\.uint8 \(use {name}"
    ):
        getattr(metrics, score)(**given)


@pytest.mark.parametrize(
    ("score", "name"), [x for x in ARGUMENTS if x not in (("hoyer_sparsity", "X"), ("nnls_kkt_residual", "W"))]
)
def test_vectors(score, name):
    given = {**CALLS[score], name: CALLS[score][name][0, 0]}
    with pytest.raises(ValueError, match=rf"\b{name}\b.*: expected .*; got"):
        getattr(metrics, score)(**given)


@pytest.mark.parametrize("wide", ["Y", "H", "W"])
def test_matrices_of_two_dtypes(wide):
    given = CALLS["summarize"]
    torch.testing.assert_close(
        metrics.summarize(**{**given, wide: given[wide].double()}), metrics.summarize(**given), check_dtype=False
    )
