"""The protocols and the classical methods of the tables, against what they say they compute."""

import pytest
import torch

from diffnmf import nnls
from diffnmf.data import ImageSet, group_matrix
from diffnmf.evaluation import Factorizer, run_protocols, score_rivals
from diffnmf.evaluation.protocols import PROTOCOLS
from diffnmf.evaluation.rivals import CLASSICAL, WITHOUT_CHANCE, classical
from diffnmf.evaluation.scoring import mean_of
from diffnmf.factorization import factorize, truncated_svd
from diffnmf.metrics import column_error, relative_error, summarize

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def groups():
    torch.manual_seed(0)
    return torch.rand(2, 18, 20, 8).unbind()  # (18, 20, 8) each: more than one batch


def choose(k):
    """The first k images of a group as H, with exact weights."""

    def run(Y):
        H = Y[..., :k]
        return H, nnls(H, Y).W

    return Factorizer(run)


def test_every_protocol_is_what_it_says(groups):
    train, test = groups
    scores = run_protocols(choose(3), train, test)
    H = train[..., :3]
    expected = {
        "fit": (train, H @ nnls(H, train).W),
        "frozen": (test, H @ nnls(H, train).W),
        "refit_w": (test, H @ nnls(H, test).W),
        "refit": (test, test[..., :3] @ nnls(test[..., :3], test).W),
    }
    assert tuple(scores) == PROTOCOLS
    for protocol, (Y, Y_hat) in expected.items():
        assert scores[protocol]["column_error"] == pytest.approx(column_error(Y, Y_hat).mean().item(), rel=1e-5)
        assert scores[protocol]["relative_error"] == pytest.approx(relative_error(Y, Y_hat).mean().item(), rel=1e-5)
    assert scores["refit"]["copying"] == pytest.approx(1.0)
    assert scores["fit"]["seconds"] > 0
    assert "copying" not in scores["frozen"]
    assert scores["refit"]["column_error"] < scores["refit_w"]["column_error"] < scores["frozen"]["column_error"]


def test_groups_that_cannot_be_paired_are_refused(groups):
    with pytest.raises(ValueError, match=r"train and test: .*same shape; got \(18, 20, 8\) and \(5, 20, 8\)"):
        run_protocols(choose(3), groups[0], groups[1][:5])
    with pytest.raises(ValueError, match=r"train and test: .* G ≥ 1, of the same shape; got \(0, 20, 8\)"):
        run_protocols(choose(3), groups[0][:0], groups[1][:0])
    with pytest.raises(TypeError, match="train: expected a torch.Tensor; got ndarray"):
        run_protocols(choose(3), groups[0].numpy(), groups[1])
    with pytest.raises(TypeError, match="test: expected the dtype of train, torch.float32; got torch.float64"):
        run_protocols(choose(3), groups[0], groups[1].double())


@pytest.mark.parametrize("name", CLASSICAL)
def test_every_classical_method_factorises(name, groups):
    Y = groups[0][:2]
    H, W = classical(name, 3, 0).factorize(Y)
    lower = relative_error(Y, truncated_svd(Y, 3))
    error = relative_error(Y, H @ W)
    assert ((lower - 1e-5 <= error) & (error < 1)).all()
    if classical(name, 3, 0).non_negative:
        assert min(H.min(), W.min()) >= 0
    same = torch.equal(H, classical(name, 3, 1).factorize(Y)[0])
    assert same == (name in WITHOUT_CHANCE)


def test_the_svd_keeps_its_subspace_for_other_groups(groups):
    Y, other = groups[0][:2].double(), groups[1][:2].double()
    method = classical("SVD", 3)
    H, W = method.factorize(Y)
    torch.testing.assert_close(H @ W, truncated_svd(Y, 3))
    residual = other - H @ method.weights(H, other)
    torch.testing.assert_close(H.mT @ residual, torch.zeros(2, 3, 8, dtype=torch.float64), atol=1e-9, rtol=0)


def test_the_paper_s_methods_have_its_iterations(groups):
    Y = groups[0][:1]
    expected = factorize(Y, 3, method="mu", init="uniform", max_iter=200, tol=0.0, seed=4)
    assert torch.equal(classical("MU", 3, 4).factorize(Y)[0], expected.H)


def test_anls_has_two_settings(groups):
    """The tables of a run and those of the studies have always had their own."""
    images = ImageSet("groups", groups[0][:2].permute(0, 2, 1).reshape(16, 4, 5), None)
    indices = torch.arange(16).reshape(2, 8)
    Y = group_matrix(images, indices)
    of_a_run = factorize(Y, 3, method="anls", init="random", max_iter=50, tol=0.0)
    assert score_rivals(images, indices, 3)["anls"] == {**mean_of([summarize(Y, *of_a_run[:2])]), "groups": 2}
    of_the_paper = factorize(Y, 3, method="anls", init="uniform", max_iter=100, tol=0.0, seed=4)
    assert torch.equal(classical("ANLS", 3, 4).factorize(Y)[0], of_the_paper.H)


def test_more_components_than_images_are_fewer_copies(groups):
    H, W = classical("spa", 12).factorize(groups[0][:1])
    assert H.shape[-1] == 8
    assert relative_error(groups[0][:1], H @ W).item() < 1e-5


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match=r"method: expected one of ANLS, .*; got 'pca'"):
        classical("pca", 3)
