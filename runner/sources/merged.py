"""Merged files: captured events with their labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from runner import storage
from runner.domain.executions import Window
from runner.domain.text import plural
from runner.drift import performance
from runner.drift.performance import Quality
from runner.errors import RecordError
from runner.records import ground_truth
from runner.records.payloads import Scalar
from runner.sources.data import Data


@dataclass(frozen=True)
class MergedReader:
    """Reader of the files of `stage=merge`, `{root}/yyyy/mm/dd/hh/*.jsonl`.

    Attributes:
        root: folder with the folders of hours.
        data: format of responses and ground truth.
    """

    root: str
    data: Data

    def quality(self, window: Window, names: tuple[str, ...]) -> Quality | str | None:
        """Return the model's performance in a window, a message if it is unknown, or None without merged files.

        Args:
            window: period of the events.
            names: names of the model's outputs.
        """
        labels: list[Scalar] = []
        scores: list[list[float]] = []
        problems: list[str] = []
        for file in storage.list_hours(self.root, window, (".jsonl",)):
            with storage.local_copy(file.location) as path:
                for line in storage.read_lines(path, file.name):
                    if not line.data.strip():
                        continue
                    try:
                        pairs = self._labelled_scores(line.data, window)
                    except RecordError as error:
                        problems.append(f"{file.name}:{line.number}: {error}")
                        continue
                    labels += [label for label, _ in pairs]
                    scores += [score for _, score in pairs]
        if not labels:
            return problems[0] if problems else None
        if any(len(score) != len(names) for score in scores):
            return f"the model has {plural(len(names), 'output')}, but some captured responses do not"
        try:
            quality = performance.assess(labels, np.array(scores), names, self.data.probability_threshold)
        except ValueError as error:
            return str(error)
        if problems:
            note = f"{plural(len(problems), 'merged event')} could not be read, the first: {problems[0]}"
            quality = replace(quality, notes=(*quality.notes, note))
        return quality

    def _labelled_scores(self, line: bytes, window: Window) -> list[tuple[Scalar, list[float]]]:
        """Return the labels and scores of an event's records, matched by position."""
        event, truth = ground_truth.decode_merged(line)
        if event.at not in window:
            return []
        if event.output is None:
            raise RecordError("no_output", "the response was not captured, so there is no score to compare")
        labels = ground_truth.label_values(truth, self.data.ground_truth)
        return list(zip(labels, self.data.fields.response_scores(event.output, len(labels)), strict=True))
