"""Makes the pickles that crate abn-pickle's tests read: one object in every protocol, and Python 2's way of writing.

    python make_pickle_fixtures.py ../../crates/abn-pickle/src/tests/fixtures
"""

import collections
import io
import math
import pathlib
import pickle
import struct
import sys

import numpy as np


class Python2Pickler(pickle._Pickler):
    """Protocol 2 as Python 2 wrote it: `bytes` and ASCII text are both `str`, so both are binary strings."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, value):
        data = value.encode() if isinstance(value, str) else value
        if len(data) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) + data)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[bytes] = save_string
    dispatch[str] = save_string


def python2(value):
    out = io.BytesIO()
    Python2Pickler(out, 2).dump(value)
    # The module had its old name then; names of globals have no length before them.
    return out.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def everything():
    shared = [1]
    return {
        "none": None,
        "truth": (True, False),
        "ints": [0, 255, 256, 65535, 65536, -1, -(2**31), 2**31, 2**63 - 1, -(2**63)],
        "long": 2**70,
        "floats": [0.1, -1e300, math.inf],
        "bytes": bytes(range(256)),
        "bytearray": bytearray(b"\x00\xff"),
        "text": "naïve 😀 \\u0041 \n'",
        "set": {7},
        "frozen": frozenset([8]),
        "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
        "shared": [shared, shared],
        "array": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        "big": np.array([1.5, -2.0], dtype=">f4"),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3)),
    }


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for protocol in range(6):
        (folder / f"protocol{protocol}.pkl").write_bytes(pickle.dumps(everything(), protocol))
    # CIFAR-10's keys, for three images of 12 bytes.
    batch = {
        b"batch_label": b"training batch 1 of 5",
        b"labels": [6, 9, 1],
        b"data": np.arange(36, dtype=np.uint8).reshape(3, 12) * 7,
        b"filenames": [b"a.png", b"b.png", b"c.png"],
    }
    (folder / "python2.pkl").write_bytes(python2(batch))
    for path in sorted(folder.iterdir()):
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
