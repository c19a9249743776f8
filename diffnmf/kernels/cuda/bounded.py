"""Bounds and a sum, in Triton: one column is one program. ``solvers/constrained/pivoting.py`` has the same in torch.

That file tells what the tableau is and why the walk ends. Here it stays in registers, see ``tableau.py``.
"""

import triton
import triton.language as tl

from diffnmf.kernels.cuda.tableau import entry, exchange, laid_out, matrix, row_of

ENDED = tl.constexpr(0)
OUT_OF_STEPS = tl.constexpr(1)
NOT_REACHABLE = tl.constexpr(2)


@triton.jit
def _wide(flag, at):
    """A flag of the column for each of its entries: the interpreter does not spread one by itself."""
    return at * 0 + flag.to(tl.int32) > 0


@triton.jit
def _filled(A, a, c, t, lower, upper, x, at, inside, tiny, k: tl.constexpr):
    """Fill entries until the sum is t, those first that gain most for it: x, the last one q, and whether t is reached.

    q is −1 where the sum holds no entry: then x is the only point, or there is none.
    """
    unbounded = (lower == -float("inf")) & inside
    price = tl.where(inside, a, 1.0)
    diagonal = tl.sum(tl.where(at[:, None] == at[None, :], A, 0.0), axis=0)
    left = t - tl.sum(a * x, axis=0)
    nothing = tiny * (tl.abs(t) + tl.sum(a * tl.abs(x), axis=0))
    done = (tl.sum(unbounded.to(tl.int32), axis=0) == 0) & (left <= nothing)
    reached = (done == 0) | (left >= -nothing)
    slope = tl.sum(A * x[:, None], axis=0) - c
    q = tl.sum(at * 0, axis=0) - 1
    turn = 0
    while (turn < k) & (done == 0):
        room = tl.where(inside, upper - x, 0.0)
        step = tl.minimum(room, left / price)
        gain = (0.5 * step * diagonal + slope) / price
        first = unbounded & ((room > 0.0) | _wide(left < 0.0, at))
        gain = tl.where(first, -float("inf"), tl.where(room > 0.0, gain, float("inf")))
        best = tl.min(gain, axis=0)
        j = tl.min(tl.where(gain == best, at, at + k), axis=0)
        found = best < float("inf")
        whole = left / entry(price, at == j)
        fits = found & (whole < entry(room, at == j))
        moved = tl.where(found, tl.minimum(whole, entry(room, at == j)), 0.0)
        here = (at == j) & _wide(found, at)
        x = tl.where(here, tl.where(_wide(fits, at), x + moved, upper), x)
        slope += row_of(A, at == j) * moved
        left = tl.where(fits, 0.0, left - entry(a, at == j) * moved)
        q = tl.where(fits, j, q)
        done = fits | (found == 0)
        reached = reached & (found | (left <= nothing))
        turn += 1
    return x, q, reached & (done | (left <= nothing))


@triton.jit
def _vertex(A, a, c, x, at, q):
    """The tableau of the free set {q} with the multiplier of the sum swept in, and the gradient."""
    share = a / entry(a, at == q)
    column = row_of(A, at == q)
    corner = entry(column, at == q)
    M = A - column[:, None] * share[None, :] - share[:, None] * column[None, :]
    M = M + corner * share[:, None] * share[None, :]
    row, across = (at == q)[:, None], (at == q)[None, :]
    M = tl.where(row, -share[None, :], tl.where(across, share[:, None], M))
    M = tl.where(row & across, 0.0, M)
    r = c - tl.sum(A * x[:, None], axis=0)
    return M, r - entry(r, at == q) * share


@triton.jit(do_not_specialize_on_alignment=["A"])  # loaded in pairs, the tableau would not fit in the registers
def walk(
    A, WEIGHT, C, LOWER, UPPER, SHARE, T, X, FREE, MULTIPLIES, STATE, STEPS, m, most, tiny,
    k: tl.constexpr, K: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """min ½ xᵀAx − cᵀx, lower ≤ x ≤ upper, and with SUM aᵀx = t, for one column: x, before the last refinement.

    STATE: 0 no entry wants to move, 1 out of steps, 2 the sum cannot be reached.
    """
    p, at = tl.program_id(0).to(tl.int64), tl.arange(0, K)
    inside = at < k
    M = matrix(A, p // m, at, k)
    c = tl.load(C + p * k + at, mask=inside, other=0.0)
    lower = tl.load(LOWER + p * k + at, mask=inside, other=0.0)
    upper = tl.load(UPPER + p * k + at, mask=inside, other=0.0)  # what pads stays where it is
    weight = tl.load(WEIGHT + (p // m) * k + at, mask=inside, other=1.0)
    counts = (c > 0.0) | (lower == -float("inf"))  # a price that keeps an entry at zero is rounding to no other
    x = tl.where(lower == -float("inf"), tl.minimum(upper, 0.0), lower)
    free = at < 0
    reached = p >= 0
    more = p >= 0
    if SUM:
        a = tl.load(SHARE + p * k + at, mask=inside, other=0.0)
        x, q, reached = _filled(M, a, c, tl.load(T + p), lower, upper, x, at, inside, tiny, k)
        free = at == q
        more = reached & (q >= 0)
        r = laid_out(c, at)
        if more:
            M, r = _vertex(M, a, c, x, at, q)
    else:
        r = c - tl.sum(M * x[:, None], axis=0)
    one = (tl.sum(at * 0, axis=0) + 1).to(tl.int64)
    rejected = one - one  # a bit an entry: there are at most 64
    moving = tl.sum(at * 0, axis=0) - 1
    steps = tl.sum(at * 0, axis=0)
    while more:
        wrong = tl.maximum(tl.where(x < upper, r, 0.0), tl.where(x > lower, -r, 0.0))
        size = tl.maximum(tl.max(tl.where(counts | free, tl.abs(c), 0.0), axis=0), 1.0)
        tolerance = tiny * (size + tl.sum(tl.abs(x), axis=0)) * weight
        wanted = (wrong > tolerance) & (free == 0) & ((rejected >> at.to(tl.int64)) % 2 == 0)
        curvature = tl.sum(tl.where(at[:, None] == at[None, :], M, 0.0), axis=0)
        score = tl.where(wanted, wrong * wrong / tl.maximum(curvature, tiny), 0.0)
        late = _wide(steps > most // 2, at)  # the least index then: it ends cycles
        score = tl.where(wanted & late, (K - at).to(tl.float64), score)
        best = tl.max(score, axis=0)
        going = moving >= 0
        chosen = tl.where(best > 0.0, tl.min(tl.where(score == best, at, K), axis=0), -1)
        moving = tl.where(going, moving, chosen)
        more = (moving >= 0) & (steps < most)
        if more:
            here = at == moving
            column = row_of(M, here)  # as it is off the free set
            curved, slope = entry(column, here), entry(r, here)
            up = slope > 0.0
            sign = tl.where(up, 1.0, -1.0)
            # How far it goes: to its minimum, to its other bound, or until a free entry meets one.
            full = tl.where(curved > tiny, tl.abs(slope) / tl.maximum(curved, tiny), float("inf"))
            own = entry(tl.where(_wide(up, at), upper - x, x - lower), here)
            speed = tl.where(free, -sign * column, 0.0)
            space = tl.maximum(tl.where(speed > 0.0, upper - x, x - lower), 0.0)
            ratio = tl.where(speed != 0.0, space / tl.where(speed != 0.0, tl.abs(speed), 1.0), float("inf"))
            blocked = tl.min(ratio, axis=0)
            i = tl.min(tl.where(ratio == blocked, at, K), axis=0)
            distance = tl.minimum(tl.minimum(full, own), blocked)
            stuck = distance == float("inf")
            rests = (stuck == 0) & (own <= full) & (own <= blocked)
            enters = (stuck == 0) & (rests == 0) & (full <= blocked)
            leaves = (stuck == 0) & (rests == 0) & (enters == 0)
            move = tl.where(stuck, 0.0, sign * distance)
            x = x - tl.where(free, column, 0.0) * move + tl.where(here, move, 0.0)
            x = tl.where(here & _wide(rests, at), tl.where(_wide(up, at), upper, lower), x)
            out = (at == i) & _wide(leaves, at)
            x = tl.where(out, tl.where(speed < 0.0, lower, upper), x)
            r = r - tl.where(free, 0.0, column) * move
            rejected = tl.where(move == 0.0, tl.where(stuck, rejected | (one << moving), rejected), 0)
            alone = leaves & (tl.sum(free.to(tl.int32), axis=0) == 1)
            changes = alone & SUM
            if (enters | leaves) & (changes == 0):
                M, _, _ = exchange(M, r, at == tl.where(leaves, i, moving), free, leaves)
            free = (free & (out == 0)) | (here & _wide(enters | changes, at))
            r = tl.where(out | (here & _wide(enters, at)), 0.0, r)
            if SUM:  # noqa: SIM102 - known when it is compiled, and the other is not
                if changes:  # the one free entry of a vertex has met a bound: that of the one that moved instead
                    M, r = _vertex(matrix(A, p // m, at, k), a, c, x, at, moving)
            moving = tl.where(leaves & (changes == 0), moving, -1)
            steps += 1
    ended = moving < 0
    tl.store(X + p * k + at, x, mask=inside)
    tl.store(FREE + p * k + at, free.to(tl.int8), mask=inside)
    tl.store(MULTIPLIES + p, tl.where(SUM, tl.sum(free.to(tl.int32), axis=0) > 0, False).to(tl.int8))
    tl.store(STATE + p, tl.where(reached, tl.where(ended, ENDED, OUT_OF_STEPS), NOT_REACHABLE))
    tl.store(STEPS + p, steps)
