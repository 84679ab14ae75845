"""Where an engine gets the pages of a nested model from.

On a desktop all pages lie in the file; on a board a lower-bit page may be absent. An engine asks its
`PageSource` for every constant that a page holds, so that nothing can run on bits that are not resident.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tflnest.container import Directory, page_image
from tflnest.errors import FormatError, TflnestError, UsageError
from tflnest.graph import Tensor


class PageNotResidentError(TflnestError):
    """A page was read that is not resident.

    Args:
        page: Index of the page.
        level: The level that the page completes.
    """

    def __init__(self, page: int, level: int) -> None:
        super().__init__(
            f"page {page}, which level {level} needs, is not resident",
            "page it in first, or switch to a lower level",
        )
        self.page = page
        self.level = level


class PageSource(Protocol):
    """Gives the bytes of resident pages."""

    def read(self, page: int) -> bytes:
        """The image of a page.

        Args:
            page: Index in the directory.

        Raises:
            PageNotResidentError: The page is not resident.
        """
        ...


class FilePages:
    """All pages, read from the file's bytes.

    Args:
        content: The whole nested file.
        directory: Its directory.
    """

    def __init__(self, content: bytes, directory: Directory) -> None:
        self._directory = directory
        self._image = cache(lambda page: page_image(content, directory.pages[page]))

    def read(self, page: int) -> bytes:
        """The image of a page; see `PageSource`."""
        if not 0 <= page < len(self._directory.pages):
            raise UsageError(f"page {page} does not exist, the model has {len(self._directory.pages)}")
        return self._image(page)


class PagedConstants:
    """Reads constant tensors of a nested model through a `PageSource`.

    Args:
        directory: Directory of the nested model.
        pages: Where the pages are.
    """

    def __init__(self, directory: Directory, pages: PageSource) -> None:
        self._pages = pages
        self._places: dict[int, tuple[int, int, int]] = {}
        for page in directory.pages:
            start = 0
            for segment in page.segments:
                self._places[segment.buffer] = (page.index, start, segment.size)
                start += segment.image_size

    def read(self, tensor: Tensor) -> NDArray[Any]:
        """Values of a constant tensor.

        Raises:
            PageNotResidentError: Its page is not resident.
            FormatError: Its buffer belongs to no page.
        """
        if tensor.buffer not in self._places:
            raise FormatError(f"the buffer of tensor {tensor.label} belongs to no page")
        page, start, size = self._places[tensor.buffer]
        raw = np.frombuffer(self._pages.read(page), np.uint8, size, start)
        return raw.view(tensor.dtype).reshape(tensor.shape)


def resident_pages(source: PageSource, count: int) -> int:
    """How many pages are resident one after another, from the base page on.

    Args:
        source: Where the pages are.
        count: How many there are.

    Raises:
        PageNotResidentError: The base page is not resident.
    """
    source.read(0)
    for page in range(1, count):
        try:
            source.read(page)
        except PageNotResidentError:
            return page
    return count
