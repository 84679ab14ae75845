"""What the program on TFLM does with a nested model, and what must come of it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.exactness import random_inputs
from tests.tflnest.tflm import tree
from tflnest.container import page_image
from tflnest.interpreter import Interpreter
from tflnest.model import Model

#: Statuses of the component, negated.
OK, LEVEL, RESIDENT, IN_USE = 0, 2, 4, 5

_RUN, _SET_LEVEL, _PAGE_OUT, _PAGE_IN_FILE, _PAGE_IN, _SPOIL = range(6)
_STEP = struct.Struct("<4I")
_ALIGNMENT = 16


@dataclass
class Script:
    """Steps with one nested model; every invoke has an input of its own.

    Attributes:
        stock: The int8 model, which runs first, with the first input.
        content: The nested one.
        runs: The level of every invoke.
        statuses: Of every other step, negated.
    """

    stock: bytes
    content: bytes
    runs: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    _steps: bytes = b""

    def __post_init__(self) -> None:
        directory = Model.from_bytes(self.content).directory
        assert directory is not None
        self._pages = directory.pages
        self.levels = directory.levels
        images = [page_image(self.content, page) for page in self._pages]
        self._places = np.cumsum([0, *map(len, images)]).tolist()
        self._images = b"".join(images)

    def _add(self, what: int, first: int = 0, second: int = 0, third: int = 0) -> None:
        self._steps += _STEP.pack(what, first, second, third)

    def run(self, level: int) -> None:
        """Invoke; the model is at this level."""
        self._add(_RUN, len(self.runs) * self._stride)
        self.runs.append(level)

    def set_level(self, level: int, status: int = OK) -> None:
        """Choose a level."""
        self._add(_SET_LEVEL, level)
        self.statuses.append(status)

    def page_out(self, page: int, status: int = OK) -> None:
        """Declare a page absent."""
        self._add(_PAGE_OUT, page)
        self.statuses.append(status)

    def page_in_from_file(self, page: int, status: int = OK) -> None:
        """Take a page of the file again."""
        self._add(_PAGE_IN_FILE, page)
        self.statuses.append(status)

    def page_in(self, page: int, status: int = OK) -> None:
        """Take a page from elsewhere."""
        self._add(_PAGE_IN, page, self._places[page], self._pages[page].size)
        self.statuses.append(status)

    def spoil(self, page: int) -> None:
        """Overwrite a page in the file."""
        for segment in self._pages[page].segments:
            self._add(_SPOIL, segment.offset, segment.size)
            self.statuses.append(OK)

    def switch(self, levels: Sequence[int]) -> None:
        """Run at one level after the other."""
        for level in levels:
            self.set_level(level)
            self.run(level)

    def turn_pages(self) -> None:
        """All pages but the first leave, and come back from the file; then they leave, are spoiled, and come back from
        elsewhere.
        """
        low, *higher = self.levels
        pages = range(1, len(self.levels))
        self.switch([higher[-1]])
        self.page_out(pages[-1], IN_USE)
        for is_spoiled in (False, True):
            self.set_level(low)
            for page in pages:
                self.page_out(page)
            if is_spoiled:
                for page in pages:
                    self.spoil(page)
            self.set_level(higher[-1], RESIDENT)
            self.run(low)
            for page, level in zip(pages, higher, strict=True):
                self.page_in(page) if is_spoiled else self.page_in_from_file(page)
                self.switch([level])

    @property
    def _stride(self) -> int:
        size = Model.from_bytes(self.stock).graph.main.input_tensors()[0].bytes
        return -(-size // _ALIGNMENT) * _ALIGNMENT

    def samples(self) -> list[np.ndarray]:
        """The input of every invoke."""
        return [row[0] for row in random_inputs(self.stock, len(self.runs), seed=5)]

    def source(self, folder: Path) -> Path:
        """An assembler source for the program, written into a folder."""
        inputs = b"".join(sample.tobytes().ljust(self._stride, b"\0") for sample in self.samples())
        parts = {"stock": self.stock, "nested": self.content, "inputs": inputs}
        return tree.models(folder, {**parts, "images": self._images, "script": self._steps})

    def expected(self) -> list[bytes]:
        """The output of the int8 model, then of every invoke, by the reference interpreter."""
        samples = self.samples()
        engines = {level: Interpreter(model_content=self.content, level=level) for level in set(self.runs)}
        outputs = [engines[level].run(sample) for level, sample in zip(self.runs, samples, strict=True)]
        stock = Interpreter(model_content=self.stock).run(samples[0])
        return [np.asarray(output).tobytes() for output in (stock, *outputs)]
