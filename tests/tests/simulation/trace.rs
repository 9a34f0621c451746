//! All that happens, as lines: what the roles log, and what the network sends, holds, drops and delivers.

use std::{
    fmt::{self, Write as _},
    sync::{Arc, Mutex},
};

use tracing::{
    Event, Id, Level, Subscriber,
    field::{Field, Visit},
    span::Attributes,
};
use tracing_subscriber::{
    layer::{Context, Layer},
    registry::LookupSpan,
};

/// Where lines go. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    now_ms: u64,
    digest: Digest,
    lines: u64,
    print: bool,
}

/// FNV-1a, 64 bits.
#[derive(Debug, Clone, Copy)]
struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Trace {
    /// One that prints its more important lines, or not.
    pub(crate) fn new(print: bool) -> Self {
        Self(Arc::new(Mutex::new(Kept { print, ..Kept::default() })))
    }

    /// Simulated time, ms.
    pub(crate) fn at(&self, now_ms: u64) {
        self.0.lock().unwrap().now_ms = now_ms;
    }

    /// Adds a line.
    pub(crate) fn say(&self, line: &str) {
        self.add(line, true);
    }

    fn add(&self, line: &str, show: bool) {
        let mut kept = self.0.lock().unwrap();
        kept.lines += 1;
        let now_ms = kept.now_ms;
        for byte in now_ms.to_le_bytes().iter().chain(line.as_bytes()) {
            kept.digest.0 = (kept.digest.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if show && kept.print {
            println!("{:4}.{:03} {line}", now_ms / 1000, now_ms % 1000);
        }
    }

    /// How many lines, and a digest of them.
    pub(crate) fn sum(&self) -> (u64, u64) {
        let kept = self.0.lock().unwrap();
        (kept.lines, kept.digest.0)
    }
}

/// The host that a span belongs to.
struct HostName(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Trace {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        // turmoil runs each host in a span of this name.
        if attributes.metadata().name() == "node"
            && let Some(span) = context.span(id)
        {
            let mut fields = Fields(String::new());
            attributes.record(&mut fields);
            span.extensions_mut().insert(HostName(fields.0));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut line = Fields(String::new());
        if let Some(scope) = context.event_scope(event) {
            for span in scope.from_root() {
                if let Some(HostName(name)) = span.extensions().get() {
                    line.0.push_str(name);
                }
            }
        }
        let _ = write!(line.0, " {} {}:", metadata.level(), metadata.target());
        event.record(&mut line);
        let of_the_network = metadata.target() == "turmoil";
        self.add(&line.0, !of_the_network && *metadata.level() <= Level::INFO);
    }
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
