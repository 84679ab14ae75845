"""`tflnest_protocol.c` as a device in this process: the same model, driven through ctypes."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.shared import ROOT
from tflnest.bridge.device import DeviceConfig, DeviceModel, DevicePage, Status
from tflnest.bridge.messages import MAX_DIMENSIONS, MAX_LEVELS, NO_PAGE

RUNTIME = ROOT / "tflnest" / "runtime"
SOURCES = [RUNTIME / "src" / name for name in ("tflnest_protocol.c", "tflnest_crc32.c")]
WARNINGS = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Werror"]

u8, u16, u32, i32 = ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32, ctypes.c_int32
pointer = ctypes.c_void_p
bytes_pointer = ctypes.POINTER(u8)


class CPage(ctypes.Structure):
    _fields_ = (("level", u8), ("place", u8), ("size", u32), ("crc32", u32), ("capacity", u32))


class CTensor(ctypes.Structure):
    _fields_ = (
        ("data", pointer),
        ("size", u32),
        ("type", u8),
        ("rank", u8),
        ("shape", i32 * MAX_DIMENSIONS),
        ("scale", u32),
        ("zero_point", i32),
    )


class COperator(ctypes.Structure):
    _fields_ = (("index", u16), ("level_count", u8), ("levels", u8 * MAX_LEVELS))


NUMBER = ctypes.CFUNCTYPE(u32, pointer)
NUMBER_OF = ctypes.CFUNCTYPE(u32, pointer, u32)
STATUS = ctypes.CFUNCTYPE(ctypes.c_int, pointer)
STATUS_OF = ctypes.CFUNCTYPE(ctypes.c_int, pointer, u32)
STATUS_OF_TWO = ctypes.CFUNCTYPE(ctypes.c_int, pointer, u32, u32)
WRITE = ctypes.CFUNCTYPE(ctypes.c_int, pointer, u32, u32, bytes_pointer, u32)
IMAGE = ctypes.CFUNCTYPE(pointer, pointer, u32)
SEND = ctypes.CFUNCTYPE(None, pointer, bytes_pointer, u32)
ACTION = ctypes.CFUNCTYPE(None, pointer)


class CModel(ctypes.Structure):
    _fields_ = (
        ("identity", pointer),
        ("levels", pointer),
        ("pages", ctypes.POINTER(CPage)),
        ("operators", ctypes.POINTER(COperator)),
        ("inputs", ctypes.POINTER(CTensor)),
        ("outputs", ctypes.POINTER(CTensor)),
        ("level_count", u8),
        ("page_count", u8),
        ("operator_count", u16),
        ("input_count", u16),
        ("output_count", u16),
        ("context", pointer),
        ("resident", NUMBER),
        ("level", NUMBER),
        ("operator_level", NUMBER_OF),
        ("free_sram", NUMBER),
        ("page_begin", STATUS_OF_TWO),
        ("page_write", WRITE),
        ("page_end", STATUS_OF_TWO),
        ("page_out", STATUS_OF),
        ("page_image", IMAGE),
        ("page_found", NUMBER_OF),
        ("set_level", STATUS_OF),
        ("set_operator_level", STATUS_OF_TWO),
        ("invoke", STATUS),
    )


class CTransfer(ctypes.Structure):
    _fields_ = (("page", u32), ("offset", u32), ("crc32", u32), ("check", u32))


class CConfig(ctypes.Structure):
    _fields_ = (
        ("model", ctypes.POINTER(CModel)),
        ("board", ctypes.c_char_p),
        ("frame", pointer),
        ("frame_bytes", u32),
        ("window_bytes", u32),
        ("stall_milliseconds", u32),
        ("transfer", ctypes.POINTER(CTransfer)),
        ("context", pointer),
        ("send", SEND),
        ("milliseconds", NUMBER),
        ("reset", ACTION),
    )


def build_library(folder: Path, flags: tuple[str, ...] = ()) -> ctypes.CDLL:
    """Compile the protocol for this machine."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    path = folder / "libprotocol.so"
    command = [
        compiler,
        *WARNINGS,
        "-O2",
        "-shared",
        "-fPIC",
        *flags,
        f"-I{RUNTIME / 'include'}",
        "-o",
        str(path),
    ]
    subprocess.run([*command, *map(str, SOURCES)], check=True)
    library = ctypes.CDLL(str(path))
    library.tflnest_protocol_start.argtypes = [pointer, ctypes.POINTER(CConfig)]
    library.tflnest_protocol_receive.argtypes = [pointer, ctypes.c_char_p, u32]
    library.tflnest_protocol_receive.restype = None
    return library


#: More than `sizeof(tflnest_protocol)`, and pattern behind it and behind the frame buffer.
STATE_BYTES = 256
GUARD = b"\xc3" * 64


def _buffer(content: bytearray) -> int:
    """Address of the bytes."""
    return ctypes.addressof((ctypes.c_char * len(content)).from_buffer(content)) if content else 0


class CDevice:
    """As `tflnest.bridge.device.Device`.

    Args:
        library: Of `build_library`.
        config: As for `Device`.
    """

    def __init__(self, library: ctypes.CDLL, config: DeviceConfig) -> None:
        self._library = library
        self._config = config
        self._frame = bytearray(config.frame_bytes) + bytearray(GUARD)
        self._state = bytearray(STATE_BYTES) + bytearray(GUARD)
        self._out = bytearray()
        self._keep: list[object] = []
        transfer = config.transfer
        self._transfer = CTransfer(NO_PAGE, 0, 0, 0)
        if transfer is not None:
            self._transfer = CTransfer(transfer.page, transfer.offset, transfer.crc32, transfer.check)
        self._c_config = CConfig(
            model=ctypes.pointer(self._model(config.model)),
            board=config.board.encode(),
            frame=_buffer(self._frame),
            frame_bytes=config.frame_bytes,
            window_bytes=config.window_bytes,
            stall_milliseconds=config.stall_milliseconds,
            transfer=ctypes.pointer(self._transfer),
            send=SEND(lambda _, content, count: self._out.extend(ctypes.string_at(content, count))),
            milliseconds=NUMBER(lambda _: config.milliseconds() & 0xFFFFFFFF),
            reset=ACTION(lambda _: config.reset() if config.reset else None),
        )
        assert library.tflnest_protocol_start(_buffer(self._state), self._c_config) == Status.OK
        self._after()

    def receive(self, content: bytes) -> None:
        """Bytes arrive."""
        self._library.tflnest_protocol_receive(_buffer(self._state), content, len(content))
        self._after()

    def _after(self) -> None:
        assert self._frame.endswith(GUARD) and self._state.endswith(GUARD)
        if self._config.transfer is not None:
            for name, _ in CTransfer._fields_:
                setattr(self._config.transfer, name, getattr(self._transfer, name))
        content, self._out = bytes(self._out), bytearray()
        if content:
            self._config.send(content)

    def _model(self, model: DeviceModel) -> CModel:
        pages = model.pages
        rows = (CPage * len(pages))(*(_page(page) for page in pages))
        operators = (COperator * len(model.operators))(
            *(
                COperator(item.index, len(item.levels), (u8 * MAX_LEVELS)(*item.levels))
                for item in model.operators
            )
        )
        tensors = [
            (CTensor * len(group))(
                *(
                    CTensor(
                        _buffer(item.data),
                        len(item.data),
                        item.type,
                        len(item.shape),
                        (i32 * MAX_DIMENSIONS)(*item.shape),
                        item.scale,
                        item.zero_point,
                    )
                    for item in group
                )
            )
            for group in (model.inputs, model.outputs)
        ]
        self._identity, self._levels = bytearray(model.identity), bytearray(model.levels)
        self._images: dict[int, bytes] = {}
        self._keep = [rows, operators, tensors]

        def capacities() -> None:
            # Generated firmware has a fixed slot for every page; the virtual board's room depends on the others.
            for row, page in zip(rows, model.pages, strict=True):
                row.capacity = page.capacity

        def resident(_: object) -> int:
            capacities()
            return model.resident()

        def image(_: object, page: int) -> int:
            content = model.page_image(page)
            if content is None:
                return 0
            self._images[page] = content
            return ctypes.cast(ctypes.c_char_p(content), pointer).value or 0

        return CModel(
            identity=_buffer(self._identity),
            levels=_buffer(self._levels),
            pages=rows,
            operators=operators,
            inputs=tensors[0],
            outputs=tensors[1],
            level_count=len(model.levels),
            page_count=len(pages),
            operator_count=len(model.operators),
            input_count=len(model.inputs),
            output_count=len(model.outputs),
            resident=NUMBER(resident),
            level=NUMBER(lambda _: model.level()),
            operator_level=NUMBER_OF(lambda _, row: model.operator_level(row)),
            free_sram=NUMBER(lambda _: model.free_sram()),
            page_begin=STATUS_OF_TWO(lambda _, page, offset: model.page_begin(page, offset)),
            page_write=WRITE(
                lambda _, page, offset, content, count: model.page_write(
                    page, offset, ctypes.string_at(content, count)
                )
            ),
            page_end=STATUS_OF_TWO(lambda _, page, crc32: model.page_end(page, crc32)),
            page_out=STATUS_OF(lambda _, page: model.page_out(page)),
            page_image=IMAGE(image),
            page_found=NUMBER_OF(lambda _, page: model.page_found(page)),
            set_level=STATUS_OF(lambda _, level: model.set_level(level)),
            set_operator_level=STATUS_OF_TWO(lambda _, row, level: model.set_operator_level(row, level)),
            invoke=STATUS(lambda _: model.invoke()),
        )


def _page(page: DevicePage) -> CPage:
    return CPage(page.level, page.place, page.size, page.crc32, page.capacity)
