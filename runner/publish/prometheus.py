"""A file that node_exporter's textfile collector hands to Prometheus."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from runner.domain.numbers import Count
from runner.domain.publication import MEANINGS, Publication
from runner.errors import PublishError, os_error_message
from runner.publish.metrics import figures
from runner.types import FilePath

PREFIX = "shapwatch_"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Prometheus:
    """A file for each monitor, with what its last execution found; it is replaced whole.

    Labels are data: `endpoint`, `monitor`, and where they apply `label`, `feature` and `status`, escaped as the
    exposition format wants it.

    Attributes:
        folder: the one that the collector reads, `--collector.textfile.directory`; it is made where it is missing.
        max_features: features shown, those with the largest attribution.
        max_labels: labels (model outputs) shown, the worst first.
    """

    folder: FilePath
    max_features: Count
    max_labels: Count

    def file(self, publication: Publication) -> Path:
        """Return the file of a monitor; no name leads out of the folder."""
        names = (quote(name, safe="") for name in (publication.endpoint, publication.monitor))
        return self.folder / f"{PREFIX}{'_'.join(names)}.prom"

    def publish(self, publication: Publication) -> None:
        """Write the file.

        Raises:
            PublishError: when the disk refuses.
        """
        from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

        registry, gauges = CollectorRegistry(), dict[str, Gauge]()
        whose = {"endpoint": publication.endpoint, "monitor": publication.monitor}
        for figure in figures(publication, self.max_features, self.max_labels):
            labels = whose | figure.about
            if figure.name not in gauges:
                gauges[figure.name] = Gauge(PREFIX + figure.name, MEANINGS[figure.name], [*labels], registry=registry)
            gauges[figure.name].labels(**labels).set(figure.value)
        file = self.file(publication)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_to_textfile(str(file), registry)
        except OSError as error:
            raise PublishError("prometheus", f"{os_error_message(error)} (publish.prometheus.folder)") from error
