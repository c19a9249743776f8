"""Bounds, sums, and a Gram matrix for every column: what the plain problem of ``exact`` does not have."""
