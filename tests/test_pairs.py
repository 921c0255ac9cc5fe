"""Images and masks from a user's files."""

import struct
import zlib

import numpy as np
import pytest

from support.compare import assert_same_bits
from tinyml.data import load_nuclei
from tinyml.data.pairs import read_pair

pytestmark = pytest.mark.host

tifffile = pytest.importorskip("tifffile")
imagecodecs = pytest.importorskip("imagecodecs")
Image = pytest.importorskip("PIL.Image")
ImageOps = pytest.importorskip("PIL.ImageOps")


@pytest.fixture
def pair():
    """A small annotated image, 70×140, as arrays."""
    image, instances = load_nuclei()
    return image[100:170, 100:240], instances[100:170, 100:240]


@pytest.fixture
def files(tmp_path, pair):
    """The pair as npz files; either can be replaced."""
    np.savez(tmp_path / "image.npz", pair[0])
    np.savez(tmp_path / "mask.npz", pair[1])
    return tmp_path / "image.npz", tmp_path / "mask.npz"


def png(array):
    """Bytes of a PNG file of 16-bit RGB, without the library that reads it."""
    height, width, _ = array.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)

    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("colours", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF", ".npz"])
def test_formats(tmp_path, pair, suffix, colours, dtype):
    image = (pair[0].astype(dtype) * (257 if dtype == np.uint16 else 1))[..., None]
    image = (image - np.arange(colours, dtype=dtype)).squeeze()
    file, mask_file = tmp_path / f"image{suffix}", tmp_path / f"mask{suffix}"
    for path, array in ((file, image), (mask_file, pair[1])):
        if suffix == ".png":
            path.write_bytes(imagecodecs.png_encode(array))
        elif suffix == ".npz":
            np.savez(path, array if array.ndim == 2 else array[..., :3])
        else:
            tifffile.imwrite(path, array, photometric="rgb" if array.ndim == 3 else None)
    got, mask, _ = read_pair(file, mask_file)
    expected = image[None] if image.ndim == 2 else np.moveaxis(image[..., :3], 2, 0)
    assert_same_bits(got, expected)
    np.testing.assert_array_equal(mask, pair[1] > 0)


def test_all_sixteen_bits_of_an_rgb_png(tmp_path):
    image = np.arange(70 * 140 * 3, dtype=np.uint16).reshape(70, 140, 3)
    (tmp_path / "image.png").write_bytes(png(image))
    np.savez(tmp_path / "mask.npz", np.ones((70, 140), np.uint8))
    got, *_ = read_pair(tmp_path / "image.png", tmp_path / "mask.npz")
    assert_same_bits(got, np.ascontiguousarray(np.moveaxis(image, 2, 0)))


def test_one_archive_for_both(tmp_path, pair):
    np.savez(tmp_path / "both.npz", image=pair[0], mask=pair[1])
    image, mask, _ = read_pair(tmp_path / "both.npz", tmp_path / "both.npz")
    assert image.shape == (1, 70, 140)
    assert mask.shape == (70, 140)


def test_compressed_and_planar_tiff(tmp_path, pair):
    rgb = np.stack([pair[0]] * 3, -1)
    np.savez(tmp_path / "mask.npz", pair[1])
    for options in (
        {"compression": "lzw"},
        {"compression": "zlib"},
        {"planarconfig": "separate"},
    ):
        array = np.moveaxis(rgb, 2, 0) if "planarconfig" in options else rgb
        tifffile.imwrite(tmp_path / "image.tif", array, photometric="rgb", **options)
        got, *_ = read_pair(tmp_path / "image.tif", tmp_path / "mask.npz")
        assert got.shape == (3, 70, 140)


def write_turned(file, array, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if file.suffix == ".jpg" else {}
    Image.fromarray(array).save(file, exif=exif, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("colours", [1, 3])
def test_orientations_are_applied(tmp_path, pair, suffix, orientation, colours):
    array = pair[0] if colours == 1 else np.stack([pair[0], 255 - pair[0], pair[0] // 2], -1)
    file = tmp_path / f"image{suffix}"
    write_turned(file, array, orientation)
    same = file.with_suffix(".png") if suffix == ".tif" else file  # Pillow turns some TIFF itself
    write_turned(same, array, orientation)
    with Image.open(same) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.savez(tmp_path / "mask.npz", np.ones(expected.shape[:2], bool))
    got, *_ = read_pair(file, tmp_path / "mask.npz")
    expected = expected[None] if expected.ndim == 2 else np.moveaxis(expected, 2, 0)
    assert_same_bits(got, np.ascontiguousarray(expected))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("orientation", [0, 9])
def test_an_orientation_without_meaning_is_left_out(tmp_path, pair, suffix, orientation):
    got = []
    for number in (1, orientation):
        write_turned(tmp_path / f"image{suffix}", pair[0], number)
        np.savez(tmp_path / "mask.npz", np.ones(pair[0].shape, bool))
        got.append(read_pair(tmp_path / f"image{suffix}", tmp_path / "mask.npz").image)
    assert_same_bits(*got)


def test_a_mask_is_turned_too(tmp_path, pair):
    write_turned(tmp_path / "image.png", pair[0], 6)
    write_turned(tmp_path / "mask.png", (pair[1] > 0).astype(np.uint8), 6)
    image, mask, _ = read_pair(tmp_path / "image.png", tmp_path / "mask.png")
    assert_same_bits(image[0], np.rot90(pair[0], -1).copy())
    np.testing.assert_array_equal(mask, np.rot90(pair[1] > 0, -1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("samples", "photometric", "extra", "message"),
    [
        (4, "rgb", ["unspecified"], "4 samples a pixel, RGB and UNSPECIFIED"),
        (5, "rgb", ["unassalpha", "unspecified"], "5 samples a pixel, RGB and UNSPECIFIED"),
        (5, "rgb", ["unassalpha", "unassalpha"], "5 samples a pixel"),
        (2, "minisblack", ["unspecified"], "2 samples a pixel, MINISBLACK and UNSPECIFIED"),
        (3, "minisblack", ["unspecified"] * 2, "3 samples a pixel, MINISBLACK"),
    ],
)
def test_samples_that_are_no_alpha_are_refused(
    tmp_path, files, dtype, samples, photometric, extra, message
):
    array = np.zeros((70, 140, samples), dtype)
    options = {"photometric": photometric, "planarconfig": "contig", "extrasamples": extra}
    tifffile.imwrite(tmp_path / "image.tif", array, **options)
    with pytest.raises(ValueError, match=rf"image .* cannot be read: it has {message}"):
        read_pair(tmp_path / "image.tif", files[1])


@pytest.mark.parametrize("samples", [2, 4, 5])
@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_arrays_declare_no_alpha(tmp_path, files, samples, suffix):
    save = np.savez if suffix == ".npz" else np.save
    save(tmp_path / f"rgba{suffix}", np.zeros((70, 140, samples), np.uint8))
    with pytest.raises(ValueError, match=rf"has shape \(70, 140, {samples}\); it must be one pict"):
        read_pair(tmp_path / f"rgba{suffix}", files[1])


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_declared_alpha_is_left_out(tmp_path, files, pair, suffix):
    both = np.stack([pair[0], np.full_like(pair[0], 9)], -1)
    if suffix == ".tif":
        options = {"photometric": "minisblack", "planarconfig": "contig"}
        tifffile.imwrite(tmp_path / "a.tif", both, extrasamples=["unassalpha"], **options)
    else:
        (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(both))
    got, *_ = read_pair(tmp_path / f"a{suffix}", files[1])
    assert_same_bits(got, pair[0][None])


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_a_mask_with_a_palette_is_read_by_its_indices(tmp_path, files, pair, suffix):
    indices = (pair[1] > 0).astype(np.uint8) * 2
    image = Image.fromarray(indices)
    image.putpalette([255, 255, 255, 9, 9, 9, 0, 0, 0, *[7] * 759])  # index 2 is black
    image.save(tmp_path / f"mask{suffix}")
    _, mask, notes = read_pair(files[0], tmp_path / f"mask{suffix}")
    np.testing.assert_array_equal(mask, pair[1] > 0)
    assert len(notes) == 1
    assert notes[0].endswith("has a palette: index 0 is the background")


def test_an_image_with_a_palette_is_read_by_its_colours(tmp_path, files, pair):
    for suffix in (".png", ".bmp"):
        image = Image.fromarray((pair[1] > 0).astype(np.uint8))
        image.putpalette([10, 20, 30, 1, 2, 3, *[7] * 762])
        image.save(tmp_path / f"image{suffix}")
        got, _, notes = read_pair(tmp_path / f"image{suffix}", files[1])
        expected = np.where(
            pair[1] > 0, np.c_[[1, 2, 3]][..., None], np.c_[[10, 20, 30]][..., None]
        )
        assert_same_bits(got, expected.astype(np.uint8))
        assert notes == ()


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [
        *(
            (s, d)
            for s in (".npz", ".npy", ".tif")
            for d in ("?", "i1", "u2", ">i4", "i8", "f4", "f8")
        ),
        *((s, "f2") for s in (".npz", ".npy")),  # float16 in TIFF is another format
    ],
)
def test_dtypes_of_a_mask(tmp_path, files, pair, suffix, dtype):
    labels = (pair[1] > 0).astype(dtype)
    file = tmp_path / f"labels{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(file, labels, photometric="minisblack")
    else:
        (np.savez if suffix == ".npz" else np.save)(file, labels)
    _, mask, _ = read_pair(files[0], file)
    np.testing.assert_array_equal(mask, pair[1] > 0)


def test_masks_that_are_refused_with_the_remedy(tmp_path, files, pair):
    Image.fromarray((pair[1] > 0).astype(np.uint8) * 255).save(tmp_path / "mask.jpg")
    with pytest.raises(
        ValueError, match=r"mask .*jpg cannot be read: JPEG changes .* save it as P"
    ):
        read_pair(files[0], tmp_path / "mask.jpg")
    for value in (0.25, np.nan, np.inf):
        np.save(tmp_path / "mask.npy", np.where(pair[1] > 0, value, 0))
        with pytest.raises(ValueError, match=rf"holds {value}; .* save for example mask > 0\.5"):
            read_pair(files[0], tmp_path / "mask.npy")


def test_images_that_are_refused_with_the_remedy(tmp_path, files, pair):
    np.save(tmp_path / "image.npy", pair[0].astype(np.float32))
    with pytest.raises(
        ValueError, match=r"has dtype float32; .*uint8 or uint16; scale and convert"
    ):
        read_pair(tmp_path / "image.npy", files[1])
    Image.new("CMYK", (140, 70)).save(tmp_path / "image.jpg")
    with pytest.raises(ValueError, match="its pixels are CMYK; save it as grey or RGB"):
        read_pair(tmp_path / "image.jpg", files[1])
