"""The kept lines of a batch in; its rows predicted, a few at a time, as lines of a result and of a log, out."""

import json
from typing import Any

import msgspec

from perron.bundle import Bundle
from perron.check.request import Decoder, Rejection
from perron.check.text import TextReader
from perron.clock import now, replay_file
from perron.jobs import Job
from perron.predictions import IdMaker, line
from perron.predictions.mask import Mask

__all__ = ["Steps"]

STEP_ROWS = 128  # a few milliseconds, during which a request may wait for the interpreter
encode = msgspec.json.Encoder().encode


class Steps:
    """Predicts the rows of a body, a few at a time.

    `done` and `bad` say how far it is; `step` gives lines for the result and for the log.
    """

    def __init__(self, bundle: Bundle, job: Job, body: Any, mask: Mask | None) -> None:
        self._bundle, self._job, self._body, self._mask = bundle, job, body, mask
        self.done, self.bad = job.done, job.bad
        self._decode = Decoder(bundle.schema, STEP_ROWS)
        self._read = TextReader(bundle.schema, json.loads(body.readline())) if job.kind == "csv" else None
        if job.read_bytes:
            body.seek(job.read_bytes)
        self._new_id = IdMaker(job.segment, job.done - job.bad)

    def header(self) -> bytes:
        """The log's first line."""
        bundle = self._bundle
        head = {
            "format": 1, "started": _now().decode(), "model": bundle.name, "version": self._job.version,
            "bundle": bundle.digest, "lineage": bundle.manifest["lineage"],
            **({"clock": "replay"} if replay_file() else {}),
        }  # fmt: skip
        return json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    def step(self) -> tuple[bytes, bytes]:
        """The next rows: a line of the result for each, and their line of the log (none where no row was good)."""
        texts = self._texts()
        decoded = self._decode(b'{"rows":[' + b",".join(texts) + b"]}")
        if isinstance(decoded, Rejection) or len(decoded) != len(texts):
            each = [self._decode(b'{"rows":[' + text + b"]}") for text in texts]
        else:
            each = [[row] for row in decoded]
        faults: list[str | None] = [
            _words(one) if isinstance(one, Rejection) or len(one) != 1 else None for one in each
        ]
        good = [place for place, fault in enumerate(faults) if fault is None]
        rows = [one[0] for one in each if not isinstance(one, Rejection) and len(one) == 1]
        answers: dict[int, dict[str, Any]] = {}
        if rows:
            values, shares = self._bundle.run(self._bundle.packer(rows))
            if self._bundle.history is not None:  # again, where a process died: what is known of a moment is there once
                self._bundle.history.observe(rows)
            bad = set(self._bundle.not_finite(values, shares))
            for number, (place, answer) in enumerate(zip(good, self._bundle.answers(values, shares), strict=True)):
                if number in bad:
                    faults[place] = "the model's answer isn't a finite number"
                else:
                    answers[place] = {"id": self._new_id(), **answer}
        made = [
            encode({"row": self.done + place, **(answers.get(place) or {"fault": fault})})
            for place, fault in enumerate(faults)
        ]
        self.done += len(texts)
        self.bad += len(texts) - len(answers)
        return b"\n".join(made) + b"\n", self._logged(texts, good, rows, answers)

    def _logged(
        self, texts: list[bytes], good: list[int], rows: list[tuple[Any, ...]], answers: dict[int, dict[str, Any]]
    ) -> bytes:
        if not answers:
            return b""
        if self._mask is None:
            request = b'{"rows":[' + b",".join(texts[place] for place in answers) + b"]}"
        else:
            request = self._mask.body([row for place, row in zip(good, rows, strict=True) if place in answers])
        reply = {"model": self._bundle.name, "version": self._job.version, "predictions": list(answers.values())}
        return line(_now(), b"batch", request, encode(reply))

    def _texts(self) -> list[bytes]:
        """The next rows, each as a JSON object (of a line that is none, what came)."""
        lines = [
            text for text in (self._body.readline() for _ in range(min(STEP_ROWS, self._job.rows - self.done))) if text
        ]
        if self._read is None:
            return [text.rstrip(b"\n") for text in lines]
        return [encode(self._read(json.loads(text))) for text in lines]


def _words(rejection: Rejection | list[Any]) -> str:
    """A row's faults as the column `fault` of `perron predict` has them."""
    if isinstance(rejection, list):
        return "expected one object"
    if not rejection.faults:
        return rejection.detail
    return "; ".join(
        f"{fault.field}: expected {fault.expected}" if fault.field else f"expected {fault.expected}"
        for fault in rejection.faults
    )


def _now() -> bytes:
    return now().isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()
