"""Where an engine gets the pages of a nested model from.

On a desktop all pages lie in the file; on a board a lower-bit page may be absent. An engine asks its
`PageSource` for every constant that a page holds, so that nothing can run on bits that are not resident.
"""

from __future__ import annotations

from typing import Protocol

from tflnest.container import Directory, page_image
from tflnest.errors import TflnestError, UsageError


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
        self._content = content
        self._directory = directory

    def read(self, page: int) -> bytes:
        """The image of a page; see `PageSource`."""
        if not 0 <= page < len(self._directory.pages):
            raise UsageError(f"page {page} does not exist, the model has {len(self._directory.pages)}")
        return page_image(self._content, self._directory.pages[page])
