"""Studies: a comparison of W-solvers, and the reproduction of the paper. Only the commands import them."""
