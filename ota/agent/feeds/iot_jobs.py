"""AWS IoT Jobs, device side: a job wakes the agent, signed reports go out, AWS hears how it stands.

Three things, kept apart:

* ``iot_line.py`` keeps a channel open in a thread of its own;
* ``iot_executions.py`` knows which job execution is current and what AWS has to be told, without I/O;
* this file lets the two talk, in the agent's own thread and only inside ``next`` and ``send``.

A notification only says "ask": the job comes from ``start-next``, which gives an execution that
is IN_PROGRESS again after a reconnect or a reboot. Its document is a hint and is believed in
nothing. What AWS is told follows from signed reports as they pass through ``send``, and is never
waited for: a report is handed over when the broker has acknowledged it, whatever becomes of the
job. Should the process die in between, the job comes again, its hint makes the agent sign how the
order ended, and AWS is told then.

>>> feed = IotJobsFeed(options, "press-07")
>>> feed.next(1.0)
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from ota.agent.feeds import iot_status, iot_trouble, iot_ways
from ota.agent.feeds.iot_channel import Channel
from ota.agent.feeds.iot_executions import Executions
from ota.agent.feeds.iot_line import Line
from ota.agent.feeds.iot_messages import Execution, Rejected
from ota.agent.feeds.iot_status import Status
from ota.agent.feeds.iot_topics import Topics
from ota.agent.feeds.iot_trouble import outage
from ota.agent.feeds.options import IotJobsOptions
from ota.ports_device import Hint
from signing import report as report_body
from signing import statement, strict
from signing.errors import Outage, Refusal

_EVERY: Final = 0.2
"""Least seconds between two questions: whoever floods a device with notifications gets no more."""
_LATER: Final = (1.0, 60.0)
"""First and longest pause after the Jobs service could not answer, doubled each time."""
_TELLS: Final = 3
"""Tries of telling one status while the service names another version each time."""


class IotJobsFeed:
    """Implements ``ota.ports_device.Feed``; ``device`` is the thing's name unless options say another."""

    def __init__(self, options: IotJobsOptions, device: str) -> None:
        thing = options.thing or device
        client_id = options.client_id or f"{thing}-ota"
        self._options = msgspec.structs.replace(options, thing=thing, client_id=client_id)
        self._topics = Topics(thing)
        self._changed = threading.Condition()
        ways = iot_ways.ways(self._options, self._topics, self._notified)
        self._line = Line(ways, self._changed, start_jitter=options.start_jitter)
        self._executions = Executions()
        self._asked_on: Channel | None = None
        self._news = False
        self._ask_at = 0.0  # not before
        self._pause = 0.0
        self._answered = False
        self._trouble: Outage | None = None
        self._event: Outage | None = None

    # -- Feed ----------------------------------------------------------------------------------
    def next(self, timeout: float) -> Hint | None:
        """A hint as soon as there is one; after ``timeout`` None, or ``Outage`` while offline.

        The first call ends early, once the service has said that there is nothing, or once every
        way to it has failed.
        """
        self._line.start()
        until = time.monotonic() + timeout
        first = not self._answered
        while True:
            self._converse()
            offered = self._executions.offer()
            if offered is not None:
                return Hint(offered.hint, offered.job)
            left = until - time.monotonic()
            trouble = self._line.trouble or self._trouble
            if left <= 0 or (first and (self._answered or trouble is not None)):
                break
            self._sleep(left)
        event, self._event = self._event, None
        if (why := trouble or event) is not None:
            raise iot_trouble.anew(why)
        return None

    def done(self, hint: Hint) -> None:
        """It is not offered again by this process; the job ends with the report that answers it."""
        self._executions.done(hint.receipt)

    def send(self, counter: int, report: bytes) -> None:
        """Publish one signed report; returns when the broker has acknowledged it."""
        self._line.start()
        channel = self._line.channel
        if channel is None:
            why = self._line.trouble
            raise iot_trouble.anew(why) if why else outage("feed-offline", f"report {counter}")
        self._through(channel, partial(channel.report, report))
        status = self._status(report)
        if status is not None:
            self._executions.reported(status)
            current = self._executions.current
            self._news = self._news or current is None or current.job != status.job
        self._converse()

    def close(self) -> None:
        """Say goodbye to the broker."""
        self._line.close()

    # -- talking with the Jobs service -----------------------------------------------------------
    def _converse(self) -> None:
        """Ask if there is a reason to, and tell what is due. Trouble is noted, and tried later."""
        channel = self._line.channel
        if channel is None or (self._pause and time.monotonic() < self._ask_at):
            return
        ask = self._ripe(channel) <= 0
        if not ask and self._executions.due() is None:
            return
        with self._changed:
            self._news = self._news and not ask
        try:
            self._through(channel, partial(self._exchange, channel, ask=ask))
        except Outage as e:
            self._news, self._trouble = True, e
            self._pause = min(max(2 * self._pause, _LATER[0]), _LATER[1])
            self._ask_at = time.monotonic() + self._pause
        else:
            self._pause, self._trouble = 0.0, None
            if ask:
                self._asked_on, self._answered = channel, True
                self._ask_at = time.monotonic() + _EVERY

    def _ripe(self, channel: Channel) -> float:
        """In how many seconds there is a reason to ask; infinite where nothing calls for it."""
        since = self._ask_at - time.monotonic()
        if self._news or channel is not self._asked_on:
            return since
        return math.inf if channel.pushes else since + self._options.poll

    def _exchange(self, channel: Channel, *, ask: bool) -> None:
        if ask:
            self._executions.started(channel.start_next())
        while (due := self._executions.due()) is not None:
            self._tell(channel, *due)
            if self._executions.current is None:
                self._executions.started(channel.start_next())

    def _tell(self, channel: Channel, execution: Execution, status: Status) -> None:
        """Tell one status; where the service knows another version, find out and tell again."""
        why: Outage | None = None
        for _ in range(_TELLS):
            try:
                state = channel.update(execution, status.state, status.details)
            except Rejected as e:
                if e.transient:
                    raise
                why = e
                state = e.state or channel.describe(execution.job)
                if state is None:
                    self._executions.gone(execution.job)
                    if e.reason == "ResourceNotFound":
                        self._event = outage("feed-job-gone", f"{execution.job}: {e}")
                else:
                    self._executions.stands(execution.job, state)
            else:
                self._executions.told(status, state)
                return
            due = self._executions.due()
            if due is None or due[1] != status:
                return
            execution = due[0]
        self._executions.unsayable(status)
        self._event = why

    def _through(self, channel: Channel, work: Callable[[], None]) -> None:
        """Do it; what keeps a whole channel from working is the line's to mend."""
        try:
            work()
        except Rejected:
            raise
        except Outage as e:
            if not channel.pushes and e.code != "feed-not-authorised":
                self._line.failed(channel, e)
            raise

    def _status(self, report: bytes) -> Status | None:
        """What this report says of a job; None for one that nobody can read."""
        try:
            body = report_body.read(statement.peek("report", report))
        except Refusal:
            return None
        return iot_status.of(body, strict.digest(report), self._executions.unreadable)

    # -- waiting ---------------------------------------------------------------------------------
    def _sleep(self, seconds: float) -> None:
        """Until something changes, or it is time for the next question, or so many seconds."""
        with self._changed:
            channel = self._line.channel
            if channel is not None:
                seconds = min(seconds, max(0.0, self._ripe(channel)))
            self._changed.wait(seconds)

    def _notified(self) -> None:
        """From the wire's thread: another job is the next one."""
        with self._changed:
            self._news = True
            self._changed.notify_all()
