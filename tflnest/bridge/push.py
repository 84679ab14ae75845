"""Pushing pages: send what a board lacks, go on where an earlier push was cut off, run at the new level."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from tflnest.bridge.description import describe
from tflnest.bridge.link import Link, RestartedError
from tflnest.bridge.messages import (
    WHOLE_MODEL,
    ErrorCode,
    MessageType,
    ModelBegin,
    ModelRow,
    OffsetReply,
    PageBegin,
    PageEnd,
    PageRow,
    Place,
    ResidentReply,
    SetLevel,
    StateRow,
    Table,
    VerifyReply,
)
from tflnest.bridge.session import RefusedError
from tflnest.container import Directory, Page, page_image
from tflnest.errors import DeviceError, DoesNotFitError, FormatError, UsageError, VerificationError
from tflnest.model import Model

#: Times that a board may start anew during a push without having got more bytes.
MAX_RESTARTS = 3
#: Seconds that the CRC-32 of a page may take.
VERIFY_TIMEOUT_S = 60.0
#: Seconds that the sectors of a page may take to be erased: large ones take two seconds each.
ERASE_TIMEOUT_S = 60.0


class PushKind(StrEnum):
    """What a step of a push is."""

    MODEL = "model"  #: the board has taken the model itself
    SKIPPED = "skipped"  #: the page is there already
    RESUMED = "resumed"  #: the board has a part of the page already
    DATA = "data"  #: more bytes of the page arrived
    RESIDENT = "resident"  #: the page is complete, verified and resident
    READY = "ready"  #: the board runs at a new level
    RESTARTED = "restarted"  #: the board was started anew


@dataclass(frozen=True)
class PushStep:
    """A step of a push.

    Attributes:
        kind: What happened.
        page: Index of the page.
        level: The level that the page completes.
        done_bytes: Bytes of all pages that the board has.
        total_bytes: Bytes of all pages that it must have.
        payload_bytes: Bytes of pages that were sent since the push began.
        wire_bytes: Bytes on the wire that the host sent for them.
        seconds: Since the push began.
    """

    kind: PushKind
    page: int
    level: int
    done_bytes: int
    total_bytes: int
    payload_bytes: int
    wire_bytes: int
    seconds: float


@dataclass(frozen=True)
class PushReport:
    """What a push did.

    Attributes:
        level: The level that it was for.
        payload_bytes: Bytes of pages that were sent.
        wire_bytes: Bytes on the wire that the host sent.
        seconds: Time.
        capacity_share: Part of what the line can carry that was payload, 0 to 1; None where nobody knows the line.
        repeats: Times that something had to be sent again.
        pages: Pages that were sent.
        skipped_pages: Pages that were there already.
        resumed_bytes: Bytes of pages in `pages` that were there already.
        ready: Levels that became runnable, each with the payload bytes after which it did.
        model_bytes: Bytes of the model's description, its base page among them; 0 where the board had the model.
    """

    level: int
    payload_bytes: int
    wire_bytes: int
    seconds: float
    capacity_share: float | None
    repeats: int
    pages: tuple[int, ...]
    skipped_pages: tuple[int, ...]
    resumed_bytes: int
    ready: tuple[tuple[int, int], ...]
    model_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """For a report in JSON."""
        ready = [{"level": level, "payload_bytes": count} for level, count in self.ready]
        return {**asdict(self), "ready": ready}


def plan_push(model: Model, level: int | None = None) -> tuple[Page, ...]:
    """The pages that a level needs.

    Args:
        model: A nested model.
        level: The level; None for the highest.

    Raises:
        UsageError: The model is not nested, or has no such level.
    """
    directory = model.directory
    if directory is None:
        raise UsageError("the model is not nested, so it has no pages to send", "nest it: tflnest convert")
    wanted = directory.levels[-1] if level is None else level
    return directory.pages[: level_position(directory.levels, wanted) + 1]


class Push:
    """A push.

    Args:
        link: Leads to the board.
        model: A nested model.
        directory: Its directory.
        level: The level; None for the highest.
        is_new: Whether the board has another model, or none, and takes this one.

    Raises:
        UsageError: The model has no such level.
    """

    def __init__(
        self, link: Link, model: Model, directory: Directory, level: int | None, is_new: bool = False
    ) -> None:
        self.level = directory.levels[-1] if level is None else level
        self._link = link
        self._content = model.to_bytes()
        self._directory = directory
        self._needed = plan_push(model, level)
        self._description = describe(model, directory) if is_new else b""
        self._total = sum(page.size for page in self._needed) + len(self._description)
        self._model_bytes = 0
        self._start = link.transport.now()
        self._sent_before = link.sent_bytes
        self._repeats_before = link.repeats
        self._done = self._payload = self._resumed = 0
        self._sent_pages: list[int] = []
        self._skipped_pages: list[int] = []
        self._ready: list[tuple[int, int]] = []
        self._rows: list[PageRow] = []
        self._state = StateRow()

    def steps(self) -> Iterator[PushStep]:
        """Do it, however often the board starts anew meanwhile, and tell of every step."""
        restarts, best = 0, self._payload
        while True:
            try:
                if self._description and not self._model_bytes:
                    yield from self._bring_model()
                self._look()
                yield from self._bring_all()
                return
            except RestartedError:
                # What it lost shows only now: begin with the first page again, and send what is missing.
                restarts = restarts + 1 if self._payload == best else 0
                best = self._payload
                if restarts >= MAX_RESTARTS:
                    raise
                self._link.hello()
                yield self._step(PushKind.RESTARTED, self._needed[0])

    def _bring_all(self) -> Iterator[PushStep]:
        self._done = self._model_bytes
        for page in self._needed:
            yield from self._bring(page)
            if self._raise_level(page):
                self._ready.append((page.level, self._payload))
                yield self._step(PushKind.READY, page)

    def report(self) -> PushReport:
        """What was done until now."""
        seconds = self._link.transport.now() - self._start
        capacity = self._link.transport.bytes_per_second
        return PushReport(
            level=self.level,
            payload_bytes=self._payload,
            wire_bytes=self._link.sent_bytes - self._sent_before,
            seconds=seconds,
            capacity_share=self._payload / (seconds * capacity) if capacity and seconds > 0 else None,
            repeats=self._link.repeats - self._repeats_before,
            pages=tuple(self._sent_pages),
            skipped_pages=tuple(self._skipped_pages),
            resumed_bytes=self._resumed,
            ready=tuple(self._ready),
            model_bytes=self._model_bytes,
        )

    def _step(self, kind: PushKind, page: Page) -> PushStep:
        return PushStep(
            kind,
            page.index,
            page.level,
            self._done,
            self._total,
            self._payload,
            self._link.sent_bytes - self._sent_before,
            self._link.transport.now() - self._start,
        )

    def _look(self) -> None:
        """Ask the board what it has."""
        self._rows = self._link.read_table(Table.PAGES, PageRow)
        if len(self._rows) < len(self._needed):
            raise FormatError(
                f"the board says that it has {len(self._rows)} pages, and the model has {len(self._directory.pages)}"
            )
        self._state = self._link.read_row(Table.STATE, StateRow)

    def _bring_model(self) -> Iterator[PushStep]:
        """Send the model itself, with its base page; the board starts anew with it."""
        content, base = self._description, self._needed[0]
        row = self._link.read_row(Table.MODEL, ModelRow)
        if row.identity != self._directory.identity:
            have = self._begin_model()
            self._done = have
            for reached in self._link.upload(MessageType.PAGE_DATA, content, have, WHOLE_MODEL):
                self._done += reached - have
                self._payload += reached - have
                have = reached
                yield self._step(PushKind.DATA, base)
            end = PageEnd(len(content), zlib.crc32(content)).pack()
            with contextlib.suppress(RestartedError):  # where it is faster than its reply
                self._call_sized(MessageType.PAGE_END, end, WHOLE_MODEL, len(content))
            self._link.hello()
            row = self._link.read_row(Table.MODEL, ModelRow)
            if row.identity != self._directory.identity:
                raise DeviceError("the board was started anew before it had the model", "push it again")
        self._model_bytes = len(content)
        yield self._step(PushKind.MODEL, base)
        self._ready.append((base.level, self._payload))  # the board runs its lowest level
        yield self._step(PushKind.READY, base)

    def _begin_model(self) -> int:
        """The offset at which the board takes the model."""
        content = self._description
        state = self._link.read_row(Table.STATE, StateRow)
        arrived = state.transfer_offset
        is_ours = state.transfer_page == WHOLE_MODEL and arrived <= len(content)
        if is_ours and arrived and zlib.crc32(content[:arrived]) == state.transfer_crc32:
            return arrived
        begin = ModelBegin(self._directory.identity, len(content)).pack()
        reply = self._call_sized(MessageType.PAGE_BEGIN, begin, WHOLE_MODEL, len(content))
        return OffsetReply.unpack(reply).expected

    def _call_sized(self, kind: MessageType, payload: bytes, page: int, size: int) -> bytes:
        """A request that may be refused for want of room."""
        try:
            return self._link.call(kind, payload, page, ERASE_TIMEOUT_S)
        except RefusedError as error:
            if error.code != ErrorCode.SIZE:
                raise
            raise DoesNotFitError(
                f"the board has no room for the model, {size:,} bytes to be sent: {error.first:,} bytes of memory are "
                f"needed, and {error.second:,} are there",
                "use a smaller model, or another board",
                memory="flash",
                needed_bytes=error.first,
                available_bytes=error.second,
            ) from None

    def _bring(self, page: Page) -> Iterator[PushStep]:
        row = self._rows[page.index]
        image = page_image(self._content, page)
        if self._state.resident >> page.index & 1:
            if computed_crc32(self._link, page.index) == page.crc32:
                self._done += page.size
                if page.index not in (*self._sent_pages, *self._skipped_pages):
                    self._skipped_pages.append(page.index)
                yield self._step(PushKind.SKIPPED, page)
                return
            self._drop_damaged(page)
        elif row.capacity < page.size:
            raise _no_room(page, row.capacity)
        have = self._begin(page, image)
        self._done += have
        if have:
            self._resumed += have
            yield self._step(PushKind.RESUMED, page)
        if page.index not in self._sent_pages:
            self._sent_pages.append(page.index)
        for reached in self._link.upload(MessageType.PAGE_DATA, image, have, page.index):
            self._done += reached - have
            self._payload += reached - have
            have = reached
            yield self._step(PushKind.DATA, page)
        self._end(page)
        yield self._step(PushKind.RESIDENT, page)

    def _begin(self, page: Page, image: bytes) -> int:
        """The offset at which the board takes the page: 0, or where an earlier transfer of it was cut off."""
        state = self._state
        arrived = state.transfer_offset
        if (
            state.transfer_page == page.index
            and arrived <= page.size
            and zlib.crc32(image[:arrived]) == state.transfer_crc32
        ):
            return arrived
        payload = PageBegin(self._directory.identity).pack()
        try:
            timeout = ERASE_TIMEOUT_S if self._rows[page.index].place == Place.FLASH else None
            reply = self._link.call(MessageType.PAGE_BEGIN, payload, page.index, timeout)
        except RefusedError as error:
            if error.code != ErrorCode.SIZE:
                raise
            raise _no_room(page, error.second) from None
        return OffsetReply.unpack(reply).expected

    def _end(self, page: Page) -> None:
        reply = self._link.call(MessageType.PAGE_END, PageEnd(page.size, page.crc32).pack(), page.index)
        self._state = replace(self._state, resident=ResidentReply.unpack(reply).resident)

    def _drop_damaged(self, page: Page) -> None:
        """Give up a page that is resident and damaged."""
        try:
            self._link.call(MessageType.PAGE_OUT, page=page.index)
        except RefusedError as error:
            raise VerificationError(
                f"page {page.index} on the board is damaged, and it cannot be replaced now: {error.message}",
                "switch to a level that does not need it, or flash the firmware again",
            ) from None

    def _raise_level(self, page: Page) -> bool:
        """Run at the level that a page completes, unless the board runs there or higher; whether that was new."""
        needed = (1 << (page.index + 1)) - 1
        if self._state.resident & needed != needed or self._state.level >= page.level:
            return False
        self._link.call(MessageType.SET_LEVEL, SetLevel(page.level).pack())
        self._state = replace(self._state, level=page.level)
        return True


def _no_room(page: Page, room: int) -> DoesNotFitError:
    return DoesNotFitError(
        f"page {page.index} (level {page.level}) has {page.size:,} bytes, and the board has room for {room:,}",
        "use a lower level, page something out, or make firmware with more room",
        memory="sram",
        needed_bytes=page.size,
        available_bytes=room,
    )


def computed_crc32(link: Link, page: int) -> int:
    """The CRC-32 that the board computes over a resident page."""
    reply = link.call(MessageType.VERIFY, page=page, timeout=VERIFY_TIMEOUT_S)
    return VerifyReply.unpack(reply).crc32


def level_position(levels: Sequence[int], level: int, what: str = "the model") -> int:
    """Position of a level among others.

    Raises:
        UsageError: It is none of them.
    """
    if level not in levels:
        raise UsageError(f"{what} has no level {level}", f"levels: {', '.join(map(str, levels))}")
    return list(levels).index(level)
