"""Where the rows of a large matrix come from, and what it costs to read them."""

import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
import zarr
from scipy.sparse import csr_array

from diffnmf import Blocks
from diffnmf.factorization.large.rows import HELD, SourceRows, rows_per_block


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).random((103, 7)).astype(np.float32)


def read(blocks, k=3):
    """All rows, and the sizes of the blocks in which they came."""
    rows = SourceRows(blocks, 0, blocks.source.shape[0], rows_per_block(blocks, k, 0))
    pieces = [(piece, block.clone()) for piece, block in rows.blocks()]
    assert [piece.start for piece, _ in pieces[1:]] == [piece.stop for piece, _ in pieces[:-1]]
    return torch.cat([block for _, block in pieces]), [len(block) for _, block in pieces]


class TestSources:
    def test_file(self, tmp_path, X):
        np.save(tmp_path / "x.npy", X)
        for data in (tmp_path / "x.npy", str(tmp_path / "x.npy"), np.load(tmp_path / "x.npy", mmap_mode="r")):
            found, sizes = read(Blocks(data, max_memory=2000))
            assert torch.equal(found, torch.from_numpy(X))
            assert len(sizes) > 10

    def test_part_of_a_memory_map(self, tmp_path, X):
        """Its offset is that of the whole file: it has to be read through the map."""
        np.save(tmp_path / "x.npy", X)
        part = np.load(tmp_path / "x.npy", mmap_mode="r")[20:90:2]
        assert torch.equal(read(Blocks(part, max_memory=2000))[0], torch.from_numpy(X[20:90:2]))

    def test_numbers_in_the_names_of_shards_are_numbers(self, tmp_path):
        for i in range(12):
            np.save(tmp_path / f"part{i}.npy", np.full((1, 2), float(i)))
        assert read(Blocks(tmp_path))[0][:, 0].tolist() == list(range(12))

    def test_shards(self, tmp_path, X):
        for number, part in enumerate(np.split(X, [40, 41, 80])):
            np.save(tmp_path / f"part-{number}.npy", part)
        assert torch.equal(read(Blocks(tmp_path, max_memory=2000))[0], torch.from_numpy(X))

    def test_hdf5_and_zarr(self, tmp_path, X):
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file["X"] = X
        zarr.save_array(str(tmp_path / "x.zarr"), X)
        for name in ("x.h5", "x.zarr"):
            assert torch.equal(read(Blocks(tmp_path / name, max_memory=2000))[0], torch.from_numpy(X))
        with h5py.File(tmp_path / "x.h5") as file:
            assert torch.equal(read(Blocks(file["X"], max_memory=2000))[0], torch.from_numpy(X))

    @pytest.mark.parametrize("dtype", ["float16", "uint8", "int64", "bool", ">f4", "uint16", "float64", ">f8"])
    def test_conversion(self, tmp_path, X, dtype):
        stored = (5 * X).astype(dtype)
        np.save(tmp_path / "x.npy", stored)
        blocks = Blocks(tmp_path / "x.npy", max_memory=3000)
        found, _ = read(blocks)
        assert found.dtype == blocks.dtype == (torch.float64 if dtype in ("int64", "float64", ">f8") else torch.float32)
        assert np.array_equal(found.numpy(), stored.astype(found.numpy().dtype))

    def test_transpose(self, X):
        blocks = Blocks(X)
        assert blocks.mT.shape == (7, 103) and blocks.mT.mT.shape == (103, 7)

    @pytest.mark.parametrize(
        ("data", "error", "message"),
        [
            ("nowhere.npy", ValueError, "does not exist"),
            (3.0, TypeError, "data: expected a path"),
            (torch.ones(2, 3), TypeError, "got Tensor .give the matrix itself"),
            (csr_array((2, 3)), TypeError, "got csr_array .give the matrix itself"),
            (np.ones(3), ValueError, "expected a matrix"),
            (np.ones((0, 3)), ValueError, "expected a matrix"),
            (np.ones((2, 3), complex), ValueError, "real numbers"),
        ],
    )
    def test_errors(self, data, error, message):
        with pytest.raises(error, match=message):
            Blocks(data)

    def test_files_that_are_none(self, tmp_path, X):
        (tmp_path / "x.csv").write_text("1,2")
        (tmp_path / "y.npy").write_text("no array")
        np.save(tmp_path / "z.npy", np.asfortranarray(X))
        (tmp_path / "empty").mkdir()
        (tmp_path / "mixed").mkdir()
        np.save(tmp_path / "mixed" / "a.npy", X)
        np.save(tmp_path / "mixed" / "b.npy", X[:, :3])
        for name, message in (
            ("x.csv", ".npy, .zarr"),
            ("y.npy", "expected a .npy file"),
            ("z.npy", "C order"),
            ("empty", "found none"),
            ("mixed", "one width"),
        ):
            with pytest.raises(ValueError, match=message):
                Blocks(tmp_path / name)

    def test_a_file_that_shrinks(self, tmp_path, X):
        np.save(tmp_path / "x.npy", X)
        blocks = Blocks(tmp_path / "x.npy", max_memory=2000)
        with (tmp_path / "x.npy").open("r+b") as stream:
            stream.truncate(1000)
        with pytest.raises(OSError, match="shorter"):
            read(blocks)


class TestMemory:
    def test_too_little(self, X):
        with pytest.raises(ValueError, match="max_memory: expected at least"):
            rows_per_block(Blocks(X, max_memory=100), 3, 0)
        with pytest.raises(ValueError, match="max_memory"):
            Blocks(X, max_memory=0)

    def test_bound(self, X):
        blocks = Blocks(X, max_memory=4000)
        size = rows_per_block(blocks, 3, 1000)
        row = 4 * (7 + 4 * 3)
        assert HELD * size * row <= 3000 < HELD * (size + 1) * row

    def test_memory_of_a_process(self, tmp_path):
        """160 MB of data, of which 24 may be held: the process grows by little more."""
        rows = np.random.default_rng(0).random((1000, 1000), dtype=np.float32)
        file = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (40_000, 1000))
        for start in range(0, 40_000, 1000):
            file[start : start + 1000] = rows
        file.flush()
        program = (
            "import resource, torch; from diffnmf import Blocks; from diffnmf.factorization import factorize\n"
            "torch.set_num_threads(1)\n"
            "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "factorize(torch.rand(50, 40), 4, init='random', tol=0.0, max_iter=2, progress=True)\n"
            "before = peak()\n"
            f"blocks = Blocks({str(tmp_path / 'x.npy')!r}, max_memory=24e6)\n"
            "factorize(blocks.mT, 4, init='random', tol=0.0, max_iter=2)\n"
            "print((peak() - before) / 1024)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
        assert float(done.stdout) < 32
