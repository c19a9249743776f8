"""Reports: tables as they are read, pages that need no other file, and that a failure leaves nothing behind."""

import base64
import csv
import math
import re

import numpy as np
import pytest
from markdown import markdown as to_html
from PIL import Image

from diffnmf.files import write_csv
from diffnmf.studies.report import markdown_table, mean_std, write_report


@pytest.fixture
def picture(tmp_path):
    """pictures/a b.png below the folder of the report."""
    path = tmp_path / "pictures" / "a b.png"
    path.parent.mkdir()
    Image.new("L", (4, 3), 128).save(path)
    return path


class TestTable:
    def test_cells(self):
        table = markdown_table(["method", "k", "eps"], [["a|b", 30, 1.5326], ["two\nlines", None, np.float32(2)]])
        assert table.split("\n") == [
            "| method | k | eps |",
            "| --- | ---: | ---: |",
            r"| a\|b | 30 | 1.533 |",
            "| two lines | – | 2.000 |",
        ]

    def test_small_numbers_do_not_look_like_zero(self):
        table = markdown_table(["x"], [[0.0], [0.00004], [-0.00004], [0.0006], [math.nan]])
        assert table.split("\n")[2:] == ["| 0.000 |", "| 4.00e-05 |", "| -4.00e-05 |", "| 0.001 |", "| nan |"]

    def test_columns_of_numbers_stand_to_the_right(self):
        rows = [["CD", mean_std([1.0, 2.0]), 3, "1e-3"], ["MU", mean_std([]), 4, "slow"]]
        assert markdown_table(["a", "b", "c", "d"], rows).split("\n")[1] == "| --- | ---: | ---: | --- |"

    def test_it_is_one_table_for_a_markdown_reader(self):
        page = to_html(markdown_table(["a|b", "c"], [["x | y", 1], ["`z|`", 2]]), extensions=["tables"])
        assert page.count("<tr>") == 3
        assert page.count("<td") == 4
        assert "<td>x | y</td>" in page
        assert "<th>a|b</th>" in page

    def test_no_rows(self):
        assert markdown_table(["a", "b"], []) == "| a | b |\n| --- | --- |"

    def test_a_row_of_another_length_is_named(self):
        with pytest.raises(ValueError, match="expected 2 cells as in the header; got 3 in row 2"):
            markdown_table(["a", "b"], [[1, 2], [1, 2, 3]])


class TestMeanStd:
    @pytest.mark.parametrize(
        ("values", "text"),
        [
            ([1.52, 1.533, 1.546], "1.533 ± 0.013"),
            (np.array([1.0, 3.0]), "2.000 ± 1.414"),  # the sample's, not the population's 1
            ([2], "2.000"),
            ([], "–"),
            ([1.0, math.nan], "nan ± nan"),
            ([1.0, math.inf], "inf ± nan"),
        ],
    )
    def test_text(self, values, text):
        assert mean_std(values) == text

    def test_digits(self):
        assert mean_std([1.0, 2.0], digits=1) == "1.5 ± 0.7"


class TestReport:
    def test_both_files(self, tmp_path):
        text = "# Results ± *fits* & more\n\n| a | b |\n| --- | ---: |\n| ü | 2 |\n\n```python\nx = '<b>'\n```\n"
        files = write_report(tmp_path / "new", "table1", text)
        assert files == (tmp_path / "new" / "table1.md", tmp_path / "new" / "table1.html")
        assert files[0].read_text(encoding="utf-8") == text
        page = files[1].read_text(encoding="utf-8")
        assert page.startswith('<!DOCTYPE html>\n<html lang="en">')
        assert '<meta charset="utf-8">' in page
        assert "<title>Results ± fits &amp; more</title>" in page
        assert re.search(r"<table>.*<td>ü</td>.*</table>", page, re.DOTALL)
        assert "x = '&lt;b&gt;'" in page

    def test_the_title_of_a_page_without_headings(self, tmp_path):
        _, page = write_report(tmp_path, "a<b", "text")
        assert "<title>a&lt;b</title>" in page.read_text()

    @pytest.mark.parametrize(
        "link",
        [
            "![Ten bars & 2](<pictures/a b.png>)",
            "![Ten bars & 2](pictures/a%20b.png)",
            "<img alt='Ten bars &amp; 2' src='pictures/a b.png'>",
        ],
    )
    def test_pictures_are_inside(self, picture, tmp_path, link):
        _, file = write_report(tmp_path, "report", f"# A\n\n{link} and again {link}\n")
        page = file.read_text()
        uri = f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
        assert re.findall(r"""src=["'](.*?)["']""", page) == [uri, uri]
        assert len(re.findall(r"""alt=["']Ten bars &amp; 2["']""", page)) == 2
        assert "pictures/" not in page

    def test_what_is_inside_already_stays(self, tmp_path):
        _, file = write_report(tmp_path, "report", "![dot](data:image/gif;base64,R0lGODlh)")
        assert 'src="data:image/gif;base64,R0lGODlh"' in file.read_text()

    def test_pictures_in_code_are_no_pictures(self, tmp_path):
        _, file = write_report(tmp_path, "report", '`![a](b.png)`\n\n```\n<img src="c.png">\n```\n')
        assert '&lt;img src="c.png"&gt;' in file.read_text().replace("&quot;", '"')

    def test_missing_pictures_are_named_before_anything_is_written(self, picture, tmp_path):
        old = write_report(tmp_path, "report", "old")
        before = [file.read_bytes() for file in old]
        with pytest.raises(FileNotFoundError, match=r"do not exist: .*pictures/x\.png, .*y\.png"):
            write_report(tmp_path, "report", "![x](pictures/x.png) ![ok](<pictures/a b.png>) ![y](y.png)")
        assert [file.read_bytes() for file in old] == before
        with pytest.raises(FileNotFoundError, match="pictures that do not exist"):
            write_report(tmp_path / "new", "report", "![x](pictures)")
        assert not (tmp_path / "new").exists()

    def test_what_is_no_picture_file_is_refused(self, tmp_path):
        (tmp_path / "table.csv").write_text("a")
        for link in ("https://example.org/a.png", "//example.org/a.png", "table.csv"):
            with pytest.raises(ValueError, match=f"markdown: expected .*; got .*{re.escape(link)}"):
                write_report(tmp_path, "report", f"![x]({link})")

    def test_importing_loads_no_markdown(self, fresh_processes):
        code = "import sys, diffnmf.studies.report; assert 'markdown' not in sys.modules"
        result = fresh_processes.run(code)
        assert result.returncode == 0, result.stderr


class TestCsv:
    def test_round_trip(self, tmp_path):
        rows = [{"method": "a, b", "eps": 1.5}, {"method": 'say "x"', "seed": 3}, {"eps": None}]
        write_csv(tmp_path / "new" / "a.csv", rows)
        with (tmp_path / "new" / "a.csv").open(newline="", encoding="utf-8") as stream:
            read = list(csv.reader(stream))
        assert read == [["method", "eps", "seed"], ["a, b", "1.5", ""], ['say "x"', "", "3"], ["", "", ""]]

    def test_a_failure_keeps_the_older_table(self, tmp_path):
        write_csv(tmp_path / "a.csv", [{"x": 1}])

        class Unprintable:
            def __str__(self):
                raise OverflowError

        with pytest.raises(OverflowError):
            write_csv(tmp_path / "a.csv", [{"x": 2}, {"x": Unprintable()}])
        assert (tmp_path / "a.csv").read_text().split() == ["x", "1"]
        assert len(list(tmp_path.iterdir())) == 1


def test_a_small_number_does_not_look_like_zero():
    assert mean_std([1e-7, 2e-7]) == "1.5e-07 ± 7.1e-08"
    assert mean_std([3e-4]) == "3.0e-04"
    assert mean_std([0.0, 0.0]) == "0.000 ± 0.000"
