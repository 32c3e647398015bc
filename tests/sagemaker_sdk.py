"""Reads two documents in S3 with the classes of the sagemaker SDK; run in the environment of `make sagemaker`.

Prints one JSON document: the bodies of violations and constraints, and the attributions on a model card.
"""

from __future__ import annotations

import json
import sys


def main(violations: str, constraints: str) -> None:
    """Read the documents at two locations."""
    from sagemaker.model_card import EvaluationJob, EvaluationMetricTypeEnum
    from sagemaker.model_monitor import Constraints, ConstraintViolations
    from sagemaker.session import Session

    session = Session()
    card = EvaluationJob(name="attributions")
    kind = EvaluationMetricTypeEnum.CLARIFY_EXPLAINABILITY
    card.add_metric_group_from_s3(session=session.boto_session, s3_url=constraints, metric_type=kind)
    read = {
        "violations": ConstraintViolations.from_s3_uri(violations, sagemaker_session=session).body_dict,
        "constraints": Constraints.from_s3_uri(constraints, sagemaker_session=session).body_dict,
        "card": {group.name: {each.name: each.value for each in group.metric_data} for group in card.metric_groups},
    }
    print(json.dumps(read))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
