//! The context of a span as text, to be carried in messages (W3C Trace Context, traceparent).

use opentelemetry::trace::TraceContextExt as _;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// `00-<trace id>-<span id>-<flags>` of `span`; empty if nobody traces.
#[must_use]
pub(crate) fn traceparent(span: &Span) -> String {
    let context = span.context();
    let context = context.span().span_context().clone();
    if !context.is_valid() {
        return String::new();
    }
    format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8())
}
