"""The checks of arguments, and that every public entry point uses them: one mistake, one error, one wording."""

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

import diffnmf
from diffnmf.checks import (
    check_count,
    check_counts,
    check_expands,
    check_flag,
    check_floating,
    check_image_shape,
    check_instance,
    check_matrix,
    check_name,
    check_not_empty,
    check_number,
    check_optional_count,
    check_same_device,
    check_same_rows,
    check_tensor,
    set_fields,
)
from diffnmf.data import GroupSampler, ImageSet, load_dataset
from diffnmf.data.splits import split_images
from diffnmf.evaluation import Factorizer, score_rivals
from diffnmf.evaluation.rivals import classical
from diffnmf.factorization import ANLS, HALS, cross_validate_rank, factorize, initialize, spa, svd_curve, truncated_svd
from diffnmf.figures.montages import image_grid
from diffnmf.layers import NNLSLayer
from diffnmf.metrics import dead_components, excess_over_svd, hoyer_sparsity, nnls_kkt_residual, zero_share
from diffnmf.runs import factorize_images
from diffnmf.solvers import BlockPivoting, ConeProgram, CoordinateDescent, LeastSquaresHALS, ProjectedGradient
from diffnmf.studies.paper.study import STUDIES
from diffnmf.studies.w_solvers.compare import compare_w_solvers
from diffnmf.training.engine import make_accelerator
from diffnmf.training.losses import adversarial_loss, reconstruction_loss

pytestmark = pytest.mark.usefixtures("one_thread")


class TestCount:
    @pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.int32(3)])
    def test_whole_numbers_become_plain(self, value):
        assert type(check_count("k", value, at_least=3)) is int
        assert check_count("k", value) == 3

    @pytest.mark.parametrize("value", [0.5, 3.0, True, np.True_, np.float64(3), "3", None, [3], torch.tensor(3)])
    def test_other_kinds(self, value):
        with pytest.raises(TypeError, match="^k: expected an int ≥ 1; got "):
            check_count("k", value, at_least=1)

    @pytest.mark.parametrize("value", [0, np.int64(0)])
    def test_too_small(self, value):
        with pytest.raises(ValueError, match="^k: expected an int ≥ 1; got 0$"):
            check_count("k", value, at_least=1)

    def test_the_alternative_is_in_both_messages(self):
        for value, error in ((0, ValueError), ("x", TypeError)):
            with pytest.raises(error, match="^k: expected an int ≥ 1, or None; got "):
                check_count("k", value, at_least=1, alternative="None")

    def test_numbers_of_numpy_are_shown_plain(self):
        with pytest.raises(TypeError, match="got 2.5$"):
            check_count("k", np.float64(2.5))

    def test_long_values_are_cut(self):
        with pytest.raises(TypeError) as caught:
            check_count("k", list(range(1000)))
        assert len(str(caught.value)) < 150

    def test_optional(self):
        assert check_optional_count("limit", None) is None
        assert type(check_optional_count("limit", np.int64(2), at_least=1)) is int
        with pytest.raises(TypeError, match="^limit: expected an int ≥ 1, or None; got True$"):
            check_optional_count("limit", True, at_least=1)


class TestCounts:
    @pytest.mark.parametrize("values", [[3, 1], (np.int64(3), 1), np.array([3, 1]), iter([3, 1])])
    def test_several_in_their_order(self, values):
        counts = check_counts("ks", values, at_least=1)
        assert counts == (3, 1)
        assert {type(count) for count in counts} == {int}

    def test_none_of_them(self):
        with pytest.raises(ValueError, match=r"^ks: expected at least one int ≥ 1, such as range\(1, 11\); got \[\]$"):
            check_counts("ks", [], at_least=1)

    @pytest.mark.parametrize("values", [3, None, "123"])
    def test_not_several(self, values):
        with pytest.raises(TypeError, match="^ks: expected at least one int ≥ 0, such as range"):
            check_counts("ks", values)

    def test_one_of_another_kind_or_too_small(self):
        with pytest.raises(TypeError, match="^ks: expected an int ≥ 1; got 2.0$"):
            check_counts("ks", [1, 2.0], at_least=1)
        with pytest.raises(ValueError, match="^ks: expected an int ≥ 1; got 0$"):
            check_counts("ks", [1, 0], at_least=1)


class TestNumber:
    @pytest.mark.parametrize(
        ("value", "kind"),
        [
            (0.5, float),
            (1, int),
            (np.float64(0.5), float),
            (np.float32(0.5), float),
            (np.longdouble(0.5), float),
            (np.int64(1), int),
            (Fraction(1, 2), float),
        ],
    )
    def test_numbers_become_plain(self, value, kind):
        assert type(check_number("tol", value)) is kind
        assert check_number("tol", value) == value

    @pytest.mark.parametrize("value", [True, np.False_, None, 1j, [0.5], torch.tensor(0.5)])
    def test_other_kinds(self, value):
        with pytest.raises(TypeError, match=r"^tol: expected a finite number ≥ 0; got [^(]*(\(0.5000\))?$"):
            check_number("tol", value)

    @pytest.mark.parametrize("value", [-1e-9, float("nan"), float("inf"), np.float32("nan")])
    def test_out_of_range(self, value):
        with pytest.raises(ValueError, match=rf"^tol: expected a finite number ≥ 0; got {float(value)}$"):
            check_number("tol", value)

    @pytest.mark.parametrize(
        ("interval", "inside", "outside", "words"),
        [
            ("[0, inf)", [0, 1e300], [-1, float("inf")], "a finite number ≥ 0"),
            ("(0, inf)", [1e-300], [0, float("inf")], "a finite number > 0"),
            ("[0, 1]", [0, 1], [-0.1, 1.1], r"a number in \[0, 1\]"),
            ("[0, 1)", [0, 0.999], [1, 1.0], r"a number in \[0, 1\)"),
            ("(0, 1]", [1, 0.001], [0, 0.0], r"a number in \(0, 1\]"),
        ],
    )
    def test_the_ends_of_an_interval(self, interval, inside, outside, words):
        for value in inside:
            assert check_number("p", value, interval) == value
        for value in outside:
            with pytest.raises(ValueError, match=f"^p: expected {words}; got "):
                check_number("p", value, interval)

    def test_a_number_that_yaml_took_for_text(self):
        with pytest.raises(TypeError, match=r"got '1e-3' \(YAML reads 1e-3 as text: write 1.0e-3 or 0.001\)$"):
            check_number("tol", "1e-3")
        with pytest.raises(TypeError, match="got 'tight'$"):
            check_number("tol", "tight")

    def test_the_alternative_is_in_both_messages(self):
        for value, error in ((-1, ValueError), ("x", TypeError)):
            with pytest.raises(error, match="^ridge: expected a finite number ≥ 0, or a tensor; got "):
                check_number("ridge", value, alternative="a tensor")


class TestFlagsAndNames:
    @pytest.mark.parametrize("value", [True, False, np.True_, np.False_])
    def test_flags_become_plain(self, value):
        assert check_flag("finish", value) is bool(value)

    @pytest.mark.parametrize("value", [0, 1, 1.0, "yes", None, np.int64(1)])
    def test_no_flags(self, value):
        with pytest.raises(TypeError, match="^finish: expected True or False; got "):
            check_flag("finish", value)

    def test_names(self):
        assert check_name("order", "class", ("random", "class")) == "class"
        with pytest.raises(ValueError, match="^order: expected one of class, random; got 'sorted'$"):
            check_name("order", "sorted", ("random", "class"))

    @pytest.mark.parametrize("value", [3, None, ["class"], {}])
    def test_no_names(self, value):
        with pytest.raises(TypeError, match="^order: expected one of class, random; got "):
            check_name("order", value, {"random": 1, "class": 2})

    def test_instances(self):
        classes = {"hals": HALS, "anls": ANLS}
        assert check_instance("method", "anls", HALS, classes) == ANLS()
        own = HALS(sweeps=1)
        assert check_instance("method", own, HALS, classes) is own
        with pytest.raises(ValueError, match="^method: expected one of anls, hals; got 'svd'$"):
            check_instance("method", "svd", HALS, classes)
        with pytest.raises(TypeError, match=r"^method: expected a name \(hals, anls\) or a method instance; got 3$"):
            check_instance("method", 3, HALS, classes)

    def test_something_in_it(self):
        check_not_empty("panels", {"a": 1}, "label")
        with pytest.raises(ValueError, match="^panels: expected at least one label; got none$"):
            check_not_empty("panels", {}, "label")


class TestTensors:
    def test_tensors(self):
        Y = torch.ones(2, 3)
        assert check_tensor("Y", Y) is check_floating("Y", Y) is check_matrix("Y", Y) is Y
        with pytest.raises(TypeError, match=r"^Y: expected a torch.Tensor; got ndarray \(use torch.as_tensor\)$"):
            check_matrix("Y", Y.numpy())
        with pytest.raises(TypeError, match=r"^images: expected a torch.Tensor \(N, h, w\); got list"):
            check_tensor("images", [1.0], "(N, h, w)")

    @pytest.mark.parametrize(
        ("dtype", "use"),
        [
            (torch.int64, r"Y\.to\(torch\.float32\)"),
            (torch.uint8, r"Y\.to\(torch\.float32\)"),
            (torch.bool, r"Y\.to\(torch\.float32\)"),
            (torch.complex64, r"Y\.abs\(\) or Y\.real"),
        ],
    )
    def test_dtypes(self, dtype, use):
        with pytest.raises(TypeError, match=rf"^Y: expected a real floating-point dtype; got {dtype} \(use {use}\)$"):
            check_matrix("Y", torch.ones(2, 3, dtype=dtype))

    def test_dimensions(self):
        with pytest.raises(
            ValueError, match=r"^Y: expected a matrix or a batch .* at least 2 dimensions; got \(3,\) \(Y.unsqueeze"
        ):
            check_matrix("Y", torch.ones(3))

    def test_rows_and_devices(self):
        H, Y = torch.ones(3, 2), torch.ones(4, 2)
        check_same_rows("H", H, "Y", H.new_ones(5, 3, 7))
        with pytest.raises(ValueError, match=r"^H and Y: .* same number of rows n; got H \(3, 2\) and Y \(4, 2\) \("):
            check_same_rows("H", H, "Y", Y)
        check_same_device("Y", Y, "H", H.device)
        with pytest.raises(ValueError, match="^Y: expected the device of H, cpu; got meta"):
            check_same_device("Y", Y.to("meta"), "H", H.device)

    def test_expansion(self):
        assert check_expands("W0", torch.ones(2, 1), (5, 2, 3)).shape == (5, 2, 3)
        assert check_expands("ridge", torch.tensor(1.0), ()).shape == ()
        with pytest.raises(
            ValueError, match=r"^W0: expected a shape that broadcasts to the batch shape \(2,\); got \(3,\) \(cut it\)$"
        ):
            check_expands("W0", torch.ones(3), (2,), "the batch shape", "cut it")
        with pytest.raises(ValueError, match=r"^W0: expected a shape that broadcasts to \(2,\); got \(3,\)$"):
            check_expands("W0", torch.ones(3), (2,))

    def test_image_shapes(self):
        shape = check_image_shape([np.int64(8), 4])
        assert shape == (8, 4)
        assert {type(side) for side in shape} == {int}
        with pytest.raises(ValueError, match=r"^image_shape: expected \(height, width\); got \(8, 8, 1\)$"):
            check_image_shape((8, 8, 1))
        with pytest.raises(TypeError, match=r"^image_shape: expected an int ≥ 1; got 2.5$"):
            check_image_shape((8, 2.5))


def test_fields_of_a_frozen_dataclass():
    @dataclass(frozen=True)
    class Options:
        steps: int = 3

        def __post_init__(self) -> None:
            set_fields(self, steps=check_count("steps", self.steps))

    assert repr(Options(np.int64(5))) == repr(Options(5))
    with pytest.raises(dataclasses.FrozenInstanceError):
        Options().steps = 4


# --- the public entry points ------------------------------------------------------------------------------------------

GENERATOR = torch.Generator().manual_seed(0)
Y = torch.rand(6, 5, generator=GENERATOR)
H = torch.rand(6, 2, generator=GENERATOR)
W = torch.rand(2, 5, generator=GENERATOR)
IMAGES = ImageSet("random", torch.rand(12, 2, 3, generator=GENERATOR), None)
GROUPS = torch.arange(12).reshape(3, 4)
START = {"H0": H, "W0": W, "tol": 0.0, "max_iter": 1}
SMOKE = STUDIES["smoke"]


def fitted(**options: Any) -> np.ndarray:
    return diffnmf.NMF(**{"n_components": 2, "tol": 0.0, "max_iter": 2, "random_state": 0, **options}).fit_transform(Y)


def scored_ranks(**options: Any) -> Any:
    return cross_validate_rank(Y, **{"ks": [1, 2], "folds": 2, "rounds": 1, **options})


def sampled(**options: Any) -> torch.Tensor:
    return GroupSampler(IMAGES, **{"group_size": 4, **options}).epoch(1)


def study(**options: Any) -> Any:
    return dataclasses.replace(SMOKE, **options)


@dataclass(frozen=True)
class Entry:
    """An argument of a public entry point.

    Attributes:
        argument: its name.
        call: makes a result from a value of it.
        right: a value that will do.
        optional: whether None will do, too.
        negative: whether -1 is in its range.
    """

    argument: str
    call: Callable[[Any], Any]
    right: Any
    optional: bool = False
    negative: bool = False

    def __str__(self) -> str:
        return f"{self.argument}={self.right}"


COUNTS = [
    Entry("max_iter", lambda v: ProjectedGradient(max_iter=v), 5),
    Entry("max_iter", lambda v: CoordinateDescent(max_iter=v), 5),
    Entry("max_iter", lambda v: BlockPivoting(max_iter=v), 5),
    Entry("sweeps", lambda v: LeastSquaresHALS(sweeps=v), 5),
    Entry("sweeps", lambda v: HALS(sweeps=v), 2),
    Entry("steps", lambda v: ANLS(steps=v), 2),
    Entry("k", lambda v: factorize(Y, v, tol=0.0, max_iter=2), 2),
    Entry("max_iter", lambda v: factorize(Y, 2, tol=0.0, max_iter=v), 2),
    Entry("seed", lambda v: factorize(Y, 2, tol=0.0, max_iter=1, seed=v), 2),
    Entry("seed", lambda v: factorize(Y, 2, seed=v, **START), 2),
    Entry("seed", lambda v: factorize(Y, 2, method="spa", seed=v), 2),
    Entry("k", lambda v: initialize(Y, v), 2),
    Entry("seed", lambda v: initialize(Y, 2, seed=v), 2),
    Entry("seed", lambda v: initialize(Y, 2, "nndsvd", seed=v), 2),
    Entry("k", lambda v: spa(Y, v), 2),
    Entry("k", lambda v: truncated_svd(Y, v), 2),
    Entry("max_k", lambda v: svd_curve(Y, v), 2, optional=True),
    Entry("ks", lambda v: scored_ranks(ks=[v]), 2),
    Entry("folds", lambda v: scored_ranks(folds=v), 3),
    Entry("rounds", lambda v: scored_ranks(rounds=v), 2),
    Entry("seed", lambda v: scored_ranks(seed=v), 2),
    Entry("n_components", lambda v: fitted(n_components=v), 2, optional=True),
    Entry("max_iter", lambda v: fitted(max_iter=v), 2),
    Entry("n_init", lambda v: fitted(n_init=v), 2),
    Entry("group_size", lambda v: sampled(group_size=v), 3),
    Entry("seed", lambda v: sampled(seed=v), 3),
    Entry("limit", lambda v: sampled(limit=v), 2, optional=True),
    Entry("epoch", lambda v: GroupSampler(IMAGES, 4).epoch(v), 2),
    Entry("seed", lambda v: split_images(IMAGES, seed=v).test.images, 2),
    Entry("seed", lambda v: load_dataset("digits", seed=v).test.images, 2),
    Entry("dim", lambda v: hoyer_sparsity(Y, v), 1, negative=True),
    Entry("k", lambda v: excess_over_svd(Y, Y, v), 2),
    Entry("k", lambda v: classical("SVD", v).factorize(Y), 2),
    Entry("seed", lambda v: classical("SVD", 2, v).factorize(Y), 2),
    Entry("k", lambda v: score_rivals(IMAGES, GROUPS, v), 2),
    Entry("columns_per_row", lambda v: image_grid(Y, (2, 3), columns_per_row=v), 2, optional=True),
    Entry("groups", lambda v: study(groups=v), 2),
    Entry("ks", lambda v: study(ks=(v,)), 2),
    Entry("seeds", lambda v: study(seeds=(v,)), 2),
    Entry("fewer_groups", lambda v: study(fewer_groups={"digits": v}), 2),
    Entry("bases_m", lambda v: study(bases_m=v), 2),
    Entry("bases_ks", lambda v: study(bases_ks=(v,)), 2),
    Entry("bases_groups", lambda v: study(bases_groups=v), 2),
]

NUMBERS = [
    Entry("tol", lambda v: ProjectedGradient(tol=v), 0.5),
    Entry("tol", lambda v: CoordinateDescent(tol=v), 0.5),
    Entry("tol", lambda v: ConeProgram(tol=v), 0.5),
    Entry("ridge", lambda v: diffnmf.nnls(H, Y, ridge=v), 0.5),
    Entry("l1", lambda v: diffnmf.nnls(H, Y, l1=v), 0.5),
    Entry("ridge", lambda v: NNLSLayer(ridge=v)(H, Y), 0.5),
    Entry("l1", lambda v: NNLSLayer(l1=v)(H, Y), 0.5),
    Entry("ridge", lambda v: NNLSLayer()(H, Y, ridge=v), 0.5, optional=True),
    Entry("l1", lambda v: NNLSLayer()(H, Y, l1=v), 0.5, optional=True),
    Entry("ridge", lambda v: nnls_kkt_residual(H, Y, W, ridge=v), 0.5),
    Entry("l1", lambda v: nnls_kkt_residual(H, Y, W, l1=v), 0.5),
    Entry("tol", lambda v: factorize(Y, 2, tol=v), 0.5),
    Entry("l1_H", lambda v: factorize(Y, 2, tol=0.0, max_iter=1, l1_H=v), 0.5),
    Entry("l1_W", lambda v: factorize(Y, 2, tol=0.0, max_iter=1, l1_W=v), 0.5),
    Entry("ridge_H", lambda v: factorize(Y, 2, tol=0.0, max_iter=1, ridge_H=v), 0.5),
    Entry("ridge_W", lambda v: factorize(Y, 2, tol=0.0, max_iter=1, ridge_W=v), 0.5),
    Entry("l1_W", lambda v: scored_ranks(l1_W=v), 0.5),
    Entry("tol", lambda v: fitted(tol=v, max_iter=200), 0.5),
    Entry("alpha_W", lambda v: fitted(alpha_W=v), 0.5),
    Entry("alpha_H", lambda v: fitted(alpha_W=0.1, alpha_H=v), 0.5),
    Entry("tolerance", lambda v: zero_share(H, v), 0.5),
    Entry("tolerance", lambda v: dead_components(H, W, v), 0.5),
    Entry("vmax", lambda v: image_grid(Y, (2, 3), vmax=v), 0.5, optional=True),
]

FLAGS = [
    Entry("finish", lambda v: ProjectedGradient(finish=v), True),
    Entry("finish", lambda v: CoordinateDescent(finish=v), True),
    Entry("extrapolate", lambda v: HALS(extrapolate=v), True),
    Entry("revive", lambda v: HALS(revive=v), True),
    Entry("shuffle", lambda v: HALS(shuffle=v), True),
    Entry("shuffle", lambda v: fitted(shuffle=v), True),
    Entry("revive", lambda v: ANLS(revive=v), True),
    Entry("non_negative", lambda v: Factorizer(factorize, NNLSLayer.forward, v), True),
]

NAMES = [
    Entry("solver", lambda v: diffnmf.nnls(H, Y, solver=v), "bpp"),
    Entry("solver", lambda v: NNLSLayer(v)(H, Y), "bpp"),
    Entry("backward", lambda v: diffnmf.nnls(H, Y, backward=v), "detached"),
    Entry("backward", lambda v: NNLSLayer(backward=v)(H, Y), "detached"),
    Entry("method", lambda v: factorize(Y, 2, method=v, tol=0.0), "mu"),
    Entry("solver", lambda v: fitted(solver=v), "mu"),
    Entry("missing", lambda v: fitted(missing=v), "ignore"),
    Entry("method", lambda v: scored_ranks(method=v), "mu"),
    Entry("method", lambda v: classical(v, 2).factorize(Y), "SVD"),
    Entry("init", lambda v: factorize(Y, 2, init=v, tol=0.0), "nndsvd", optional=True),
    Entry("init", lambda v: factorize(Y, 2, init=v, **START), "nndsvd", optional=True),
    Entry("init", lambda v: initialize(Y, 2, v), "nndsvd", optional=True),
    Entry("init", lambda v: fitted(init=v), "nndsvd", optional=True),
    Entry("order", lambda v: sampled(order=v), "random"),
    Entry("reconstruction", lambda v: reconstruction_loss(Y, Y[:, :1], v), "l2"),
    Entry("adversarial_form", lambda v: adversarial_loss(Y, v), "saturating"),
    Entry("datasets", lambda v: study(datasets=(v,)), "digits"),
    Entry("bases_dataset", lambda v: study(bases_dataset=v), "digits"),
]


def check_error(entry: Entry, value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"^{entry.argument}: expected .*; got {re.escape(repr(value))}"):
        entry.call(value)


def check_same(entry: Entry, value: object) -> None:
    """A number of NumPy gives what the plain one gives."""
    result, plain = entry.call(value), entry.call(entry.right)
    if dataclasses.is_dataclass(result):
        assert (result, repr(result)) == (plain, repr(plain))
    else:
        torch.testing.assert_close(result, plain, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("entry", COUNTS, ids=str)
class TestCountsOfThePublicEntryPoints:
    @pytest.mark.parametrize("value", [0.5, 2.0, True, "3", None])
    def test_other_kinds(self, entry, value):
        if value is None and entry.optional:
            entry.call(None)
        else:
            check_error(entry, value, TypeError)

    def test_negative(self, entry):
        if entry.negative:
            entry.call(-1)
        else:
            check_error(entry, -1, ValueError)

    @pytest.mark.parametrize("kind", [np.int64, np.uint8])
    def test_numpy_integers(self, entry, kind):
        check_same(entry, kind(entry.right))


@pytest.mark.parametrize("entry", NUMBERS, ids=str)
class TestNumbersOfThePublicEntryPoints:
    @pytest.mark.parametrize("value", [True, "3", None])
    def test_other_kinds(self, entry, value):
        if value is None and entry.optional:
            entry.call(None)
        else:
            check_error(entry, value, TypeError)

    @pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
    def test_out_of_range(self, entry, value):
        check_error(entry, value, ValueError)

    @pytest.mark.parametrize("kind", [np.float64, np.float32])
    def test_numpy_numbers(self, entry, kind):
        check_same(entry, kind(entry.right))


@pytest.mark.parametrize("entry", FLAGS, ids=str)
class TestFlagsOfThePublicEntryPoints:
    @pytest.mark.parametrize("value", [0.5, 1, "3", -1, None])
    def test_other_kinds(self, entry, value):
        check_error(entry, value, TypeError)

    def test_numpy_flags(self, entry):
        check_same(entry, np.bool_(entry.right))


@pytest.mark.parametrize("entry", NAMES, ids=str)
class TestNamesOfThePublicEntryPoints:
    @pytest.mark.parametrize("value", [0.5, True, -1, None])
    def test_other_kinds(self, entry, value):
        if value is None and entry.optional:
            entry.call(None)
        else:
            check_error(entry, value, TypeError)

    def test_unknown(self, entry):
        check_error(entry, "3", ValueError)

    def test_known(self, entry):
        entry.call(entry.right)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: make_accelerator(precision="int8"), ValueError, "precision: expected one of .*; got 'int8'"),
        (lambda: make_accelerator(precision=16), TypeError, "precision: expected one of .*; got 16"),
        (lambda: factorize_images("run", "images", "new", seed=0.5), TypeError, "seed: expected an int ≥ 0; got 0.5"),
        (
            lambda: factorize(Y, 2, init="random", seed=2**64),
            ValueError,
            r"seed: expected an int ≥ 0 and < 2\^64; got 18",
        ),
        (lambda: initialize(Y, 2, seed=(0, 2**64)), ValueError, r"seed: expected an int ≥ 0 and < 2\^64; got 18"),
        (lambda: scored_ranks(seed=2**64), ValueError, r"seed: expected an int ≥ 0 and < 2\^64; got 18"),
        (lambda: diffnmf.NNLSCoder(5, 2, seed=2**64), ValueError, r"seed: expected an int ≥ 0 and < 2\^64; got 18"),
        (lambda: factorize_images("run", "images", "new", shuffle=1), TypeError, "shuffle: expected True or False"),
        (lambda: compare_w_solvers(SMOKE.config, "new", rows=["x"]), ValueError, "rows: expected one of .*; got 'x'"),
        (lambda: compare_w_solvers(SMOKE.config, "new", seeds=[0.5]), TypeError, "seeds: expected an int ≥ 0; got 0.5"),
        (lambda: compare_w_solvers(SMOKE.config, "new", seeds=[]), ValueError, "seeds: expected at least one int"),
        (lambda: compare_w_solvers(SMOKE.config, "new", rows=[]), ValueError, "rows: expected at least one row"),
    ],
)
def test_before_anything_is_done(call, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=f"^{message}"):
        call()
    assert not list(tmp_path.iterdir())
