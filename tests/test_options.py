"""Options declared as fields: checked, described, and listed for whoever shows them."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from diffnmf.checks import check_flag
from diffnmf.options import Options, at_least, declared, documented, one_of, option, options_of, within


@documented
@dataclass(frozen=True)
class Oven(Options):
    """How to bake.

    Second paragraph.
    """

    trays: int = field(metadata=declared("Trays in the oven.", at_least(1)))
    heat: float = option(0.5, "Share of the full heat.", within("(0, 1]"))
    program: str = option("bread", "What is baked.", one_of(("bread", "cake")), topic="Recipes")
    minutes: int | None = option(None, "Until the bell.", at_least(0), none="until it is done", command_line=False)
    light: bool | None = option(False, "Whether it can be seen.", check_flag, none="at night")


class TestChecks:
    def test_values_are_kept_as_plain_ones(self):
        oven = Oven(np.int64(2), np.float32(0.25), light=np.bool_(True), minutes=np.int8(3))
        assert [type(value) for value in (oven.trays, oven.heat, oven.light, oven.minutes)] == [int, float, bool, int]
        assert oven == Oven(2, 0.25, light=True, minutes=3)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"trays": 0}, ValueError, "^trays: expected an int ≥ 1; got 0"),
            ({"trays": 1.0}, TypeError, r"^trays: expected an int ≥ 1; got 1\.0"),
            ({"trays": None}, TypeError, "^trays: expected an int ≥ 1; got None"),
            ({"heat": 0}, ValueError, r"^heat: expected a number in \(0, 1\]; got 0"),
            ({"program": "soup"}, ValueError, "^program: expected one of bread, cake; got 'soup'"),
            ({"minutes": -1}, ValueError, "^minutes: expected an int ≥ 0; got -1"),
            ({"light": "on"}, TypeError, "^light: expected True or False; got 'on'"),
        ],
    )
    def test_errors_name_the_option(self, options, error, message):
        with pytest.raises(error, match=message):
            Oven(**{"trays": 1, **options})

    def test_none_only_where_it_means_something(self):
        assert Oven(1, minutes=None, light=None).light is None
        for name in ("heat", "program"):
            with pytest.raises((TypeError, ValueError), match=f"^{name}: .* got None"):
                Oven(1, **{name: None})


class TestDescriptions:
    def test_options_in_the_order_of_the_fields(self):
        trays, heat, program, minutes, light = options_of(Oven)
        assert [known.name for known in (trays, heat, program, minutes, light)] == [
            *("trays", "heat", "program", "minutes", "light")
        ]
        assert [known.kind for known in (trays, heat, program, minutes, light)] == [int, float, str, int, bool]
        assert (program.topic, heat.topic) == ("Recipes", "")
        assert (minutes.command_line, heat.command_line) == (False, True)

    def test_defaults_in_words(self):
        words = {known.name: known.in_words(known.default) for known in options_of(Oven)[1:]}
        assert words == {"heat": "0.5", "program": "bread", "minutes": "until it is done", "light": "no"}

    def test_the_docstring_has_them_all(self):
        assert Oven.__doc__ == "\n".join(
            [
                "How to bake.",
                "",
                "Second paragraph.",
                "",
                "Attributes:",
                "    trays: Trays in the oven. (an int ≥ 1)",
                "    heat: Share of the full heat. (default: 0.5; in (0, 1])",
                "    program: What is baked. (default: 'bread')",
                "    minutes: Until the bell. (default: None, until it is done; an int ≥ 0)",
                "    light: Whether it can be seen. (default: False; None: at night)",
            ]
        )
