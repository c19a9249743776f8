"""The weights W of given components under another loss than the squared error.

Every column is solved by a Newton method: the quadratic model at the iterate is a least squares problem with the
weights v = (β − 1) P^(β−2) + (2 − β) Y P^(β−3), whose exact minimum over W ≥ 0 the search for the free set finds; a
line search looks how far the step may go. Two multiplicative updates come first: far from a minimum a Newton step is
short. At 1 ≤ β ≤ 2 the divergence is convex in W, and this is the minimum. Elsewhere v may be negative; where that
leaves the model without a minimum a negative v counts as a small positive one, and what is found is a local minimum.
"""

import torch
from torch import Tensor

from diffnmf.factorization.divergence import DivergenceHalfStep
from diffnmf.factorization.divergence_columns import DivergenceColumns, OwnBases, Place, SharedBasis
from diffnmf.factorization.multiplicative_step import multiplicative_step_, safe_exponent
from diffnmf.factorization.nmf_problem import Penalties
from diffnmf.factorization.sparse_matrix import Matrix, SparseMatrix
from diffnmf.solvers.exact.columns import GramColumns
from diffnmf.solvers.exact.finish import MAX_EXCHANGES
from diffnmf.solvers.exact.search import search
from diffnmf.solvers.gram import LARGEST_DESCENT
from diffnmf.solvers.norms import one_where_zero

UPDATES, STEPS, HALVINGS = 2, 100, 30
# Where the search finds no minimum of the model, the diagonal counts as so much longer: negative v, or components that
# are alike to the last digits.
DAMPING = 1e-6
# A column is done when a step promises less than this share of what its objective is made of. That step is taken as it
# is: what it leaves is about the square, and whether it goes down may be a matter of rounding.
TOL = {torch.float64: 1e-13, torch.float32: 1e-11}
PIECE = 2**18  # entries at a time on the CPU: of some columns of T, or of their Gram matrices


@torch.no_grad()
def divergence_weights(half: DivergenceHalfStep) -> Tensor:
    """argmin Σ V d_β(T | FᵀX) + l1 ΣX + ½ ridge ‖X‖² over X ≥ 0, (1, k, N); a column does not see the others.

    The columns of T and the rows of F have to be of the size of 1: steps and when they stop are measured by the largest
    entry of a column of X, and P has a floor. Penalties are (1, 1, 1), or of every entry of X: (1, k, N).
    """
    X = _start(half)[0].mT.contiguous()  # (N, k)
    by_entries = isinstance(half.target, SparseMatrix) and half.beta == 1 and len(half.target.values) > 0
    (_sparse_columns if by_entries else _all_columns)(half, X)
    return X.mT.unsqueeze(0)


def _all_columns(half: DivergenceHalfStep, X: Tensor) -> None:
    """From X (N, k) to the solutions, in place."""
    F = half.other[0]
    k, p = F.shape
    basis, penalties = SharedBasis(F), _penalties(half, X)
    size = max(16, PIECE // max(p, k * k)) if X.device.type == "cpu" else max(1, len(X))
    for start in range(0, len(X), size):
        some = slice(start, start + size)
        T = _dense_slice(half.target, some)[0].mT.contiguous()
        V = None if half.weights is None else half.weights[0, :, some].mT
        X[some] = _newton(DivergenceColumns(basis, T, penalties.take(some), half.beta, V), X[some])


def _sparse_columns(half: DivergenceHalfStep, X: Tensor) -> None:
    """At β = 1 what is not stored counts by the sum of its P alone: a column is a problem of as many rows as it has.

    Columns of about the same number of them are worked on together, as a batch.
    """
    T, F = half.target, half.other[0]
    assert isinstance(T, SparseMatrix)
    k, whole = len(F), F.sum(1)
    starts, rows, values = T.columns.crow_indices(), T.columns.col_indices(), T.columns.values()
    counts = starts.diff()
    order = counts.argsort()
    l1, ridge = _penalties(half, X)
    size = max(1, PIECE // (k * k))
    for some in order.split(size):
        longest = max(1, int(counts[some].max()))
        place = torch.arange(longest, device=X.device).expand(len(some), longest)
        stored = place < counts[some, None]
        at = torch.where(stored, starts[some, None] + place, 0)
        bases = torch.where(stored, F[:, rows[at]], 0.0).movedim(0, 1).contiguous()  # (c, k, L)
        target = torch.where(stored, values[at], 0.0)  # (c, L)
        linear = (whole - bases.sum(2)).clamp(min=0)  # (c, k)
        penalties = Penalties(linear if l1 is None else linear + l1[some], None if ridge is None else ridge[some])
        X[some] = _newton(DivergenceColumns(OwnBases(bases), target, penalties, half.beta), X[some])


def _penalties(half: DivergenceHalfStep, X: Tensor) -> Penalties:
    """Of every entry of X (N, k)."""
    return Penalties(*(None if x is None else x.expand(1, *X.mT.shape)[0].mT for x in half.penalties))


def _start(half: DivergenceHalfStep) -> Tensor:
    """An even one after some multiplicative updates.

    A Newton step from far below a minimum multiplies an entry by no more than (3 − β)/(2 − β): 2 at β = 1.
    """
    X = _even_start(half)
    for _ in range(UPDATES):
        multiplicative_step_(half, X, safe_exponent(half.beta))
    return X


def _even_start(half: DivergenceHalfStep) -> Tensor:
    """The same share for every component, so that every column of FᵀX has the sum of its T."""
    F, T, V = half.other, half.target, half.weights
    ones = F.new_ones(len(F), 1, F.shape[2])
    mass = T.left_multiplied(ones) if isinstance(T, SparseMatrix) else ones @ (T if V is None else T * V)
    share = F.sum((1, 2), keepdim=True) if V is None else F.sum(1, keepdim=True) @ V
    return (mass / one_where_zero(share)).expand(-1, F.shape[1], -1).clone()


def _dense_slice(T: Matrix, some: slice) -> Tensor:
    """Some columns of T, (B, p, c)."""
    if isinstance(T, Tensor):
        return T[..., some]
    numbers = range(*some.indices(T.shape[2]))
    starts = T.columns.crow_indices()[numbers.start : numbers.stop + 1]
    stored = slice(int(starts[0]), int(starts[-1]))
    dense = T.columns.values().new_zeros(len(numbers), T.shape[1])
    row = torch.arange(len(numbers), device=T.device).repeat_interleave(starts.diff())
    dense[row, T.columns.col_indices()[stored]] = T.columns.values()[stored]
    return dense.mT.unsqueeze(0)


def _newton(columns: DivergenceColumns, start: Tensor) -> Tensor:
    """The solutions from a start (N, k). A column leaves when it is done."""
    found, left, X = start.clone(), torch.arange(len(start), device=start.device), start
    for _ in range(STEPS):
        place = columns.place(X)
        step = _newton_step(columns, place)
        promised = -torch.linalg.vecdot(place.gradient, step)
        last = promised <= TOL[X.dtype] * place.mass
        share = _line_search(columns, place, step, promised, last)
        X = (X + share.unsqueeze(1) * step).clamp_(min=0)
        found[left] = X
        some = (~last & (share > 0)).nonzero().squeeze(1)
        if not len(some):
            break
        if len(some) < len(left):
            columns, left, X = columns.take(some), left[some], X[some]
    return found


def _newton_step(columns: DivergenceColumns, place: Place) -> Tensor:
    """To the minimum of the model, or, where there is none that can be relied on, a short one. (N, k)"""
    Z, good = _minimum_of_model(columns, place, place.curvature)
    rest = (~good).nonzero().squeeze(1)
    if len(rest):
        taken = place.take(rest)
        Z[rest], good[rest] = _minimum_of_model(columns.take(rest), taken, taken.raised, DAMPING)
    rest = (~good).nonzero().squeeze(1)
    if len(rest):
        Z[rest] = _short_way(columns.take(rest), place.take(rest))
    return Z - place.X


def _minimum_of_model(
    columns: DivergenceColumns, place: Place, curvature: Tensor, damping: float = 0.0
) -> tuple[Tensor, Tensor]:
    """argmin ½ zᵀAz − (Ax − g)ᵀz over z ≥ 0, A from the curvature (N, p) and g the gradient at x.

    Arguments:
        columns: N problems.
        place: theirs.
        curvature: (N, p).
        damping: share that the diagonal of A is longer by, ≥ 0.

    Returns:
        It, (N, k), and where (N,) it is a minimum and lies downhill.
    """
    X, gradient = place.X.double(), place.gradient
    A = columns.bases.grams(curvature).double()
    if columns.penalties.ridge is not None:
        A += torch.diag_embed(columns.penalties.ridge)
    diagonal = A.diagonal(dim1=1, dim2=2)
    bent = (diagonal >= 0).all(1)
    diagonal.mul_(1 + damping)
    scale = one_where_zero(diagonal.clamp(min=0)).sqrt()  # (N, k)
    linear = ((A @ X.unsqueeze(2)).squeeze(2) - gradient) / scale
    size = one_where_zero(linear.amax(1, keepdim=True).clamp_(min=0))
    A /= scale.unsqueeze(1)
    A /= scale.unsqueeze(2)
    diagonal.fill_(1)
    model = GramColumns(A, (linear / size).clamp_(min=-LARGEST_DESCENT))
    found, solve_the_rest = search(model, X * scale / size, MAX_EXCHANGES)
    solve_the_rest()
    Z = (found.x * size / scale).to(gradient.dtype)
    downhill = torch.linalg.vecdot(gradient, Z - place.X) <= 0  # false for what is not a number
    return Z, bent & found.solved & (found.factor.pivot > 0) & downhill


def _short_way(columns: DivergenceColumns, place: Place) -> Tensor:
    """Where every entry would go by itself, if a pull that nothing bends reaches as far as the largest entry."""
    X, gradient = place.X, place.gradient
    bend = columns.penalties.bent(columns.bases.square_sums(place.raised))
    largest = X.amax(1, keepdim=True)
    far = largest * gradient / one_where_zero(bend * largest + gradient.abs())
    return (X - far).clamp_(min=0)


def _line_search(columns: DivergenceColumns, place: Place, step: Tensor, promised: Tensor, sure: Tensor) -> Tensor:
    """The largest of 1, ½, ¼, ... of a step that brings enough, (N,); 0 where none does.

    Arguments:
        columns: N problems.
        place: theirs.
        step: (N, k).
        promised: (N,), how far the gradient says that the whole step goes down, ≥ 0.
        sure: (N,), which columns take all of it in any case.
    """
    share = torch.ones_like(promised)
    short = (~sure & ~(columns.change(place, step) <= -1e-4 * promised)).nonzero().squeeze(1)
    t = 1.0
    for _ in range(HALVINGS):
        if not len(short):
            return share
        t *= 0.5
        share[short] = t
        change = columns.take(short).change(place.take(short), t * step[short])
        short = short[~(change <= -1e-4 * t * promised[short])]
    share[short] = 0.0
    return share
