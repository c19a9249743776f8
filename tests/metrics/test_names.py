"""Every score has one name in tables; the column error has two in files."""

import pytest

from diffnmf.metrics.names import NAMES, definitions, with_both_names, with_current_names


@pytest.mark.parametrize("prefix", ["", "test_", "ema_test_"])
@pytest.mark.parametrize("given", [("column_error",), ("eps",), ("column_error", "eps")])
def test_each_name_brings_the_other(prefix, given):
    scores = {"epoch": 3, **{prefix + name: 1.5 for name in given}, "relative_error": 0.5}
    both = with_both_names(scores)
    assert list(both.items()) == [
        ("epoch", 3),
        (f"{prefix}column_error", 1.5),
        (f"{prefix}eps", 1.5),
        ("relative_error", 0.5),
    ]


def test_other_names_stay_as_they_are():
    scores = {"steps": 1, "epsilon": 2, "my_column_errors": 3}
    assert with_both_names(scores) == scores


def test_the_current_names_are_each_there_once():
    scores = {"epoch": 3, "test_column_error": 1.5, "ema_test_column_error": 2.5, "epsilon": 4}
    assert with_current_names(with_both_names(scores)) == scores


def test_every_score_has_one_name_and_a_definition():
    assert len(set(NAMES.values())) == len(NAMES)
    assert definitions(["seconds", "dead_components", "relative_error"]) == [
        "dead: components that contribute nothing",
        "relative error: ‖Y − HW‖ / ‖Y‖",
    ]
