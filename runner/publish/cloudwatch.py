r"""Metrics in Amazon CloudWatch: the metrics of SageMaker's explainability monitor, and the metrics of the verdict.

Source: AWS, "CloudWatch metrics for feature attribution drift analysis": `feature_{name}` and `ExpectedValue` with the
dimensions `Endpoint`, `MonitoringSchedule`, `ExplainabilityMethod`, `Label` and `ValueType`. The metrics of batch
transforms have another namespace, and no dimension `Endpoint`. SageMaker's monitor publishes no metrics of a verdict.
Those of shapwatch have the same names as in Prometheus, and the `ValueType` `Verdict`: for each `Label` `ndcg`,
`label_drift_level`, `attribution_shift` and `total_log2_change`; without a label `input_level` and `changed_inputs`;
for each changed `Feature` `input_distance`.

CloudWatch accepts metric names of 1 to 255 printable ASCII characters. Other names are escaped as in Python and
truncated. They end in `~` and ten hexadecimal digits of their SHA-256, so that distinct names stay distinct:
`feature_Größe` becomes `feature_Gr\xf6\xdfe~…`.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from runner.domain.executions import Publication
from runner.errors import PublishError, snippet
from runner.publish import input_metrics, label_metrics, optional_import
from runner.types import Seconds

ENDPOINTS = "aws/sagemaker/Endpoints/explainability-metrics"
TRANSFORMS = "aws/sagemaker/ModelMonitoring/explainability-metrics"
MAX_NAME_CHARACTERS = 255
BATCH = 400
"""Metrics per request. CloudWatch accepts 1,000 metrics and 1 MB; 400 metrics with the longest names take 1 MB."""
MOST_INPUTS = 20
"""Maximum number of changed inputs with a metric of their own."""
LARGEST = 2.348543e108
"""Largest value that CloudWatch accepts, 2 to the power of 360; SageMaker publishes it instead of infinity."""


def cloudwatch_name(name: str) -> str:
    r"""Return a name that CloudWatch accepts: the same name if possible, otherwise a distinct substitute.

    >>> cloudwatch_name("feature_Hours per week"), cloudwatch_name("feature_Größe")
    ('feature_Hours per week', 'feature_Gr\\xf6\\xdfe~254159dcd6')
    """
    plain = re.fullmatch(r"[ -~]+", name) and name == name.strip() and not name.startswith(":")
    if plain and len(name) <= MAX_NAME_CHARACTERS and not re.search(r"~[0-9a-f]{10}$", name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    escaped = "".join(c if " " <= c <= "~" else ascii(c)[1:-1] for c in name)
    return f"{escaped.lstrip(' :')[: MAX_NAME_CHARACTERS - 11]}~{digest}"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class CloudWatch:
    """A sink that sends metrics to Amazon CloudWatch; region, credentials and endpoint come from the environment.

    If CloudWatch receives a request twice because of a retry, the sum and the sample count of its metrics change; the
    average does not.

    Attributes:
        namespace: namespace of the metrics, None for the namespace of SageMaker's monitors.
        source: kind of the record source; batch transforms have no endpoint.
        timeout_seconds: timeout of a connection, and of a response, in seconds.
    """

    namespace: Annotated[str, Field(pattern=r"^[A-Za-z0-9._#/-][A-Za-z0-9 ._#:/-]{0,254}$")] | None
    source: Literal["endpoint", "batch_transform", "file", "kserve"]
    timeout_seconds: Seconds

    def publish(self, publication: Publication) -> None:
        """Send the metrics.

        Raises:
            PublishError: if CloudWatch is unreachable or rejects a request.
        """
        with optional_import("cloudwatch"):
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
            details, metadata = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
            retryable = metadata.get("HTTPStatusCode", 500) >= 500 or "Throttl" in details.get("Code", "")
            raise PublishError("cloudwatch", snippet(error), retryable) from error
        except (HTTPClientError, ConnectionError) as error:
            raise PublishError("cloudwatch", snippet(error)) from error
        except (BotoCoreError, ValueError) as error:
            remedy = "check AWS_REGION, AWS_ENDPOINT_URL and the credentials in the environment"
            raise PublishError("cloudwatch", f"{snippet(error).rstrip('.')}; {remedy}", retryable=False) from error

    def _requests(self, publication: Publication) -> Iterator[dict[str, object]]:
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


def metric_data(publication: Publication, transforms: bool) -> Iterator[Mapping[str, Any]]:
    """Yield the metrics in the format of `PutMetricData`, except NaN values; their time is the end of the window.

    Args:
        publication: the execution.
        transforms: whether the records come from batch transforms.
    """
    endpoint = {} if transforms else {"Endpoint": publication.endpoint}
    for own, kind, name, value in _metrics(publication):
        if not math.isnan(value):
            dimensions = {
                **endpoint,
                "MonitoringSchedule": publication.monitor,
                "ExplainabilityMethod": "KernelShap",
                **own,
                "ValueType": kind,
            }
            yield {
                "MetricName": cloudwatch_name(name),
                "Timestamp": publication.window.end,
                "Dimensions": [{"Name": key, "Value": cloudwatch_name(text)} for key, text in dimensions.items()],
                "Value": min(max(value, -LARGEST), LARGEST),
                "Unit": "None",
            }


def _metrics(publication: Publication) -> Iterator[tuple[dict[str, str], str, str, float]]:
    """Yield the dimensions `Label` or `Feature`, the value type, the name and the value of each metric."""
    live = publication.attributions
    for column, label in enumerate(live.labels if live else ()):
        assert live is not None  # noqa: S101  there is a label, so `live` is not None
        for name, value in zip(live.names, live.values_DL[:, column], strict=True):
            yield {"Label": label}, "GlobalShapValues", f"feature_{name}", float(value)
        yield {"Label": label}, "ExpectedValue", "ExpectedValue", float(live.expected_L[column])
    for label, ndcg in publication.ndcg.items():
        yield {"Label": label}, "Verdict", "ndcg", ndcg
    if publication.drift is None:
        return
    for result in publication.drift.labels:
        for name, value in label_metrics(result):
            yield {"Label": result.label}, "Verdict", name, value
    for name, value, feature in input_metrics(publication.drift, MOST_INPUTS):
        yield {} if feature is None else {"Feature": feature}, "Verdict", name, value
