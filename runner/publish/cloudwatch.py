r"""Figures in Amazon CloudWatch, under the names that SageMaker's explainability monitor uses, and beside them ours.

Source: AWS, "CloudWatch metrics for feature attribution drift analysis": `feature_{name}` and `ExpectedValue` with the
dimensions `Endpoint`, `MonitoringSchedule`, `ExplainabilityMethod`, `Label` and `ValueType`; for batch transforms in
another namespace, without `Endpoint`. AWS publishes no verdict; `ndcg`, `attribution_shift`, `mass_log2` and
`drift_level` (0 none … 4 violation) are ours, with `ValueType` `Verdict`.

CloudWatch takes printable ASCII, at most 255 characters of a metric's name. A name that fits stays as it is. Any other
is written with Python's backslash escapes and cut, and ends in `~` and ten hexadecimal digits of its SHA-256, so that
names that were distinct stay so: `feature_Größe` becomes `feature_Gr\xf6\xdfe~…`.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterator
from contextlib import closing
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from runner.domain.publication import Publication
from runner.errors import PublishError, snippet
from runner.publish.library import installed
from runner.types import Seconds

ENDPOINTS = "aws/sagemaker/Endpoints/explainability-metrics"
TRANSFORMS = "aws/sagemaker/ModelMonitoring/explainability-metrics"
LONGEST = 255
BATCH = 400
"""Figures in a request. CloudWatch takes 1,000, and a megabyte: as much as 400 with the longest names have, encoded."""
LARGEST = 2.348543e108
"""What CloudWatch takes, 2 to the power of 360; SageMaker writes it for infinity."""


def legal(name: str) -> str:
    r"""Return a name as CloudWatch takes it: itself where it does, else one that no other name gets.

    >>> legal("feature_Hours per week"), legal("feature_Größe")
    ('feature_Hours per week', 'feature_Gr\\xf6\\xdfe~254159dcd6')
    """
    plain = re.fullmatch(r"[ -~]+", name) and name == name.strip() and not name.startswith(":")
    if plain and len(name) <= LONGEST and not re.search(r"~[0-9a-f]{10}$", name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    escaped = "".join(c if " " <= c <= "~" else ascii(c)[1:-1] for c in name)
    return f"{escaped.lstrip(' :')[: LONGEST - 11]}~{digest}"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class CloudWatch:
    """Amazon CloudWatch; region, credentials and another endpoint are those of the environment.

    A request that is tried again after CloudWatch has taken it changes the sum and the number of samples of its
    figures, not their average.

    Attributes:
        namespace: your own, None for that of SageMaker's monitors of such a source.
        source: where the records come from; there is no endpoint behind a batch transform.
        timeout_seconds: for a connection, and for an answer.
    """

    namespace: Annotated[str, Field(pattern=r"^[A-Za-z0-9._#/-][A-Za-z0-9 ._#:/-]{0,254}$")] | None
    source: Literal["endpoint", "batch_transform", "file", "kserve"]
    timeout_seconds: Seconds

    def publish(self, publication: Publication) -> None:
        """Put the figures.

        Raises:
            PublishError: when CloudWatch cannot be reached, or refuses.
        """
        with installed("cloudwatch"):
            from botocore.exceptions import (  # type: ignore[import-untyped]
                BotoCoreError,
                ClientError,
                ConnectionError,  # noqa: A004  botocore's own
                HTTPClientError,
            )
        try:
            with closing(self._client()) as client:
                for request in self._requests(publication):
                    client.put_metric_data(**request)
        except ClientError as error:
            told, metadata = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
            passing = metadata.get("HTTPStatusCode", 500) >= 500 or "Throttl" in told.get("Code", "")
            raise PublishError("cloudwatch", snippet(error), passing) from error
        except (HTTPClientError, ConnectionError) as error:
            raise PublishError("cloudwatch", snippet(error)) from error
        except (BotoCoreError, ValueError) as error:
            remedy = "see to AWS_REGION, AWS_ENDPOINT_URL and the credentials in the environment"
            raise PublishError("cloudwatch", f"{snippet(error).rstrip('.')}; {remedy}", retryable=False) from error

    def _requests(self, publication: Publication) -> Iterator[dict[str, Any]]:
        transforms = self.source == "batch_transform"
        namespace = self.namespace or (TRANSFORMS if transforms else ENDPOINTS)
        data = list(metric_data(publication, transforms))
        for start in range(0, len(data), BATCH):
            yield {"Namespace": namespace, "MetricData": data[start : start + BATCH]}

    def _client(self) -> Any:
        import boto3  # type: ignore[import-untyped]
        from botocore.config import Config  # type: ignore[import-untyped]

        config = Config(
            connect_timeout=self.timeout_seconds,
            read_timeout=self.timeout_seconds,
            retries={"total_max_attempts": 1, "mode": "standard"},
        )
        return boto3.Session().client("cloudwatch", region_name=os.environ.get("AWS_REGION") or None, config=config)


def metric_data(publication: Publication, transforms: bool) -> Iterator[dict[str, Any]]:
    """Yield the figures as `PutMetricData` takes them, at the time of the window's end; undefined ones are left out.

    Args:
        publication: the execution.
        transforms: whether it looked at batch transforms.
    """
    where = {} if transforms else {"Endpoint": publication.endpoint}
    for label, kind, name, value in _figures(publication):
        if not math.isnan(value):
            dimensions = {
                **where,
                "MonitoringSchedule": publication.monitor,
                "ExplainabilityMethod": "KernelShap",
                "Label": label,
                "ValueType": kind,
            }
            yield {
                "MetricName": legal(name),
                "Timestamp": publication.window.end,
                "Dimensions": [{"Name": key, "Value": legal(text)} for key, text in dimensions.items()],
                "Value": min(max(value, -LARGEST), LARGEST),
                "Unit": "None",
            }


def _figures(publication: Publication) -> Iterator[tuple[str, str, str, float]]:
    """Yield the label, the type of value, the name and the value of each figure."""
    live = publication.attributions
    for column, label in enumerate(live.labels if live else ()):
        assert live is not None  # noqa: S101  it has labels
        for name, value in zip(live.names, live.values_DL[:, column], strict=True):
            yield label, "GlobalShapValues", f"feature_{name}", float(value)
        yield label, "ExpectedValue", "ExpectedValue", float(live.expected_L[column])
    for label, ndcg in publication.ndcg.items():
        yield label, "Verdict", "ndcg", ndcg
    for found in publication.finding.labels if publication.finding else ():
        yield found.label, "Verdict", "drift_level", float(found.level.order)
        for name, effect in (("attribution_shift", found.attribution_shift), ("mass_log2", found.total_log2_change)):
            if effect.value is not None:
                yield found.label, "Verdict", name, effect.value
