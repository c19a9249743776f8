"""A file is replaced as a whole or not at all; what is written is plain, and the same for the same content."""

import json
import math

import pytest
import torch
from safetensors import torch as safetensors

from diffnmf.errors import RunFolderError
from diffnmf.files import check_output, explained_errors, read_json, replacing, replacing_together, write_json
from diffnmf.models.saved_model import with_sorted_metadata


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_in_a_new_folder(tmp_path):
    target = tmp_path / "a" / "b" / "curves.csv"
    with replacing(target) as file:
        file.write_text("new")
        assert not target.exists(), "it is there only when it is whole"
    assert target.read_text() == "new"
    assert names(target.parent) == ["curves.csv"]


def test_an_old_file_is_replaced(tmp_path):
    target = tmp_path / "curves.csv"
    target.write_text("old")
    with replacing(str(target)) as file:
        file.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert names(tmp_path) == ["curves.csv"]


def test_the_temporary_file_is_beside_the_target_and_of_its_kind(tmp_path):
    with replacing(tmp_path / "basis.png") as file:
        assert file.parent == tmp_path
        assert file.suffix == ".png"
        file.touch()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("begun", [True, False])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error, begun):
    target = tmp_path / "curves.csv"
    target.write_text("old")
    with pytest.raises(error), replacing(target) as file:
        if begun:
            file.write_text("half of the n")
        raise error
    assert target.read_text() == "old"
    assert names(tmp_path) == ["curves.csv"]


def test_a_failure_without_an_old_file_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), replacing(tmp_path / "curves.csv") as file:
        file.write_text("half of the n")
        raise RuntimeError
    assert names(tmp_path) == []


NUMBERS = {"scores": {"eps": math.nan, "all": [1.5, math.inf, (-math.inf, 2)]}, "groups": 3, "name": "x", "flag": True}
TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "ä": torch.ones(1, dtype=torch.float64)}
METADATA = {"weights": "ema", "epoch": "7", "test_relative_error": "0.5", "note": 'a "quoted" ä'}


class TestJson:
    def test_nan_and_infinity_are_null(self, tmp_path):
        """No reader but Python's own takes a bare NaN."""

        def refuse(constant):
            raise AssertionError(constant)

        write_json(tmp_path / "a.json", NUMBERS)
        content = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
        expected = {"scores": {"eps": None, "all": [1.5, None, [None, 2]]}, "groups": 3, "name": "x", "flag": True}
        assert content == expected

    def test_null_is_read_as_nan(self, tmp_path):
        write_json(tmp_path / "a.json", NUMBERS)
        content = read_json(tmp_path / "a.json")
        assert math.isnan(content["scores"]["eps"])
        assert math.isnan(content["scores"]["all"][1])
        assert (content["groups"], content["name"], content["flag"]) == (3, "x", True)


class TestSafetensors:
    def test_equal_content_gives_equal_bytes(self):
        made = {with_sorted_metadata(safetensors.save(TENSORS, METADATA)) for _ in range(20)}
        assert len(made) == 1

    @pytest.mark.parametrize("metadata", [None, METADATA])
    def test_nothing_is_lost(self, tmp_path, metadata):
        file = tmp_path / "a.safetensors"
        file.write_bytes(with_sorted_metadata(safetensors.save(TENSORS, metadata)))
        loaded = safetensors.load_file(file)
        assert loaded.keys() == TENSORS.keys()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in TENSORS.items())
        with safetensors.safe_open(file, "pt") as opened:
            assert opened.metadata() == metadata


def test_what_to_do_about_a_full_disk_depends_on_what_was_written(tmp_path):
    (tmp_path / "run" / "pictures").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").touch()
    for file in ("run/curves.csv", "run/pictures", "run/pictures/epoch-0001.png"):
        with pytest.raises(RunFolderError, match=rf"then go on with --resume {tmp_path / 'run'}$"):
            fail(tmp_path / file)
    with pytest.raises(RunFolderError, match="then run the same command again$"):
        fail(tmp_path / "factors" / "factors.npz")
    (tmp_path / "run").rename(tmp_path / "my run")
    with pytest.raises(RunFolderError, match=rf"then go on with --resume '{tmp_path / 'my run'}'$"):
        fail(tmp_path / "my run" / "curves.csv")


@pytest.mark.parametrize("name", ["link", "link/below"])
def test_a_link_to_nowhere_is_no_output(tmp_path, name):
    """It is said before the work: a folder cannot be made under its name."""
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RunFolderError, match=r"^output: expected a folder; .*link is a link to .*nowhere, which does"):
        check_output(tmp_path / name)
    (tmp_path / "nowhere").mkdir()
    check_output(tmp_path / name)


def test_a_full_disk_is_said_of_the_file_that_was_asked_for(tmp_path):
    """Not of the one beside it, which is gone when the message is read."""
    with pytest.raises(RunFolderError) as caught, replacing_together(tmp_path / "out") as unfinished:
        fail(unfinished / "components.csv")
    assert str(caught.value).startswith(f"{tmp_path / 'out' / 'components.csv'}: could not be written (No space left")
    assert "unfinished" not in str(caught.value)


def fail(path):
    with explained_errors(path):
        raise OSError(28, "No space left on device")
