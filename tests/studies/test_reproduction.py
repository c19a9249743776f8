"""The reproduction of the paper, small: it runs, goes on where it stopped, and reports what it has and nothing else."""

import csv
import html
import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
import yaml

from diffnmf.errors import RunFolderError
from diffnmf.studies.paper import STUDIES, bases, reproduce, table2
from diffnmf.studies.paper.claims import _agreement, verdict_on
from diffnmf.studies.paper.pictures import _over_k
from diffnmf.studies.paper.study import FC, MIXTURE, NNLS
from diffnmf.studies.paper.table1 import printed
from diffnmf.studies.paper.workbench import Workbench

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

SMOKE = STUDIES["smoke"]
BANNER = "Smoke run: the numbers mean nothing. It shows only that every part runs; nothing was trained to its end."


@pytest.fixture(scope="module")
def first_call(tmp_path_factory):
    """The folder, the report, and what was said."""
    output, said = tmp_path_factory.mktemp("smoke"), []
    return output, reproduce(SMOKE, output, announce=said.append), said


@pytest.fixture(scope="module")
def smoke(first_call):
    return first_call[:2]


def test_it_says_how_far_it_is(first_call):
    """Every record is counted, and nothing else; trainings are parts of records."""
    output, _, said = first_call
    total = len(list((output / "records").iterdir()))
    counted = [message for message in said if message.startswith("measuring")]
    assert len(counted) == total > 50
    assert counted[0].endswith(f"(1 of {total})")
    assert re.search(rf"\({total} of {total}, about \d+ (s|min) left\)$", counted[-1])


def test_more_components_than_can_be_merged_are_refused_before_anything_is_measured(tmp_path):
    with pytest.raises(ValueError, match="k: expected at most 64, .* of a group of digits, 64 and 10; got 65"):
        reproduce(replace(SMOKE, ks=(5, 65)), tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize(("ks", "told"), [((5, 500, 10), "500, 10"), ((9,), None)])
def test_as_many_components_as_images_are_told_of(tmp_path, ks, told):
    """Before anything is measured: with 500 the first row alone takes minutes."""
    said = []
    reproduce(replace(SMOKE, ks=ks), tmp_path, announce=said.append, report_only=True)
    text = (tmp_path / "report.md").read_text(encoding="utf-8").split("## ")[0]
    found = [message for message in said if message.startswith("k = ")]
    assert len(found) == (told is not None) and text.count("> **k = ") == len(found)
    assert told is None or f"k = {told}: with as many components as a group has images, 10, copying" in found[0]


def test_a_smoke_run_finds_nothing(first_call):
    output, report, said = first_call
    assert said[0] == said[-1] == BANNER
    text = (output / "report.md").read_text(encoding="utf-8")
    assert f"> **{BANNER}**" in text.split("## ")[0]
    assert BANNER in report.read_text(encoding="utf-8")
    claims = text.split("## What the paper claims")[1].split("## ")[0]
    assert claims.count("| not decided: smoke run |") == 8
    assert not re.search(r"\| (held|did not hold)", claims)


def test_the_paper_is_named_in_full(smoke):
    for file in ("report.md", "report.html"):
        text = html.unescape((smoke[0] / file).read_text(encoding="utf-8"))
        assert 'Sihan Wei, "GAN-UNET: Non-negative Matrix Factorization Using Deep Neural Networks"' in text
        assert "University of Minnesota" in text


def test_the_report_has_every_part(smoke):
    output, report = smoke
    text = (output / "report.md").read_text(encoding="utf-8")
    for part in ("Table 1", "Table 2", "Figs. 7, 8", "Fig. 10", "Fig. 11", "## Figures"):
        assert part in text
    assert "needs two data sets" in text  # there is nothing to transfer to
    assert "Not drawn, because what they show was not run: Fig. 7, Fig. 8." in text
    assert "not run" not in text.replace("what they show was not run", "")
    assert "## Not run" not in text
    assert report == output / "report.html"
    page = report.read_text(encoding="utf-8")
    pictures = sorted((output / "pictures").glob("*.png"))
    assert len(pictures) == page.count("data:image/png;base64,") == 11
    assert {picture.name[:5] for picture in pictures} == {"fig04", "fig05", "fig06", "fig09", "fig10", "fig11"}


def test_merging_in_fixed_slots_is_as_merging_and_agrees_between_groups(smoke):
    rows = {"merge": [], "random": []}
    for order in ("class", "random"):
        merged, anls = (
            json.loads((smoke[0] / "records" / f"bases-{order}-k6-{row}-seed0.json").read_text(encoding="utf-8"))[
                "record"
            ]
            for row in ("merge-ordered-slots", "anls-a-random-start-for-each-group")
        )
        rows["merge"].append(merged["gap"])
        rows["random"].append(anls["gap"])
        assert merged["relative_error"] < 1.2 * anls["relative_error"]
    assert max(rows["merge"]) < min(rows["random"]), "slots need less matching"


def test_every_number_is_in_the_table_of_records(smoke):
    output, _ = smoke
    lines = (output / "table1.csv").read_text(encoding="utf-8").splitlines()
    # 4 classical methods and 4 networks with two seeds, 6 without chance with one; 4 protocols each
    assert len(lines) == 1 + 4 * (2 * (4 + 4) + 6)


@pytest.fixture
def without_pictures(monkeypatch):
    """They take most of the time of a second call."""
    monkeypatch.setattr("diffnmf.studies.paper.reproduction.save_pictures", lambda bench, folder: [])


def test_nothing_is_measured_twice(smoke, without_pictures):
    said = []
    before = tables(smoke[0])
    reproduce(SMOKE, smoke[0], announce=said.append)
    assert said == [BANNER, "drawing and writing the report", BANNER]
    assert tables(smoke[0]) == before


def without_the_older_ones(folder):
    """As it was before an option, a score, or the maker of a record was kept."""
    study = folder / "study.yaml"
    content = yaml.safe_load(study.read_text(encoding="utf-8"))
    del content["config"]["training"]["ema_decay"], content["config"]["model"]["mixture"]
    study.write_text(yaml.safe_dump(content), encoding="utf-8")
    for run in (folder / "runs").iterdir():
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        del config["training"]["ema_decay"]
        (run / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    for record in (folder / "records").glob("digits-*-seed0.json"):
        content = json.loads(record.read_text(encoding="utf-8"))
        del content["made"]
        content["record"]["refit"].pop("hoyer_H", None)
        for scores in content["record"].values():
            del scores["column_error"]  # which was called eps
        record.write_text(json.dumps(content), encoding="utf-8")
    for record in (folder / "records").glob("bases-*-seed0.json"):
        content = json.loads(record.read_text(encoding="utf-8"))
        del content["record"]["gap"]
        record.write_text(json.dumps(content), encoding="utf-8")


def test_files_have_both_names_of_the_column_error(smoke):
    record = json.loads((smoke[0] / "records" / "digits-k5-mu-seed0.json").read_text(encoding="utf-8"))["record"]
    assert all(scores["eps"] == scores["column_error"] for scores in record.values())
    with (smoke[0] / "table1.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert all(row["eps"] == row["column_error"] != "" for row in rows)


def test_an_older_reproduction_is_read_and_nothing_is_measured_anew(smoke, tmp_path, without_pictures):
    output = tmp_path / "older"
    shutil.copytree(smoke[0], output)
    without_the_older_ones(output)
    said = []
    reproduce(SMOKE, output, announce=said.append)
    assert said == [BANNER, "drawing and writing the report", BANNER]
    text = (output / "report.md").read_text(encoding="utf-8")
    assert "## Not run" not in text
    assert "by an older version, which did not say when and where" in text
    assert re.search(r"\| spa \| 1 \|.* – \|", text)  # a score that only seed 0 could have had


def tables(output):
    return (output / "report.md").read_text(encoding="utf-8").split("## Figures")[0]


def test_it_goes_on_where_it_stopped(smoke, without_pictures):
    output, _ = smoke
    record = output / "records" / "digits-k5-mu-seed1.json"
    before = record.read_text(encoding="utf-8")
    record.unlink()
    said = []
    reproduce(SMOKE, output, announce=said.append)
    assert said == [BANNER, "measuring digits-k5-mu-seed1 (1 of 1)", "drawing and writing the report", BANNER]

    def errors(text):
        return re.findall(r'"eps": ([\d.]+)', text)

    assert errors(record.read_text(encoding="utf-8")) == errors(before)


def test_a_report_of_nothing_says_so(tmp_path):
    said = []
    reproduce(SMOKE, tmp_path, announce=said.append, report_only=True)
    assert said == [BANNER, "drawing and writing the report", BANNER]
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "- digits-k5-anls-seed0" in text.split("## Not run")[1]
    assert not re.search(r"\| (held|did not hold)", text)
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "records").exists()


def test_another_study_is_not_mixed_in(smoke):
    other = replace(SMOKE, models={**SMOKE.models, MIXTURE: {"w_solver": "bpp", "mixture": True}})
    with pytest.raises(RunFolderError, match="holds a reproduction with other options"):
        reproduce(other, smoke[0])


@pytest.mark.parametrize("name", ["digits-k5-spa-seed0", "bases-class-k6-anls-one-start-for-all-groups-seed0"])
@pytest.mark.parametrize(
    "damaged", ["{", "[]", '{"record": {}}', '{"record": {"fit": {}}}', '{"record": {"unmatched": "1"}}']
)
def test_a_damaged_record_is_named(smoke, name, damaged):
    output, _ = smoke
    record = output / "records" / f"{name}.json"
    content = record.read_text(encoding="utf-8")
    record.write_text(damaged, encoding="utf-8")
    try:
        with pytest.raises(RunFolderError, match=rf"{name}\.json: damaged: .*delete it"):
            reproduce(SMOKE, output)
    finally:
        record.write_text(content, encoding="utf-8")


@pytest.mark.parametrize("name", ["datasets", "ks", "seeds"])
def test_an_empty_study_is_refused(name):
    with pytest.raises(ValueError, match=f"{name}: expected at least one"):
        replace(SMOKE, **{name: ()})


def test_what_is_named_twice_is_there_once():
    """Its tables and pictures would stand in the report twice, and a seed would count twice in a deviation."""
    study = replace(SMOKE, datasets=("faces", "digits", "faces"), ks=(10, 5, 10), seeds=(0, 1, 0))
    assert (study.datasets, study.ks, study.seeds) == (("faces", "digits"), (10, 5), (0, 1))


def test_seeds_are_paired_by_their_number(smoke, tmp_path):
    """A record that is missing on one side leaves its seed out, and shifts no other."""
    output = tmp_path / "out"
    shutil.copytree(smoke[0], output)
    whole = table2.differences(bench(output), FC)
    assert whole == pytest.approx([0.0, 0.0], abs=0.1)
    (output / "records" / "digits-k5-gan-unet-fc-seed0.json").unlink()
    assert table2.differences(bench(output), FC) == whole[1:]
    assert list(bench(output).scores("digits", 5, FC)) == [1]


def bench(output, study=SMOKE):
    silent = {"data_dir": None, "device": "cpu", "announce": lambda message: None}
    return Workbench(study, output, measure=False, **silent)


def test_records_say_what_made_them(smoke):
    record = json.loads((smoke[0] / "records" / "digits-k5-mu-seed0.json").read_text(encoding="utf-8"))
    assert f"torch {torch.__version__}" in record["made"]
    assert record["made"] in (smoke[0] / "report.md").read_text(encoding="utf-8")


def test_the_paper_s_numbers_stand_beside_its_own_k_and_m_alone(tmp_path):
    paper = bench(tmp_path, STUDIES["paper"])
    assert printed(paper, "mnist", 30, "ANLS") == (1.533, 9.794)
    assert printed(paper, "mnist", 10, "ANLS") is None
    assert printed(bench(tmp_path), "mnist", 30, "ANLS") is None


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([], "not run"),
        ([-1.0], "not decided"),
        ([-1.0, -1.1, -0.9], "held"),
        ([1.0, 1.1, 0.9], "did not hold"),
        ([-0.1, 0.1, -0.05], "not decided"),
        ([-0.2, -0.2], "held"),
        ([0.0, 0.0], "not decided"),
    ],
)
def test_a_verdict_needs_more_than_luck(differences, verdict):
    assert verdict_on(differences) == verdict


def test_bases_that_explain_nothing_are_no_evidence():
    cosine = {bases.NETWORK: 1.0, bases.ANLS_RANDOM: 0.5, bases.ANLS_FIXED: 0.6, bases.COPIES: 0.7}
    as_good = dict.fromkeys(cosine, 0.3)
    assert _agreement(cosine, as_good) == "held"
    assert _agreement(cosine, {**as_good, bases.NETWORK: 0.6}).startswith("held in part")
    assert _agreement({**cosine, bases.NETWORK: 0.65}, as_good) == "held in part"
    assert _agreement({**cosine, bases.NETWORK: 0.45}, as_good) == "did not hold"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datasets": ("/my/images",)}, r"datasets: expected one of digits, .*; got '/my/images'"),
        ({"bases_dataset": "x"}, r"^bases_dataset: expected one of digits"),
        ({"models": {FC: {"w_solver": "fc"}}}, r"models: expected the rows .*; got none called GAN-UNET, NNLS"),
        ({"models": {**SMOKE.models, NNLS: {"start_from": "runs/x"}}}, r"models: expected start_from .* another row"),
        ({"groups": 0}, r"groups: expected an int ≥ 1; got 0"),
    ],
)
def test_a_study_that_cannot_be_run_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(SMOKE, **changes)


def test_a_tuple_among_the_options_is_no_other_study(tmp_path):
    """YAML has no tuples: what was saved must still be recognised."""
    study = replace(SMOKE, models={row: {**options, "betas": (0.5, 0.9)} for row, options in SMOKE.models.items()})
    for _ in range(2):
        reproduce(study, tmp_path, report_only=True)


def test_errors_are_drawn_over_k_where_there_are_several(smoke, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(smoke[0], output)
    for record in (output / "records").glob("digits-k5-*.json"):
        shutil.copy(record, record.with_name(record.name.replace("-k5-", "-k4-")))
    assert not list(_over_k(bench(output), tmp_path))
    ((caption, file),) = _over_k(bench(output, replace(SMOKE, ks=(5, 4))), tmp_path)
    assert "over k" in caption
    assert file.stat().st_size > 10_000
