"""The body of a batch in; the lines that are kept of it, a row each, out; or why it is refused."""

import codecs
import csv
import io
from collections.abc import Sequence
from pathlib import Path

import msgspec

from perron.bundle import Bundle
from perron.check.text import TextReader
from perron.errors import DataError

__all__ = ["LINES", "Refused", "demand_utf8", "read_csv", "read_json", "read_lines"]

LINES = ("application/jsonl", "application/x-ndjson")
PIECE_BYTES = 1 << 20
encode = msgspec.json.Encoder().encode


class _Callback(msgspec.Struct, forbid_unknown_fields=True):
    url: str


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[msgspec.Raw] | None = None
    source: str | None = None
    sink: str | None = None
    callback: _Callback | None = None


class Refused(Exception):
    """A request that isn't accepted: HTTP's status and why."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


def demand_utf8(body: bytes) -> None:
    """Nothing; in pieces, between which requests are answered.

    Raises:
        Refused: the body isn't UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(body), PIECE_BYTES):
            decoder.decode(body[start : start + PIECE_BYTES])
        decoder.decode(b"", True)
    except UnicodeDecodeError as error:
        raise Refused(400, f"The body isn't UTF-8: {error.reason}.") from error


def read_json(body: bytes, places: Sequence[str], callback: str | None) -> tuple[str, bytes, int, str | None]:
    """What is asked (`jsonl` or `place`), what is kept of it, how many rows it has (-1: not known yet), and the callback.

    Raises:
        Refused: it makes no sense, or names a place that isn't one of `places`.
    """
    try:
        asked = msgspec.json.decode(body, type=_Asked)
    except msgspec.ValidationError as error:
        raise Refused(
            422, f'Send {{"rows": [{{…}}]}}, and where to tell of the end {{"url": …}} as callback: {error}.'
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"The body isn't JSON: {error}.") from error
    if asked.callback is not None:
        callback = asked.callback.url
    if asked.rows is not None and asked.source is None and asked.sink is None:
        lines = [bytes(row).replace(b"\n", b" ").replace(b"\r", b" ") for row in asked.rows]
        return "jsonl", b"".join(text + b"\n" for text in lines), len(lines), callback
    if asked.rows is None and asked.source is not None and asked.sink is not None:
        for place in (asked.source, asked.sink):
            _check_place(place, places)
        named = {"source": _resolved(asked.source), "sink": _resolved(asked.sink)}
        return "place", encode(named), -1, callback
    raise Refused(422, "Send either rows, or a source and a sink.")


def _check_place(place: str, places: Sequence[str]) -> None:
    """Nothing, where a batch may name the place.

    Raises:
        Refused: it may not.
    """
    if "\0" in place or "${" in place or not any(_is_below(place, allowed) for allowed in places):
        allowed = "starts with one of its places" if places else "none: it was started without places"
        raise Refused(403, f"This server reads and writes no {place[:100]!r}; allowed is what {allowed}.")


def _resolved(place: str) -> str:
    return place if "://" in place else str(Path(place).resolve())


def read_lines(body: bytes) -> tuple[bytes, int]:
    """JSON lines, each of which is JSON, without empty ones, and how many there are.

    Raises:
        Refused: a line isn't JSON.
    """
    kept: list[bytes] = []
    for number, text in enumerate(body.splitlines(), 1):
        if not text.strip():
            continue
        try:
            msgspec.json.decode(text, type=msgspec.Raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused(400, f"Line {number} isn't JSON: {error}.") from error
        kept.append(text)
    return b"".join(text + b"\n" for text in kept), len(kept)


def read_csv(body: bytes, bundle: Bundle) -> tuple[bytes, int]:
    """A CSV file (RFC 4180, with a header) as lines of JSON lists, the header's first, and how many rows it has.

    Raises:
        Refused: it is no such file, or lacks a column.
    """
    try:
        reader = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        header = [name.strip() for name in next(reader, [])]
        TextReader(bundle.schema, header)
        if len(set(header)) < len(header):
            raise Refused(422, "The header names a column twice; rename one.")
        kept = [encode(header)]
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise Refused(400, f"Line {reader.line_num} has {len(cells)} cells, not {len(header)}; mend that line.")
            kept.append(encode(cells))
    except csv.Error as error:
        raise Refused(400, f"The body isn't CSV: {error}.") from error
    except DataError as error:
        raise Refused(422, str(error)) from error
    return b"".join(text + b"\n" for text in kept), len(kept) - 1


def _is_below(place: str, allowed: str) -> bool:
    if "://" in allowed:
        is_plain = not any(part in (".", "..") for part in place.split("/")) and "%" not in place
        return is_plain and place.startswith(allowed if allowed.endswith("/") else allowed + "/")
    return "://" not in place and Path(place).resolve().is_relative_to(Path(allowed).resolve())
