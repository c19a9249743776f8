"""One's own images, factorised by a trained model: files that are replaced together, or stay."""

import numpy as np
import pytest

from diffnmf.errors import RunFolderError
from diffnmf.runs import factorize_images


def files_of(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def factorized(tmp_path):
    """A function that factorises so many random images into tmp_path/out."""

    def run(count, **options):
        np.save(tmp_path / "mine.npy", np.random.default_rng(0).random((count, 8, 8)))
        return factorize_images("digits-k16", tmp_path / "mine.npy", tmp_path / "out", **options)

    return run


def test_what_is_there_is_replaced_as_a_whole(factorized, tmp_path):
    factorized(80)
    assert sorted(files_of(tmp_path / "out")) == ["factors.npz", "group-0000.png", "group-0001.png"]
    with pytest.raises(RunFolderError, match=r"holds factors.npz, group-0000.png, group-0001.png already"):
        factorized(40)
    factorized(40, overwrite=True)
    assert sorted(files_of(tmp_path / "out")) == ["factors.npz", "group-0000.png"]


def test_a_full_disk_leaves_what_was_there(factorized, tmp_path, monkeypatch):
    factorized(80)
    before = files_of(tmp_path / "out")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("diffnmf.runs.own_images.save_decomposition", full)
    with pytest.raises(RunFolderError, match="could not be written .*all that was written before is intact"):
        factorized(40, overwrite=True)
    assert files_of(tmp_path / "out") == before
