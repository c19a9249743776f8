"""The options of a reproduction, saved beside its measurements, so that those of two studies are never mixed.

A study that was saved before an option existed counts as made with the default of that option.
"""

import ast
import inspect
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from diffnmf.errors import RunFolderError
from diffnmf.evaluation.rivals import CONFIGURED
from diffnmf.factorization import METHODS, Method, factorize
from diffnmf.files import explained_replacing
from diffnmf.options import differences
from diffnmf.runs import RunConfig
from diffnmf.studies.library import WITHOUT_EFFECT
from diffnmf.studies.paper.study import Study

STUDY_FILE = "study.yaml"
SHOWN = 3  # differences in a message; one option of the configuration may differ in every network
DECIDED_BY_ROW = ("dataset", "k", "seed")  # every measurement has its own; those of the configuration are not used
BASES = {  # the defaults, in the order of older files, which do not name them
    "dataset": Study.bases_dataset,
    "group_size": Study.bases_m,
    "groups": Study.bases_groups,
    "options": {},
}
UNREADABLE = (OSError, yaml.YAMLError, SyntaxError, ValueError, TypeError, LookupError, AttributeError)
RENAMED_CLASSES = {"FastHALS": "PublishedHALS"}
Settings = dict[str, dict[str, Any]]  # what is measured -> option -> value


def check_study(study: Study, output: Path) -> None:
    """Check that the measurements in a folder belong to a study.

    Networks and classical methods may be new in the study, and so may data sets, k and seeds.

    Raises:
        RunFolderError: the folder holds measurements that were made with other options; the message names them.
    """
    file = output / STUDY_FILE
    if not file.exists():
        return
    try:
        saved = _with_defaults(yaml.safe_load(file.read_text(encoding="utf-8")))
        now = _with_defaults(yaml.safe_load(yaml.safe_dump(_content(study))))  # YAML has no tuples
        datasets = {name: sorted({*saved[name], *now[name]}) for name in ("groups", "by_dataset")}
        others = _differences(_settings(now, datasets), _settings(saved, datasets))
    except UNREADABLE as error:
        raise RunFolderError(f"{file}: damaged, or of a newer version: {error} (take another folder)") from error
    if others:
        shown = "; ".join(others[:SHOWN]) + (f"; {len(others) - SHOWN} more" * (len(others) > SHOWN))
        raise RunFolderError(f"{output}: holds a reproduction with other options: {shown} (take another folder)")


def save_study(study: Study, output: Path) -> None:
    """Write what ``check_study`` reads."""
    with explained_replacing(output / STUDY_FILE) as unfinished:
        unfinished.write_text(yaml.safe_dump(_content(study), sort_keys=False), encoding="utf-8")


def _content(study: Study) -> dict[str, Any]:
    """What makes the measurements of a study, in plain values."""
    return {
        "groups": {"all": study.groups, **study.fewer_groups},
        "config": study.config.to_dict(),
        "models": {row: dict(options) for row, options in study.models.items()},
        "by_dataset": {
            name: {row: dict(options) for row, options in rows.items()} for name, rows in study.by_dataset.items()
        },
        "classical": {
            name: {option: _plain(value) for option, value in options.items()} for name, options in CONFIGURED.items()
        },
        "bases": {
            "dataset": study.bases_dataset,
            "group_size": study.bases_m,
            "groups": study.bases_groups,
            "options": dict(study.bases_options),
        },
    }


def _plain(value: object) -> object:
    """A method as its class and all of its options, so that a default that changes later is noticed."""
    return {"class": type(value).__name__, **asdict(value)} if isinstance(value, Method) else value  # type: ignore[call-overload]


def _with_defaults(content: Mapping[str, Any]) -> dict[str, Any]:
    """A saved study in the current form, with its missing parts."""
    complete = {"config": {}, "by_dataset": {}, "classical": {}, "bases": {}, **content}
    if isinstance(complete["bases"], list):
        complete["bases"] = dict(zip(BASES, complete["bases"], strict=True))
    complete["bases"] = {**BASES, **complete["bases"]}
    complete["classical"] = {name: _from_text(options) for name, options in complete["classical"].items()}
    return complete


def _settings(content: Mapping[str, Any], datasets: Mapping[str, Collection[str]]) -> Settings:
    """All options behind every measurement.

    Arguments:
        content: what ``_with_defaults`` returns.
        datasets: the data sets with their own number of groups ("groups") or their own networks ("by_dataset").
    """
    groups, bases = content["groups"], content["bases"]
    settings = {
        "groups": {dataset: groups.get(dataset, groups["all"]) for dataset in datasets["groups"]},
        "Fig. 10": {name: value for name, value in bases.items() if name != "options"},
    }
    general = {name: value for options in content["config"].values() for name, value in options.items()}
    for row, options in content["models"].items():
        there = {dataset: content["by_dataset"].get(dataset, {}).get(row, {}) for dataset in datasets["by_dataset"]}
        in_bases = {**there.get(bases["dataset"], {}), "group_size": bases["group_size"], **bases["options"]}
        for where, changes in {"": {}, **{f" on {name}": changes for name, changes in there.items()}}.items():
            settings[f"{row}{where}"] = _network({**general, **options, **changes})
        settings[f"{row} in Fig. 10"] = _network({**general, **options, **in_bases})
    return settings | {name: _method(options) for name, options in content["classical"].items()}


def _network(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a network under their current names, with defaults for those that are missing."""
    tuples = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    known = RunConfig().with_options(**tuples).options()
    return {name: value for name, value in known.items() if name not in (*WITHOUT_EFFECT, *DECIDED_BY_ROW)}


def _method(options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``factorize`` and the options of its method, with defaults for those that are missing."""
    parameters = inspect.signature(factorize).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    method = options["method"]
    name = RENAMED_CLASSES.get(method["class"], method["class"])
    made = {known.__name__: known for known in METHODS.values()}[name]()
    # A study that names no start was saved when the default was a random one.
    return {**defaults, "init": "random", **options, "method": {**asdict(made), **method, "class": name}}  # type: ignore[call-overload]


def _from_text(options: Mapping[str, Any] | str) -> Mapping[str, Any]:
    """Older files contain the ``repr`` of the arguments: "{'method': MU(), 'init': 'uniform'}"."""
    if not isinstance(options, str):
        return options
    node = ast.parse(options, mode="eval").body
    if not isinstance(node, ast.Dict):
        raise ValueError(f"expected the arguments of a method; got {options!r}")
    return {ast.literal_eval(key): _value(value) for key, value in zip(node.keys, node.values, strict=True) if key}


def _value(node: ast.expr) -> object:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return {"class": node.func.id, **{word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg}}
    return ast.literal_eval(node)


def _differences(now: Settings, saved: Settings) -> list[str]:
    gone = [f"{what}: was measured there and is unknown here" for what in saved if what not in now]
    common = [what for what in saved if what in now]
    return gone + [f"{what}: {other}" for what in common for other in differences(now[what], saved[what])]
