"""Constants are read from resident pages only."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models import nested, network, operators_of
from tflnest.container import page_image
from tflnest.errors import FormatError, UsageError
from tflnest.graph import Tensor
from tflnest.nested import nested_operators
from tflnest.pages import FilePages, PagedConstants, PageNotResidentError


class SomePages:
    """Pages of which only some are resident; notes what was read."""

    def __init__(self, pages: FilePages, resident: set[int], levels: tuple[int, ...]) -> None:
        self._pages, self._resident, self._levels = pages, resident, levels
        self.read_pages: set[int] = set()

    def read(self, page: int) -> bytes:
        if page not in self._resident:
            raise PageNotResidentError(page, self._levels[page])
        self.read_pages.add(page)
        return self._pages.read(page)


def test_file_pages_are_the_images():
    model = nested(network())
    pages = FilePages(model.to_bytes(), model.directory)
    for page in model.directory.pages:
        assert pages.read(page.index) == page_image(model.to_bytes(), page)
        assert len(pages.read(page.index)) == page.size
    for wrong in (-1, 3):
        with pytest.raises(UsageError, match=f"page {wrong} does not exist, the model has 3"):
            pages.read(wrong)


def test_every_constant_reads_as_in_the_file():
    model = nested(network())
    constants = PagedConstants(model.directory, FilePages(model.to_bytes(), model.directory))
    tensors = [tensor for tensor in model.graph.main.tensors if tensor.is_constant]
    assert len(tensors) > 15
    for tensor in tensors:
        read = constants.read(tensor)
        assert read.dtype == tensor.dtype
        np.testing.assert_array_equal(read, tensor.data)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_level_needs_its_own_pages_and_no_others(position):
    model = nested(network())
    levels = model.directory.levels
    pages = SomePages(FilePages(model.to_bytes(), model.directory), set(range(position + 1)), levels)
    constants = PagedConstants(model.directory, pages)
    for subgraph, operator in nested_operators(model.graph):
        for level in levels[: position + 1]:
            operator.stock_form(subgraph, level, constants.read)
        for level in levels[position + 1 :]:
            with pytest.raises(PageNotResidentError) as caught:
                operator.stock_form(subgraph, level, constants.read)
            assert caught.value.page == position + 1
            assert caught.value.level == levels[position + 1]
            assert caught.value.hint == "page it in first, or switch to a lower level"
    assert pages.read_pages == set(range(position + 1))


def test_the_page_of_an_own_level():
    for operator in operators_of(nested(network())):
        assert [operator.page_of(position) for position in range(3)] == [0, 1, 2]
        assert [operator.level_at(position) for position in range(3)] == [4, 6, 8]


def test_a_tensor_outside_all_pages_is_refused():
    model = nested(network())
    constants = PagedConstants(model.directory, FilePages(model.to_bytes(), model.directory))
    stray = Tensor(5, "stray", (1,), (1,), "INT8", None, 0)
    with pytest.raises(FormatError, match=r"the buffer of tensor 5 \('stray'\) belongs to no page"):
        constants.read(stray)
