"""The kernels against the operations of torch, which are the reference; threads, processes and memory."""

import ctypes
import mmap
import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from diffnmf.errors import ConvergenceWarning
from diffnmf.factorization import factorize
from diffnmf.factorization.merging import merge
from diffnmf.kernels import columns as kernels
from diffnmf.kernels import sharing
from diffnmf.kernels.sharing import share
from diffnmf.layers import NNLSLayer
from diffnmf.solvers import nnls
from diffnmf.solvers.exact.active_set import active_set
from diffnmf.solvers.exact.columns import reduced_problems
from diffnmf.solvers.exact.masked import as_columns, factorize_masked, from_columns
from diffnmf.solvers.gram import form_residual, gram_form
from diffnmf.solvers.problem import make_problem

pytestmark = pytest.mark.usefixtures("every_variant")


def problem_of(batch=3, n=40, k=12, m=9, seed=0, signs=False):
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn if signs else torch.rand
    H = draw(batch, n, k, generator=generator, dtype=torch.float64)
    return H, torch.randn(batch, n, m, generator=generator, dtype=torch.float64)


def with_threads(threads, call):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return call()
    finally:
        torch.set_num_threads(before)


SHAPES = [(1, 30, 1, 1), (2, 30, 7, 5), (2, 30, 8, 5), (3, 60, 33, 4), (2, 10, 24, 6), (2, 80, 64, 3)]


@pytest.mark.parametrize(("batch", "n", "k", "m"), SHAPES)
@pytest.mark.parametrize("signs", [False, True])
def test_search_finds_the_minimum_from_any_guess(batch, n, k, m, signs):
    H, Y = problem_of(batch, n, k, m, signs=signs)
    form = gram_form(make_problem(H, Y))
    C = as_columns(form.C)
    generator = torch.Generator().manual_seed(1)
    found = kernels.search(form.A, C, None)
    guesses = [
        None,
        torch.zeros_like(C).bool(),
        torch.ones_like(C).bool(),
        torch.rand(C.shape, generator=generator) < 0.5,
    ]
    for guess in guesses:
        again = kernels.search(form.A, C, guess)
        assert again.solved.all()
        assert (again.x >= 0).all() and not (again.x[~again.free] > 0).any()
        assert form_residual(form, from_columns(again.x, batch)).max() < 1e-13
        if k <= n:  # otherwise any minimiser will do
            torch.testing.assert_close(again.x, found.x, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(("batch", "n", "k", "m"), SHAPES)
def test_the_pivot_is_no_larger_than_that_of_the_factor(batch, n, k, m):
    H, Y = problem_of(batch, n, k, m)
    form = gram_form(make_problem(H, Y))
    found = kernels.search(form.A, as_columns(form.C), None)
    factor = factorize_masked(form.A, found.free)
    assert (found.pivot <= factor.pivot * (1 + 1e-10)).all()
    smallest = torch.linalg.eigvalsh(form.A).amin(-1).repeat_interleave(m).clamp(min=0)
    assert (found.pivot >= smallest * (1 - 1e-10) - 1e-14).all()


@pytest.mark.parametrize("distance", [1e-3, 1e-4, 1e-5, 1e-6, 1e-7])
def test_the_pivot_of_nearly_equal_columns_is_not_that_of_an_inverse_that_is_rounding(distance):
    generator = torch.Generator().manual_seed(0)
    H = torch.rand(200, 4, 1, generator=generator, dtype=torch.float64)
    H = H + distance * torch.rand(200, 4, 4, generator=generator, dtype=torch.float64)
    Y = H @ torch.rand(200, 4, 3, generator=generator, dtype=torch.float64)
    form = gram_form(make_problem(H, Y))
    found = kernels.search(form.A, as_columns(form.C), torch.ones(600, 4, dtype=torch.bool))
    factor = factorize_masked(form.A, found.free)
    # Of so small a pivot the order of the columns and rounding may change much, but none of nothing is 1e-9.
    assert (found.pivot <= 4 * factor.pivot + 1e-11).all()
    assert nnls(H, Y).converged.all()


@pytest.mark.parametrize(("batch", "n", "k", "m"), SHAPES)
def test_solve_agrees_with_the_masked_factor(batch, n, k, m):
    H, _ = problem_of(batch, n, k, m)
    form = gram_form(make_problem(H, H[..., :1].expand(-1, -1, m)))
    generator = torch.Generator().manual_seed(1)
    free = torch.rand(batch * m, k, generator=generator) < 0.5
    free[-1] = free[-2] if batch * m > 1 else free[-1]  # the factor of the column before serves this one, too
    b = torch.randn(batch, k, m, generator=generator, dtype=torch.float64)
    expected = from_columns(factorize_masked(form.A, free).solve(as_columns(b)), batch)
    for strided in (b, b.mT.contiguous().mT):
        torch.testing.assert_close(kernels.solve(form.A, free, strided), expected, rtol=1e-9, atol=1e-11)


def test_solve_gives_zero_on_a_singular_set():
    A = torch.ones(1, 2, 2, dtype=torch.float64)
    free = torch.tensor([[True, True], [True, False]])
    v = kernels.solve(A, free, torch.ones(1, 2, 2, dtype=torch.float64))
    assert v[0].mT.tolist() == [[0.0, 0.0], [1.0, 0.0]]


@pytest.mark.parametrize("l1", [0.0, 0.3])
@pytest.mark.parametrize(("batch", "n", "k", "m"), SHAPES)
def test_without_squaring_it_agrees_with_the_active_set_method_of_torch(batch, n, k, m, l1):
    H, Y = problem_of(batch, n, k, m)
    H[:, :, -1] = H[:, :, 0]  # a duplicate: any split between the two will do
    problem = make_problem(H, Y, l1=l1)
    form = gram_form(problem)
    reduced = reduced_problems(problem, form, torch.arange(batch * m))
    generator = torch.Generator().manual_seed(1)
    for density in (0.0, 0.3, 1.0):
        start = torch.rand(batch * m, k, generator=generator, dtype=torch.float64)
        start = start * (torch.rand(batch * m, k, generator=generator) < density)
        expected = active_set(reduced.columns(), start)
        found = kernels.unsquared(reduced.R, reduced.owner, reduced.y, reduced.weight, start)
        value = reduced.columns().value
        assert found.solved.all() and expected.solved.all()
        torch.testing.assert_close(value(found.x), value(expected.x), rtol=1e-12, atol=1e-13)
        assert (found.pivot > 0).all()  # the free columns are independent
        solved = kernels.solve_unsquared(reduced.R, reduced.owner, found.free, reduced.y)
        dense = reduced.columns().minimum(found.free).factor.solve(reduced.y)
        torch.testing.assert_close(solved, dense, rtol=1e-8, atol=1e-9)


def test_what_a_column_gets_depends_on_nothing_else():
    """Not on threads, nor on a neighbour that is not finite, or out of range."""
    H, Y = problem_of(batch=6, n=50, k=20, m=300)
    form = gram_form(make_problem(H, Y))
    found = with_threads(1, lambda: kernels.search(form.A, as_columns(form.C), None))
    shared = with_threads(4, lambda: kernels.search(form.A, as_columns(form.C), None))
    assert all(torch.equal(a, b) for a, b in zip(found, shared, strict=True))
    layer = NNLSLayer()
    W = layer(H, Y)
    spoilt = Y.clone()
    spoilt[2, 0, 5] = torch.nan
    spoilt[3, :, 7] *= 1e200
    changed = torch.zeros_like(W, dtype=torch.bool)
    changed[2, :, 5] = changed[3, :, 7] = True
    assert torch.equal(layer(H, spoilt)[~changed], W[~changed])


def test_many_threads_at_once_get_what_one_gets():
    H, Y = problem_of(batch=4, n=50, k=20, m=200)
    layer = NNLSLayer()
    W = layer(H, Y)
    with ThreadPoolExecutor(8) as pool:
        assert all(torch.equal(x, W) for x in pool.map(lambda _: layer(H, Y), range(32)))


def _solve_in_child(queue):
    H, Y = problem_of(batch=4, n=50, k=20, m=300)
    queue.put(float(NNLSLayer()(H, Y).sum()))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_forked_child_solves_too():
    H, Y = problem_of(batch=4, n=50, k=20, m=300)
    expected = float(NNLSLayer()(H, Y).sum())  # the parent's threads are at work, or wait for it
    assert threading.active_count() >= 1
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_solve_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join(60)
    assert child.exitcode == 0


def test_nothing_leaks():
    resource = pytest.importorskip("resource", reason="memory is read with a module of Unix")
    H, Y = problem_of(batch=2, n=40, k=64, m=50)
    layer = NNLSLayer()
    for _ in range(50):
        layer(H, Y)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(1000):  # 100 kB each would be 100 MB
        layer(H, Y)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000


def test_a_warm_start_saves_steps():
    H, Y = problem_of(batch=2, n=40, k=20, m=50)
    cold = nnls(H, Y)
    warm = nnls(H, Y, W0=cold.W)
    torch.testing.assert_close(warm.W, cold.W, rtol=1e-10, atol=1e-12)
    assert (warm.iterations < cold.iterations).all()


def test_small_problems_take_the_short_way_with_the_same_result():
    for dtype in (torch.float32, torch.float64):
        H, Y = (x[0].to(dtype) for x in problem_of(n=30, k=10, m=2))
        for layer in (NNLSLayer(), NNLSLayer(ridge=0.3, l1=0.2)):
            long = layer(H.unsqueeze(0), Y.unsqueeze(0))[0]
            for h, y in ((H, Y), (H.mT.contiguous().mT, Y.mT.contiguous().mT)):
                W = layer(h, y)
                assert W.dtype == dtype and W.shape == (10, 2)
                torch.testing.assert_close(W, long, rtol=1e-5 if dtype == torch.float32 else 1e-10, atol=1e-7)


def test_anls_from_a_batch_equals_anls_alone():
    Y = torch.rand(3, 30, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = factorize(Y, 4, method="anls", max_iter=5, tol=0.0)
    alone = factorize(Y[1], 4, method="anls", max_iter=5, tol=0.0)
    torch.testing.assert_close(together.H[1], alone.H, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "k", "m"), [(1, 3, 2), (7, 1, 1), (30, 9, 300), (33, 30, 40), (64, 17, 5)])
def test_every_layout_in_memory_gives_the_same(n, k, m, dtype):
    H, Y = (x.to(dtype) for x in problem_of(batch=2, n=n, k=k, m=m))
    layer = NNLSLayer(ridge=0.1)
    W = layer(H.double(), Y.double())
    tolerance = 1e-4 if dtype == torch.float32 else 1e-11
    wide_H, wide_Y = torch.zeros(2, n, 2 * k, dtype=dtype), torch.zeros(2, 3, n, m, dtype=dtype)
    wide_H[..., ::2], wide_Y[:, 1] = H, Y
    for h in (H, H.mT.contiguous().mT, wide_H[..., ::2]):
        for y in (Y, Y.mT.contiguous().mT, wide_Y[:, 1]):
            found = layer(h, y)
            assert found.dtype == dtype
            torch.testing.assert_close(found.double(), W, rtol=tolerance, atol=tolerance)


def test_nothing_is_read_beyond_the_end_of_a_matrix():
    """The matrix ends where memory ends: one number further would kill the process."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "mprotect"):
        pytest.skip("pages are protected with a function of Unix")
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert libc.mprotect(ctypes.c_void_p(start + page), ctypes.c_size_t(page), 0) == 0
    try:
        for dtype in (torch.float32, torch.float64):
            for columns in (1, 2, 3, 5, 8, 9):
                n, size = 20, torch.finfo(dtype).bits // 8
                offset = page - n * columns * size
                last = torch.frombuffer(memory, dtype=dtype, count=n * columns, offset=offset).view(n, columns)
                last.copy_(torch.rand(n, columns))
                other = torch.rand(n, 4, dtype=dtype)
                assert NNLSLayer()(other, last).isfinite().all()
                assert NNLSLayer()(last, other).isfinite().all()
                assert NNLSLayer()(other[None], last[None]).isfinite().all()
    finally:
        libc.mprotect(ctypes.c_void_p(start + page), ctypes.c_size_t(page), 3)


def test_the_default_device_does_not_matter():
    H, Y = (x[0] for x in problem_of())
    expected = NNLSLayer()(H, Y)
    with torch.device("meta"):
        assert torch.equal(NNLSLayer()(H, Y), expected)
        assert torch.equal(nnls(H[None], Y[None]).W[0], expected)
        assert factorize(Y.clamp(min=0), 3, max_iter=5, tol=0.0).H.device.type == "cpu"


def test_views_that_memory_does_not_hold():
    H, Y = (x[0] for x in problem_of(signs=True))
    torch.testing.assert_close(NNLSLayer()(torch._neg_view(-H), Y), NNLSLayer()(H, Y))
    assert (NNLSLayer()(H, torch._efficientzerotensor(Y.shape, dtype=Y.dtype)) == 0).all()
    with pytest.raises(TypeError, match="H: expected"):
        NNLSLayer()(H.to_sparse(), Y)


@pytest.mark.parametrize("penalties", [{"l1": -0.1}, {"ridge": -1e-3}])
def test_a_learned_penalty_that_has_become_negative(penalties):
    H, Y = problem_of()
    tensors = {name: torch.tensor(value) for name, value in penalties.items()}
    solution = nnls(H, Y, **tensors)
    assert solution.converged.all() and solution.W.isfinite().all()


def test_a_ridge_so_negative_that_there_are_several_minima_is_told():
    H = torch.tensor([[0.52, 0.97, 0.82], [0.99, 0.98, 0.79], [0.05, 0.48, 0.24], [0.55, 0.45, 0.29]]).double()
    y = torch.tensor([[0.21], [0.55], [0.62], [0.26]]).double()
    with pytest.warns(ConvergenceWarning, match="1 of 2 problems have not converged"):
        solution = nnls(H.expand(2, -1, -1), y, ridge=torch.tensor([-0.51, 0.51]).double()[:, None, None])
    assert solution.converged.tolist() == [False, True]


@pytest.mark.parametrize("ridge", [1.0, 1e20, 1e35, 1e220])
def test_columns_far_below_the_ridge(ridge):
    H = torch.diag(torch.tensor([1.0, 1e-20], dtype=torch.float64))
    solution = nnls(H, torch.tensor([[-1.0], [1.0]], dtype=torch.float64), ridge=ridge)
    assert solution.converged
    assert solution.W[1].item() == pytest.approx(1e-20 / (ridge + 1e-40), rel=1e-12)


def test_half_precision_and_empty_batches():
    assert merge(torch.rand(2, 20, 10).half(), 3)[0].dtype == torch.float16
    assert nnls(torch.rand(0, 5, 3, dtype=torch.float64), torch.rand(0, 5, 2, dtype=torch.float64)).W.shape == (0, 3, 2)


def test_an_interrupt_leaves_no_thread_that_still_writes(monkeypatch):
    running, release = threading.Event(), threading.Event()
    done = []

    def work(first, last):
        if threading.current_thread() is threading.main_thread():
            running.wait(10)
            threading.Timer(0.2, release.set).start()
            raise KeyboardInterrupt
        running.set()
        release.wait(10)
        done.append((first, last))
        return 0

    with pytest.raises(KeyboardInterrupt):
        with_threads(2, lambda: share(work, 100, 1e9))
    assert len(done) == 1, "what the other thread had begun is finished, and nothing more was begun"


def test_threads_that_cannot_be_had_any_more(monkeypatch):
    """Python has none left to give while it ends: what a program does at its exit is done by one."""
    over = ThreadPoolExecutor(1)
    over.shutdown()
    monkeypatch.setattr(sharing, "_pool", over)
    done = []
    assert with_threads(2, lambda: share(lambda *ends: done.append(ends) or 0, 100, 1e9)) == 0
    assert [i for first, last in done for i in range(first, last)] == list(range(100))
