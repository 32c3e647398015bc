"""Response bodies of a served model."""

from __future__ import annotations

import polars as pl

from runner.protocols import Model, ResponseEncoder
from runner.records.payloads import encode_records


def encode_response(model: Model, features: pl.DataFrame, accept: str) -> str:
    """Return the response body of the model's endpoint: in the model's own format, or with `score` per record.

    A record with several outputs has a list of scores.

    Raises:
        ValueError: if the media type is not supported.
    """
    if isinstance(model, ResponseEncoder):
        return model.encode_response(features, accept)
    scores_NL = model.predict(features).tolist()
    records = [{"score": scores if len(scores) > 1 else scores[0]} for scores in scores_NL]
    return encode_records(records, scores_NL, accept)
