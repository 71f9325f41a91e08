"""Topics of one thing: the Jobs service's reserved ones, and the one its reports go to.

From the AWS IoT Core developer guide, "Jobs device MQTT API operations": a request is published
to ``$aws/things/THING/jobs/...`` and answered on the same topic plus ``/accepted`` or
``/rejected``. Reports are an ordinary topic of ours, ``ota/THING/report``.

>>> topics = Topics("press-07")
>>> topics.update("ota-a-b-u1-w0-b0")
'$aws/things/press-07/jobs/ota-a-b-u1-w0-b0/update'
>>> topics.verdict("$aws/things/press-07/jobs/start-next/accepted")
True
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Topics:
    """``thing`` is an identifier, so nothing in it is a wildcard or a level."""

    thing: str

    @property
    def report(self) -> str:
        """Where signed reports go."""
        return f"ota/{self.thing}/report"

    @property
    def notify_next(self) -> str:
        """Says that another execution is the next one now."""
        return f"{self._jobs}/notify-next"

    @property
    def start_next(self) -> str:
        """Asks for the next execution and makes it IN_PROGRESS."""
        return f"{self._jobs}/start-next"

    def update(self, job: str) -> str:
        """Tells how an execution stands."""
        return f"{self._jobs}/{job}/update"

    def describe(self, job: str) -> str:
        """Asks how an execution stands."""
        return f"{self._jobs}/{job}/get"

    @property
    def filters(self) -> tuple[str, ...]:
        """Everything that is listened to; AWS takes at most eight filters in one SUBSCRIBE."""
        answers = (self.start_next, self.update("+"), self.describe("+"))
        return (self.notify_next, *(f"{a}/{v}" for a in answers for v in ("accepted", "rejected")))

    def verdict(self, topic: str) -> bool | None:
        """Whether an answer accepts or rejects its request; None for what is no answer."""
        request, _, word = topic.rpartition("/")
        if not request.startswith(f"{self._jobs}/"):
            return None
        return {"accepted": True, "rejected": False}.get(word)

    @property
    def _jobs(self) -> str:
        return f"$aws/things/{self.thing}/jobs"
