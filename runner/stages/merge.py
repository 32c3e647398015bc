"""Joins the captures of a window with ground truth, and writes merged files in the format of SageMaker's merge job."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le

from runner import storage
from runner.domain.executions import HOUR, Outcome, Window
from runner.domain.numbers import Integer, plural
from runner.domain.records import Event, Line
from runner.errors import NoData, RecordError, SettingsError
from runner.probes import is_probe
from runner.protocols import Track
from runner.records import capture, ground_truth
from runner.records.ground_truth import GroundTruthIndex, Join
from runner.results.documents import dump_json
from runner.sources.endpoint import EndpointSource
from runner.types import NO_OTHER_KEYS, Interval


@dataclass(frozen=True)
class MergeStage:
    """`stage=merge`; conf/stage/merge.yaml describes the keys."""

    kind: Literal["merge"]
    window: Interval
    late_hours: Annotated[Integer, Ge(0), Le(24 * 366)]

    __pydantic_config__ = NO_OTHER_KEYS


@dataclass(frozen=True)
class Merge:
    """Join of captures with ground truth.

    Attributes:
        tree: source of the captures.
        ground_truth: folder of the ground truth, with a folder `yyyy/mm/dd/hh` for each hour of collection.
        target: folder of the merged files, `yyyy/mm/dd/hh/part-….jsonl` by the hour of the event.
        summary: folder of the summary of the join.
    """

    settings: MergeStage
    tree: EndpointSource
    ground_truth: str
    target: str
    summary: Path
    track: Track

    def run(self) -> Outcome:
        """Write the merged files; save and return a summary of the join.

        Raises:
            NoData: if no event was captured in the window.
            SettingsError: if the window does not consist of whole hours.
        """
        window = self.settings.window
        if any(at.minute or at.second for at in (window.start, window.end)):
            raise SettingsError(
                [f"stage.window: expected whole hours in UTC, since each hour has one merged file (got {window})"]
            )
        truths = GroundTruthIndex.build(ground_truth.decode_files(self._labels(window)))
        merged: defaultdict[str, list[bytes]] = defaultdict(list)
        keys: list[str] = []
        counts: Counter[str] = Counter()
        for line, event in self._events(window, counts):
            hour = merged[f"{event.at:%Y/%m/%d/%H}"]
            if truth := truths.find(event):
                hour.append(ground_truth.encode_merged(line, truth))
            keys.append(ground_truth.event_key(event))
        if not keys:
            raise NoData(window, self.tree.folders(window), counts["files"], counts["outside"], counts["probes"])
        join = truths.join(keys)
        paths = [self._write(hour, lines) for hour, lines in merged.items()]
        name = f"{window.start:%Y-%m-%dT%H%M}--{window.end:%Y-%m-%dT%H%M}.merge.json"
        found = {**asdict(join), "join_rate": join.rate, "rejected_events": counts["rejected"], "files": paths}
        storage.write(str(self.summary / name), dump_json(found))
        nothing = [] if join.truths else [f"no ground truth in {self.ground_truth} (paths.ground_truth)"]
        return Outcome("\n  ".join([_summary(join, window), *nothing, *paths, f"saved in {self.summary / name}"]))

    def _labels(self, window: Window) -> Iterator[Line]:
        late = Window(window.start, window.end + self.settings.late_hours * HOUR)
        for file in storage.list_hours(self.ground_truth, late, (".jsonl", ".json", ".jsonl.gz")):
            with storage.local_copy(file.location, file.size) as path:
                yield from storage.read_lines(path, file.name)

    def _events(self, window: Window, counts: Counter[str]) -> Iterator[tuple[bytes, Event]]:
        """Yield each event of the window with its line; count files, outside events, probes and rejected lines."""
        files = self.tree.files(window)
        own = tuple(storage.hour_folders(window))
        counts["files"] = len(files)
        for file in self.track(files, "merging", len(files)):
            with storage.local_copy(file.location, file.size) as path:
                for line in storage.read_lines(path, file.name):
                    try:
                        event = capture.decode(line.data) if line.data.strip() else None
                    except RecordError:
                        counts["rejected"] += file.name.startswith(own)
                        continue
                    if event is None:
                        continue
                    if event.at not in window:
                        counts["outside"] += 1
                    elif is_probe(event.inference_id):
                        counts["probes"] += 1
                    else:
                        yield line.data, event

    def _write(self, hour: str, lines: list[bytes]) -> str:
        """Write the merged file of an hour; its name depends on folder and hour only."""
        name = f"part-00000-{uuid.uuid5(uuid.NAMESPACE_URL, f'{self.target}/{hour}')}.c000.jsonl"
        path = storage.join(self.target, hour, name)
        storage.write(path, b"".join(lines))
        return path


def _summary(join: Join, window: Window) -> str:
    lines = [
        f"Merged {window}: {join.joined} of {plural(join.events, 'event')} have labels ({join.rate:.1%})",
        f"ground truth: {plural(join.truths, 'record')}, {join.unused} unused, {join.superseded} superseded, "
        f"{len(join.rejections)} rejected",
    ]
    if join.unmatched_events:
        lines.append(f"events without labels, for example: {', '.join(join.unmatched_events)}")
    if join.unmatched_truths:
        lines.append(f"labels without events, for example: {', '.join(join.unmatched_truths)}")
    return "\n  ".join([*lines, *map(str, join.rejections[:3])])
