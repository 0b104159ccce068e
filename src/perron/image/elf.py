"""A shared object in; the names of the libraries that it needs out: the dynamic section of ELF (System V ABI, chapter 5)."""

import struct
from pathlib import Path

__all__ = ["needed_by"]

LITTLE_64 = b"\x7fELF\x02\x01"
LOAD, DYNAMIC = 1, 2  # kinds of program headers
NEEDED, STRINGS = 1, 5  # tags of dynamic entries


def needed_by(path: Path) -> frozenset[str]:
    """The libraries by name, such as `libstdc++.so.6`; none of a file that isn't ELF of 64 bits, low byte first.

    Raises:
        OSError: it can't be read.
        ValueError: it is cut off.
    """
    with open(path, "rb") as file:
        head = file.read(64)
        if head[:6] != LITTLE_64:
            return frozenset()
        try:
            (place,) = struct.unpack_from("<Q", head, 32)
            size, count = struct.unpack_from("<HH", head, 54)
            file.seek(place)
            table = file.read(size * count)
            # Of each: kind, flags, offset in the file, virtual address, physical address, bytes in the file, …
            headers = [struct.unpack_from("<IIQQQQ", table, size * number) for number in range(count)]
            entries: list[tuple[int, int]] = []
            for kind, _, offset, _, _, length in headers:
                if kind == DYNAMIC:
                    file.seek(offset)
                    entries += struct.iter_unpack("<qQ", file.read(length - length % 16))
            address = next((value for tag, value in entries if tag == STRINGS), None)
            if address is None:
                return frozenset()
            strings = next(
                address - virtual + offset
                for kind, _, offset, virtual, _, length in headers
                if kind == LOAD and virtual <= address < virtual + length
            )
        except (struct.error, StopIteration) as error:
            raise ValueError(f"{path} is cut off") from error
        names = set()
        for tag, value in entries:
            if tag == NEEDED:
                file.seek(strings + value)
                names.add(file.read(256).partition(b"\0")[0].decode("utf-8", "replace"))
        return frozenset(names)
