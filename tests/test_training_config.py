"""Configurations and the run folder: what is written can be read, what cannot be read is said."""

import hashlib
from dataclasses import FrozenInstanceError, replace

import pytest
import torch
import yaml

from diffnmf.errors import RunFolderError
from diffnmf.models import W_SOLVERS, Generator
from diffnmf.training import DataConfig, ModelConfig, RunConfig, RunFolder, TrainingConfig

OTHER = RunConfig(
    DataConfig("./my images: α.npy", 12, "class", 7),
    ModelConfig(k=3, w_solver="fc", width=16, critic_width=8, unit_norm=True),
    TrainingConfig(
        epochs=0,
        batch_size=1,
        learning_rate=1e-5,
        critic_learning_rate=3e-6,
        betas=(0.25, 0.9),
        reconstruction_weight=0.0,
        adversarial=False,
        adversarial_form="saturating",
        flip_probability=1.0,
        pca_rank=2,
        seed=123456789012,
    ),
)


def bytes_of(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


class TestYaml:
    @pytest.mark.parametrize("config", [RunConfig(), OTHER], ids=["defaults", "other"])
    def test_round_trip(self, config, tmp_path):
        file = tmp_path / "config.yaml"
        file.write_text(config.to_yaml(), encoding="utf-8")
        assert RunConfig.from_yaml(file) == config

    def test_is_plain(self):
        content = yaml.safe_load(OTHER.to_yaml())
        assert list(content) == ["data", "model", "training"]
        assert content["training"]["betas"] == [0.25, 0.9]

    def test_what_is_left_out_has_its_default(self, tmp_path):
        file = tmp_path / "config.yaml"
        file.write_text("model: {k: 7}\n")
        assert RunConfig.from_yaml(file) == replace(RunConfig(), model=ModelConfig(k=7))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("model: {k: 5", "expected a configuration in YAML"),
            ("a: [1, 2", "expected a configuration in YAML"),
            ("!!python/object/apply:os.getcwd []", "expected a configuration in YAML"),
            ("", "expected the entries data, model, training; got None"),
            ("- 1\n- 2\n", r"expected the entries data, model, training; got \[1, 2\]"),
            ("model: 5", "expected the entries k, w_solver.*; got 5"),
            ("training:", "expected the entries epochs.*; got None"),
            ("modle: {k: 5}", "entry: expected one of data, model, training; got 'modle'"),
            ("model: {K: 5}", "entry: expected one of critic_width, k, .*; got 'K'"),
            ("training: {lr: 1}", "entry: expected one of adversarial, .*learning_rate.*; got 'lr'"),
            ("data: {7: 1}", "entry: expected one of dataset.*; got 7"),
            ("model: {k: 0}", "k: expected an int ≥ 1; got 0"),
            ("model: {k: ten}", "k: expected an int ≥ 1; got 'ten'"),
            ("model: {w_solver: nope}", "w_solver: expected one of .*unrolled.*; got 'nope'"),
            ("training: {epochs: -1}", "epochs: expected an int ≥ 0; got -1"),
            ("training: {betas: 5}", "betas"),
            ("training: {flip_probability: 2}", r"flip_probability: expected a number in \[0, 1\]; got 2"),
            ("training: {learning_rate: fast}", "learning_rate: .*'?fast"),
            ("training: {adversarial_form: wgan}", "adversarial_form: expected one of .*; got 'wgan'"),
        ],
    )
    def test_errors_name_the_file_and_the_entry(self, text, message, tmp_path):
        file = tmp_path / "config.yaml"
        file.write_text(text, encoding="utf-8")
        with pytest.raises(RunFolderError, match=message) as caught:
            RunConfig.from_yaml(file)
        assert str(file) in str(caught.value)

    def test_no_text_at_all(self, tmp_path):
        file = tmp_path / "config.yaml"
        file.write_bytes(b"\xff\xfe\x00\x80")
        with pytest.raises(RunFolderError, match="expected a configuration in YAML"):
            RunConfig.from_yaml(file)
        with pytest.raises(RunFolderError, match=r"missing\.yaml"):
            RunConfig.from_yaml(tmp_path / "missing.yaml")


class TestValues:
    def test_are_frozen(self):
        with pytest.raises(FrozenInstanceError):
            ModelConfig().k = 3

    @pytest.mark.parametrize("w_solver", W_SOLVERS)
    def test_every_w_solver_is_known(self, w_solver):
        assert ModelConfig(w_solver=w_solver).w_solver == w_solver

    @pytest.mark.parametrize(
        ("config", "options"),
        [
            (ModelConfig, {"k": 0}),
            (ModelConfig, {"k": 2.5}),
            (ModelConfig, {"width": 0}),
            (ModelConfig, {"critic_width": -1}),
            (ModelConfig, {"w_solver": "nope"}),
            (TrainingConfig, {"epochs": -1}),
            (TrainingConfig, {"epochs": 1.0}),
            (TrainingConfig, {"batch_size": 0}),
            (TrainingConfig, {"learning_rate": 0.0}),
            (TrainingConfig, {"learning_rate": float("nan")}),
            (TrainingConfig, {"learning_rate": float("inf")}),
            (TrainingConfig, {"critic_learning_rate": 0.0}),
            (TrainingConfig, {"reconstruction_weight": -1.0}),
            (TrainingConfig, {"reconstruction_weight": float("nan")}),
            (TrainingConfig, {"flip_probability": 1.1}),
            (TrainingConfig, {"flip_probability": -0.1}),
            (TrainingConfig, {"adversarial_form": "wgan"}),
            (TrainingConfig, {"pca_rank": 0}),
        ],
    )
    def test_errors_name_the_argument(self, config, options):
        ((name, _),) = options.items()
        with pytest.raises((ValueError, TypeError), match=f"^{name}: expected"):
            config(**options)


class TestRunFolder:
    @staticmethod
    def saved(path, epochs=2):
        """A folder with so many epochs in it."""
        folder = RunFolder.create(path, OTHER)
        generator = Generator((2, 2), 2, 1, width=1)
        rows = [{"epoch": epoch, "loss": 1 / epoch} for epoch in range(1, epochs + 1)]
        folder.save_checkpoint({"epoch": epochs, "weights": torch.arange(3.0)}, generator, rows)
        return folder

    def test_round_trip(self, tmp_path):
        folder = self.saved(tmp_path / "a" / "run")
        opened, config = RunFolder.open(tmp_path / "a" / "run")
        assert config == OTHER
        state = opened.load_checkpoint()
        assert state["epoch"] == 2
        assert torch.equal(state["weights"], torch.arange(3.0))
        assert opened.load_curves(2) == [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.5}]
        assert not [path for path in folder.path.rglob("*") if path.name.startswith(".")]

    def test_curves_are_cut_at_the_checkpoint(self, tmp_path):
        assert [row["epoch"] for row in self.saved(tmp_path / "run").load_curves(1)] == [1]

    def test_rows_may_have_different_names(self, tmp_path):
        folder = self.saved(tmp_path / "run")
        rows = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "other": 0.25}]
        folder.save_checkpoint({"epoch": 2}, Generator((2, 2), 2, 1, width=1), rows)
        assert folder.load_curves(2) == rows

    def test_before_the_first_epoch(self, tmp_path):
        folder = RunFolder.create(tmp_path / "run", OTHER)
        assert folder.load_checkpoint() is None
        assert folder.load_curves(0) == []

    def test_a_run_is_not_overwritten_unasked(self, tmp_path):
        self.saved(tmp_path / "run")
        before = bytes_of(tmp_path)
        with pytest.raises(RunFolderError, match=r"already holds a run.*--resume.*--overwrite") as caught:
            RunFolder.create(tmp_path / "run", RunConfig())
        assert str(tmp_path / "run") in str(caught.value)
        assert bytes_of(tmp_path) == before

    @pytest.mark.parametrize("name", RunFolder.FILES)
    def test_a_single_file_makes_it_a_run(self, tmp_path, name):
        (tmp_path / name).touch()
        with pytest.raises(RunFolderError, match=f"already holds a run.*{name}"):
            RunFolder.check_free(tmp_path)

    def test_other_files_are_no_run(self, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        RunFolder.create(tmp_path, OTHER)
        assert (tmp_path / "notes.txt").read_text() == "mine"

    @pytest.mark.parametrize("overwrite", [True, False])
    def test_a_file_in_its_place(self, tmp_path, overwrite):
        (tmp_path / "run").write_text("mine")
        with pytest.raises(RunFolderError, match="output: "):
            RunFolder.create(tmp_path / "run", OTHER, overwrite=overwrite)
        assert (tmp_path / "run").read_text() == "mine"

    def test_overwriting_starts_afresh(self, tmp_path):
        self.saved(tmp_path / "run")
        (tmp_path / "run" / "notes.txt").write_text("mine")
        folder = RunFolder.create(tmp_path / "run", RunConfig(), overwrite=True)
        assert sorted(path.name for path in folder.path.iterdir()) == ["config.yaml", "notes.txt", "pictures"]
        assert RunConfig.from_yaml(folder.config_file) == RunConfig()

    @pytest.mark.parametrize("kind", ["truncated", "empty", "text", "another object", "code"])
    def test_damaged_checkpoints(self, tmp_path, kind):
        folder = self.saved(tmp_path / "run")
        whole = folder.checkpoint_file.read_bytes()
        if kind == "another object":
            torch.save(torch.zeros(2), folder.checkpoint_file)
        elif kind == "code":
            torch.save({"epoch": print}, folder.checkpoint_file)
        else:
            content = {"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"not a checkpoint"}[kind]
            folder.checkpoint_file.write_bytes(content)
        with pytest.raises(RunFolderError, match=r"not a checkpoint") as caught:
            folder.load_checkpoint()
        assert str(folder.checkpoint_file) in str(caught.value)

    @pytest.mark.parametrize("text", ["loss\n0.5\n", "epoch,loss\nabc,0.5\n", "epoch,loss\n1,0.5,7\n", "\0"])
    def test_damaged_curves(self, tmp_path, text):
        folder = self.saved(tmp_path / "run")
        folder.curves_file.write_text(text)
        with pytest.raises(RunFolderError) as caught:
            folder.load_curves(2)
        assert str(folder.curves_file) in str(caught.value)

    def test_open_where_there_is_no_run(self, tmp_path):
        for path in (tmp_path, tmp_path / "missing"):
            with pytest.raises(RunFolderError, match=r"expected a run folder; .* has no config\.yaml"):
                RunFolder.open(path)
        assert not (tmp_path / "missing").exists()
