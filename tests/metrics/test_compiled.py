"""Scores inside of torch.compile."""

import pytest
import torch
from helpers import rand

from diffnmf.metrics import copying, part_overlap, relative_error, summarize

pytestmark = pytest.mark.usefixtures("one_thread")
H, W, Y = rand(40, 5), rand(5, 30, seed=1), rand(40, 30, seed=2)


@pytest.mark.parametrize(
    ("score", "arguments"),
    [(copying, (H, Y)), (part_overlap, (H,)), (relative_error, (Y, H @ W)), (summarize, (Y, H, W))],
)
def test_a_score_is_one_graph(score, arguments):
    compiled = torch.compile(score, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*arguments), score(*arguments))
