"""Makes the small dataset files in crates/abn-data/fixtures with the libraries that made the real ones.

    python make_data_fixtures.py [--out DIR]

`scipy.io.savemat` writes SVHN's and the ImageNet devkit's files, `pickle` CIFAR's, Pillow the JPEG
images and what it decodes and resizes them to. The same versions write the same bytes. The Rust
tests know `pixel` and the labels below, and hold what they read against them.
"""

import argparse
import io
import pickle
import pickletools
import struct
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image


def pixel(seed, n, y, x, c):
    """The value that image n of a file (each has its seed) has at row y, column x, channel c."""
    return (17 * seed + 71 * n + 13 * y + 7 * x + 53 * c + x * y % 11) % 256


def images(seed, count):
    """(count, 32, 32, 3), as uint8."""
    return np.fromfunction(lambda n, y, x, c: pixel(seed, n, y, x, c), (count, 32, 32, 3), dtype=int).astype(np.uint8)


def planes(seed, count):
    """(count, 3072): CIFAR's rows, three planes each."""
    return images(seed, count).transpose(0, 3, 1, 2).reshape(count, 3072)


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2's pickle wrote: `str` is bytes, and numpy is an old one.

    The official CIFAR files are such pickles; Python 3 writes other instructions for strings.
    """

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, obj):
        data = obj.encode("latin1") if isinstance(obj, str) else bytes(obj)
        if len(data) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) + data)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(obj)

    dispatch[str] = dispatch[bytes] = save_string

    def save_global(self, obj, name=None):
        module = obj.__module__.replace("numpy._core", "numpy.core")
        self.write(pickle.GLOBAL + f"{module}\n{name or obj.__qualname__}\n".encode())
        self.memoize(obj)

    dispatch[type] = dispatch[type(pickle.dumps)] = dispatch[type(images)] = save_global


def python2(obj):
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(obj)
    # What is not executed here must at least be a pickle, and say what was meant.
    for _ in pickletools.genops(file.getvalue()):
        pass
    again = pickle.loads(file.getvalue(), encoding="latin1")
    assert again.keys() == obj.keys()
    return file.getvalue()


def cifar(out):
    ten = out / "cifar-10-batches-py"
    ten.mkdir(parents=True, exist_ok=True)
    for i, (name, labels) in enumerate({
        "data_batch_1": [6, 9], "data_batch_2": [0], "data_batch_3": [1], "data_batch_4": [2],
        "data_batch_5": [3], "test_batch": [8, 5],
    }.items()):
        (ten / name).write_bytes(python2({
            "batch_label": f"{name} of 6", "labels": labels, "data": planes(i, len(labels)),
            "filenames": [f"image_s_{n:06}.png" for n in range(len(labels))],
        }))
    # As Python 3 and today's numpy write it, with the oldest protocol that has binary strings.
    hundred = out / "cifar-100-python"
    hundred.mkdir(parents=True, exist_ok=True)
    for seed, name, fine, coarse in [(10, "train", [19, 99, 0], [11, 13, 4]), (11, "test", [49], [10])]:
        (hundred / name).write_bytes(pickle.dumps({
            b"filenames": [b"a.png"] * len(fine), b"batch_label": b"1 of 1", b"fine_labels": fine,
            b"coarse_labels": coarse, b"data": planes(seed, len(fine)),
        }, protocol=2))


def savemat(path, variables, **options):
    scipy.io.savemat(path, variables, **options)
    # Its header has the time of day.
    data = bytearray(path.read_bytes())
    data[:116] = b"MATLAB 5.0 MAT-file, made by make_data_fixtures.py".ljust(116)
    path.write_bytes(data)


def svhn(out):
    out = out / "svhn"
    out.mkdir(parents=True, exist_ok=True)
    x = lambda seed, count: images(seed, count).transpose(1, 2, 3, 0)
    column = lambda labels, dtype: np.array(labels, dtype).reshape(-1, 1)
    savemat(out / "train_32x32.mat", {"X": x(20, 3), "y": column([1, 10, 9], np.uint8)}, do_compression=True)
    savemat(out / "test_32x32.mat", {"X": x(21, 2), "y": column([5, 10], np.float64)}, do_compression=False)
    savemat(out / "extra_32x32.mat", {"note": "not wanted", "y": column([2], np.int32), "X": x(22, 1)}, do_compression=True)


def devkit(out):
    out = out / "imagenet"
    out.mkdir(parents=True, exist_ok=True)
    none = np.zeros((1, 0))
    rows = [
        (1, "n02119789", "kit fox, Vulpes macrotis", "small grey fox", 0, none, 0, 1300),
        (2, "n02100735", "English setter", "an English breed", 0, none, 0, 1300),
        (3, "n01440764", "tench, Tinca tinca", "freshwater dace-like game fish", 0, none, 0, 1300),
        (4, "n01443537", "goldfish, Carassius auratus", "small golden carp", 0, none, 0, 1300),
        (1001, "n00001740", "entity", "that which is perceived", 2, np.array([[1.0, 2.0]]), 18, 0),
    ]
    fields = ["ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height", "num_train_images"]
    synsets = np.empty((len(rows), 1), dtype=[(field, object) for field in fields])
    for i, row in enumerate(rows):
        synsets[i, 0] = tuple(np.array([[float(v)]]) if isinstance(v, int) else v for v in row)
    savemat(out / "meta.mat", {"synsets": synsets}, do_compression=True)


def photo(width, height):
    """Smooth shades, an edge and some texture."""
    y, x = np.mgrid[:height, :width]
    shade = np.stack([120 + 90 * np.sin(x / 9 + c) * np.cos(y / 7 - c) for c in range(3)], -1)
    shade[(x + 2 * y) % 50 < 12] *= 0.4
    shade += ((x * 7919 + y * 104729) % 17)[..., None]
    return Image.fromarray(shade.clip(0, 255).astype(np.uint8))


def pictures(out):
    out = out / "images"
    out.mkdir(parents=True, exist_ok=True)
    rgb = photo(75, 50)
    rgb.save(out / "420.jpg", quality=90, subsampling="4:2:0")
    rgb.save(out / "progressive.jpg", quality=90, subsampling="4:2:2", progressive=True)
    rgb.convert("L").save(out / "grey.jpg", quality=90)
    rgb.convert("CMYK").save(out / "cmyk.jpg", quality=90)
    for name in ["420", "progressive", "grey", "cmyk"]:
        Image.open(out / f"{name}.jpg").convert("RGB").save(out / f"{name}.png")
    # torchvision's Resize((32, 32)) of the decoded image, antialiased, and an enlargement.
    decoded = Image.open(out / "420.png")
    decoded.resize((32, 32), Image.Resampling.BILINEAR).save(out / "420-32x32.png")
    decoded.resize((96, 128), Image.Resampling.BILINEAR).save(out / "420-96x128.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "crates/abn-data/fixtures")
    out = parser.parse_args().out
    cifar(out)
    svhn(out)
    devkit(out)
    pictures(out)
