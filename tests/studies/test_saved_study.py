"""What a reproduction was made with: an older folder is still this study, another study is not."""

from dataclasses import dataclass, replace

import pytest
import yaml

from diffnmf.errors import RunFolderError
from diffnmf.evaluation.rivals import CONFIGURED
from diffnmf.factorization import HALS, METHODS
from diffnmf.runs import RunConfig
from diffnmf.studies.paper import STUDIES
from diffnmf.studies.paper.saved_study import STUDY_FILE, check_study, save_study
from diffnmf.studies.paper.study import FC, MIXTURE, NNLS

SMOKE, PAPER = STUDIES["smoke"], STUDIES["paper"]
OLD_METHODS = {
    "mu": "{'method': MU(), 'init': 'uniform', 'max_iter': 200, 'tol': 0.0}",
    "anls": "{'method': ANLS(steps=10, revive=True), 'init': 'uniform', 'max_iter': 100, 'tol': 0.0}",
    "hals": "{'method': FastHALS(), 'init': 'uniform', 'max_iter': 100, 'tol': 0.0}",
    "hals, accelerated": "{'method': HALS(sweeps=3, extrapolate=True, revive=True), 'max_iter': 200, 'tol': 0.0}",
}


def saved(study, output):
    save_study(study, output)
    return yaml.safe_load((output / STUDY_FILE).read_text(encoding="utf-8"))


def write(content, output):
    (output / STUDY_FILE).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_it_is_recognised(study, tmp_path):
    check_study(study, tmp_path)  # an empty folder is anybody's
    save_study(study, tmp_path)
    check_study(study, tmp_path)


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_the_older_form_is_read(study, tmp_path):
    """Methods as their repr, under the older name of a class; the options of Fig. 10 without names."""
    content = saved(study, tmp_path)
    write({**content, "classical": OLD_METHODS, "bases": list(content["bases"].values())}, tmp_path)
    check_study(study, tmp_path)


def options_of(config):
    return [(section, option) for section, options in config.to_dict().items() for option in options]


@pytest.mark.parametrize(("section", "option"), options_of(PAPER.config), ids=str)
def test_an_option_that_is_new_counts_as_its_default(section, option, tmp_path):
    content = saved(PAPER, tmp_path)
    value = content["config"][section].pop(option)
    write(content, tmp_path)
    if value == RunConfig().to_dict()[section][option] or option == "picture_every":
        check_study(PAPER, tmp_path)
    else:
        with pytest.raises(RunFolderError, match=f": {option} is {value!r} here and was "):
            check_study(PAPER, tmp_path)


def test_a_new_option_with_another_value_is_another_study(tmp_path):
    content = saved(SMOKE, tmp_path)
    del content["config"]["training"]["ema_decay"]
    write(content, tmp_path)
    other = replace(SMOKE, config=SMOKE.config.with_options(ema_decay=0.5))
    with pytest.raises(RunFolderError, match=r"GAN-UNET, fc: ema_decay is 0\.5 here and was 0\.999; .*; 5 more"):
        check_study(other, tmp_path)


def test_a_default_of_a_row_that_is_spelt_out_changes_nothing(tmp_path):
    save_study(SMOKE, tmp_path)
    spelt_out = {row: {"ema_decay": 0.999, **options} for row, options in SMOKE.models.items()}
    check_study(replace(SMOKE, models=spelt_out, bases_options={"precision": "float32"}), tmp_path)


@pytest.mark.parametrize("name", ["by_dataset", "classical"])
def test_a_part_that_is_new_counts_as_its_default(name, tmp_path):
    content = saved(SMOKE, tmp_path)
    del content[name]
    write(content, tmp_path)
    check_study(SMOKE, tmp_path)


def test_a_method_with_a_new_option(tmp_path, monkeypatch):
    """A HALS that was saved before it had an option of that name ran with its default."""

    @dataclass(frozen=True)
    class Newer(HALS):
        shuffle: bool = False

    Newer.__name__ = "HALS"
    save_study(SMOKE, tmp_path)
    monkeypatch.setitem(CONFIGURED, "hals, accelerated", {**CONFIGURED["hals, accelerated"], "method": Newer()})
    monkeypatch.setitem(METHODS, "hals", Newer)
    check_study(SMOKE, tmp_path)
    monkeypatch.setitem(
        CONFIGURED, "hals, accelerated", {**CONFIGURED["hals, accelerated"], "method": Newer(shuffle=True)}
    )
    with pytest.raises(RunFolderError, match=r"hals, accelerated: method is .*'shuffle': True.* and was .*False"):
        check_study(SMOKE, tmp_path)


def test_a_method_with_another_number_of_iterations_is_another_study(tmp_path, monkeypatch):
    save_study(SMOKE, tmp_path)
    monkeypatch.setitem(CONFIGURED, "mu", {**CONFIGURED["mu"], "max_iter": 100})
    with pytest.raises(RunFolderError, match=r"mu: max_iter is 100 here and was 200"):
        check_study(SMOKE, tmp_path)


def test_networks_and_data_sets_may_be_added(tmp_path):
    save_study(SMOKE, tmp_path)
    more = {**SMOKE.models, "another": {"w_solver": "fc", "width": 16}}
    check_study(replace(SMOKE, models=more, datasets=("digits", "mnist"), ks=(5, 4), seeds=(0, 1, 2)), tmp_path)
    save_study(replace(SMOKE, models=more), tmp_path)
    with pytest.raises(RunFolderError, match="another: was measured there and is unknown here"):
        check_study(SMOKE, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": 4}, r"groups: all is 4 here and was 3"),
        ({"fewer_groups": {"digits": 2}}, r"groups: digits is 2 here and was 3"),
        ({"models": {**SMOKE.models, FC: {"w_solver": "fc", "epochs": 2}}}, r"GAN-UNET, fc: epochs is 2 here"),
        ({"by_dataset": {"digits": {NNLS: {"epochs": 2}}}}, r"GAN-UNET, NNLS on digits: epochs is 2 here and was 1"),
        ({"bases_m": 20}, r"Fig\. 10: group_size is 20 here and was 10"),
        ({"bases_options": {"epochs": 2}}, r"GAN-UNET, fc in Fig\. 10: epochs is 2 here and was 1; .*NNLS in Fig"),
        (
            {"models": {**SMOKE.models, MIXTURE: {"w_solver": "bpp", "mixture": True, "epochs": 1}}},
            r"GAN-UNET, NNLS, mixtures: w_solver is 'bpp' here and was 'unrolled'",
        ),
    ],
)
def test_another_study_is_refused_and_the_option_is_named(changes, message, tmp_path):
    save_study(replace(SMOKE, datasets=("digits", "mnist"), by_dataset={"mnist": {FC: {"epochs": 9}}}), tmp_path)
    changes = {"by_dataset": {}, **changes}
    changes["by_dataset"] = {"mnist": {FC: {"epochs": 9}}, **changes["by_dataset"]}
    with pytest.raises(RunFolderError, match=f"holds a reproduction with other options: .*{message}"):
        check_study(replace(SMOKE, **changes), tmp_path)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "models: 3", "models: {}\ngroups: {}", "config: {training: {horses: 3}}", "classical: {mu: import os}"],
)
def test_a_damaged_file_is_named(text, tmp_path):
    content = saved(SMOKE, tmp_path)
    damage = None if text == "{" else yaml.safe_load(text)
    whole = {**content, **damage} if isinstance(damage, dict) else None
    (tmp_path / STUDY_FILE).write_text(yaml.safe_dump(whole) if whole else text, encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"study\.yaml: damaged, or of a newer version: "):
        check_study(SMOKE, tmp_path)
