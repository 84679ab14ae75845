"""Serial ports of this machine, and the one that a board of ours is at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tflnest.bridge.link import Link
from tflnest.bridge.transport import SerialTransport
from tflnest.errors import DeviceError
from tflnest.schema import require_extra

#: Seconds that a port has to answer when all are tried.
PROBE_TIMEOUT_S = 1.5

#: USB vendors whose devices are boards or the serial converters on boards.
BOARD_VENDORS = {
    0x0483: "STMicroelectronics",
    0x0D28: "Arm (DAPLink)",
    0x1366: "SEGGER",
    0x1A86: "WCH",
    0x10C4: "Silicon Labs",
    0x0403: "FTDI",
    0x2341: "Arduino",
    0x239A: "Adafruit",
    0x2E8A: "Raspberry Pi",
    0x303A: "Espressif",
    0x1915: "Nordic Semiconductor",
    0x1FC9: "NXP",
    0x2886: "Seeed",
}


@dataclass(frozen=True)
class Port:
    """A serial port.

    Attributes:
        url: How to open it.
        description: What the system calls it.
        vendor_id: USB vendor; None where it is not on USB.
        product_id: USB product.
        serial_number: Of the USB device.
    """

    url: str
    description: str
    vendor_id: int | None = None
    product_id: int | None = None
    serial_number: str | None = None

    @property
    def vendor(self) -> str:
        """The vendor, where it makes boards; empty otherwise."""
        return BOARD_VENDORS.get(self.vendor_id or 0, "")


def list_ports() -> list[Port]:
    """All serial ports, by name.

    Raises:
        MissingExtraError: pyserial is not installed.
    """
    tools = require_extra("serial.tools.list_ports", "serial", "to list serial ports")
    ports = [
        Port(item.device, item.description or "", item.vid, item.pid, item.serial_number)
        for item in tools.comports()
    ]
    return sorted(ports, key=lambda port: port.url)


def answers(url: str, baud: int) -> bool:
    """Whether a board of ours answers at a port."""
    try:
        link = Link(SerialTransport(url, baud), timeout=PROBE_TIMEOUT_S)
    except DeviceError:
        return False
    try:
        link.hello()
        return True
    except DeviceError:
        return False
    finally:
        link.close()


def find_board(baud: int, candidates: Sequence[Port] | None = None) -> str:
    """The only port at which a board of ours answers. Only ports of USB devices of known vendors are tried.

    Args:
        baud: Bits per second.
        candidates: Ports to try; None for all of this machine.

    Raises:
        DeviceError: There is none, or more than one.
    """
    ports = [port for port in (list_ports() if candidates is None else candidates) if port.vendor]
    found = [port.url for port in ports if answers(port.url, baud)]
    if len(found) == 1:
        return found[0]
    tried = ", ".join(port.url for port in ports) or "none: no port is of a known board"
    if not found:
        raise DeviceError(
            f"no board answers; tried were {tried}", "name the port with --port; `tflnest ports` lists them"
        )
    raise DeviceError(f"{len(found)} boards answer: {', '.join(found)}", "name one with --port")
