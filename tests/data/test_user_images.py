"""A user's own images: folders of files, .npy and .npz arrays, and what is said of those that cannot be used."""

import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from diffnmf.data import load_dataset, load_images
from diffnmf.errors import ImageWarning


def save_images(folder, count, size=(4, 3), start=0, suffix=".png"):
    """Files of one grey value each, ``start`` + i, so that every image can be told from the others."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("L", size, start + i).save(folder / f"{i:02d}{suffix}")


def all_images(split):
    return torch.cat([split.train.images, split.test.images])


def all_labels(split):
    return torch.cat([split.train.labels, split.test.labels])


class TestFolder:
    def test_flat_folder_has_no_labels(self, tmp_path):
        save_images(tmp_path / "mine", 10)
        split = load_dataset(tmp_path / "mine")
        assert split.train.name == "mine"
        assert split.train.labels is None
        assert split.train.image_shape == (3, 4)
        assert (len(split.train), len(split.test)) == (8, 2)
        assert split.train.images.dtype == torch.uint8
        assert sorted(all_images(split)[:, 0, 0].tolist()) == list(range(10))

    def test_sub_folders_are_classes(self, tmp_path):
        save_images(tmp_path / "dogs", 5, start=100)
        save_images(tmp_path / "cats", 10, start=0)
        save_images(tmp_path / ".hidden", 3)
        split = load_dataset(str(tmp_path))
        assert split.train.labels.bincount().tolist() == [8, 4]
        assert split.test.labels.bincount().tolist() == [2, 1]
        assert torch.equal(all_labels(split), (all_images(split)[:, 0, 0] >= 100).long()), "cats come first"

    def test_other_files_are_ignored(self, tmp_path):
        save_images(tmp_path, 5)
        (tmp_path / "notes.txt").write_text("no image")
        (tmp_path / ".hidden.png").write_bytes(b"no image")
        (tmp_path / "documents").mkdir()
        split = load_dataset(tmp_path)
        assert len(all_images(split)) == 5
        assert split.train.labels is None

    def test_a_link_that_leads_nowhere(self, tmp_path):
        """Left out in silence, nobody would miss its image."""
        Image.new("L", (4, 3), 100).save(tmp_path / "00.png")
        (tmp_path / "01.png").symlink_to(tmp_path / "moved.png")
        (tmp_path / "02.png").symlink_to("02.png")
        with pytest.raises(ValueError, match=r"01\.png leads nowhere, as 2 of 3 images do \(mend or remove the links"):
            load_images(tmp_path)
        for name in ("01.png", "02.png"):
            (tmp_path / name).unlink()
        (tmp_path / "01.png").symlink_to("00.png")
        assert len(load_images(tmp_path)) == 2

    def test_colour_becomes_grey(self, tmp_path):
        for i, (mode, colour) in enumerate([("RGB", (255, 0, 0)), ("RGBA", (255, 0, 0, 255)), ("1", 1)]):
            Image.new(mode, (2, 2), colour).save(tmp_path / f"{i}.PNG")
        with pytest.warns(ImageWarning, match="2 of 3 files"):
            split = load_dataset(tmp_path)
        assert sorted(all_images(split)[:, 0, 0].tolist()) == [76, 76, 255]

    def test_sixteen_bits_keep_their_depth(self, tmp_path):
        for value in (0, 257, 65535):
            Image.fromarray(np.full((2, 2), value, np.uint16)).save(tmp_path / f"{value}.png")
        images = all_images(load_dataset(tmp_path))
        assert images.dtype == torch.float32
        torch.testing.assert_close(images[:, 0, 0].sort().values, torch.tensor([0, 257 / 65535, 1]))

    def test_sixteen_beside_eight_bits_have_one_white(self, tmp_path):
        Image.fromarray(np.full((2, 2), 65535, np.uint16)).save(tmp_path / "deep.png")
        Image.new("L", (2, 2), 255).save(tmp_path / "shallow.png")
        assert all_images(load_dataset(tmp_path)).unique().tolist() == [1.0]

    def test_thirty_two_bits_have_no_known_range(self, tmp_path):
        Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(tmp_path / "deep.tif")
        with pytest.raises(ValueError, match=r"deep\.tif has 32 \(mode F\).*\.npy"):
            load_dataset(tmp_path)

    def test_unequal_sizes(self, tmp_path):
        save_images(tmp_path, 3)
        Image.new("L", (5, 3)).save(tmp_path / "wide.png")
        with pytest.raises(ValueError, match=r"one size; .*00\.png is 4×3 and .*wide\.png is 5×3.*scale or crop"):
            load_dataset(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(40)])
    def test_unreadable_image(self, tmp_path, content):
        save_images(tmp_path, 3)
        (tmp_path / "broken.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"readable image file; .*broken\.png.*remove it"):
            load_dataset(tmp_path)

    def test_truncated_image(self, tmp_path):
        file = tmp_path / "cut.png"
        noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
        Image.fromarray(noise).save(file)
        file.write_bytes(file.read_bytes()[:2000])
        with pytest.raises(ValueError, match=r"cut\.png"):
            load_dataset(tmp_path)

    def test_no_images(self, tmp_path):
        (tmp_path / "notes.txt").touch()
        with pytest.raises(ValueError, match=r"expected image files \(.*\.png.*found none"):
            load_dataset(tmp_path)

    def test_images_one_level_too_deep(self, tmp_path):
        save_images(tmp_path / "train" / "cats", 3)
        with pytest.raises(ValueError, match=r"immediate sub-folders; found none"):
            load_dataset(tmp_path)

    def test_class_without_images(self, tmp_path):
        save_images(tmp_path / "cats", 3)
        save_images(tmp_path / "dogs" / "small", 3)
        with pytest.raises(ValueError, match=r"in every sub-folder.*none in dogs"):
            load_dataset(tmp_path)

    @pytest.mark.parametrize("above", ["", "cats"])
    def test_images_further_down_than_others(self, tmp_path, above):
        """They would be left out, and nobody would know."""
        save_images(tmp_path / above, 3)
        save_images(tmp_path / above / "more" / "deep", 3)
        with pytest.raises(ValueError, match=r"found some further down, such as .*deep.00\.png; move them up"):
            load_dataset(tmp_path)

    def test_images_beside_classes(self, tmp_path):
        save_images(tmp_path, 3)
        save_images(tmp_path / "cats", 3)
        with pytest.raises(ValueError, match=r"found both, such as 00\.png; move"):
            load_dataset(tmp_path)

    def test_class_of_one_image(self, tmp_path):
        save_images(tmp_path / "cats", 3)
        save_images(tmp_path / "dogs", 1)
        with pytest.raises(ValueError, match=r"class dogs: expected at least 2 images.*got 1; add images or remove"):
            load_dataset(tmp_path)

    def test_single_image(self, tmp_path):
        save_images(tmp_path, 1)
        with pytest.raises(ValueError, match=r"images: expected at least 2 images.*got 1; add images"):
            load_dataset(tmp_path)

    def test_a_name_wins_over_a_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        save_images(tmp_path / "digits", 5)
        assert load_dataset("digits").train.image_shape == (8, 8)
        assert load_dataset("./digits").train.image_shape == (3, 4)


class TestArrays:
    def save(self, tmp_path, array, **more):
        path = tmp_path / ("mine.npz" if more else "mine.npy")
        if more:
            np.savez(path, images=array, **more)
        else:
            np.save(path, array)
        return path

    def test_uint8_stays(self, tmp_path):
        images = np.arange(10 * 6, dtype=np.uint8).reshape(10, 2, 3)
        split = load_dataset(self.save(tmp_path, images))
        assert split.train.name == "mine"
        assert split.train.labels is None
        assert split.train.images.dtype == torch.uint8
        assert sorted(all_images(split).flatten().tolist()) == list(range(60))

    @pytest.mark.parametrize("dtype", ["<u2", ">u2"])
    def test_uint16_is_scaled(self, tmp_path, dtype):
        images = np.array([0, 257, 65535], dtype).reshape(3, 1, 1)
        got = all_images(load_dataset(self.save(tmp_path, images)))
        torch.testing.assert_close(got.flatten().sort().values, torch.tensor([0, 257 / 65535, 1]))

    @pytest.mark.parametrize("dtype", ["?", "<f2", "<f4", ">f4", "<f8", ">f8", "longdouble"])
    def test_bool_and_floats_of_any_width_and_byte_order(self, tmp_path, dtype):
        images = np.array([0, 1, 1], dtype).reshape(3, 1, 1)
        got = all_images(load_dataset(self.save(tmp_path, images)))
        assert got.dtype == torch.float32
        assert sorted(got.flatten().tolist()) == [0, 1, 1]

    def test_column_major(self, tmp_path):
        images = np.random.default_rng(0).random((5, 2, 3))
        got = all_images(load_dataset(self.save(tmp_path, np.asfortranarray(images)))).double()
        order = got[:, 0, 0].argsort(), images[:, 0, 0].argsort()
        torch.testing.assert_close(got[order[0]], torch.from_numpy(images[order[1]]), atol=1e-6, rtol=0)

    @pytest.mark.parametrize("dtype", ["i1", "i4", "i8", "u4", "c8", "U3"])
    def test_other_dtypes(self, tmp_path, dtype):
        with pytest.raises(ValueError, match=r"mine\.npy: images: .*save values 0 to 255 as uint8.*floats in \[0, 1\]"):
            load_dataset(self.save(tmp_path, np.zeros((3, 2, 2), dtype)))

    @pytest.mark.parametrize(
        ("images", "message"),
        [
            (np.zeros((3, 4)), "3 dimensions"),
            (np.zeros((3, 4, 4, 3)), "greyscale"),
            (np.zeros((0, 4, 4)), "at least one image"),
            (np.full((3, 2, 2), 255.0), "above 1"),
            (np.full((3, 2, 2), -1.0), "negative"),
            (np.full((3, 2, 2), np.nan), "finite"),
            (np.zeros((1, 2, 2)), "at least 2 images"),
        ],
    )
    def test_wrong_values_name_the_file(self, tmp_path, images, message):
        with pytest.raises(ValueError, match=rf"mine\.npy: images: .*{message}"):
            load_dataset(self.save(tmp_path, images))

    def test_npz_with_its_only_array(self, tmp_path):
        np.savez_compressed(tmp_path / "mine.npz", faces=np.zeros((5, 2, 2)), labels=np.zeros(5, int))
        split = load_dataset(tmp_path / "mine.npz")
        assert split.train.labels.tolist() == [0] * 4

    def test_npz_with_several_arrays(self, tmp_path):
        np.savez(tmp_path / "mine.npz", x=np.zeros((5, 2, 2)), y=np.zeros(5))
        with pytest.raises(ValueError, match=r"mine\.npz: .*array called images.*got x, y"):
            load_dataset(tmp_path / "mine.npz")

    @pytest.mark.parametrize("labels", [["no", "yes"], [-7, 300], [False, True], [b"a", b"b"]])
    def test_labels_are_numbered_from_zero(self, tmp_path, labels):
        images = np.arange(10, dtype=np.uint8).reshape(10, 1, 1)
        split = load_dataset(self.save(tmp_path, images, labels=np.array(labels).repeat(5)))
        assert torch.equal(all_labels(split), (all_images(split)[:, 0, 0] >= 5).long())
        assert split.train.labels.bincount().tolist() == [4, 4]

    @pytest.mark.parametrize("shape", [(4,), (5, 1), ()])
    def test_labels_of_another_shape(self, tmp_path, shape):
        with pytest.raises(ValueError, match=r"mine\.npz: labels: expected one for each image, shape \(5,\)"):
            load_dataset(self.save(tmp_path, np.zeros((5, 2, 2)), labels=np.zeros(shape, int)))

    def test_labels_of_another_dtype(self, tmp_path):
        with pytest.raises(ValueError, match=r"labels: expected integers or strings; got dtype float64"):
            load_dataset(self.save(tmp_path, np.zeros((5, 2, 2)), labels=np.zeros(5)))

    def test_class_of_one_image_is_named(self, tmp_path):
        with pytest.raises(ValueError, match=r"mine\.npz: class rare: expected at least 2 images"):
            load_dataset(self.save(tmp_path, np.zeros((4, 2, 2)), labels=np.array(["rare", "a", "a", "a"])))

    def test_object_arrays_are_not_unpickled(self, tmp_path):
        path = tmp_path / "mine.npy"
        np.save(path, np.array([np.zeros((2, 2)), np.zeros((3, 3))], dtype=object), allow_pickle=True)
        with pytest.raises(ValueError, match=r"mine\.npy: .*without Python objects"):
            load_dataset(path)

    def test_labels_of_objects_are_not_unpickled(self, tmp_path):
        with pytest.raises(ValueError, match=r"mine\.npz: .*without Python objects"):
            load_dataset(self.save(tmp_path, np.zeros((2, 2, 2)), labels=np.array(["a", 1], dtype=object)))

    @pytest.mark.parametrize("suffix", [".npy", ".npz"])
    @pytest.mark.parametrize("content", [b"", b"damaged", b"PK\x03\x04damaged", b"\x93NUMPY\x01\x00damaged"])
    def test_damaged(self, tmp_path, suffix, content):
        path = tmp_path / f"mine{suffix}"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"mine\{suffix}: expected plain numbers.*save it anew"):
            load_dataset(path)

    def test_truncated(self, tmp_path):
        path = self.save(tmp_path, np.zeros((5, 9, 9)))
        path.write_bytes(path.read_bytes()[:500])
        with pytest.raises(ValueError, match=r"mine\.npy: expected plain numbers"):
            load_dataset(path)

    def test_zip_of_something_else(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "mine.npz", "w") as archive:
            archive.writestr("notes.txt", "no array")
        with pytest.raises(ValueError, match=r"mine\.npz: "):
            load_dataset(tmp_path / "mine.npz")

    def test_scalar(self, tmp_path):
        np.savez(tmp_path / "mine.npz", images=np.float32(1))
        with pytest.raises(ValueError, match=r"mine\.npz: images: expected 3 dimensions"):
            load_dataset(tmp_path / "mine.npz")

    def test_other_files(self, tmp_path):
        (tmp_path / "mine.csv").write_text("1,2")
        with pytest.raises(ValueError, match=r"mine\.csv: expected a folder of images, a \.npy or a \.npz file"):
            load_dataset(tmp_path / "mine.csv")


class TestSplit:
    @pytest.mark.parametrize(("count", "held_out"), [(2, 1), (3, 1), (7, 1), (8, 2), (10, 2), (100, 20)])
    def test_one_in_five_and_at_least_one(self, tmp_path, count, held_out):
        np.save(tmp_path / "mine.npy", np.zeros((count, 2, 2)))
        split = load_dataset(tmp_path / "mine.npy")
        assert (len(split.train), len(split.test)) == (count - held_out, held_out)

    def test_parts_are_disjoint_and_the_seed_decides(self, tmp_path):
        np.save(tmp_path / "mine.npy", np.arange(100, dtype=np.uint8).reshape(100, 1, 1))
        tests = []
        for seed in (0, 0, 1):
            split = load_dataset(tmp_path / "mine.npy", seed=seed)
            assert sorted(all_images(split).flatten().tolist()) == list(range(100))
            tests.append(split.test.images.flatten().tolist())
        assert tests[0] == tests[1] != tests[2]
        assert tests[0] != list(range(80, 100)), "at random, not by order"

    @pytest.mark.parametrize(
        ("seed", "error"), [(-1, ValueError), (0.5, TypeError), (None, TypeError), (True, TypeError)]
    )
    def test_wrong_seed(self, tmp_path, seed, error):
        np.save(tmp_path / "mine.npy", np.zeros((5, 2, 2)))
        with pytest.raises(error, match=r"^seed: expected an int ≥ 0; got "):
            load_dataset(tmp_path / "mine.npy", seed=seed)
