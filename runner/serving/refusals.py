"""What a server refuses, and whose fault it is."""

from __future__ import annotations


class Refusal(Exception):
    """A request that is not answered: the status of a model's container, and a sentence for whoever sent it.

    Attributes:
        kind: what SageMaker's runtime calls it when it refuses by itself, None where the refusal is the model's.
    """

    def __init__(self, status: int, sentence: str, kind: str | None = None) -> None:
        self.status, self.sentence, self.kind = status, sentence, kind
        super().__init__(sentence)
