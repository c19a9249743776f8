"""How tiles.h cuts a matrix into strips of columns."""

from torch import Tensor

STRIP_BYTES = 768  # of a row


def strips(X: Tensor) -> tuple[int, int]:
    """How many strips the columns of X (B, k, N) make, all problems together, and how many columns are in one."""
    batch, _, width = X.shape
    columns = STRIP_BYTES // X.element_size()
    return batch * -(-width // columns), columns
