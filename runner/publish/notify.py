"""Messages for people by mail, chat, pager or webhook, sent with apprise."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from threading import Lock, local
from typing import TYPE_CHECKING, Annotated, Literal

import pydantic.dataclasses
from pydantic import ConfigDict, Field

from runner.domain.drift import Level
from runner.domain.executions import EVERYONE, AlertHistory, ExecutionState, Publication, Status
from runner.drift.verdict import since
from runner.errors import PublishError
from runner.protocols import Sink
from runner.publish import optional_import, read_beginning, silence
from runner.results.directory import mark_unpublished
from runner.types import Variable

if TYPE_CHECKING:
    from apprise import Apprise

Kind = Literal["info", "success", "warning", "failure"]
"""Notification type of apprise."""


@dataclass(frozen=True)
class Message:
    """A message for people."""

    kind: Kind
    title: str
    body: str


@pydantic.dataclasses.dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Notify:
    """A sink that sends a message only if something is new: when an episode of drift begins, gets worse or ends.

    A record next to the execution's directory names the recipients that its message has not reached. The next execution
    sends a message to a recipient if the state differs from the last one that reached it.

    Addresses contain secrets, so they never appear in logs or messages. They are read from the environment after every
    execution, so that a missing or invalid address is noticed before a message is due.

    Attributes:
        urls_env: names of environment variables, each with one or more apprise URLs separated by white space.
        min_level: lowest drift level that is an alert; failures and violations of the nDCG rule are always sent.
    """

    urls_env: Annotated[tuple[Variable, ...], Field(min_length=1)]
    min_level: Literal[Level.INFO, Level.WARNING, Level.VIOLATION]

    def publish(self, publication: Publication) -> dict[str, Sink]:
        """Return a sink for each recipient for which the alert state has changed, and for each invalid address.

        Raises:
            PublishError: if apprise is not installed.
        """
        history = publication.history
        changes = {name: self._change(publication, name) for name in (EVERYONE, *history.missed)}
        unreached = Unreached(publication.directory, {EVERYONE} if any(changes.values()) else set())
        unreached.store()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # from imports of apprise, on Python 3.11
            recipients = self._recipients()
        due = {name: changes[_known(name, changes)] for name in recipients}
        unreached.names = {name for name, change in due.items() if change}
        unreached.store()
        parts: dict[str, Sink] = {}
        for name, service in recipients.items():
            change = due[name]
            if isinstance(service, InvalidAddress):
                parts[name] = service
            elif change:
                parts[name] = PendingMessage(name, service, change, unreached)
        return parts

    def _change(self, publication: Publication, recipient: str) -> Message | None:
        history = publication.history
        return message(replace(publication, history=history.missed.get(recipient, history)), self.min_level)

    def _recipients(self) -> dict[str, Apprise | InvalidAddress]:
        """Return the recipients, each with a name that contains no secret.

        Raises:
            PublishError: if apprise is not installed.
        """
        with optional_import("notify"):
            from apprise import Apprise, AppriseAsset
        silence("apprise", "urllib3")
        _limit_responses()
        # without its timeout, apprise sends in this thread, and not in one that would delay the end of the process
        asset = AppriseAsset(app_id="shapwatch", app_desc="shapwatch", service_timeout=0)
        found = dict[str, Apprise | InvalidAddress]()
        for variable in self.urls_env:
            urls = os.environ.get(variable, "").split()
            if not urls:
                problem = f"the environment variable {variable} contains no address"
                found[variable] = InvalidAddress(f"{problem}; set it, or change publish.notify.urls_env")
            for number, url in enumerate(urls, 1):
                name, service = f"address {number} in {variable}", Apprise(asset=asset)
                problem = f"address {number} in the environment variable {variable} is not a valid apprise URL"
                found[name] = service if service.add(url) else InvalidAddress(problem)
        return found


@dataclass(frozen=True)
class InvalidAddress:
    """A sink for an address that is missing or invalid, so that other recipients receive their messages."""

    problem: str

    def publish(self, _: Publication) -> None:
        """Report the problem.

        Raises:
            PublishError: always.
        """
        raise PublishError("notify", self.problem, retryable=False)


@dataclass
class Unreached:
    """Recipients that the message of an execution has not reached, recorded next to its directory.

    Attributes:
        directory: directory of the execution, None if nothing could be written.
        names: names of the recipients.
    """

    directory: Path | None
    names: set[str]
    _lock: Lock = field(default_factory=Lock, init=False)

    def store(self) -> None:
        """Replace the record."""
        if self.directory:
            mark_unpublished(self.directory, self.names)

    def remove(self, name: str) -> None:
        """Remove a recipient that has received the message; recipients may call it at the same time."""
        with self._lock:
            self.names.discard(name)
            self.store()


@dataclass(frozen=True)
class PendingMessage:
    """A sink that sends one message to one recipient.

    Attributes:
        name: name of the recipient, without secrets.
        service: the recipient's address in apprise.
        unreached: record from which the recipient is removed after it has received the message.
    """

    name: str
    service: Apprise
    message: Message
    unreached: Unreached

    def publish(self, _: Publication) -> None:
        """Send the message.

        Raises:
            PublishError: if the recipient did not accept it.
        """
        from apprise import NotifyFormat, NotifyType

        kind, text = NotifyType(self.message.kind), NotifyFormat.TEXT
        title, body = self.message.title, self.message.body
        _delivery.is_active = True
        if not self.service.notify(body=body, title=title, notify_type=kind, body_format=text):
            name = f"{self.name} ({self.service[0].service_name})"
            raise PublishError("notify", f"{name}: unreachable, or rejected the message")
        self.unreached.remove(self.name)


_delivery = local()
"""Attribute `is_active` in the threads of deliveries."""


def _limit_responses() -> None:
    """Let requests read only the beginning of responses in the threads of deliveries.

    Apprise accepts no session, but each session of requests starts with these hooks.
    """
    from requests import hooks, sessions

    def default_hooks() -> dict[str, list[Callable[..., None]]]:
        return {**hooks.default_hooks(), "response": [read_beginning] if getattr(_delivery, "is_active", False) else []}

    sessions.default_hooks = default_hooks  # type: ignore[attr-defined]


def _known(recipient: str, names: Collection[str]) -> str:
    """Return the name of a recipient if it is known, otherwise that of its variable, or `EVERYONE`."""
    return next((name for name in (recipient, recipient.rpartition(" ")[2]) if name in names), EVERYONE)


def message(publication: Publication, min_level: Level) -> Message | None:
    """Return the message about a change since the previous executions, None without a change.

    An alert is a violation of the nDCG rule, or a drift level of at least `min_level`. Consecutive alerts form an
    episode. Messages are sent when an episode begins, when its level rises above its earlier ones, when an input
    changes that had not changed in it, and when it ends. Each death of a process is sent. Of the other failures since
    the last verdict, only the first is sent. After failures, the next execution with a verdict always sends a message.
    Executions with too few records send nothing.
    """
    if not (found := _headline(publication, min_level)):
        return None
    kind, word = found
    words = publication.words
    title = " ".join(f"{word}: {words.title} ({publication.monitor})".split())
    first = "What happened" if publication.status is Status.FAILED else "What changed"
    changed = words.changed.removeprefix(f"{words.title}.").lstrip()
    answers = {first: changed, "How much it matters": words.matters, "What to do": words.action}
    lines = [words.title, "", *(f"{name}: {answer}" for name, answer in answers.items() if answer)]
    if publication.drift and (start := since(publication.drift)):
        lines.append(f"Since: {start}")
    if publication.report:
        lines.append(f"Report: {publication.report}")
    where = f"{publication.monitor} on {publication.endpoint}, {publication.window}"
    return Message(kind, title, "\n".join([*lines, "", f"Monitor {where}", f"Status: {publication.status}"]))


def _headline(publication: Publication, min_level: Level) -> tuple[Kind, str] | None:
    """Return the kind and the first words of a message, None without a change."""
    history, state = publication.history, publication.state
    if publication.status is Status.FAILED:
        return None if history.failing and not publication.died else ("failure", "Failed")
    if not state.has_verdict:
        return None
    episode = list(_episode(history, min_level))
    failing = history.failing or history.died
    if not state.reaches(min_level) and episode:
        return "success", "No drift any more"
    if state.reaches(min_level) and state.severity > max((each.severity for each in episode), default=-1):
        return _word(state)
    if episode and _new_inputs(publication, episode, min_level):
        return _word(state)[0], "Another change"
    return ("info" if episode else "success", "Works again") if failing else None


def _episode(history: AlertHistory, min_level: Level) -> Iterator[ExecutionState]:
    """Yield the states of consecutive alerts before an execution, newest first."""
    verdicts = (history.last_verdict, *history.episode) if history.last_verdict else ()
    return takewhile(lambda state: state.reaches(min_level), verdicts)


def _new_inputs(publication: Publication, episode: Sequence[ExecutionState], min_level: Level) -> frozenset[str]:
    """Return the inputs that reach the level of an alert, and that had not changed in the episode."""
    drift = publication.drift
    reached = {each.name for each in drift.inputs if each.level.order >= min_level.order} if drift else set[str]()
    return publication.state.changed & reached - frozenset().union(*(each.changed for each in episode))


def _word(state: ExecutionState) -> tuple[Kind, str]:
    if state.reaches(Level.VIOLATION):
        return "failure", "Violation"
    if state.level is Level.WARNING:
        return "warning", "Warning"
    return "info", "Drift"
