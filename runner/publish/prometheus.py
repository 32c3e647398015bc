"""Metrics in a file for Prometheus, read by node_exporter's textfile collector."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from runner.domain.executions import METRICS, Publication
from runner.domain.numbers import Count
from runner.errors import PublishError, os_error_message
from runner.publish import metrics
from runner.types import FilePath

PREFIX = "shapwatch_"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Prometheus:
    """A sink that writes one file per monitor; each execution replaces the file.

    The Prometheus labels are `endpoint`, `monitor`, and for some metrics `label`, `feature` or `status`.

    Attributes:
        folder: folder of the collector (`--collector.textfile.directory`), created if missing.
        max_features: maximum number of features, largest attribution first.
        max_labels: maximum number of labels (model outputs), worst first.
    """

    folder: FilePath
    max_features: Count
    max_labels: Count

    def file(self, publication: Publication) -> Path:
        """Return the path of a monitor's file; it is inside the folder, whatever characters the names contain."""
        names = (quote(name, safe="") for name in (publication.endpoint, publication.monitor))
        return self.folder / f"{PREFIX}{'_'.join(names)}.prom"

    def publish(self, publication: Publication) -> None:
        """Write the file.

        Raises:
            PublishError: if the file cannot be written.
        """
        from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

        registry, gauges = CollectorRegistry(), dict[str, Gauge]()
        monitor = {"endpoint": publication.endpoint, "monitor": publication.monitor}
        for metric in metrics(publication, self.max_features, self.max_labels):
            labels = monitor | metric.dimensions
            if metric.name not in gauges:
                gauges[metric.name] = Gauge(PREFIX + metric.name, METRICS[metric.name], [*labels], registry=registry)
            gauges[metric.name].labels(**labels).set(metric.value)
        file = self.file(publication)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_to_textfile(str(file), registry)
        except OSError as error:
            raise PublishError("prometheus", f"{os_error_message(error)} (publish.prometheus.folder)") from error
