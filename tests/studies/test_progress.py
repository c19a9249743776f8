"""The progress of a study: what is counted, and the estimate of the time left."""

import pytest

from diffnmf.studies.progress import Progress


def announced(total, seconds):
    """What is said when parts take so many seconds each."""
    now, said = [100.0], []
    progress = Progress(total, said.append, clock=lambda: now[0])
    for number, duration in enumerate(seconds):
        progress.begin(f"part {number}")
        now[0] += duration
    return said


def test_the_first_part_has_no_estimate_and_the_others_a_mean():
    assert announced(4, [10, 20, 30, 40]) == [
        "part 0 (1 of 4)",
        "part 1 (2 of 4, about 30 s left)",
        "part 2 (3 of 4, about 30 s left)",
        "part 3 (4 of 4, about 20 s left)",
    ]


@pytest.mark.parametrize(
    ("seconds", "left"),
    [(0.0, "1 s"), (0.2, "1 s"), (59.4, "59 s"), (89, "1 min"), (3600, "60 min"), (5399, "90 min"), (9000, "2.5 h")],
)
def test_the_estimate_is_in_words(seconds, left):
    assert announced(2, [seconds, 0])[1] == f"part 1 (2 of 2, about {left} left)"


def test_more_parts_than_expected_do_not_make_nonsense():
    assert announced(1, [10, 10, 10])[1:] == ["part 1 (2 of 2, about 10 s left)", "part 2 (3 of 3, about 10 s left)"]
