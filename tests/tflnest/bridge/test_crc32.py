from __future__ import annotations

import ctypes
import zlib

from hypothesis import given
from hypothesis import strategies as st


@given(parts=st.lists(st.binary(max_size=100), max_size=5))
def test_the_crc_of_the_runtime_is_zlibs(library: ctypes.CDLL, parts: list[bytes]) -> None:
    library.tflnest_crc32.restype = ctypes.c_uint32
    library.tflnest_crc32.argtypes = [ctypes.c_uint32, ctypes.c_char_p, ctypes.c_size_t]
    crc = 0
    for part in parts:
        crc = library.tflnest_crc32(crc, part, len(part))
    assert crc == zlib.crc32(b"".join(parts))
    assert library.tflnest_crc32(crc, None, 0) == crc
