"""Runs that begin from the weights of another run."""

import shutil

import numpy as np
import pytest
import torch

from diffnmf.errors import RunFolderError
from diffnmf.models import GANUNMF
from diffnmf.runs import RunConfig, resume_experiment, run_experiment

pytestmark = pytest.mark.usefixtures("one_thread")

FC = RunConfig().with_options(
    dataset="digits", group_size=10, k=4, width=8, critic_width=8, epochs=1, limit_groups=8, w_solver="fc"
)


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    return run_experiment(FC, tmp_path_factory.mktemp("parent") / "run", brief=True).folder


def weights(folder):
    return GANUNMF.load(folder, weights="generator").generator.state_dict()


def test_another_w_solver_begins_from_the_same_u_net(parent, tmp_path):
    config = FC.with_options(w_solver="unrolled", normalize_maps=True, start_from=str(parent), epochs=0)
    child = run_experiment(config, tmp_path / "run", brief=True).folder
    before, after = weights(parent), weights(child)
    assert all(torch.equal(after[name], before[name]) for name in after)
    averaged = GANUNMF.load(child, weights="ema").generator.state_dict()
    assert all(torch.equal(averaged[name], before[name]) for name in averaged)


def test_the_w_head_comes_along_where_it_is_the_same(parent, tmp_path):
    config = FC.with_options(start_from=str(parent), epochs=0, seed=1)
    child = run_experiment(config, tmp_path / "run", brief=True).folder
    before, after = weights(parent), weights(child)
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], before[name]) for name in after)


def test_slots_come_along(tmp_path):
    config = FC.with_options(basis_init="merge", w_solver="unrolled")
    folder = run_experiment(config, tmp_path / "parent", brief=True).folder
    prototypes = weights(folder)["start.prototypes"]
    assert prototypes.norm(dim=0).allclose(torch.ones(4))
    child = run_experiment(
        config.with_options(start_from=str(folder), seed=5, epochs=0), tmp_path / "child", brief=True
    ).folder
    assert torch.equal(weights(child)["start.prototypes"], prototypes)
    resume_experiment(folder, epochs=2, brief=True)
    assert torch.equal(weights(folder)["start.prototypes"], prototypes)


def test_slots_of_images_of_another_size_stay_behind(tmp_path):
    images = np.random.default_rng(0).random((200, 8, 8)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "larger.npy", images.repeat(2, 1).repeat(2, 2))
    options = {"basis_init": "merge", "w_solver": "unrolled", "epochs": 0, "depth": 1}
    config = FC.with_options(dataset=str(tmp_path / "images.npy"), **options)
    folder = run_experiment(config, tmp_path / "parent", brief=True).folder
    larger = config.with_options(dataset=str(tmp_path / "larger.npy"), start_from=str(folder))
    child = run_experiment(larger, tmp_path / "child", brief=True).folder
    assert weights(child)["start.prototypes"].shape == (256, 4)
    before, after = weights(folder), weights(child)
    assert all(torch.equal(after[name], before[name]) for name in after if name.startswith("unet."))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"w_solver": "unrolled"}, r"start_from: the U-Net of .* is not that of this run: .*map_norm"),
        ({"width": 12}, r"start_from: the U-Net of .* of this run: width is 8 there and 12 here \(give the same"),
    ],
)
def test_another_u_net_is_refused_before_anything_is_written(parent, options, message, tmp_path):
    with pytest.raises(RunFolderError, match=message.replace(".*", "(.|\n)*")):
        run_experiment(FC.with_options(start_from=str(parent), **options), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_missing_run_is_named(tmp_path):
    with pytest.raises(RunFolderError, match=r"expected the folder of a model; nowhere has no model\.yaml"):
        run_experiment(FC.with_options(start_from="nowhere"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_once_begun_it_does_not_need_the_other_run(parent, tmp_path):
    start = tmp_path / "start"
    shutil.copytree(parent, start)
    child = run_experiment(FC.with_options(start_from=str(start)), tmp_path / "run", brief=True).folder
    shutil.rmtree(start)
    resume_experiment(child, epochs=2, brief=True)
    assert not torch.equal(weights(child)["unet.head.weight"], weights(parent)["unet.head.weight"])


def test_a_run_does_not_take_the_place_of_the_one_it_starts_from(parent):
    before = {file.name: file.read_bytes() for file in parent.glob("*.safetensors")}
    with pytest.raises(ValueError, match="start_from: expected another folder than output"):
        run_experiment(FC.with_options(start_from=str(parent)), parent, overwrite=True)
    assert {file.name: file.read_bytes() for file in parent.glob("*.safetensors")} == before
