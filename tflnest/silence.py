"""Native code that writes to the terminal, kept from doing so."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silenced() -> Iterator[None]:
    """Keep everything off the terminal that is written meanwhile, by native code too.

    TensorFlow and LiteRT log to the file descriptors of the process, before and beside Python's streams. The
    whole process is silent inside, so other threads should not write.
    """
    _flush()
    saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    try:
        with tempfile.TemporaryFile() as sink, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for descriptor in saved:
                os.dup2(sink.fileno(), descriptor)
            yield
    finally:
        _flush()
        for descriptor, copy in saved.items():
            os.dup2(copy, descriptor)
            os.close(copy)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
