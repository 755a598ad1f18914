"""pjfail's events in OpenTelemetry: a span of no length for each, which any tracing backend can search and count.

pjfail calls listeners on its own thread, where no span of your program is current: each of these begins a trace.
"""

from opentelemetry import trace

import pjfail

tracer = trace.get_tracer("pjfail")


def to_opentelemetry(event: pjfail.events.Event) -> None:
    told = event.as_dict()
    name = told.pop("event")
    attributes = {f"pjfail.{key}": value for key, value in told.items() if value is not None}
    tracer.start_span(f"pjfail {name}", attributes=attributes).end()
