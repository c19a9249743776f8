"""Image files that are not plain grey pictures: handled, or refused with the remedy, and nothing lost in silence."""

import re
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image, PngImagePlugin

from diffnmf.data import load_dataset, load_images
from diffnmf.errors import ImageWarning

GREY = Image.new("L", (4, 3), 100)


def grey_steps(size=(4, 3)):
    """An image of which no two pixels agree."""
    return Image.fromarray(np.arange(size[0] * size[1], dtype=np.uint8).reshape(size[::-1]))


def only_image(folder):
    (image,) = load_images(folder).images
    return image


class TestFormats:
    def test_postscript_under_the_name_of_a_picture_is_never_run(self, tmp_path, monkeypatch):
        program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 3\n%%EndComments\nshowpage\n"
        (tmp_path / "00.png").write_bytes(program)
        run = []
        monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **kwargs: run.append(args) or GREY.im)
        with pytest.raises(ValueError, match=r"00\.png is not one of BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP, whatever"):
            load_images(tmp_path)
        assert not run

    @pytest.mark.parametrize("form", ["PDF", "ICO", "TGA", "PCX", "SGI"])
    def test_other_formats_under_the_name_of_a_picture(self, tmp_path, form):
        GREY.save(tmp_path / "00.png", form)
        with pytest.raises(ValueError, match=r"00\.png is not one of BMP, .*save it as PNG"):
            load_images(tmp_path)

    @pytest.mark.parametrize("suffix", [".bmp", ".gif", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".webp"])
    def test_all_that_the_suffixes_promise(self, tmp_path, suffix):
        GREY.convert("RGB" if suffix == ".ppm" else "L").save(tmp_path / f"00{suffix}")
        assert (only_image(tmp_path).int() - 100).abs().max() <= 1

    def test_grey_of_sixteen_bits_in_a_pgm_file(self, tmp_path):
        values = np.array([[0, 1000, 65535]], dtype=np.uint16)
        (tmp_path / "00.pgm").write_bytes(b"P5 3 1 65535\n" + values.astype(">u2").tobytes())
        torch.testing.assert_close(only_image(tmp_path), torch.tensor([[0, 1000 / 65535, 1]]))

    @pytest.mark.parametrize(
        ("bits", "white_is_zero", "message"),
        [
            (12, False, "expected 8 or 16 bits a pixel; .*00.tif has 12; save it with 16 bits"),
            (16, True, "expected black as 0 in images of 16 bits; .*00.tif has white as 0; save it as PNG"),
        ],
    )
    def test_deep_grey_that_pillow_reads_as_another(self, tmp_path, bits, white_is_zero, message):
        """12 bits come sixteen times too dark, and a negative as it is stored."""
        tags = {256: 2, 257: 1, 258: bits, 259: 1, 262: int(not white_is_zero), 273: 8, 277: 1, 278: 1, 279: 4}
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
        directory = struct.pack("<H", len(tags)) + entries + bytes(4)
        (tmp_path / "00.tif").write_bytes(b"II*\0" + struct.pack("<I", 12) + b"\x10\x20\x30\x40" + directory)
        with pytest.raises(ValueError, match=message):
            load_images(tmp_path)


class TestFrames:
    @pytest.mark.parametrize("suffix", [".gif", ".tif", ".png", ".webp"])
    def test_several_in_one_file(self, tmp_path, suffix):
        others = [Image.new("L", (4, 3), value) for value in (150, 200)]
        GREY.save(tmp_path / f"00{suffix}", save_all=True, append_images=others)
        with pytest.raises(
            ValueError, match=rf"expected one image a file; .*00\{suffix} has 3.*each .* file of its own"
        ):
            load_images(tmp_path)

    def test_a_single_one_of_an_animation(self, tmp_path):
        GREY.save(tmp_path / "00.gif", save_all=True)
        assert only_image(tmp_path).unique().tolist() == [100]


class TestOrientation:
    @pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_as_a_viewer_shows_it(self, tmp_path, suffix, orientation):
        exif = Image.Exif()
        exif[0x0112] = orientation
        grey_steps().save(tmp_path / f"00{suffix}", exif=exif, lossless=True)
        stored = np.arange(12, dtype=np.uint8).reshape(3, 4)
        # EXIF 2.32, "Orientation": where the first row and the first column of what is stored are seen.
        mirrored = stored if orientation in (1, 3, 6, 8) else stored[:, ::-1]
        turns = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}[orientation]  # quarters, anticlockwise
        np.testing.assert_array_equal(only_image(tmp_path), np.rot90(mirrored, turns))

    def test_of_a_photograph(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6  # held upright
        dark_left = Image.fromarray(np.repeat([[0] * 8 + [255] * 8], 8, 0).astype(np.uint8))
        dark_left.save(tmp_path / "00.jpg", exif=exif)
        image = only_image(tmp_path)
        assert image.shape == (16, 8)
        assert image[:8].max() < 30
        assert image[8:].min() > 225

    def test_of_sixteen_bits(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(np.array([[0, 1000, 65535]], np.uint16)).save(tmp_path / "00.png", exif=exif)
        torch.testing.assert_close(only_image(tmp_path), torch.tensor([[0], [1000 / 65535], [1]]))


class TestTransparency:
    @pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
    @pytest.mark.parametrize("alpha", [0, 254])
    def test_has_no_grey(self, tmp_path, suffix, alpha):
        image = Image.new("RGBA", (4, 3), (10, 10, 10, 255))
        image.putpixel((2, 1), (10, 10, 10, alpha))
        image.save(tmp_path / f"00{suffix}", lossless=True)
        with pytest.raises(
            ValueError, match=rf"expected opaque images; .*00\{suffix} has transparent pixels.*background"
        ):
            load_images(tmp_path)

    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16"])
    def test_of_one_colour(self, tmp_path, mode):
        """In a PNG file one colour may stand for transparent, in every mode."""
        values = np.array([[0, 1, 1]], np.uint16 if mode == "I;16" else np.uint8)
        image = Image.fromarray(values) if mode == "I;16" else Image.fromarray(values * 255).convert(mode)
        colour = image.getpixel((0, 0))
        image.save(tmp_path / "00.png", transparency=colour)
        with pytest.raises(ValueError, match="has transparent pixels"):
            load_images(tmp_path)
        unused = {"1": None, "L": 7, "P": None, "RGB": (1, 2, 3), "I;16": 7}[mode]
        if unused is not None:
            image.save(tmp_path / "00.png", transparency=unused)
            assert only_image(tmp_path)[0, 0] == 0

    @pytest.mark.parametrize("mode", ["LA", "RGBA"])
    def test_opaque_all_over_is_as_good_as_none(self, tmp_path, mode):
        GREY.convert(mode).save(tmp_path / "00.png")
        assert only_image(tmp_path).unique().tolist() == [100]

    def test_opaque_palettes(self, tmp_path):
        GREY.convert("P").save(tmp_path / "00.png", transparency=b"\xff" * 256)
        assert only_image(tmp_path).unique().tolist() == [100]


class TestColour:
    def test_is_counted_once(self, tmp_path):
        for i in range(3):
            Image.new("RGB", (4, 3), (255, 0, 10 * i)).save(tmp_path / f"{i}.png")
        GREY.convert("RGB").save(tmp_path / "3.png")  # colour in name only
        GREY.save(tmp_path / "4.png")
        message = f"images: 3 of 5 files in {tmp_path} were in colour and are now grey"
        with pytest.warns(ImageWarning, match=re.escape(message)) as caught:
            images = load_images(tmp_path).images
        assert len(caught) == 1
        assert images[:, 0, 0].tolist() == [76, 77, 79, 100, 100]

    def test_in_the_folders_of_classes(self, tmp_path):
        for name in ("cats", "dogs"):
            (tmp_path / name).mkdir()
            for i in range(2):
                Image.new("RGB", (4, 3), (255, 0, 0)).save(tmp_path / name / f"{i}.png")
        with pytest.warns(ImageWarning, match=re.escape(f"4 of 4 files in {tmp_path} were in colour")) as caught:
            load_dataset(tmp_path)
        assert len(caught) == 1

    @pytest.mark.parametrize(("mode", "suffix"), [("P", ".gif"), ("CMYK", ".tif"), ("CMYK", ".jpg"), ("YCbCr", ".jpg")])
    def test_of_other_modes(self, tmp_path, mode, suffix):
        Image.new("RGB", (8, 8), (255, 0, 0)).convert(mode).save(tmp_path / f"00{suffix}")
        with pytest.warns(ImageWarning, match="1 of 1 files .* in colour"):
            assert (only_image(tmp_path).int() - 76).abs().max() <= 1

    def test_sixteen_bits_that_pillow_reads_as_eight(self, tmp_path):
        """Of 16 bits in several channels, Pillow gives the upper half."""
        GREY.convert("RGB").save(tmp_path / "00.png")
        deep = as_sixteen_bits((tmp_path / "00.png").read_bytes(), rows=3, columns=4)
        (tmp_path / "00.png").write_bytes(deep)
        with pytest.warns(ImageWarning, match=r"1 of 1 files .* had 16 bits a channel.*8 bits.*\.npy") as caught:
            assert only_image(tmp_path).unique().tolist() == [100]
        assert len(caught) == 1


def as_sixteen_bits(png, rows, columns):
    """A PNG file of grey pixels of 16 bits in three channels, which Pillow cannot write."""

    def chunk(name, content):
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = struct.pack(">IIBBBBB", columns, rows, 16, 2, 0, 0, 0)
    pixels = b"".join(b"\0" + struct.pack(">H", 100 * 256 + 7) * 3 * columns for _ in range(rows))
    return png[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


class TestBombs:
    @pytest.mark.parametrize("limit", [11, 5])  # Pillow warns at once its limit, and refuses at twice
    def test_more_pixels_than_pillow_trusts(self, tmp_path, monkeypatch, limit):
        GREY.save(tmp_path / "00.png")  # 12 pixels
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        message = rf"expected images of at most {limit} pixels; .*00\.png has more.*PIL\.Image\.MAX_IMAGE_PIXELS"
        with pytest.raises(ValueError, match=message):
            load_images(tmp_path)

    def test_no_limit(self, tmp_path, monkeypatch):
        GREY.save(tmp_path / "00.png")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        assert only_image(tmp_path).unique().tolist() == [100]

    def test_a_small_file_of_much_text(self, tmp_path):
        text = PngImagePlugin.PngInfo()
        text.add_text("comment", "a" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
        GREY.save(tmp_path / "00.png", pnginfo=text)
        with pytest.raises(ValueError, match=r"00\.png is not one"):
            load_images(tmp_path)


class TestResize:
    def test_pictures_of_other_sizes(self, tmp_path):
        for i, size in enumerate([(4, 3), (8, 6), (5, 9)]):
            Image.new("L", size, 10 * i).save(tmp_path / f"{i}.png")
        images = load_images(tmp_path, resize=(6, 5)).images
        assert images.shape == (3, 6, 5)
        assert images.dtype == torch.uint8
        assert images[:, 2, 2].tolist() == [0, 10, 20]
        split = load_dataset(tmp_path, resize=(6, 5))
        assert split.train.image_shape == split.test.image_shape == (6, 5)

    def test_without_it_the_error_names_it(self, tmp_path):
        for i, size in enumerate([(4, 3), (8, 6)]):
            Image.new("L", size).save(tmp_path / f"{i}.png")
        with pytest.raises(ValueError, match=r"files of one size; .*resize=\(height, width\), --resize"):
            load_images(tmp_path)

    def test_averages_where_it_makes_smaller(self, tmp_path):
        stripes = np.tile(np.array([0, 200], np.uint8), (8, 8))  # (8, 16)
        Image.fromarray(stripes).save(tmp_path / "00.png")
        (image,) = load_images(tmp_path, resize=(2, 2)).images
        assert (image.int() - 100).abs().max() <= 20, "all pixels count, not one in eight"

    def test_keeps_sixteen_bits(self, tmp_path):
        Image.fromarray(np.full((2, 2), 1000, np.uint16)).save(tmp_path / "00.png")
        (image,) = load_images(tmp_path, resize=(3, 3)).images
        torch.testing.assert_close(image, torch.full((3, 3), 1000 / 65535))

    def test_after_the_orientation(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        grey_steps((4, 2)).save(tmp_path / "00.png", exif=exif)
        upright = np.rot90(np.arange(8).reshape(2, 4), 3)
        np.testing.assert_array_equal(load_images(tmp_path, resize=(4, 2)).images[0], upright)

    @pytest.mark.parametrize("dtype", ["?", "uint8", "uint16", "float16", "float32", "float64"])
    def test_arrays(self, tmp_path, dtype):
        white = {"uint8": 255, "uint16": 65535}.get(dtype, 1)
        np.save(tmp_path / "mine.npy", np.stack([np.zeros((4, 6)), np.full((4, 6), white)]).astype(dtype))
        images = load_images(tmp_path / "mine.npy", resize=(3, 2))
        assert images.image_shape == (3, 2)
        assert images.pixels(torch.arange(2)).flatten(1).unique(dim=1).tolist() == [[0], [1]]

    def test_arrays_of_the_wrong_shape_are_named_as_before(self, tmp_path):
        np.save(tmp_path / "mine.npy", np.zeros((4, 6)))
        with pytest.raises(ValueError, match=r"images: expected 3 dimensions"):
            load_images(tmp_path / "mine.npy", resize=(3, 2))

    def test_what_is_not_a_pixel_stays_wrong(self, tmp_path):
        for value, message in ((np.nan, "got NaN"), (2.0, "above 1"), (-1.0, "negative")):
            np.save(tmp_path / "mine.npy", np.full((2, 4, 6), value))
            with pytest.raises(ValueError, match=message):
                load_images(tmp_path / "mine.npy", resize=(3, 2))

    def test_a_named_data_set(self):
        whole, small = load_dataset("digits"), load_dataset("digits", resize=(4, 4))
        assert small.train.image_shape == small.test.image_shape == (4, 4)
        assert torch.equal(small.train.labels, whole.train.labels)
        means = (split.train.pixels(torch.arange(100)).mean((1, 2)) for split in (whole, small))
        torch.testing.assert_close(*means, atol=0.03, rtol=0)

    def test_the_same_size_changes_nothing(self, tmp_path):
        grey_steps().save(tmp_path / "00.png")
        assert torch.equal(load_images(tmp_path, resize=(3, 4)).images, load_images(tmp_path).images)

    @pytest.mark.parametrize(
        ("resize", "error"), [(28, TypeError), ((28,), ValueError), ((0, 3), ValueError), ((2.0, 3), TypeError)]
    )
    def test_wrong_sizes_are_named(self, tmp_path, resize, error):
        GREY.save(tmp_path / "00.png")
        for load in (load_images, load_dataset):
            with pytest.raises(error, match="resize: expected"):
                load(tmp_path, resize=resize)


def test_plain_pictures_are_read_without_a_warning(tmp_path):
    GREY.save(tmp_path / "00.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_images(tmp_path)
