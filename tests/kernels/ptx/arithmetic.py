"""Instructions that compute from registers alone: what each does to arrays, one number a thread."""

import re
from collections.abc import Callable

import numpy as np

KINDS: dict[str, type] = {
    **{f"b{bits}": getattr(np, f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{f"u{bits}": getattr(np, f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{f"s{bits}": getattr(np, f"int{bits}") for bits in (8, 16, 32, 64)},
    "f32": np.float32,
    "f64": np.float64,
    "pred": np.bool_,
}
SIZES = {kind: np.dtype(dtype).itemsize for kind, dtype in KINDS.items()}


def bits_of(kind: str) -> type:
    """The unsigned integer as wide as a kind; flags are flags."""
    return np.bool_ if kind == "pred" else KINDS[f"b{8 * SIZES[kind]}"]


def _fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a·b + c, rounded once, or nearly: in the next wider kind."""
    wider = np.float64 if a.dtype == np.float32 else np.longdouble
    return (a.astype(wider) * b + c).astype(a.dtype)


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind == "f":
        return np.divide(a, b)
    whole, by = a.astype(np.int64), np.where(b == 0, 1, b).astype(np.int64)
    return (np.sign(whole) * np.sign(by) * (np.abs(whole) // np.abs(by))).astype(a.dtype)


def _shift_left(a: np.ndarray, by: np.ndarray) -> np.ndarray:
    width = 8 * a.dtype.itemsize
    return np.where(by >= width, a.dtype.type(0), np.left_shift(a, np.minimum(by, width - 1).astype(a.dtype)))


def _shift_right(a: np.ndarray, by: np.ndarray) -> np.ndarray:
    width = 8 * a.dtype.itemsize
    shifted = np.right_shift(a, np.minimum(by, width - 1).astype(a.dtype))
    return shifted if a.dtype.kind == "i" else np.where(by >= width, a.dtype.type(0), shifted)


def _extract(a: np.ndarray, position: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Some bits of a, continued by their sign where a has one."""
    ends = 8 * a.dtype.itemsize - length.astype(np.int64)
    up = np.left_shift(a, (ends - position).astype(a.dtype))
    return np.right_shift(up, ends.astype(a.dtype))


def _permute(a: np.ndarray, b: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Four of the eight bytes of a and b; with the eighth bit of a choice, the sign of that byte in its place."""
    given = np.stack([a, b], axis=1).view(np.uint8)
    choice = (which[:, None] >> np.arange(0, 16, 4)).astype(np.int64)
    taken = np.take_along_axis(given, choice % 8, axis=1)
    signs = np.where(taken >= 128, 255, 0)
    return np.where(choice % 16 >= 8, signs, taken).astype(np.uint8).view(np.uint32)[:, 0]


def _either(wants_nan: bool, compare: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """A comparison that is so, or not so, where a number is NaN."""

    def compared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        unordered = np.isnan(a) | np.isnan(b) if a.dtype.kind == "f" else np.zeros(a.shape, bool)
        return (compare(a, b) & ~unordered) | (wants_nan & unordered)

    return compared


_ORDERED = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal}
_ORDERED |= {"gt": np.greater, "ge": np.greater_equal}
COMPARISONS = {name: _either(False, compare) for name, compare in _ORDERED.items()}
COMPARISONS |= {f"{name}u": _either(True, compare) for name, compare in _ORDERED.items()}

# Of numbers of one kind, that of the result; min and max of a number and NaN are the number.
PLAIN: dict[str, Callable[..., np.ndarray]] = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": _divide}
PLAIN |= {"abs": np.abs, "neg": np.negative, "sqrt": np.sqrt, "not": np.invert, "min": np.fmin, "max": np.fmax}
PLAIN |= {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "fma": _fma, "prmt": _permute}
PLAIN |= {"mad": lambda a, b, c: a * b + c, "copysign": lambda sign, a: np.copysign(a, sign)}


def compute(op: tuple[str, ...], read: Callable[[int, str], np.ndarray]) -> np.ndarray:
    """What an instruction finds. ``read(i, kind)`` is operand i, counted from the result, as a kind."""
    head, kind = op[0], op[-1]
    if head == "setp":
        return COMPARISONS[op[1]](read(1, kind), read(2, kind))
    if head == "selp":
        return np.where(read(3, "pred"), read(1, kind), read(2, kind))
    if head == "cvt":
        return read(1, kind).astype(KINDS[op[-2]])
    if head in ("shl", "shr"):
        return (_shift_left if head == "shl" else _shift_right)(read(1, kind), read(2, "u32"))
    if head == "bfe":
        return _extract(read(1, kind), read(2, "u32"), read(3, "u32"))
    if "wide" in op:
        wide = f"{kind[0]}{16 * SIZES[kind]}"
        product = read(1, kind).astype(KINDS[wide]) * read(2, kind).astype(KINDS[wide])
        return product + read(3, wide) if head == "mad" else product
    if head not in PLAIN:
        raise NotImplementedError(f"an instruction that is not known here: {'.'.join(op)}")
    return PLAIN[head](*(read(i, kind) for i in range(1, 1 + _arguments(head))))


def _arguments(head: str) -> int:
    return 1 if head in ("sqrt", "abs", "neg", "not") else 3 if head in ("fma", "mad", "prmt") else 2


def product_of_matrices(shape: str, a: list[np.ndarray], b: list[np.ndarray], c: list[np.ndarray]) -> list[np.ndarray]:
    """AB + C of every warp, m8n8k4 or m16n8k4 to m16n8k16 in float64, spread over its threads as the ISA says.

    With h = m/8, a thread holds A[lane/4 + 8(i%h), lane%4 + 4(i//h)] in its register i of A, B[lane%4 + 4i, lane/4],
    and C[lane/4 + 8(i//2), 2(lane%4) + i%2].
    """
    rows, _, inner = map(int, re.findall(r"\d+", shape))
    high = rows // 8
    A = np.stack(a).reshape(inner // 4, high, -1, 8, 4).transpose(2, 1, 3, 0, 4).reshape(-1, rows, inner)
    B = np.stack(b).reshape(inner // 4, -1, 8, 4).transpose(1, 0, 3, 2).reshape(-1, inner, 8)
    C = np.stack(c).reshape(high, 2, -1, 8, 4).transpose(2, 0, 3, 4, 1).reshape(-1, rows, 8)
    D = (A @ B + C).reshape(-1, high, 8, 4, 2).transpose(1, 4, 0, 2, 3)
    return list(np.ascontiguousarray(D).reshape(2 * high, -1))


REDUCTIONS = {"add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or}
