"""Files that only grow by whole records: TensorBoard event files (TFRecord) and line files.

TensorBoard's own writer hands records to a thread, whose failure (a full disk) ends the training that feeds
it, and which does not survive a fork. Here records are gathered in memory and appended by the caller's
thread; after a failed write the file is cut back to its last whole record, so writing can go on later.

Record layout: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

from __future__ import annotations

import os
import struct
from typing import Iterator

_HEADER_BYTES = 12  # uint64 length, uint32 masked crc of it
_FOOTER_BYTES = 4  # uint32 masked crc of the payload


class AppendFile:
    """A file that takes whole records: `write(data)` appends all of `data` or, if that fails, nothing."""

    def __init__(self, path: str):
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        self._size = os.fstat(self._fd).st_size

    def write(self, data: bytes) -> None:
        """Append `data`. Raises OSError, the file then being as before."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def encode_record(payload: bytes) -> bytes:
    """Return `payload` framed as a TFRecord."""
    length = struct.pack("<Q", len(payload))
    return b"".join(
        (length, struct.pack("<I", _masked_crc32c(length)), payload, struct.pack("<I", _masked_crc32c(payload)))
    )


def _crc32c_of_byte(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_CRC32C = tuple(map(_crc32c_of_byte, range(256)))


def _masked_crc32c(data: bytes) -> int:
    """Return the checksum of TFRecords: CRC-32C (https://www.rfc-editor.org/rfc/rfc3720#appendix-B.4), masked.

    TensorBoard has it as well, but beside file systems that take a tenth of a second to import.
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC32C[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def iterate_records(path: str) -> Iterator[tuple[int, bytes]]:
    """Yield (offset in bytes, payload) of every whole record of an event file, whose end may be cut off."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        offset = 0
        while offset + _HEADER_BYTES <= size:
            length = struct.unpack("<Q", file.read(_HEADER_BYTES)[:8])[0]
            end = offset + _HEADER_BYTES + length + _FOOTER_BYTES
            if end > size:
                return
            payload = file.read(length)
            file.seek(_FOOTER_BYTES, os.SEEK_CUR)
            yield offset, payload
            offset = end
