"""Messages for people by mail, chat, pager or webhook, sent with apprise."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import pydantic.dataclasses
from pydantic import ConfigDict, Field

from runner.domain.drift import Level
from runner.domain.executions import ExecutionState, Publication, Status
from runner.errors import PublishError
from runner.publish import optional_import, silence
from runner.results import directory
from runner.types import Variable

if TYPE_CHECKING:
    from apprise import Apprise

Kind = Literal["info", "success", "warning", "failure"]
"""Notification type of apprise."""

NO_ALERT = ExecutionState(Status.COMPLETED)


@dataclass(frozen=True)
class Message:
    """A message for people."""

    kind: Kind
    title: str
    body: str


@pydantic.dataclasses.dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Notify:
    """A sink that sends a message only if the alert state changes, for example when an alert starts or ends.

    If a message reaches no recipient after all retries, a marker file next to the execution's directory makes the next
    execution send it again.

    Addresses contain secrets, so they never appear in logs or messages. They are read from the environment after every
    execution, so that a missing or invalid address is noticed before a message is due.

    Attributes:
        urls_env: names of environment variables, each with one or more apprise URLs separated by white space.
        min_level: lowest drift level that is an alert; failures and violations of the nDCG rule are always sent.
    """

    urls_env: Annotated[tuple[Variable, ...], Field(min_length=1)]
    min_level: Literal[Level.INFO, Level.WARNING, Level.VIOLATION]

    def publish(self, publication: Publication) -> None:
        """Send a message if the alert state has changed.

        Raises:
            PublishError: if some recipients were not reached; `remaining` is the sink for these recipients.
        """
        change = message(publication, self.min_level)
        _mark(publication, unpublished=change is not None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # from imports of apprise, on Python 3.11
            services = self._services()
        if change:
            PendingMessage(services, change).publish(publication)

    def _services(self) -> dict[str, Apprise]:
        """Return apprise's services, each with a name that contains no secret.

        Raises:
            PublishError: if apprise is not installed, or a variable contains no address or an invalid one.
        """
        with optional_import("notify"):
            from apprise import Apprise, AppriseAsset
        silence("apprise", "urllib3")
        asset = AppriseAsset(app_id="shapwatch", app_desc="shapwatch")
        services = dict[str, Apprise]()
        for variable in self.urls_env:
            urls = os.environ.get(variable, "").split()
            if not urls:
                problem = f"the environment variable {variable} contains no address"
                raise PublishError("notify", f"{problem}; set it, or change publish.notify.urls_env", retryable=False)
            for number, url in enumerate(urls, 1):
                service = Apprise(asset=asset)
                if not service.add(url):
                    problem = f"address {number} in the environment variable {variable} is not a valid apprise URL"
                    raise PublishError("notify", problem, retryable=False)
                services[f"address {number} in {variable} ({service[0].service_name})"] = service
        return services


@dataclass(frozen=True)
class PendingMessage:
    """A sink that sends one message to the services that have not accepted it yet; none receives it twice."""

    services: dict[str, Apprise]
    message: Message

    def publish(self, publication: Publication) -> None:
        """Send the message.

        Raises:
            PublishError: if some services did not accept it.
        """
        from apprise import NotifyFormat, NotifyType

        kind, text = NotifyType(self.message.kind), NotifyFormat.TEXT
        failed = {
            name: service
            for name, service in self.services.items()
            if not service.notify(body=self.message.body, title=self.message.title, notify_type=kind, body_format=text)
        }
        if len(failed) < len(self.services):
            _mark(publication, unpublished=False)
        if failed:
            problem = f"{', '.join(failed)}: unreachable, or rejected the message"
            raise PublishError("notify", problem, remaining=replace(self, services=failed))


def _mark(publication: Publication, unpublished: bool) -> None:
    if publication.directory:
        directory.mark_unpublished(publication.directory, unpublished)


def message(publication: Publication, min_level: Level) -> Message | None:
    """Return the message about a change since the previous executions, None without a change.

    An alert is a violation of the nDCG rule, or a drift level of at least `min_level`. Messages are sent for the first
    alert, for each change of its status or level, and for the first execution without an alert. Of the failures
    since the last verdict, only the first is sent. After failures, the next execution with a verdict always sends a
    message: `Works again` if the previous alert is unchanged, otherwise the word for its own state. Executions with too
    few records send nothing.
    """
    if not (headline := _headline(publication, min_level)):
        return None
    kind, word = headline
    subject = f"{publication.monitor} on {publication.endpoint}, {publication.window}"
    report = [f"Report: {publication.report}"] if publication.report else []
    lines = [publication.sentence, "", f"Monitor {subject}", f"Status: {publication.status}", *report]
    return Message(kind, f"{word}: {subject}", "\n".join(lines))


def _headline(publication: Publication, min_level: Level) -> tuple[Kind, str] | None:
    """Return the kind and the first word of a message, None without a change."""
    history, state = publication.history, publication.state
    if publication.status is Status.FAILED:
        return None if history.failing else ("failure", "Failed")
    if not state.has_verdict:
        return None
    current, previous = (_alert(each, min_level) for each in (state, history.last_verdict or NO_ALERT))
    if current == previous and not history.failing:
        return None
    return ("info", "Works again") if current == previous != NO_ALERT else _word(current)


def _alert(state: ExecutionState, min_level: Level) -> ExecutionState:
    """Return a state without a drift level below `min_level`."""
    return state if state.level.order >= min_level.order else replace(state, level=Level.NONE)


def _word(current: ExecutionState) -> tuple[Kind, str]:
    if current.status is Status.COMPLETED_WITH_VIOLATIONS or current.level is Level.VIOLATION:
        return "failure", "Violation"
    if current.level is Level.WARNING:
        return "warning", "Warning"
    if current.level is Level.INFO:
        return "info", "Drift"
    return "success", "Recovered"
