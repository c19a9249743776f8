"""The run folder and its checkpoints: whole or not there, and nothing is lost when something goes wrong."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import bytes_of

from diffnmf.errors import CheckpointWarning, RunFolderError
from diffnmf.runs import DataConfig, ModelConfig, RunConfig, RunFolder
from diffnmf.runs.checkpoints import Checkpoints
from diffnmf.runs.run_folder import fresh_folder
from diffnmf.training import TrainingConfig

OTHER = RunConfig(DataConfig("digits", 20), ModelConfig(k=3), TrainingConfig(epochs=4))


def state(epoch, step=0):
    return {"epoch": epoch, "step": step, "weights": torch.arange(3000.0) + epoch}


DAMAGES = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[: len(file.read_bytes()) // 2]),
    "empty": lambda file: file.write_bytes(b""),
    "text": lambda file: file.write_bytes(b"not a checkpoint"),
    "one bit": lambda file: file.write_bytes(flipped(file.read_bytes())),
    "another object": lambda file: torch.save(torch.zeros(2), file),
    "code": lambda file: torch.save({"epoch": print}, file),
}


def flipped(content):
    """One bit in the middle, which is inside of the weights."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


class TestCheckpoints:
    @pytest.fixture
    def checkpoints(self, tmp_path):
        """A run of two epochs, with both checkpoints."""
        checkpoints = Checkpoints(tmp_path)
        for epoch in (1, 2):
            checkpoints.save(state(epoch), OTHER)
        return checkpoints

    def test_round_trip(self, checkpoints, tmp_path):
        loaded = Checkpoints(tmp_path).load(OTHER)
        assert loaded["epoch"] == 2
        assert torch.equal(loaded["weights"], state(2)["weights"])
        assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-previous.pt", "checkpoint.pt"]

    def test_the_last_and_the_one_before_are_kept(self, checkpoints):
        checkpoints.save(state(3), OTHER)
        epochs = [torch.load(file, weights_only=True)["epoch"] for file in (checkpoints.previous, checkpoints.last)]
        assert epochs == [2, 3]

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_a_damaged_one_gives_way_to_the_one_before(self, checkpoints, tmp_path, damage):
        DAMAGES[damage](checkpoints.last)
        reopened = Checkpoints(tmp_path)
        with pytest.warns(CheckpointWarning, match=r"checkpoint\.pt: not a checkpoint.*previous\.pt, after epoch 1"):
            assert reopened.load(OTHER)["epoch"] == 1
        reopened.save(state(2), OTHER)
        assert torch.load(reopened.previous, weights_only=True)["epoch"] == 1, "never the damaged one"
        assert Checkpoints(tmp_path).load(OTHER)["epoch"] == 2

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_two_damaged_ones_are_refused(self, checkpoints, tmp_path, damage):
        for file in (checkpoints.last, checkpoints.previous):
            DAMAGES[damage](file)
        before = bytes_of(tmp_path)
        with pytest.raises(RunFolderError, match=r"checkpoint\.pt: not a checkpoint"):
            Checkpoints(tmp_path).load(OTHER)
        assert bytes_of(tmp_path) == before

    @pytest.mark.parametrize("saved", [None, "text", {"data": None}, {"data": "text"}, [1]])
    def test_a_configuration_of_another_kind_in_it(self, checkpoints, saved):
        """Whatever made it, it was not this program."""
        torch.save({**state(2), "config": saved}, checkpoints.last)
        with pytest.warns(CheckpointWarning, match=r"checkpoint\.pt: not a checkpoint of this program: its config"):
            assert checkpoints.load(OTHER)["epoch"] == 1

    def test_killed_between_the_two_moves(self, checkpoints, tmp_path):
        checkpoints.last.replace(checkpoints.previous)
        reopened = Checkpoints(tmp_path)
        assert reopened.load(OTHER)["epoch"] == 2
        reopened.save(state(3), OTHER)
        epochs = [torch.load(file, weights_only=True)["epoch"] for file in (reopened.previous, reopened.last)]
        assert epochs == [2, 3]

    def test_one_of_another_run_is_refused_and_the_one_before_named(self, checkpoints, tmp_path):
        foreign = replace(OTHER, model=ModelConfig(k=4))
        (tmp_path / "elsewhere").mkdir()
        Checkpoints(tmp_path / "elsewhere").save(state(9), foreign)
        (tmp_path / "elsewhere" / "checkpoint.pt").replace(checkpoints.last)
        message = r"k is 3 here and was 4; .*previous\.pt fits \(after epoch 1\): delete"
        with pytest.raises(RunFolderError, match=message):
            Checkpoints(tmp_path).load(OTHER)
        checkpoints.last.unlink()
        assert Checkpoints(tmp_path).load(OTHER)["epoch"] == 1, "the remedy works"

    @pytest.mark.parametrize("options", [{"epochs": 9}, {"batch_size": 2, "accumulate": 2}, {"checkpoint_every": 3}])
    def test_what_may_change_is_no_other_run(self, checkpoints, options):
        assert checkpoints.load(OTHER.with_options(**options))["epoch"] == 2


class TestFailingWrites:
    """A disk that is full, or turns read-only, in the middle of a run."""

    @staticmethod
    def full(monkeypatch, name):
        def fail(*args, **kwargs):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(*name, fail)

    @pytest.mark.parametrize(
        "name", [(Path, "write_bytes"), ("diffnmf.runs.checkpoints.to_disk",)], ids=["write", "fsync"]
    )
    def test_a_checkpoint(self, tmp_path, monkeypatch, name):
        folder = RunFolder.create(tmp_path / "run", OTHER)
        for epoch in (1, 2):
            folder.checkpoints.save(state(epoch), OTHER)
        with monkeypatch.context() as patch:
            self.full(patch, name)
            with pytest.raises(RunFolderError, match=r"checkpoint\.pt: .*No space left.*intact.*--resume .*run$"):
                folder.checkpoints.save(state(3), OTHER)
        files = folder.checkpoints.previous, folder.checkpoints.last
        assert [torch.load(file, weights_only=True)["epoch"] for file in files] == [1, 2]
        assert not list(folder.path.glob(".*"))

    def test_curves_and_metrics(self, tmp_path, monkeypatch):
        folder = RunFolder.create(tmp_path / "run", OTHER)
        folder.save_curves([{"epoch": 1}])
        folder.save_metrics({"a": 1})
        before = bytes_of(folder.path)
        self.full(monkeypatch, ("diffnmf.files.to_disk",))
        for write, content in ((folder.save_curves, []), (folder.save_metrics, {}), (folder.save_config, RunConfig())):
            with pytest.raises(RunFolderError, match="No space left"):
                write(content)
        assert bytes_of(folder.path) == before

    def test_what_a_killed_write_left_is_removed(self, tmp_path):
        folder = RunFolder.create(tmp_path / "run", OTHER)
        for name in (".unfinished-0123abcd-checkpoint.pt", "pictures/.unfinished-0123abcd-group.png"):
            (folder.path / name).write_bytes(b"half of")
        (folder.path / ".mine").touch()
        folder.clean()
        assert sorted(path.name for path in folder.path.rglob("*")) == [".mine", "config.yaml", "pictures"]


class TestRunFolder:
    @staticmethod
    def saved(path, epochs=2):
        """A folder with so many epochs in it."""
        folder = RunFolder.create(path, OTHER)
        folder.save_curves([{"epoch": epoch, "loss": 1 / epoch} for epoch in range(1, epochs + 1)])
        folder.checkpoints.save(state(epochs), OTHER)
        return folder

    def test_round_trip(self, tmp_path):
        folder = self.saved(tmp_path / "a" / "run")
        opened, config = RunFolder.open(tmp_path / "a" / "run")
        assert config == OTHER
        assert opened.checkpoints.load(config)["epoch"] == 2
        assert opened.load_curves(2) == [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.5}]
        assert not [path for path in folder.path.rglob("*") if path.name.startswith(".")]

    def test_curves_are_cut_at_the_checkpoint(self, tmp_path):
        assert [row["epoch"] for row in self.saved(tmp_path / "run").load_curves(1)] == [1]

    def test_rows_may_have_different_names(self, tmp_path):
        folder = self.saved(tmp_path / "run")
        rows = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "other": 0.25}]
        folder.save_curves(rows)
        assert folder.load_curves(2) == rows

    def test_older_curves_have_the_column_error_as_eps(self, tmp_path):
        folder = self.saved(tmp_path / "run")
        folder.curves_file.write_text("epoch,test_eps,ema_test_eps\n1,2.5,3.5\n", encoding="utf-8")
        (row,) = folder.load_curves(2)
        assert (row["test_column_error"], row["ema_test_column_error"]) == (row["test_eps"], row["ema_test_eps"])
        assert (row["test_eps"], row["ema_test_eps"]) == (2.5, 3.5)

    def test_before_the_first_epoch(self, tmp_path):
        folder = RunFolder.create(tmp_path / "run", OTHER)
        assert folder.checkpoints.load(OTHER) is None
        assert folder.load_curves(0) == []

    def test_a_run_is_not_overwritten_unasked(self, tmp_path):
        self.saved(tmp_path / "run")
        before = bytes_of(tmp_path)
        with pytest.raises(RunFolderError, match=r"already holds a run.*--resume.*--overwrite") as caught:
            RunFolder.create(tmp_path / "run", RunConfig())
        assert str(tmp_path / "run") in str(caught.value)
        assert bytes_of(tmp_path) == before
        (tmp_path / "run").rename(tmp_path / "my run")
        with pytest.raises(RunFolderError, match=rf"--resume '{tmp_path / 'my run'}', replace"):
            RunFolder.check_free(tmp_path / "my run")

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
        for name in ("pictures/epoch-0010.png", "pictures/mine.png", "tensorboard/events.out.tfevents.1.a"):
            (tmp_path / "run" / name).parent.mkdir(exist_ok=True)
            (tmp_path / "run" / name).touch()
        folder = RunFolder.create(tmp_path / "run", RunConfig(), overwrite=True)
        left = sorted(str(path.relative_to(folder.path)) for path in folder.path.rglob("*") if path.is_file())
        assert left == ["config.yaml", "notes.txt", "pictures/mine.png"]
        assert RunConfig.from_yaml(folder.config_file) == RunConfig()

    @pytest.mark.parametrize(
        "text", ["", "loss\n0.5\n", "epoch,loss\nabc,0.5\n", "epoch,loss\n1,0.5,7\n", "epoch,loss\n1\n", "\0"]
    )
    def test_damaged_curves(self, tmp_path, text):
        folder = self.saved(tmp_path / "run")
        folder.curves_file.write_text(text)
        with pytest.raises(RunFolderError) as caught:
            folder.load_curves(2)
        assert str(folder.curves_file) in str(caught.value)
        assert "closed file" not in str(caught.value)

    def test_names_that_are_too_long(self, tmp_path):
        for path in (tmp_path / ("x" * 256), tmp_path / ("é" * 200) / "run"):
            with pytest.raises(RunFolderError, match="output: cannot write to"):
                RunFolder.create(path, OTHER)
            with pytest.raises(RunFolderError, match=r"run \(or --resume\): (cannot read|expected a run folder)"):
                RunFolder.open(path)

    @pytest.mark.parametrize("letter", ["x", "é"])
    def test_images_with_the_longest_name(self, tmp_path, monkeypatch, letter):
        monkeypatch.chdir(tmp_path)
        dataset = letter * (250 // len(letter.encode()))
        folder = fresh_folder(RunConfig(DataConfig(f"{dataset}.npy")))
        assert folder.is_dir()
        assert folder.name.startswith(letter * 50)

    def test_fresh_folders_of_one_second(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert len({fresh_folder(OTHER) for _ in range(5)}) == 5

    def test_yaml_that_is_too_deep(self, tmp_path):
        self.saved(tmp_path / "run").config_file.write_text("[" * 5000)
        with pytest.raises(RunFolderError, match=r"config\.yaml: expected a configuration in YAML"):
            RunFolder.open(tmp_path / "run")

    def test_open_where_there_is_no_run(self, tmp_path):
        for path in (tmp_path, tmp_path / "missing"):
            with pytest.raises(RunFolderError, match=r"expected a run folder; .* has no config\.yaml"):
                RunFolder.open(path)
        assert not (tmp_path / "missing").exists()
