"""The format of requests and responses, as declared by the section `data` and by remote models."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from runner.records.payloads import Format
from runner.records.templates import Template


@dataclass(frozen=True)
class PayloadFormat:
    """The format of requests and responses; a combination that cannot work is refused.

    Attributes:
        content_type, accept_type: media types of requests and responses.
        content_template, record_template: templates that encode rows as requests.
        headers: names of the features, None for `column_0`, `column_1`, …
        score: location of the scores in a response: a JMESPath, or a column number of a CSV; None for the whole
            response.

    Raises:
        ValueError: if `score` does not fit the media type of responses, or a template cannot work.
    """

    content_type: Format
    accept_type: Format
    content_template: str | None
    record_template: str | None
    headers: tuple[str, ...] | None
    score: str | None

    def __post_init__(self) -> None:
        is_csv = self.accept_type == "text/csv"
        if self.score is not None and self.score.isdecimal() != is_csv:
            expected = "a column number" if is_csv else "a JMESPath"
            raise ValueError(
                f"score: expected {expected} or null with accept_type={self.accept_type} (got {self.score!r})"
            )
        _ = self.template

    @cached_property
    def template(self) -> Template:
        """The encoder of requests."""
        return Template(self.content_type, self.content_template, self.record_template, self.headers)
