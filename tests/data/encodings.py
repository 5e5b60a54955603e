"""One picture in many encodings, each as a file's bytes: what people have, and what breaks decoders."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 30, 40


def encoded(image, file_format, **options):
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, file_format, **options)
    return buffer.getvalue()


def png_chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(rows, *, bits, color_type, chunks=b"", size=(WIDTH, HEIGHT)):
    """A PNG of rows of bytes as they are, without a filter."""
    header = struct.pack(">IIBBBBB", *size, bits, color_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    parts = png_chunk(b"IHDR", header) + chunks + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def picture():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    rgb = np.stack([x * 6, y * 8, (x + y) * 3], axis=-1).clip(0, 255).astype(np.uint8)
    rgb[5:20, 10:15] = (250, 30, 40)
    rgb[22:27, 3:35] = (20, 200, 90)
    rgb[3:10, 25:35] = 255
    return rgb


def alpha():
    """Opaque, half, faint and nothing."""
    channel = np.full((HEIGHT, WIDTH), 255, np.uint8)
    channel[:, 20:] = 0
    channel[15:, :10] = 128
    channel[:4, :4] = 3
    return channel


def jpegs():
    rgb = picture()
    image = Image.fromarray(rgb)
    plain = encoded(image, "JPEG", quality=90)
    cmyk = encoded(image.convert("CMYK"), "JPEG")
    adobe = cmyk.find(b"\xff\xee")
    after_adobe = adobe + 2 + struct.unpack_from(">H", cmyk, adobe + 2)[0]
    files = {
        "jpeg": plain,
        "jpeg, progressive": encoded(image, "JPEG", progressive=True),
        "jpeg, grey": encoded(image.convert("L"), "JPEG"),
        "jpeg, cmyk": cmyk,
        "jpeg, cmyk without Adobe's marker": cmyk[:adobe] + cmyk[after_adobe:],
        "jpeg, rgb kept": encoded(image, "JPEG", keep_rgb=True),
        "jpeg, several pictures": encoded(image, "MPO", save_all=True, append_images=[Image.fromarray(255 - rgb)]),
        "jpeg, without its end": plain[:-2],
        "jpeg, half": plain[: len(plain) // 2],
        "jpeg, zeros behind": plain + b"\0" * 500,
        "jpeg, 0xff before a marker": plain[:2] + b"\xff\xff" + plain[2:],
        "jpeg, a comment": encoded(image, "JPEG", comment=b"x" * 3000),
        "jpeg, a profile": encoded(image, "JPEG", icc_profile=b"p" * 150_000),
    }
    for subsampling in ("4:1:1", "4:2:0", "4:2:2", "4:4:4"):
        files[f"jpeg, {subsampling}"] = encoded(image, "JPEG", subsampling=subsampling)
    for orientation in range(10):  # Two more than there are.
        exif = Image.Exif()
        exif[0x010F] = "a camera"
        exif[0x0112] = orientation
        files[f"jpeg, orientation {orientation}"] = encoded(image, "JPEG", exif=exif.tobytes())
        intel = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)
        files[f"jpeg, orientation {orientation} of Intel"] = encoded(image, "JPEG", exif=b"Exif\0\0" + intel)
    return files


def pngs():
    rgb, image = picture(), Image.fromarray(picture())
    rgba = Image.fromarray(np.dstack([rgb, alpha()]))
    palette = image.quantize(64)
    red = rgb[..., 0]
    rgb_16 = (rgb.astype(np.uint16) << 8) + 77
    alpha_16 = alpha().astype(np.uint16) * 257
    frames = [Image.fromarray(255 - rgb), Image.fromarray(rgb[::-1].copy())]
    turned = Image.Exif()
    turned[0x0112] = 6

    def big_endian(*channels):
        return np.dstack(channels).astype(">u2")

    def packed(bits):
        per_byte = 8 // bits
        values = (red >> (8 - bits)).reshape(HEIGHT, -1, per_byte)
        return (values << (8 - bits * (np.arange(per_byte) + 1))).sum(axis=-1).astype(np.uint8)

    def rows(pixels):
        return [row.tobytes() for row in pixels]

    return {
        "png": encoded(image, "PNG"),
        "png, alpha": encoded(rgba, "PNG"),
        "png, grey": encoded(image.convert("L"), "PNG"),
        "png, grey and alpha": encoded(rgba.convert("LA"), "PNG"),
        "png, 1 bit": encoded(image.convert("1"), "PNG"),
        "png, 2 bits": png(packed(2), bits=2, color_type=0),
        "png, 4 bits": png(packed(4), bits=4, color_type=0),
        "png, 4 bits, one transparent": png(packed(4), bits=4, color_type=0, chunks=png_chunk(b"tRNS", b"\0\x03")),
        "png, palette": encoded(palette, "PNG"),
        "png, palette, one transparent": encoded(palette, "PNG", transparency=3),
        "png, palette and alpha": encoded(palette, "PNG", transparency=bytes([0, 128, 255, 40])),
        "png, grey, one transparent": encoded(image.convert("L"), "PNG", transparency=255),
        "png, rgb, one transparent": png(
            rows(rgb), bits=8, color_type=2, chunks=png_chunk(b"tRNS", struct.pack(">HHH", 255, 255, 255))
        ),
        "png, 16 bits, grey": encoded(Image.fromarray(rgb_16[..., 0].copy()), "PNG"),
        "png, 16 bits, rgb": png(rows(big_endian(rgb_16)), bits=16, color_type=2),
        "png, 16 bits, alpha": png(rows(big_endian(rgb_16, alpha_16)), bits=16, color_type=6),
        "png, 16 bits, grey and alpha": png(rows(big_endian(rgb_16[..., 0], alpha_16)), bits=16, color_type=4),
        "png, gamma": png(rows(rgb), bits=8, color_type=2, chunks=png_chunk(b"gAMA", struct.pack(">I", 100_000))),
        "png, turned": encoded(image, "PNG", exif=turned),
        "png, animated": encoded(image, "PNG", save_all=True, append_images=frames, duration=100),
        "png, animated, another default": encoded(
            image, "PNG", save_all=True, default_image=True, append_images=frames, duration=100
        ),
        "png, one pixel": encoded(Image.new("RGB", (1, 1), (10, 200, 30)), "PNG"),
        "png, thin": encoded(np.tile(rgb[:1], (1, 25, 1)), "PNG"),
        "png, half": encoded(rgba, "PNG")[:150],
    }


def gifs():
    rgb, image = picture(), Image.fromarray(picture())
    cut_out = Image.fromarray(np.dstack([rgb, np.where(alpha() == 0, 0, 255).astype(np.uint8)]))
    still = encoded(image, "GIF")
    canvas = bytearray(still)
    struct.pack_into("<HH", canvas, 6, WIDTH + 7, HEIGHT + 5)
    outside = bytearray(still)
    struct.pack_into("<HH", outside, 6, WIDTH - 7, HEIGHT - 5)
    frames = [Image.fromarray(255 - rgb), Image.fromarray(rgb[::-1].copy())]
    return {
        "gif": still,
        "gif, interlaced": encoded(image, "GIF", interlace=1),
        "gif, grey": encoded(image.convert("L"), "GIF"),
        "gif, transparent": encoded(cut_out, "GIF"),
        "gif, animated": encoded(image, "GIF", save_all=True, append_images=frames, duration=100, loop=0),
        "gif, a comment": encoded(image, "GIF", comment=b"c" * 700),
        "gif, a frame smaller than its canvas": bytes(canvas),
        "gif, a frame larger than its canvas": bytes(outside),
        "gif, half": still[: len(still) // 2],
    }


def webps():
    rgb, image = picture(), Image.fromarray(picture())
    rgba = Image.fromarray(np.dstack([rgb, alpha()]))
    frames = [Image.fromarray(255 - rgb), Image.fromarray(rgb[::-1].copy())]
    turned = Image.Exif()
    turned[0x0112] = 8
    return {
        "webp": encoded(image, "WEBP", quality=90),
        "webp, lossless": encoded(image, "WEBP", lossless=True),
        "webp, alpha": encoded(rgba, "WEBP", lossless=True, exact=True),
        "webp, lossy with alpha": encoded(rgba, "WEBP", quality=90),
        "webp, turned": encoded(image, "WEBP", lossless=True, exif=turned),
        "webp, a profile": encoded(image, "WEBP", quality=90, icc_profile=b"p" * 999),
        "webp, animated": encoded(image, "WEBP", save_all=True, append_images=frames, duration=100, lossless=True),
        "webp, animated, lossy with alpha": encoded(
            rgba, "WEBP", save_all=True, append_images=[rgba.rotate(180)], duration=100, quality=80
        ),
        "webp, half": encoded(image, "WEBP", lossless=True)[:100],
    }


def bmps():
    rgb, image = picture(), Image.fromarray(picture())
    palette = image.quantize(64)
    plain = encoded(image, "BMP")
    start = struct.unpack_from("<I", plain, 10)[0]
    bottom_up = rgb[::-1]

    def with_header(data, *, bits, height=HEIGHT, compression=0, masks=b""):
        header = bytearray(plain[:start])
        struct.pack_into("<I", header, 2, start + len(masks) + len(data))
        struct.pack_into("<I", header, 10, start + len(masks))
        struct.pack_into("<iHHII", header, 22, height, 1, bits, compression, len(data))
        return bytes(header) + masks + data

    parts = bottom_up.astype(np.int64)
    in_555 = ((parts[..., 0] >> 3) << 10 | (parts[..., 1] >> 3) << 5 | parts[..., 2] >> 3).astype("<u2").tobytes()
    in_565 = ((parts[..., 0] >> 3) << 11 | (parts[..., 1] >> 2) << 5 | parts[..., 2] >> 3).astype("<u2").tobytes()
    swapped = bottom_up[..., ::-1]
    zeros = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    four_bits = np.asarray(image.quantize(16))
    colors = np.asarray(image.quantize(16).getpalette()[:48], np.uint8).reshape(16, 3)
    core = struct.pack("<2sIHHI", b"BM", 0, 0, 0, 14 + 12 + 48)
    core += struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, 4) + colors[:, ::-1].tobytes()
    return {
        "bmp": plain,
        "bmp, palette": encoded(palette, "BMP"),
        "bmp, grey": encoded(image.convert("L"), "BMP"),
        "bmp, 1 bit": encoded(image.convert("1"), "BMP"),
        "bmp, 4 bits, an old header": core + (four_bits[::-1, ::2] << 4 | four_bits[::-1, 1::2]).tobytes(),
        "bmp, 32 bits, zeros": with_header(np.dstack([swapped, zeros]).tobytes(), bits=32),
        "bmp, saved with alpha": encoded(np.dstack([rgb, alpha()]), "BMP"),
        "bmp, from the top": with_header(np.ascontiguousarray(rgb[..., ::-1]).tobytes(), bits=24, height=-HEIGHT),
        "bmp, 555": with_header(in_555, bits=16),
        "bmp, 565": with_header(in_565, bits=16, compression=3, masks=struct.pack("<III", 0xF800, 0x7E0, 0x1F)),
        "bmp, run lengths": with_header(b"\x04\0\0\x01", bits=8, compression=1),
        "bmp, half": plain[: len(plain) // 2],
    }


def others():
    image = Image.fromarray(picture())
    rgba = Image.fromarray(np.dstack([picture(), alpha()]))
    turned = Image.Exif()
    turned[0x0112] = 3
    return {
        "tiff": encoded(image, "TIFF"),
        "tiff, alpha": encoded(rgba, "TIFF"),
        "tiff, 16 bits": encoded(Image.fromarray(picture()[..., 0].astype(np.uint16) * 257), "TIFF"),
        "tiff, compressed": encoded(image, "TIFF", compression="tiff_lzw"),
        "tiff, turned": encoded(image, "TIFF", exif=turned),
        "jpeg 2000": encoded(image, "JPEG2000"),
        "avif": encoded(image, "AVIF"),
        "avif, alpha": encoded(rgba, "AVIF"),
        "nothing": b"",
        "a page": b"<html>404</html>",
        "zeros": b"\0" * 4000,
    }


ENCODINGS = jpegs() | pngs() | gifs() | webps() | bmps() | others()

# The ones that are refused, with a part of the reason.
REFUSED = {
    "jpeg, cmyk without Adobe's marker": "it is a CMYK JPEG without the marker of Adobe",
    "jpeg, without its end": "it is damaged or cut off",
    "jpeg, half": "it is damaged or cut off",
    "png, half": "it is damaged or cut off",
    "gif, half": "it is cut off",
    "gif, a frame larger than its canvas": "it is damaged: its first frame lies outside of its canvas",
    "webp, half": "it is damaged or cut off",
    "bmp, half": "it is cut off",
    "bmp, run lengths": "it is a compressed BMP, which is not read",
    "nothing": "it is empty",
    "a page": "it is no JPEG, PNG, GIF, WebP, BMP",
    "zeros": "it is no JPEG, PNG, GIF, WebP, BMP",
}
