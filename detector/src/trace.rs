//! The trace that a commit belongs to, from the slice that made it to the alert (W3C Trace Context, traceparent).

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Makes `span` a child of what `traceparent` names; leaves it alone if that is empty or malformed.
pub(crate) fn follow(span: &Span, traceparent: &str) {
    if let Some(context) = parse(traceparent) {
        // Fails only where no traces are collected.
        let _ = span.set_parent(Context::new().with_remote_span_context(context));
    }
}

/// `00-<trace id>-<span id>-<flags>`, all hexadecimal.
fn parse(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version != "00" || parts.next().is_some() || (trace.len(), span.len(), flags.len()) != (32, 16, 2) {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_or_ignored() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = parse(good).unwrap();
        assert_eq!(context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert!(context.is_sampled() && context.is_remote());
        let bad = ["", "00", "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-xx-yy-zz", &good[..54]];
        assert!(bad.iter().all(|text| parse(text).is_none()));
        assert!(parse("00-00000000000000000000000000000000-0000000000000000-01").is_none());
    }
}
