//! Tells a capture of exports from a capture of traffic.

use crate::{
    export::recognise as recognise_export,
    packet::{capture::CaptureReader, headers::dissect},
};

/// Packets looked at.
const PACKETS_TO_JUDGE: usize = 64;

/// A capture is taken for one of exports if most of its first UDP packets are exports that carry our magic.
pub(super) fn holds_exports(head: &[u8]) -> bool {
    let Ok(mut reader) = CaptureReader::open(head) else { return false };
    let (mut packets, mut exports) = (0, 0);
    while packets < PACKETS_TO_JUDGE {
        let Ok(Some(packet)) = reader.next() else { break };
        packets += 1;
        let payload = dissect(packet.link, packet.original_length, packet.data).ok().and_then(|d| d.udp_payload);
        let payload = payload.and_then(|(start, length)| packet.data.get(start..start + length));
        exports += usize::from(payload.is_some_and(|payload| recognise_export(payload).is_some()));
    }
    exports * 2 > packets
}
