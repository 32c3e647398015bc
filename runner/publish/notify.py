"""Messages to people, through whatever service apprise knows: mail, chat, pager, webhook."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import pydantic.dataclasses
from pydantic import ConfigDict, Field

from runner.domain.drift import Level
from runner.domain.executions import Status
from runner.domain.publication import Publication, State, judged
from runner.errors import PublishError
from runner.publish.library import installed, quiet
from runner.results import directory
from runner.types import Variable

Kind = Literal["info", "success", "warning", "failure"]
"""apprise's word for how a message looks."""

QUIET: State = (Status.COMPLETED, Level.NONE)


@dataclass(frozen=True)
class Message:
    """What people read."""

    kind: Kind
    title: str
    body: str


@pydantic.dataclasses.dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Notify:
    """People, who are told of changes only: an episode once, and its end once.

    News that reached nobody, neither now nor in another try, is noted beside the execution's directory; the next
    execution takes it for not told.

    The addresses hold secrets. They are read from the environment whenever an execution ends, so that one that is
    missing or wrong is noticed before there is anything to tell, and they stand in no log and no message.

    Attributes:
        urls_env: the names of environment variables, each with one or more of apprise's URLs, separated by white space.
        min_level: what is below this level is nothing to tell; violations and failures always are.
    """

    urls_env: Annotated[tuple[Variable, ...], Field(min_length=1)]
    min_level: Literal[Level.INFO, Level.WARNING, Level.VIOLATION]

    def publish(self, publication: Publication) -> None:
        """Tell people, where there is anything new to tell.

        Raises:
            PublishError: when some were not reached; `rest` is those.
        """
        told = message(publication, self.min_level)
        _note(publication, untold=told is not None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of what apprise imports, on Python 3.11
            services = self._services()
        if told:
            PendingMessage(services, told).publish(publication)

    def _services(self) -> dict[str, Any]:
        """Return apprise's services, each under a name that may be shown.

        Raises:
            PublishError: when apprise is missing, or a variable holds no address, or one that apprise does not know.
        """
        with installed("notify"):
            from apprise import Apprise, AppriseAsset
        quiet("apprise", "urllib3")
        asset = AppriseAsset(app_id="shapwatch", app_desc="shapwatch")
        services: dict[str, Any] = {}
        for variable in self.urls_env:
            urls = os.environ.get(variable, "").split()
            if not urls:
                problem = f"the environment variable {variable} holds no address"
                raise PublishError("notify", f"{problem}: set it, or see to publish.notify.urls_env", retryable=False)
            for number, url in enumerate(urls, 1):
                service = Apprise(asset=asset)
                if not service.add(url):
                    problem = f"address {number} in the environment variable {variable} is none that apprise knows"
                    raise PublishError("notify", problem, retryable=False)
                services[f"address {number} in {variable} ({service[0].service_name})"] = service
        return services


@dataclass(frozen=True)
class PendingMessage:
    """A message and the services that have not taken it yet; a sink of its own, so that nobody gets it twice."""

    services: dict[str, Any]
    message: Message

    def publish(self, publication: Publication) -> None:
        """Send the message.

        Raises:
            PublishError: when some did not take it.
        """
        from apprise import NotifyFormat, NotifyType

        kind, form = NotifyType(self.message.kind), NotifyFormat.TEXT
        left = {
            name: service
            for name, service in self.services.items()
            if not service.notify(body=self.message.body, title=self.message.title, notify_type=kind, body_format=form)
        }
        if len(left) < len(self.services):
            _note(publication, untold=False)
        if left:
            problem = f"{', '.join(left)} cannot be reached, or refuses the message"
            raise PublishError("notify", problem, remaining=replace(self, services=left))


def _note(publication: Publication, untold: bool) -> None:
    if publication.directory:
        directory.mark_unpublished(publication.directory, untold)


def message(publication: Publication, min_level: Level) -> Message | None:
    """Return what is new since the executions before, None where nothing is.

    An alarm is a violation of the nDCG rule, or a level from `min_level` on. The first one is told, and so is one of
    another status or level, and the first execution after one that finds nothing. A failure is told once, and so is the
    end of it: by what has changed meanwhile, else as `Works again`. Too few records to judge by are no news.
    """
    if not (told := _told(publication, min_level)):
        return None
    kind, word = told
    about = f"{publication.monitor} on {publication.endpoint}, {publication.window}"
    report = [f"Report: {publication.report}"] * bool(publication.report)
    lines = [publication.sentence, "", f"Monitor {about}", f"Status: {publication.status}", *report]
    return Message(kind, f"{word}: {about}", "\n".join(lines))


def _told(publication: Publication, min_level: Level) -> tuple[Kind, str] | None:
    """Return how news look and the word for them, None where there are none."""
    past, state = publication.past, publication.state
    if publication.status is Status.FAILED:
        return None if past.failing else ("failure", "Failed")
    if not judged(state):
        return None
    now, before = (_worth(each, min_level) for each in (state, past.judged or QUIET))
    if now == before and not past.failing:
        return None
    return ("info", "Works again") if now == before != QUIET else _word(now)


def _worth(state: State, min_level: Level) -> State:
    """Return a state without what is not worth telling."""
    status, level = state
    return status, level if level.order >= min_level.order else Level.NONE


def _word(now: State) -> tuple[Kind, str]:
    status, level = now
    if status is Status.COMPLETED_WITH_VIOLATIONS or level is Level.VIOLATION:
        return "failure", "Violation"
    if level is Level.WARNING:
        return "warning", "Warning"
    if level is Level.INFO:
        return "info", "Drift"
    return "success", "Recovered"
