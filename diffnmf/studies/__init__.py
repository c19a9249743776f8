"""Studies on top of everything else: the W-solvers compared, the paper reproduced. Imported by the commands alone."""
