"""The tableau of a column in Triton, which stays in registers, and what programs do with it.

The tableau M of a free set F begins as A and holds A_FF⁻¹ on F, the Schur complement A_NN − A_NF A_FF⁻¹A_FN off F,
A_NF A_FF⁻¹ in the rows off F and −A_FF⁻¹A_FN in those of F: M_ij is M_ji, or −M_ji where one of i and j is in F alone.
Beside it v holds x on F and the negative gradient c − Ax off F. Exchanging entry j, in either direction, is one step of
rank one (Tucker's principal pivot transform; Cottle and Dantzig 1968).
"""

import triton
import triton.language as tl


@triton.jit
def laid_out(v, at):
    """v, spread over the registers as the rows of a tableau are: Triton 3.5 fails to see to that around a loop."""
    return tl.sum(tl.where(at[:, None] == at[None, :], v[:, None], 0.0), axis=0)


@triton.jit
def entry(v, here):
    """The one entry of v that is ``here``, or 0: by its halves, as a warp sums 32 bits in one instruction."""
    bits = v.to(tl.int64, bitcast=True)
    low = tl.sum(tl.where(here, bits.to(tl.int32), 0), axis=0)
    high = tl.sum(tl.where(here, upper_half(v), 0), axis=0)
    return ((high.to(tl.int64) << 32) | (low.to(tl.int64) & 0xFFFFFFFF)).to(tl.float64, bitcast=True)


@triton.jit
def upper_half(v):
    """The upper half of the bits of v, which orders numbers ≥ 0 as they are, to six digits."""
    return (v.to(tl.int64, bitcast=True) >> 32).to(tl.int32)


@triton.jit
def row_of(M, here):
    """The row of M that is ``here``."""
    return tl.sum(tl.where(here[:, None], M, 0.0), axis=0)


@triton.jit
def exchange(M, v, here, free, leaves):
    """Exchange the entry that is ``here``, free where it ``leaves``: the tableau, v, and the pivot.

    That is positive but for rounding.
    """
    row = row_of(M, here)
    pivot = entry(row, here)
    inverse = 1.0 / pivot
    step = entry(v, here) * inverse
    # Row −row / pivot, column column / pivot and corner 1 / pivot come of the same product as all the rest.
    column = tl.where(free == leaves, row, -row)
    left = tl.where(here, -1.0 - inverse, -column * inverse)
    right = tl.where(here, pivot - 1.0, row)
    M = tl.fma(left[:, None], right[None, :], M)
    return M, tl.where(here, step, v - row * step), pivot


@triton.jit
def refined(M, A, c, v, free):
    """x with A_FF x_F = c_F, after one step of refinement with the inverse in M: it forgets the rounding on the way."""
    x = tl.where(free, v, 0.0)
    left = tl.where(free, c - tl.sum(A * x[:, None], axis=0), 0.0)
    return tl.where(free, x + tl.sum(M * left[:, None], axis=0), 0.0)


@triton.jit
def matrix(A, p, at, k: tl.constexpr):
    """Matrix p, continued by the identity."""
    inside = (at < k)[:, None] & (at < k)[None, :]
    loaded = tl.load(A + p * k * k + at[:, None] * k + at[None, :], mask=inside, other=0.0)
    return _continued(loaded, inside, at)


@triton.jit
def matrix_again(A, p, at, k: tl.constexpr):
    """``matrix``, read again after a loop: kept beside a tableau it would take as many registers as that.

    The name of the cache keeps the compiler from seeing that it is the same.
    """
    inside = (at < k)[:, None] & (at < k)[None, :]
    loaded = tl.load(A + p * k * k + at[:, None] * k + at[None, :], mask=inside, other=0.0, cache_modifier=".ca")
    return _continued(loaded, inside, at)


@triton.jit
def _continued(loaded, inside, at):
    return tl.where(inside, loaded, tl.where(at[:, None] == at[None, :], 1.0, 0.0).to(tl.float64))
