"""Capture lines of many formats, and mutations of them."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from runner.probes import probe_id
from runner.records.fields import Fields
from runner.records.payloads import Format

LINES: Format = "application/jsonlines"
JSON: Format = "application/json"
CSV: Format = "text/csv"

INSERTED = [b"0", b"-", b"+", b".", b"e5", b'"', b"\\", b",", b" ", b"\r", b"\t", b"NaN", b"\xff", b"1e999", b"null"]
FOR_DIGITS = [b"0", b"00", b"+1", b".", b"9" * 20, b"1.5", b"-", b"1e3", b"x", b" 1", b"1 ", b"007", b".5", b"1."]
INSTEAD = [b"", b" ", b"[]", b"null", b"1,2,3", b"{}", b'{"captureData":{}}', b"\xff\xfe"]


@dataclass(frozen=True)
class LineFormat:
    """The format of an endpoint's capture lines: format of both bodies, records per event, and optional parts."""

    format: Format = LINES
    records: int = 1
    floats: bool = False
    spaced: bool = False
    inference_id: bool = True
    output: bool = True

    @property
    def fields(self) -> Fields:
        """The locations of features and scores."""
        features, score = {
            LINES: ("features", "score"),
            JSON: ("instances[*].features", "predictions[*].score"),
            CSV: (None, "0"),
        }[self.format]
        return Fields(features, score, None, self.format, self.format)

    def line(self, rng: random.Random, number: int) -> bytes:
        """Return the line of an event between four and six o'clock."""
        rows = [[rng.randrange(-50, 100), rng.randrange(10**6), rng.randrange(3), 37] for _ in range(self.records)]
        if self.floats:
            rows = [[row[0], rng.random() * 10 ** rng.randrange(-8, 9), *row[2:]] for row in rows]
        request, response = self._bodies(rows, [rng.random() for _ in rows])
        encoding = "CSV" if self.format == CSV else "JSON"
        side = {"observedContentType": self.format, "mode": "INPUT", "data": request, "encoding": encoding}
        sides = {"endpointInput": side}
        if self.output:
            sides["endpointOutput"] = side | {"mode": "OUTPUT", "data": response}
        marks = {"eventId": f"{rng.getrandbits(128):032x}"}
        if self.inference_id:
            marks["inferenceId"] = probe_id(number) if number % 10 == 7 else str(number % 50)
        marks["inferenceTime"] = f"2023-01-19T0{rng.choice('4555556')}:{rng.randrange(60):02d}:{rng.randrange(60):02d}Z"
        document = {"captureData": sides, "eventMetadata": marks, "eventVersion": "0"}
        return json.dumps(document, separators=(",", ":")).encode()

    def _bodies(self, rows: list[list[Any]], scores: list[float]) -> tuple[str, str]:
        if self.format == CSV:
            return "\n".join(",".join(map(str, row)) for row in rows), "".join(f"{score}\n" for score in scores)
        requests = [{"features": row} for row in rows]
        replies = [{"predicted_label": int(score > 0.5), "score": score} for score in scores]
        if self.format == JSON:
            return self._dumped({"instances": requests}), self._dumped({"predictions": replies})
        return "\n".join(map(self._dumped, requests)), "".join(self._dumped(reply) + "\n" for reply in replies)

    def _dumped(self, document: Any) -> str:
        return json.dumps(document, separators=(", ", ": ") if self.spaced else (",", ":"))


LINE_FORMATS = [
    LineFormat(),
    LineFormat(spaced=True, floats=True),
    LineFormat(records=3),
    LineFormat(records=3, floats=True),
    LineFormat(inference_id=False),
    LineFormat(output=False),
    LineFormat(JSON, records=3),
    LineFormat(JSON, spaced=True, floats=True),
    LineFormat(CSV),
    LineFormat(CSV, records=3, floats=True),
]


def mutated(rng: random.Random, line: bytes) -> bytes:
    """Return a damaged line: bytes changed, removed, repeated or inserted, or the whole line replaced."""
    start = rng.randrange(len(line))
    end = min(len(line), start + rng.randrange(1, 9))
    digits = [index for index, byte in enumerate(line) if 48 <= byte <= 57]
    digit = rng.choice(digits)
    changed = [
        line[:start] + bytes([rng.randrange(256)]) + line[start + 1 :],
        line[:start] + line[end:],
        line[:start] + line[start:end] + line[start:],
        line[:start],
        line[:start] + rng.choice(INSERTED) + line[start:],
        line[:digit] + rng.choice(FOR_DIGITS) + line[digit + rng.randrange(2) :],
        rng.choice([*INSTEAD, b"\xef\xbb\xbf" + line, line + b"\r"]),
        line + rng.choice([b",", b",,", b",x", b",,x", b",{}", b"," + line, line, b" ", b"}", b", "]),
    ]
    return rng.choice(changed).replace(b"\n", b" ")
