"""Merged files: captured events with the labels that turned out to be true."""

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
    """What `stage=merge` wrote, `{root}/yyyy/mm/dd/hh/*.jsonl`.

    Attributes:
        data: format of responses and ground truth.
    """

    root: str
    data: Data

    def quality(self, window: Window, names: tuple[str, ...]) -> Quality | str | None:
        """Return how good the model was in a window, None where nothing was merged, or why it cannot be said.

        Args:
            window: whose events count.
            names: of the model's outputs.
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
                        found = self._labelled(line.data, window)
                    except RecordError as error:
                        problems.append(f"{file.name}:{line.number}: {error}")
                        continue
                    labels += [label for label, _ in found]
                    scores += [score for _, score in found]
        if not labels:
            return problems[0] if problems else None
        if any(len(score) != len(names) for score in scores):
            return (
                f"the model has {plural(len(names), 'output')}, some captured responses have another number of scores"
            )
        try:
            good = performance.assess(labels, np.array(scores), names, self.data.probability_threshold)
        except ValueError as error:
            return str(error)
        if problems:
            told = f"{plural(len(problems), 'merged event')} could not be read, the first: {problems[0]}"
            good = replace(good, notes=(*good.notes, told))
        return good

    def _labelled(self, line: bytes, window: Window) -> list[tuple[Scalar, list[float]]]:
        """Return the labels of an event's records with their scores; they belong together by their positions."""
        event, truth = ground_truth.read_merged(line)
        if event.at not in window:
            return []
        if event.output is None:
            raise RecordError("no_output", "the response was not captured, so there is no score to compare")
        labels = ground_truth.label_values(truth, self.data.ground_truth)
        return list(zip(labels, self.data.fields.response_scores(event.output, len(labels)), strict=True))
