//! The trace that work belongs to, on its way between roles (W3C Trace Context, `traceparent`). Streams outlive every
//! trace, so their messages carry it ([`pass_on`]); a call carries it in its metadata ([`Traced`]).

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tonic::{Request, Status, metadata::MetadataValue, service::Interceptor};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Name of the header in a call's metadata.
pub const HEADER: &str = "traceparent";

/// `00-<trace id>-<span id>-<flags>` of `span`; empty if nobody traces.
#[must_use]
pub fn traceparent(span: &Span) -> String {
    let context = span.context();
    let context = context.span().span_context().clone();
    if !context.is_valid() {
        return String::new();
    }
    format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8())
}

/// Makes `span` a child of what `traceparent` names; leaves it alone if that is empty or malformed.
pub fn follow(span: &Span, traceparent: &str) {
    if let Some(context) = parse(traceparent) {
        // Fails only where no traces are collected.
        let _ = span.set_parent(Context::new().with_remote_span_context(context));
    }
}

/// Makes `span` a child of what `traceparent` names, and says what comes after it is to follow: `span` itself, or, where
/// nobody traces it, the same as before, so that a process without traces does not cut those of others.
#[must_use]
pub fn pass_on(span: &Span, traceparent: &str) -> String {
    follow(span, traceparent);
    let own = self::traceparent(span);
    if own.is_empty() { traceparent.to_owned() } else { own }
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

/// Tells the callee of the span in which a call is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traced;

impl Interceptor for Traced {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let parent = traceparent(&Span::current());
        if let Ok(value) = MetadataValue::try_from(parent)
            && !value.is_empty()
        {
            request.metadata_mut().insert(HEADER, value);
        }
        Ok(request)
    }
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

    #[test]
    fn where_nobody_traces_a_trace_goes_through_and_calls_say_nothing() {
        assert_eq!(pass_on(&Span::none(), "00-of-another-01"), "00-of-another-01");
        let request = Traced.call(Request::new(())).unwrap();
        assert!(request.metadata().get(HEADER).is_none());
    }
}
