"""pjfail's events in structlog: the name of the event is the message, its keys are structlog's."""

import structlog

import pjfail

log = structlog.get_logger("pjfail")


def to_structlog(event: pjfail.events.Event) -> None:
    log.info(**event.as_dict())
