from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.shared import ROOT
from tests.tflnest.bridge.c_device import CConfig, CModel, COperator, CPage, CTensor, CTransfer
from tflnest.bridge import messages
from tflnest.bridge.header import HEADER_PATH, c_header
from tflnest.bridge.messages import (
    REPLIES,
    REQUESTS,
    ROWS,
    SENTENCES,
    ErrorCode,
    ErrorReply,
    Header,
    InvokeReply,
    Layout,
    MessageType,
    ModelBegin,
    StateRow,
    Table,
    runtime_version,
    version_text,
)
from tflnest.errors import FormatError

LAYOUTS = sorted(
    {Header, ModelBegin, *REQUESTS.values(), *REPLIES.values(), *ROWS.values()},
    key=lambda kind: kind.__name__,
)


def test_the_c_header_is_the_generated_one() -> None:
    assert HEADER_PATH.read_text(encoding="ascii") == c_header(), "run python -m tflnest.bridge.header"


def test_no_name_of_the_c_header_is_defined_twice() -> None:
    names = re.findall(r"#define (\w+) ", c_header())
    assert len(names) == len(set(names)) > 150


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_layouts_round_trip_and_are_aligned(layout: type[Layout]) -> None:
    content = bytes(range(1, layout.structure().size + 1))
    assert layout.unpack(content).pack() == content
    for name, offset in layout.offsets().items():
        width = next(item for item in layout.__dataclass_fields__.values() if item.name == name).metadata[
            "format"
        ]
        assert width.endswith("s") or offset % {"B": 1, "H": 2, "I": 4, "i": 4}[width] == 0, name


def test_later_versions_may_append() -> None:
    state = StateRow(resident=5, run=7)
    assert StateRow.unpack(state.pack() + b"more") == state


def test_too_few_bytes_are_refused_with_the_numbers() -> None:
    with pytest.raises(FormatError, match="InvokeReply takes 20 bytes, and 19 came"):
        InvokeReply.unpack(bytes(19))


def test_the_smallest_frame_holds_every_fixed_reply() -> None:
    room = messages.MIN_FRAME_BYTES - messages.FRAME_OVERHEAD_BYTES
    assert max(layout.structure().size for layout in (*REQUESTS.values(), *REPLIES.values())) <= room


def test_every_error_has_a_sentence_that_takes_two_numbers() -> None:
    assert set(SENTENCES) == set(ErrorCode)
    for sentence in SENTENCES.values():
        text = sentence.format(first=1, second=2)
        assert "{" not in text and text == text[0].lower() + text[1:] and not text.endswith(".")


def test_status_codes_of_the_runtime_are_error_codes() -> None:
    header = (ROOT / "tflnest/runtime/include/tflnest/tflnest_types.h").read_text()
    found = {name: -int(number) for name, number in re.findall(r"TFLNEST_ERROR_(\w+) = (-\d+)", header)}
    assert found == {code.name: code.value for code in ErrorCode if code < 32}


def test_reserved_ranges_stay_free() -> None:
    assert not any(0x60 <= number <= 0x6F for group in (MessageType, Table) for number in group)
    assert all(code < 128 for code in ErrorCode)
    assert all(kind < messages.REPLY_BIT for kind in MessageType)


def test_versions_are_numbers_that_order() -> None:
    assert version_text(runtime_version("1.20.3")) == "1.20.3"
    assert runtime_version("0.1") < runtime_version("0.1.1") < runtime_version("1.0.0")


def test_reply_types_say_what_they_answer() -> None:
    assert ErrorReply(ErrorCode.SIZE, MessageType.PAGE_BEGIN, 0, 5, 4).pack()[2] == MessageType.PAGE_BEGIN


def test_the_specification_has_every_message_table_and_error() -> None:
    text = (ROOT / "PROTOCOL.md").read_text(encoding="utf-8")
    for kind in MessageType:
        assert re.search(rf"\| `?0x{kind.value:02x}`? \| {kind.name} \|", text), kind
    for table in Table:
        assert re.search(rf"\| {table.value} \| {table.name} \|", text), table
    for code in ErrorCode:
        assert re.search(rf"\| {code.value} \| {code.name} \|", text), code
    for layout in LAYOUTS:
        for name, offset in layout.offsets().items():
            if not name.startswith("reserved"):
                assert re.search(rf"\| {offset} \| \d+ \| \w+ \| {name} \|", text), (layout.__name__, name)


PROBE = r"""
#include <stdio.h>
#include "tflnest/tflnest_protocol.h"
#define SHOW(type) printf(#type " %zu\n", sizeof(type))
int main(void) {
    SHOW(tflnest_protocol_page); SHOW(tflnest_protocol_tensor); SHOW(tflnest_protocol_operator);
    SHOW(tflnest_protocol_model); SHOW(tflnest_protocol_transfer); SHOW(tflnest_protocol_config);
    SHOW(tflnest_protocol);
    return 0;
}
"""


def test_the_structures_that_tests_use_are_those_of_the_header(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or pytest.skip("no C compiler")
    (tmp_path / "probe.c").write_text(PROBE)
    include = ROOT / "tflnest/runtime/include"
    subprocess.run(
        [compiler, "-std=c99", f"-I{include}", "-o", str(tmp_path / "probe"), str(tmp_path / "probe.c")],
        check=True,
    )
    output = subprocess.run([str(tmp_path / "probe")], check=True, capture_output=True, text=True).stdout
    sizes = {line.split()[0]: int(line.split()[1]) for line in output.splitlines()}
    import ctypes

    expected = {
        "page": CPage,
        "tensor": CTensor,
        "operator": COperator,
        "model": CModel,
        "transfer": CTransfer,
        "config": CConfig,
    }
    for name, structure in expected.items():
        assert sizes[f"tflnest_protocol_{name}"] == ctypes.sizeof(structure), name
    assert sizes["tflnest_protocol"] <= 256


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_the_headers_are_c_plus_plus_too(compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    source = tmp_path / "include.cpp"
    source.write_text('#include "tflnest/tflnest_protocol.h"\n#include "tflnest/tflnest_crc32.h"\n')
    include = ROOT / "tflnest/runtime/include"
    subprocess.run(
        [compiler, "-std=c++11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{include}", str(source)],
        check=True,
    )
