"""The captures of an endpoint: layout, hours, and that nothing is lost."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from runner.domain.executions import Window, utc
from runner.domain.records import PROBE, Event, Payload
from runner.records.capture import encode
from runner.sources.endpoint import EndpointSource
from tests.golden import Golden
from tests.sources.reading import HOUR, body, event, taken, write

PUBLISHED = (Path(__file__).parents[1] / "expected" / "capture.jsonl").read_bytes()


def request(text: str | None, response: str | None = None, encoding: str = "JSON") -> bytes:
    """Return the capture line of bodies that are given as they stand."""
    sent = None if text is None else Payload("application/jsonlines", text, encoding)
    answer = None if response is None else Payload("application/jsonlines", response, "JSON")
    return encode(Event("e", utc("2026-01-05T09:30:00Z"), sent, answer))


def test_files_are_read_in_order_and_named_below_the_tree(tmp_path: Path) -> None:
    """All files of the hours are read in the order of their names."""
    tree = EndpointSource(
        "endpoint", write(tmp_path, h09_b=event([2]), h09_a=event([1]), h10_a=event([3], clock="10:30:00")), 0
    )
    found = taken(tree, Window.parse("2026-01-05T09/2026-01-05T11"))
    assert found.files == ("2026/01/05/09/a.jsonl", "2026/01/05/09/b.jsonl", "2026/01/05/10/a.jsonl")
    assert found.rows == [(1,), (2,), (3,)]
    assert found.origins[-1] == ("2026/01/05/10/a.jsonl", 1, 0)


def test_the_published_capture_is_an_hour_of_three_records(tmp_path: Path) -> None:
    """Two published invocations, the second of two rows, are three records with their scores."""
    (folder := tmp_path / "2023/01/19/05").mkdir(parents=True)
    (folder / "31-46-585-9ee7358c-33e7-467d-9133-624e448e6552.jsonl").write_bytes(PUBLISHED)
    found = taken(EndpointSource("endpoint", str(tmp_path), 1), Window.parse("2023-01-19T05"))
    assert (found.events, len(found.rows), found.rejected) == (2, 3, {})
    assert found.scores is not None
    assert found.scores[0] == [0.989977359771728]


def test_an_absent_tree_is_empty(tmp_path: Path) -> None:
    """A tree that does not exist holds nothing, rather than being an error of its own."""
    assert taken(EndpointSource("endpoint", str(tmp_path / "absent"), 1)).events == 0


def test_other_files_are_no_captures(tmp_path: Path) -> None:
    """Hidden files and other suffixes are left alone."""
    root = write(tmp_path, h09_a=event([1]))
    for name in (".hidden.jsonl", "a.jsonl.tmp", "_SUCCESS"):
        (tmp_path / "2026/01/05/09" / name).write_bytes(event([2]))
    assert taken(EndpointSource("endpoint", root, 0)).rows == [(1,)]


def test_the_events_own_time_decides(tmp_path: Path) -> None:
    """Events in a neighbour hour's folder are found, events of other hours in the own folder are outside."""
    files = {
        "h08_late": event([8], clock="08:59:59") + event([1], clock="09:00:00"),
        "h09_own": event([2], clock="09:30:00") + event([9], clock="10:00:00"),
        "h10_early": event([3], clock="09:59:59"),
        "h11_far": event([4], clock="09:59:59"),
    }
    root = write(tmp_path, **files)
    near = taken(EndpointSource("endpoint", root, 1))
    assert (near.rows, near.events, near.outside) == ([(1,), (2,), (3,)], 3, 2)
    own = taken(EndpointSource("endpoint", root, 0))
    assert (own.rows, own.events, own.outside) == ([(2,)], 1, 1)
    far = taken(EndpointSource("endpoint", root, 2))
    assert (far.rows, far.events, far.outside) == ([(1,), (2,), (3,), (4,)], 4, 2)


def test_a_late_file_is_found_by_the_next_reading(tmp_path: Path) -> None:
    """A file that is delivered after a window was read belongs to it all the same."""
    tree = EndpointSource("endpoint", write(tmp_path, h09_a=event([1])), 1)
    assert taken(tree).rows == [(1,)]
    write(tmp_path, h09_z=event([2]))
    assert taken(tree).rows == [(1,), (2,)]


def test_what_cannot_be_decoded_counts_in_its_own_hour_alone(tmp_path: Path) -> None:
    """A torn line tells no time, so its folder does; one whose time is known counts in its hour wherever it lies."""
    torn, timed = b"torn\n", event(["x", []])
    root = write(tmp_path, h08_a=torn + timed, h09_a=torn + timed, h10_a=torn + timed)
    found = taken(EndpointSource("endpoint", root, 1))
    assert (found.events, found.outside, found.rejected) == (4, 2, {"feature_type": 3, "not_json": 1})
    assert ("2026/01/05/09/a.jsonl", 1, "not_json") in found.places


@pytest.mark.parametrize(
    ("line", "kind", "text"),
    [
        pytest.param(b'{"captureData":{"endpointIn', "not_json", '{"captureData":{"endpointIn', id="cut"),
        pytest.param(b"[1,2]\n", "not_a_capture", "[1,2]", id="list"),
        pytest.param(b"null\n", "not_a_capture", "null", id="null"),
        pytest.param(b'"text"\n', "not_a_capture", '"text"', id="string"),
        pytest.param(b"\xff\xfe{}\n", "not_json", "\ufffd\ufffd{}", id="not UTF-8"),
        pytest.param(event([1]).replace(b'"e"', b'"\xe9"'), "not_json", '{"captureData"', id="id not UTF-8"),
        pytest.param(event([1]).replace(b"2026-01-05T09", b"yesterday"), "not_a_capture", '{"captureData"', id="time"),
        pytest.param(request(None, '{"score":1}'), "no_input", '{"captureData"', id="no request"),
        pytest.param(request(""), "payload", '{"captureData"', id="empty request"),
        pytest.param(
            request('{"features":[1]}\n{"features":[2]}', '{"score":1}'), "row_count", "", id="numbers of rows"
        ),
        pytest.param(request('{"features":[NaN]}'), "not_finite", '{"captureData"', id="NaN"),
        pytest.param(request('{"features":[1]}', '{"score":Infinity}'), "not_finite", '{"captureData"', id="Infinity"),
        pytest.param(request('{"features":[1e999]}'), "not_finite", '{"captureData"', id="1e999"),
        pytest.param(request('{"features":[1'), "payload", '{"captureData"', id="cut request"),
        pytest.param(request('{"other":[1]}'), "features_not_found", '{"captureData"', id="no features"),
        pytest.param(request('{"features":[{}]}'), "feature_type", '{"captureData"', id="object as a feature"),
        pytest.param(request('{"features":[1]}', "{}"), "score_not_found", '{"captureData"', id="no score"),
        pytest.param(request("no base64", encoding="BASE64"), "encoding", '{"captureData"', id="no BASE64"),
        pytest.param(event([1, 2]), "feature_count", "[1,2]", id="number of features"),
        pytest.param(event(["x"]), "feature_type", '["x"]', id="string as a feature"),
        pytest.param(event([1], scores=[[0.5, 0.5]]), "score_count", "[1]", id="number of scores"),
    ],
)
def test_a_rejected_line_keeps_place_reason_and_text(
    tmp_path: Path, golden: Golden, line: bytes, kind: str, text: str
) -> None:
    """A line that cannot be used is rejected with its place, the reason and a cut of its text; the others are used."""
    good = event([1], scores=[0.5])
    found = taken(EndpointSource("endpoint", write(tmp_path, h09_a=good * 2 + line.rstrip(b"\n")), 0))
    assert (found.events, found.rows) == (3, [(1,), (1,)])
    (lost,) = found.lost
    assert (lost["file"], lost["line"], lost["kind"]) == ("2026/01/05/09/a.jsonl", 3, kind)
    golden(lost["problem"])
    assert lost["text"].startswith(text)
    assert len(lost["text"]) <= 120


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + event([1]) + event([2]),
        b"\n \t\n" + event([1]) + b"\r\n\n" + event([2]) + b"\n",
        event([1]).replace(b"\n", b"\r\n") + event([2]).replace(b"\n", b"\r\n"),
        event([1]) + event([2]).rstrip(b"\n"),
        gzip.compress(event([1]) + event([2])),
    ],
    ids=["BOM", "blank lines", "CRLF", "no last line end", "gzip under a plain name"],
)
def test_how_lines_are_told_apart_loses_nothing(tmp_path: Path, data: bytes) -> None:
    """Marks and line ends of other systems are no part of a line, and blank lines are none."""
    found = taken(EndpointSource("endpoint", write(tmp_path, h09_a=data), 0))
    assert (found.rows, found.events, found.rejected) == ([(1,), (2,)], 2, {})


def test_a_gzip_file_is_read_as_what_it_holds(tmp_path: Path) -> None:
    """A compressed file counts lines as they are in it."""
    (folder := tmp_path / "2026/01/05/09").mkdir(parents=True)
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(event([1]) + b"torn\n"))
    found = taken(EndpointSource("endpoint", str(tmp_path), 0))
    assert (found.rows, found.places) == ([(1,)], [("2026/01/05/09/a.jsonl.gz", 2, "not_json")])


def test_a_payloads_records_are_rejected_one_by_one(tmp_path: Path, golden: Golden) -> None:
    """Of a mini-batch, what can be used is used; the rejection of the rest names the row of the payload."""
    found = taken(EndpointSource("endpoint", write(tmp_path, h09_a=event([1], [2, 3], [4], scores=[0, 1, 0])), 0))
    assert (found.rows, found.scores) == ([(1,), (4,)], [[0.0], [0.0]])
    (lost,) = found.lost
    assert (lost["kind"], lost["text"]) == ("feature_count", "[2,3]")
    golden(lost["problem"])


def test_an_event_of_another_format_is_read_by_its_encoding(tmp_path: Path) -> None:
    """A CSV request with a JSON Lines response is a record like the others."""
    mixed = encode(Event("e", utc("2026-01-05T09:30:00Z"), Payload("text/csv", "5", "CSV"), body("score", [0.5])))
    found = taken(EndpointSource("endpoint", write(tmp_path, h09_a=event([1], scores=[0.25]) + mixed), 0))
    assert (found.rows, found.scores) == ([(1,), (5,)], [[0.25], [0.5]])


def test_recurring_ids_are_records_of_their_own(tmp_path: Path) -> None:
    """Events are not told apart by their ids."""
    found = taken(EndpointSource("endpoint", write(tmp_path, h09_a=event([1], inference_id="0") * 3), 0))
    assert found.rows == [(1,)] * 3


def test_folders_are_those_of_the_window(tmp_path: Path) -> None:
    """The neighbours are looked through, but they are not where a window is looked for."""
    assert EndpointSource("endpoint", str(tmp_path), 1).folders(HOUR) == [str(tmp_path / "2026/01/05/09")]


def test_our_own_calls_are_no_traffic(tmp_path: Path) -> None:
    """What explaining the endpoint sent is counted apart, by its inference ids, whatever it holds."""
    lines = event([1], inference_id="7") + event(["x"], inference_id=f"{PROBE}-1") + b"torn\n"
    reader = EndpointSource("endpoint", write(tmp_path, h09_a=lines), 0)
    found = taken(reader)
    assert (found.rows, found.events, found.probes, found.rejected) == ([(1,)], 2, 1, {"not_json": 1})
