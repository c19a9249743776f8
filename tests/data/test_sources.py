"""Image sets, the named data sets, and where their files are looked for. No test here uses a network."""

import io
import os
import pickle
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from helpers import REAL_DATA, needs_data

from diffnmf.data import DATASETS, DataSplit, ImageSet, load_dataset, load_images
from diffnmf.data.downloads import data_root
from diffnmf.errors import DataUnavailableError


@pytest.fixture
def offline(monkeypatch):
    """No network: every request fails; returns the list of the addresses that were asked for."""
    asked = []

    def refuse(request, *args, **kwargs):
        asked.append(getattr(request, "full_url", request))
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr("sklearn.datasets._base.urlretrieve", refuse)
    monkeypatch.setattr("sklearn.datasets._base.time.sleep", lambda seconds: None)
    return asked


class TestImageSet:
    def test_pixels_of_uint8_are_floats_in_the_unit_interval(self):
        images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1)
        pixels = ImageSet("three", images, None).pixels(torch.tensor([2, 1, 0, 1]))
        assert pixels.dtype == torch.float32
        torch.testing.assert_close(pixels.flatten(), torch.tensor([1.0, 0.2, 0.0, 0.2]))

    @pytest.mark.parametrize("shape", [(), (5,), (2, 3), (0, 4)])
    @pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
    def test_pixels_of_any_shape_of_indices(self, shape, dtype):
        images = torch.rand(7, 2, 3)
        indices = torch.randint(7, shape, dtype=dtype)
        pixels = ImageSet("random", images, None).pixels(indices)
        assert pixels.shape == (*shape, 2, 3)
        assert all(torch.equal(got, images[i]) for got, i in zip(pixels.view(-1, 2, 3), indices.flatten(), strict=True))

    @pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
    def test_indices_that_would_be_a_mask_are_refused(self, dtype):
        with pytest.raises(TypeError, match=r"indices: expected .*int64.*\.long\(\)"):
            ImageSet("random", torch.rand(2, 2, 2), None).pixels(torch.ones(2, dtype=dtype))

    def test_shape_and_length(self):
        images = ImageSet("random", torch.rand(7, 2, 3), torch.zeros(7, dtype=torch.int64))
        assert images.image_shape == (2, 3)
        assert len(images) == 7

    def test_is_frozen(self):
        with pytest.raises(AttributeError):
            ImageSet("random", torch.rand(1, 2, 2), None).images = torch.rand(1, 2, 2)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_other_floats_are_kept_as_float32(self, dtype):
        images = ImageSet("random", torch.tensor([0.0, 0.5, 1.0], dtype=dtype).view(3, 1, 1), None).images
        assert images.dtype == torch.float32
        assert images.flatten().tolist() == [0.0, 0.5, 1.0]

    def test_rounding_above_one_in_float64_is_no_error(self):
        images = torch.tensor([[[1 + 1e-12]]], dtype=torch.float64)
        assert ImageSet("white", images, None).images.item() == 1.0

    def test_labels_become_int64(self):
        labels = ImageSet("random", torch.rand(2, 1, 1), torch.tensor([1, 0], dtype=torch.uint8)).labels
        assert labels.dtype == torch.int64
        assert labels.tolist() == [1, 0]

    @pytest.mark.parametrize(
        ("images", "message"),
        [
            (torch.rand(2, 2), r"images: expected 3 dimensions.*\(2, 2\)"),
            (torch.rand(2, 3, 2, 2), r"images: expected 3 dimensions.*greyscale"),
            (torch.rand(0, 2, 2), r"images: expected at least one image.*\(0, 2, 2\)"),
            (torch.rand(2, 0, 2), r"images: expected at least one image"),
            (torch.full((1, 2, 2), torch.nan), r"images: expected finite"),
            (torch.full((1, 2, 2), torch.inf), r"images: expected finite"),
            (torch.tensor([[[0.5, -torch.inf]]]), r"images: expected finite"),
            (torch.tensor([[[0.5, -0.25]]]), r"images: .*negative values down to -0.25.*normalisation"),
            (torch.tensor([[[0.5, 255.0]]]), r"images: .*above 1, up to 255; divide .*uint8"),
        ],
    )
    def test_wrong_images(self, images, message):
        with pytest.raises(ValueError, match=message):
            ImageSet("wrong", images, None)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (torch.zeros(2, dtype=torch.int64), r"labels: expected one label for each of the 3 images.*\(2,\)"),
            (torch.zeros(3, 1, dtype=torch.int64), r"labels: expected one label.*\(3, 1\)"),
        ],
    )
    def test_wrong_labels(self, labels, message):
        with pytest.raises(ValueError, match=message):
            ImageSet("wrong", torch.rand(3, 2, 2), labels)

    def test_wrong_dtypes(self):
        for dtype, message in ((torch.int64, "torch.int64; .*divide"), (torch.bool, "torch.bool")):
            with pytest.raises(TypeError, match=f"images: expected dtype uint8.*{message}"):
                ImageSet("wrong", torch.ones(1, 2, 2, dtype=dtype), None)
        with pytest.raises(TypeError, match=r"labels: expected an integer dtype; got torch.float32"):
            ImageSet("wrong", torch.rand(3, 2, 2), torch.zeros(3))

    def test_arrays_of_another_library_are_refused(self):
        with pytest.raises(TypeError, match=r"images: expected a torch.Tensor \(N, h, w\); got list"):
            ImageSet("wrong", [[[0.0]]], None)
        with pytest.raises(TypeError, match=r"labels: expected a torch.Tensor \(N,\), or None; got list"):
            ImageSet("wrong", torch.rand(1, 2, 2), [0])

    def test_a_split_has_one_image_size(self):
        with pytest.raises(ValueError, match=r"test: .*train, 2×3; got 3×2"):
            DataSplit(ImageSet("a", torch.rand(1, 2, 3), None), ImageSet("b", torch.rand(1, 3, 2), None))


class TestDigits:
    def test_split_per_class(self):
        split = load_dataset("digits")
        assert split.train.image_shape == split.test.image_shape == (8, 8)
        assert len(split.train) + len(split.test) == 1797
        train, test = split.train.labels.bincount(), split.test.labels.bincount()
        assert len(train) == len(test) == 10
        assert torch.equal(test, ((train + test) / 5).round().long())

    def test_are_those_of_scikit_learn(self):
        from sklearn.datasets import load_digits

        expected = torch.from_numpy(load_digits().images).flatten(1)
        split = load_dataset("digits")
        got = torch.cat([split.train.images, split.test.images]).flatten(1)
        assert got.max() == 1
        # Every image once, whatever the order.
        assert sorted((got * 16).long().tolist()) == sorted(expected.long().tolist())

    def test_split_does_not_depend_on_the_seed(self):
        first, second = load_dataset("digits", seed=0), load_dataset("digits", seed=1)
        assert torch.equal(first.test.images, second.test.images)

    def test_needs_no_folder(self, monkeypatch, offline):
        monkeypatch.setenv("DIFFNMF_DATA", "/no/such/folder")
        assert load_dataset("digits", data_dir="/nor/this/one").train.name == "digits"
        assert offline == []


class TestFolders:
    def test_argument_before_variable_before_cache(self, monkeypatch, tmp_path):
        given, variable, cache = (tmp_path / name for name in ("given", "variable", "cache"))
        given.mkdir()
        variable.mkdir()
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        monkeypatch.setenv("DIFFNMF_DATA", str(variable))
        assert data_root(given) == given
        assert data_root(str(given)) == given
        assert data_root(None) == variable
        monkeypatch.setenv("DIFFNMF_DATA", "")
        assert data_root(None) == cache / "diffnmf"

    def test_cache_of_the_home_folder(self, monkeypatch, tmp_path):
        monkeypatch.delenv("DIFFNMF_DATA", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        for value in ("", "relative/is/ignored"):
            monkeypatch.setenv("XDG_CACHE_HOME", value)
            assert data_root(None) == tmp_path / ".cache" / "diffnmf"

    @pytest.mark.parametrize("name", ["mnist", "fashion", "faces"])
    def test_missing_folder(self, monkeypatch, tmp_path, name, offline):
        missing = tmp_path / "missing"
        with pytest.raises(DataUnavailableError, match=r"^data_dir: .*missing does not exist; create it.*digits"):
            load_dataset(name, data_dir=missing)
        monkeypatch.setenv("DIFFNMF_DATA", str(missing))
        with pytest.raises(DataUnavailableError, match=r"^the environment variable DIFFNMF_DATA: .*does not exist"):
            load_dataset(name)
        assert not missing.exists()
        assert offline == []

    def test_a_file_is_no_folder(self, tmp_path):
        file = tmp_path / "file"
        file.touch()
        with pytest.raises(DataUnavailableError, match=r"data_dir: .*file is not a folder"):
            load_dataset("mnist", data_dir=file)


class TestUnavailable:
    REMEDY = r"--data-dir[\s\S]*--dataset digits"

    @pytest.mark.parametrize("name", ["mnist", "fashion", "faces"])
    def test_without_network(self, tmp_path, name, offline, capsys):
        with pytest.raises(
            DataUnavailableError, match=rf"'{name}'[\s\S]*no route to host[\s\S]*{self.REMEDY}"
        ) as error:
            load_dataset(name, data_dir=tmp_path)
        assert str(tmp_path) in str(error.value)
        assert error.value.__cause__ is not None
        assert offline
        assert capsys.readouterr().out == ""

    def test_server_error(self, monkeypatch, tmp_path):
        def missing(request, *args, **kwargs):
            raise urllib.error.HTTPError("http://host", 404, "Not Found", None, None)

        monkeypatch.setattr(urllib.request, "urlopen", missing)
        with pytest.raises(DataUnavailableError, match=rf"404: Not Found[\s\S]*{self.REMEDY}"):
            load_dataset("mnist", data_dir=tmp_path)

    @pytest.mark.parametrize("name", ["mnist", "faces"])
    def test_folder_that_cannot_be_written(self, monkeypatch, tmp_path, name, offline):
        def read_only(path, *args, **kwargs):
            raise PermissionError(30, "Read-only file system", str(path))

        monkeypatch.setattr(os, "makedirs", read_only)
        monkeypatch.setattr("sklearn.datasets._base.makedirs", read_only)
        with pytest.raises(DataUnavailableError, match=r"Read-only file system[\s\S]*writable[\s\S]*digits"):
            load_dataset(name, data_dir=tmp_path)

    def test_damaged_archive(self, tmp_path, offline):
        raw = tmp_path / "MNIST" / "raw"
        raw.mkdir(parents=True)
        (raw / "train-images-idx3-ubyte.gz").write_bytes(b"damaged")
        with pytest.raises(DataUnavailableError, match=rf"no route to host[\s\S]*{self.REMEDY}"):
            load_dataset("mnist", data_dir=tmp_path)
        assert any("train-images" in address for address in offline), "a damaged archive is to be downloaded again"

    @pytest.mark.parametrize("content", [b"", b"damaged", b"\0\0\x08\x03\0\0\0\x02\0\0\0\x02\0\0\0\x02\x01"])
    def test_damaged_unpacked_files(self, tmp_path, offline, content):
        raw = tmp_path / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for part in ("train", "t10k"):
            for kind in ("images-idx3", "labels-idx1"):
                (raw / f"{part}-{kind}-ubyte").write_bytes(content)
        with pytest.raises(DataUnavailableError, match=r"delete damaged files"):
            load_dataset("mnist", data_dir=tmp_path)

    @pytest.mark.parametrize("content", [b"", b"damaged", pickle.dumps({"not": "faces"})])
    def test_damaged_faces(self, tmp_path, offline, content):
        (tmp_path / "scikit_learn").mkdir()
        (tmp_path / "scikit_learn" / "olivetti_py3.pkz").write_bytes(content)
        with pytest.raises(DataUnavailableError, match=rf"olivetti_py3.pkz[\s\S]*{self.REMEDY}"):
            load_dataset("faces", data_dir=tmp_path)


class TestNames:
    def test_registry(self):
        assert set(DATASETS) == {"digits", "mnist", "fashion", "faces"}

    @pytest.mark.parametrize("value", ["MNIST", "cifar", "", "/no/such/folder", Path("digits-of-mine")])
    def test_unknown(self, value):
        with pytest.raises(ValueError, match=r"dataset: expected one of digits, faces, fashion, mnist.*\.npz") as error:
            load_dataset(value)
        assert repr(str(value)) in str(error.value)

    def test_neither_name_nor_path(self):
        with pytest.raises(TypeError, match=r"dataset: .*int"):
            load_dataset(3)

    def test_images_that_are_no_path(self):
        with pytest.raises(TypeError, match=r"images: expected the path to a folder .*; got int"):
            load_images(3)

    def test_import_loads_nothing_heavy(self, fresh_processes):
        code = "import sys, diffnmf.data; print(sorted({'torchvision', 'sklearn', 'PIL'} & set(sys.modules)))"
        result = fresh_processes.run(code)
        assert result.stdout.strip() == "[]", result.stderr


@needs_data
class TestRealData:
    @pytest.mark.parametrize("name", ["mnist", "fashion"])
    def test_official_split(self, name, offline, capfd):
        split = load_dataset(name, data_dir=REAL_DATA)
        assert split.train.images.shape == (60000, 28, 28)
        assert split.test.images.shape == (10000, 28, 28)
        assert split.train.images.dtype == split.test.images.dtype == torch.uint8
        assert split.train.labels.unique().tolist() == list(range(10))
        assert offline == []
        assert capfd.readouterr() == ("", "")

    def test_faces(self, offline, capfd):
        split = load_dataset("faces", data_dir=REAL_DATA)
        assert split.train.image_shape == (64, 64)
        assert split.train.labels.bincount().tolist() == [8] * 40
        assert split.test.labels.bincount().tolist() == [2] * 40
        assert offline == []
        assert capfd.readouterr() == ("", "")

    def test_faces_are_held_out_at_random_and_always_the_same(self):
        from sklearn.datasets import fetch_olivetti_faces

        faces = fetch_olivetti_faces(data_home=Path(REAL_DATA) / "scikit_learn").images
        every = torch.from_numpy(faces).reshape(40, 10, 64 * 64)
        test = load_dataset("faces", data_dir=REAL_DATA, seed=3).test.images.view(40, 2, 1, -1)
        positions = (test == every[:, None]).all(-1).nonzero()[:, 2].view(40, 2)
        assert len(positions.unique(dim=0)) > 20
        assert torch.equal(test, load_dataset("faces", data_dir=REAL_DATA, seed=4).test.images.view(40, 2, 1, -1))

    def test_damaged_archive_is_downloaded_again(self, monkeypatch, tmp_path):
        source = Path(REAL_DATA) / "MNIST" / "raw"
        raw = tmp_path / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for archive in source.glob("*.gz"):
            shutil.copyfile(archive, raw / archive.name)
        (raw / "t10k-labels-idx1-ubyte.gz").write_bytes(b"damaged")

        class Response(io.BytesIO):
            length = 4542
            url = None

        def serve(request, *args, **kwargs):
            return Response((source / Path(request.full_url).name).read_bytes())

        monkeypatch.setattr(urllib.request, "urlopen", serve)
        assert len(load_dataset("mnist", data_dir=tmp_path).test) == 10000
