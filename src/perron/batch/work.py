"""Predicted chunks in; a journal of them in a folder, by which a killed batch is gone on with, and the output out.

A chunk counts once its part and its log lie in the folder and the journal has its line. The log's
segments move to the project when the output does.
"""

import errno
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from perron.digest import digest_file
from perron.errors import SinkError
from perron.locks import take
from perron.predictions import new_segment_name
from perron.sink import Sink

__all__ = ["FORMAT", "Done", "Predicted", "Task", "Work"]

FORMAT = 1
EXAMPLES = 3


@dataclass(frozen=True)
class Predicted:
    """What was predicted: the rows, how many of them broke the contract (and have no prediction), a line on these,
    and how many rows an earlier, killed run had done."""

    rows: int
    bad: int
    faults: str
    resumed_rows: int = 0


@dataclass(frozen=True)
class Task:
    """A chunk to predict: its number, the number of its first row, its rows as an Arrow stream, the mark by which the
    journal knows them, and of a system with history the pasts of its good rows."""

    number: int
    first: int
    rows: int
    mark: str
    data: bytes
    pasts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """A predicted chunk: its task without the rows, its part for the sink, its log's segment (None where nothing was
    predicted), and its faults.

    A fault is `[field, rule, rows, [examples]]`.
    """

    task: Task
    part: bytes
    segment: str | None
    log: bytes
    bad: int
    faults: list[tuple[str, str, int, list[str]]]


@dataclass
class Work:
    """The working folder of one batch: parts, logs and the journal; one process at a time.

    The journal is lines of JSON: a header with what the work depends on, a line per chunk, and at the end
    one that says that the whole is assembled. A last line without its end counts as absent.
    """

    path: Path
    log_folder: Path
    sink: Sink
    facts: Mapping[str, Any]
    tell: Callable[[str], None]
    entries: list[dict[str, Any]] = field(default_factory=list)
    is_assembled: bool = False
    is_same: bool = True  # what is assembled depends on the same facts
    resumed_rows: int = 0
    run: str = ""
    _lock: IO[bytes] | None = None
    _journal: int = -1

    def __enter__(self) -> "Work":
        try:
            self._lock = self._acquire()
            self._open()
        except OSError as error:
            self.__exit__()
            raise SinkError(
                f"Can't work in {self.path}, where {self.sink.name} is made: {error.strerror or error}."
            ) from error
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._journal >= 0:
            os.close(self._journal)
        if self._lock is not None:
            self._lock.close()

    def _acquire(self) -> IO[bytes]:
        """The folder's lock, which dies with its process."""
        try:
            return take(self.path / "lock", waits=False)
        except BlockingIOError:
            raise SinkError(
                f"Another process is writing {self.sink.name}; wait until it is done, or name another sink."
            ) from None

    def _open(self) -> None:
        lines, whole_bytes = self._read()
        if lines and lines[-1].get("assembled"):
            self.run, self.entries, self.is_assembled = lines[0]["run"], lines[1:-1], True
            self.is_same = {**lines[0], "run": None} == {**self.facts, "run": None}
            self.resumed_rows = self.predicted.rows
            return
        if lines and {**lines[0], "run": None} != {**self.facts, "run": None}:
            self.tell(f"The model or an option isn't what it was when {self.sink.name} was begun; beginning anew.")
            self.run = lines[0]["run"]
            self._forget()
            lines = []
        if not lines:
            self._begin()
            return
        self.run = lines[0]["run"]
        for line in lines[1:]:
            if not self._is_sound(line):
                break
            self.entries.append(line)
        if len(self.entries) < len(lines) - 1:
            whole_bytes = sum(len(_line(line)) for line in [lines[0], *self.entries])
        os.truncate(self._path, whole_bytes)
        self._journal = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        if not self.sink.is_whole:
            for entry in self.entries:
                self._put(entry)

    @property
    def _path(self) -> Path:
        return self.path / "journal.jsonl"

    def _read(self) -> tuple[list[dict[str, Any]], int]:
        """The journal's whole lines, and how many bytes they are."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return [], 0
        data = data[: data.rfind(b"\n") + 1]
        try:
            return [json.loads(line) for line in data.splitlines()], len(data)
        except ValueError:  # a disk that lost a page
            return [], 0

    def _is_sound(self, entry: Mapping[str, Any]) -> bool:
        """Whether what a chunk made is still there as it was."""
        if not self.sink.is_whole and not self._part(entry["chunk"]).exists():
            return True  # it is in the sink
        try:
            return bool(digest_file(self._part(entry["chunk"])) == entry["part"])
        except OSError:
            return False

    def _part(self, number: int) -> Path:
        return self.path / f"part-{number:08d}"

    def _begin(self) -> None:
        self.entries, self.is_assembled, self.resumed_rows = [], False, 0
        for path in self.path.iterdir():
            if path.name != "lock":
                path.unlink()
        self.run = new_segment_name()
        self._journal = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        self._note({**self.facts, "run": self.run})

    def _forget(self) -> None:
        if not self.sink.is_whole:
            self.sink.forget(self.run)

    def reopen(self) -> None:
        """Begins anew, once what was assembled is finished."""
        self.__exit__()
        self._journal, self._lock = -1, self._acquire()
        self._begin()

    def clear(self) -> None:
        """Gives up what was done, and begins anew."""
        self._forget()
        os.close(self._journal)
        self._begin()

    def _note(self, line: Mapping[str, Any]) -> None:
        data = _line(line)
        if os.write(self._journal, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def commit(self, done: Done) -> None:
        """Keeps a predicted chunk."""
        task = done.task
        self._part(task.number).write_bytes(done.part)
        if done.segment is not None:
            (self.path / f"{done.segment}.parquet").write_bytes(done.log)
        entry = {
            "chunk": task.number, "input": task.mark, "rows": task.rows, "bad": done.bad, "segment": done.segment,
            "part": hashlib.sha256(done.part).hexdigest(), "faults": done.faults,
        }  # fmt: skip
        self._note(entry)
        self.entries.append(entry)
        if not self.sink.is_whole:
            self._put(entry)

    def _put(self, entry: Mapping[str, Any]) -> None:
        """Hands a part on to a sink that takes parts, once; its log is there before its rows are."""
        part = self._part(entry["chunk"])
        if part.exists():
            self._publish_log(entry)
            self.sink.put(self.run, entry["chunk"], part.read_bytes())
            part.unlink()

    def _publish_log(self, entry: Mapping[str, Any]) -> None:
        if entry["segment"] is not None:
            name = f"{entry['segment']}.parquet"
            _move(self.path / name, self.log_folder / name)

    def finish(self) -> None:
        """Makes the output and the log appear; the folder then goes."""
        whole = self.path / "whole" if self.sink.is_whole else None
        if not self.is_assembled:
            if whole is not None:
                self.sink.assemble([self._part(entry["chunk"]) for entry in self.entries], whole)
            self._note({"assembled": True})
            self.is_assembled = True
        for entry in self.entries:
            self._publish_log(entry)
        if whole is None or whole.exists():
            self.sink.publish(self.run, whole)
        # The journal last: while it is there, this much is known to be done.
        for path in sorted(self.path.iterdir(), key=lambda path: path.name in ("lock", "journal.jsonl")):
            if path.name != "lock":
                path.unlink()
        shutil.rmtree(self.path, ignore_errors=True)

    @property
    def predicted(self) -> Predicted:
        """What the chunks have come to."""
        counts: Counter[tuple[str, str]] = Counter()
        examples: dict[tuple[str, str], str] = {}
        for entry in self.entries:
            for name, rule, rows, shown in entry["faults"]:
                counts[name, rule] += rows
                examples.setdefault((name, rule), shown[0])
        words = "; ".join(f"{rows} × {examples[key]}" for key, rows in counts.most_common(EXAMPLES))
        words += f"; and {len(counts) - EXAMPLES} more" if len(counts) > EXAMPLES else ""
        rows, bad = (sum(entry[key] for entry in self.entries) for key in ("rows", "bad"))
        return Predicted(rows, bad, words, self.resumed_rows)


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def _move(source: Path, target: Path) -> None:
    """Moves a file, also to another disk, so that it appears there whole; nothing where it was moved before."""
    if not source.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(source, target)
    except OSError:  # another disk
        hidden = target.with_name(f".{target.name}")
        shutil.copyfile(source, hidden)
        os.replace(hidden, target)
        source.unlink()
