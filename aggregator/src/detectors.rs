//! Which detector to try next: the one that leads, as far as anybody said, else one after the other.

use std::time::Duration;

use spikewatch_proto::LEADER_METADATA;
use tonic::{Status, transport::Endpoint};

use crate::Error;

/// Waits once all were tried in vain: the first, and the longest. A new leader is there within seconds.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The detectors of the cluster.
#[derive(Debug)]
pub(crate) struct Detectors {
    known: Vec<Endpoint>,
    /// The place in `known` to be tried next.
    next: usize,
    /// Where the leader is, as another detector said; tried once.
    leader: Option<Endpoint>,
    /// Tried in vain since the last success.
    tried: usize,
    wait: Duration,
}

impl Detectors {
    /// Knows these addresses, "http://host:port" each.
    ///
    /// # Errors
    /// An address is none, or there are none.
    pub(crate) fn new(addresses: &[String]) -> Result<Self, Error> {
        let known: Vec<_> = addresses.iter().map(|address| endpoint(address)).collect::<Result<_, _>>()?;
        if known.is_empty() {
            return Err(Error::NoDetector);
        }
        Ok(Self { known, next: 0, leader: None, tried: 0, wait: FIRST_WAIT })
    }

    /// The one to try now.
    pub(crate) fn next(&mut self) -> Endpoint {
        if let Some(leader) = self.leader.take() {
            return leader;
        }
        let at = self.next % self.known.len();
        self.next = at + 1;
        // There is at least one.
        self.known.get(at).cloned().unwrap_or_else(|| Endpoint::from_static("http://127.0.0.1:1"))
    }

    /// The last one served us for a while: it is tried again first.
    pub(crate) fn served(&mut self) {
        (self.tried, self.wait) = (0, FIRST_WAIT);
        self.next = self.next.saturating_sub(1);
    }

    /// The last one did not, and this is what it said. Gives the time to wait before the next attempt.
    pub(crate) fn failed(&mut self, said: Option<&Status>) -> Duration {
        self.leader = said.and_then(leader);
        self.tried += 1;
        if self.tried < self.known.len() || (self.leader.is_some() && self.tried == self.known.len()) {
            return Duration::ZERO;
        }
        self.tried = 0;
        let wait = self.wait;
        self.wait = (wait * 2).min(LONGEST_WAIT);
        wait
    }
}

/// Where the leader is, if a refusal says so.
fn leader(status: &Status) -> Option<Endpoint> {
    let address = status.metadata().get(LEADER_METADATA)?.to_str().ok()?;
    endpoint(address).ok()
}

fn endpoint(address: &str) -> Result<Endpoint, Error> {
    let endpoint =
        Endpoint::from_shared(address.to_owned()).map_err(|error| Error::Detector(address.to_owned(), error))?;
    Ok(endpoint
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(Some(4 << 20))
        .initial_connection_window_size(Some(16 << 20)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(detectors: &mut Detectors) -> u16 {
        detectors.next().uri().port_u16().unwrap()
    }

    fn refusal(leader: &'static str) -> Status {
        let mut status = Status::failed_precondition("stands by");
        status.metadata_mut().insert(LEADER_METADATA, leader.parse().unwrap());
        status
    }

    #[test]
    fn the_one_that_is_said_to_lead_comes_first_and_nobody_is_hammered() {
        let mut detectors = Detectors::new(&["http://a:1".into(), "http://b:2".into()]).unwrap();
        assert_eq!(port(&mut detectors), 1);
        assert_eq!(detectors.failed(Some(&refusal("http://c:3"))), Duration::ZERO);
        assert_eq!(port(&mut detectors), 3);
        // It is dead: on to the others, and once round, a wait.
        assert_eq!(detectors.failed(None), FIRST_WAIT);
        assert_eq!(port(&mut detectors), 2);
        let waits: Vec<_> = (0..16).map(|_| detectors.failed(Some(&refusal("http://c:3")))).collect();
        assert_eq!(waits.iter().max(), Some(&LONGEST_WAIT));
        assert!(waits.iter().filter(|wait| wait.is_zero()).count() <= 11, "{waits:?}");
        // What served is tried first again.
        detectors.failed(None);
        let serving = port(&mut detectors);
        detectors.served();
        assert_eq!(port(&mut detectors), serving);
    }

    #[test]
    fn what_is_no_address_is_said() {
        assert!(matches!(Detectors::new(&["a b".into()]), Err(Error::Detector(address, _)) if address == "a b"));
        assert!(matches!(Detectors::new(&[]), Err(Error::NoDetector)));
    }
}
