//! Which flow do the later fragments of a datagram belong to? They carry no ports; the first fragment does.
//!
//! A cache of fixed size, in which each datagram has one place: a newer datagram overwrites an older one, and what is not
//! found (or came before its first fragment) is charged to its addresses with ports 0.

use serde::{Deserialize, Serialize};

use super::flow::Ends;
use super::ip::{Datagram, Fragment};

/// Datagrams remembered: over 100,000 fragmented datagrams a second at the usual spacing of fragments. A power of two.
const PLACES: usize = 4096;

/// How long (ms) the parts of a datagram may be apart: the time a host waits to reassemble (RFC 1122 section 3.3.2).
const REASSEMBLY_MS: u64 = 60_000;

/// The flows of recent first fragments.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Fragments {
    /// Empty until the first fragment is seen.
    places: Vec<Option<Known>>,
}

#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
struct Known {
    datagram: Datagram,
    ends: Ends,
    since: u64,
}

impl Fragments {
    /// The flow of a fragment whose own headers say `ends`, at `now` (ms).
    pub(super) fn resolve(&mut self, fragment: &Fragment, ends: Ends, now: u64) -> Ends {
        if self.places.is_empty() {
            self.places.resize(PLACES, None);
        }
        let place = fragment.datagram.hash() as usize & (PLACES - 1);
        let Some(place) = self.places.get_mut(place) else { return ends };
        if fragment.first {
            *place = Some(Known { datagram: fragment.datagram, ends, since: now });
            return ends;
        }
        match place {
            Some(known) if known.datagram == fragment.datagram && now.saturating_sub(known.since) <= REASSEMBLY_MS => {
                known.ends
            }
            _ => ends,
        }
    }
}
