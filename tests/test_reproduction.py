"""The reproduction of the paper, small: it runs, goes on where it stopped, and reports what it has and nothing else."""

import re
from dataclasses import replace

import pytest

from diffnmf.errors import RunFolderError
from diffnmf.evaluation import STUDIES, reproduce
from diffnmf.evaluation.reproduction.study import MIXTURE

pytestmark = pytest.mark.usefixtures("one_thread")

SMOKE = STUDIES["smoke"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    output = tmp_path_factory.mktemp("smoke")
    return output, reproduce(SMOKE, output)


def test_the_report_has_every_part(smoke):
    output, report = smoke
    text = (output / "report.md").read_text(encoding="utf-8")
    for part in ("Table 1", "Table 2", "Figs. 7, 8", "Fig. 10", "Fig. 11", "## Figures"):
        assert part in text
    assert "needs two data sets" in text  # there is nothing to transfer to
    assert "not run" not in text
    assert "## Not run" not in text
    assert report == output / "report.html"
    html = report.read_text(encoding="utf-8")
    pictures = sorted((output / "pictures").glob("*.png"))
    assert len(pictures) == html.count("data:image/png;base64,") == 11
    assert {picture.name[:5] for picture in pictures} == {"fig04", "fig05", "fig06", "fig09", "fig10", "fig11"}


def test_every_number_is_in_the_table_of_records(smoke):
    output, _ = smoke
    lines = (output / "table1.csv").read_text(encoding="utf-8").splitlines()
    # 4 classical methods and 3 networks with two seeds, 3 without chance with one; 4 protocols each
    assert len(lines) == 1 + 4 * (2 * (4 + 3) + 3)


@pytest.fixture
def without_pictures(monkeypatch):
    """They take most of the time of a second call."""
    monkeypatch.setattr("diffnmf.evaluation.reproduction.reproduce.save_pictures", lambda bench, folder: [])


def test_nothing_is_measured_twice(smoke, without_pictures):
    said = []
    before = tables(smoke[0])
    reproduce(SMOKE, smoke[0], announce=said.append)
    assert said == ["drawing and writing the report"]
    assert tables(smoke[0]) == before


def tables(output):
    return (output / "report.md").read_text(encoding="utf-8").split("## Figures")[0]


def test_it_goes_on_where_it_stopped(smoke, without_pictures):
    output, _ = smoke
    record = output / "records" / "digits-k5-mu-seed1.json"
    before = record.read_text(encoding="utf-8")
    record.unlink()
    said = []
    reproduce(SMOKE, output, announce=said.append)
    assert said == ["measuring digits-k5-mu-seed1", "drawing and writing the report"]

    def errors(text):
        return re.findall(r'"eps": ([\d.]+)', text)

    assert errors(record.read_text(encoding="utf-8")) == errors(before)


def test_a_report_of_nothing_says_so(tmp_path):
    said = []
    reproduce(SMOKE, tmp_path, announce=said.append, report_only=True)
    assert said == ["drawing and writing the report"]
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "- digits-k5-anls-seed0" in text.split("## Not run")[1]
    assert not re.search(r"\| (held|did not hold)", text)
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "records").exists()


def test_another_study_is_not_mixed_in(smoke):
    other = replace(SMOKE, models={**SMOKE.models, MIXTURE: {"w_solver": "bpp", "mixture": True}})
    with pytest.raises(RunFolderError, match="holds a reproduction with other options"):
        reproduce(other, smoke[0])


def test_a_damaged_record_is_named(smoke):
    output, _ = smoke
    record = output / "records" / "digits-k5-spa-seed0.json"
    content = record.read_text(encoding="utf-8")
    record.write_text("{", encoding="utf-8")
    try:
        with pytest.raises(RunFolderError, match=r"digits-k5-spa-seed0\.json: damaged: .*delete it"):
            reproduce(SMOKE, output)
    finally:
        record.write_text(content, encoding="utf-8")


@pytest.mark.parametrize("name", ["datasets", "ks", "seeds"])
def test_an_empty_study_is_refused(name):
    with pytest.raises(ValueError, match=f"{name}: expected at least one"):
        replace(SMOKE, **{name: ()})
