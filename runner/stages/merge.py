"""Joins the captures of a window with their ground truth, into the merged files that SageMaker's merge job writes."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from runner import storage
from runner.domain.executions import HOUR, Outcome, Window
from runner.domain.records import Event, Line
from runner.domain.text import plural
from runner.errors import NoData, RecordError, SettingsError
from runner.protocols import Track
from runner.records import capture, ground_truth
from runner.records.ground_truth import Join, Truths
from runner.results.documents import dump
from runner.sources.endpoint import EndpointReader


@dataclass(frozen=True)
class Merge:
    """Merges captures with ground truth.

    Attributes:
        tree: the captures.
        ground_truth: the folder of the labels, `yyyy/mm/dd/hh/*.jsonl` by the hour they were collected in.
        late_hours: how long after the window labels may have been collected.
        target: the folder that gets the merged files, `yyyy/mm/dd/hh/part-….jsonl` by the hour of the event.
        summary: the folder that gets how the join went.
    """

    tree: EndpointReader
    ground_truth: str
    late_hours: int
    target: str
    summary: Path
    track: Track

    def run(self, window: Window) -> Outcome:
        """Return how the join went, saved as JSON too.

        Raises:
            NoData: when no event was captured in the window.
            SettingsError: when the window is not made of whole hours, as merged files are.
        """
        if any(at.minute or at.second for at in (window.start, window.end)):
            raise SettingsError([f"stage.window: labels are merged by whole hours of UTC (got {window})"])
        truths = Truths.gather(ground_truth.records(self._labels(window)))
        merged: defaultdict[str, list[bytes]] = defaultdict(list)
        keys: list[str] = []
        passed: Counter[str] = Counter()
        for line, event in self._events(window, passed):
            hour = merged[f"{event.at:%Y/%m/%d/%H}"]
            if truth := truths.of(event):
                hour.append(ground_truth.merged(line, truth))
            keys.append(ground_truth.key(event))
        if not keys:
            raise NoData(window, self.tree.folders(window), passed["files"], passed["outside"], passed["probes"])
        join = truths.join(keys)
        paths = [self._write(hour, lines) for hour, lines in merged.items()]
        name = f"{window.start:%Y-%m-%dT%H%M}--{window.end:%Y-%m-%dT%H%M}.merge.json"
        found = {**asdict(join), "join_rate": join.rate, "rejected_events": passed["rejected"], "files": paths}
        storage.write(str(self.summary / name), dump(found))
        nothing = [] if join.truths else [f"no ground truth in {self.ground_truth} (paths.ground_truth)"]
        return Outcome("\n  ".join([_told(join, window), *nothing, *paths, f"saved in {self.summary / name}"]))

    def _labels(self, window: Window) -> Iterator[Line]:
        late = Window(window.start, window.end + self.late_hours * HOUR)
        for file in storage.listing_hours(self.ground_truth, late, (".jsonl", ".json", ".jsonl.gz")):
            with storage.fetched(file.location) as path:
                yield from storage.lines(path, file.name)

    def _events(self, window: Window, passed: Counter[str]) -> Iterator[tuple[bytes, Event]]:
        """Yield the lines and events of the window; files, lines outside and rejected ones are counted in `passed`."""
        files = self.tree.files(window)
        own = tuple(storage.hour_folders(window))
        passed["files"] = len(files)
        for file in self.track(files, "merging", len(files)):
            with storage.fetched(file.location) as path:
                for line in storage.lines(path, file.name):
                    try:
                        event = capture.decode(line.data) if line.data.strip() else None
                    except RecordError:
                        passed["rejected"] += file.name.startswith(own)
                        continue
                    if event is None:
                        continue
                    if event.at not in window:
                        passed["outside"] += 1
                    elif event.is_probe:
                        passed["probes"] += 1
                    else:
                        yield line.data, event

    def _write(self, hour: str, lines: list[bytes]) -> str:
        """Write the merged file of an hour; the same folder and hour always give the same name."""
        name = f"part-00000-{uuid.uuid5(uuid.NAMESPACE_URL, f'{self.target}/{hour}')}.c000.jsonl"
        path = storage.join(self.target, hour, name)
        storage.write(path, b"".join(lines))
        return path


def _told(join: Join, window: Window) -> str:
    lines = [
        f"Merged {window}: {join.joined} of {plural(join.events, 'event')} found their labels ({join.rate:.1%})",
        f"ground truth: {plural(join.truths, 'record')}, {join.unused} unused, {join.superseded} superseded, "
        f"{len(join.rejections)} rejected",
    ]
    if join.unmatched_events:
        lines.append(f"events without labels, for example: {', '.join(join.unmatched_events)}")
    if join.unmatched_truths:
        lines.append(f"labels without events, for example: {', '.join(join.unmatched_truths)}")
    return "\n  ".join([*lines, *map(str, join.rejections[:3])])
