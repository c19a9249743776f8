"""A file is replaced as a whole or not at all."""

import pytest

from diffnmf.files import replacing


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
