//! A question to the detector that leads, wherever it is.

use std::time::Duration;

use spikewatch_proto::LEADER_METADATA;
use tonic::{Status, transport::Channel};

use crate::{config::text::Endpoint, failure::Failure};

/// A detector answers at once, or not at all.
const CONNECT: Duration = Duration::from_secs(10);

/// Asks any detector of the cluster, and the one that leads if that is another.
///
/// # Errors
/// No detector answers, or the one that leads refuses; what isn't there or isn't understood is wrong usage.
pub(crate) async fn ask<T, F: Future<Output = Result<T, Status>>>(
    detector: Endpoint,
    call: impl Fn(Channel) -> F,
) -> Result<T, Failure> {
    let mut detector = detector;
    // A standby knows the leader; a second one would, too.
    for _ in 0..3 {
        let failed = |error: tonic::transport::Error| Failure::Io(format!("{detector} doesn't answer: {error}"));
        let endpoint = Channel::from_shared(detector.url().to_owned()).map_err(Failure::internal)?;
        let channel = endpoint.connect_timeout(CONNECT).connect().await.map_err(failed)?;
        match call(channel).await {
            Ok(answer) => return Ok(answer),
            Err(status) => match leader(&status) {
                Some(leader) => detector = leader,
                None if matches!(status.code(), tonic::Code::NotFound | tonic::Code::InvalidArgument) => {
                    return Err(Failure::Usage(status.message().to_owned()));
                }
                None => return Err(Failure::Io(format!("{detector} answered: {}", status.message()))),
            },
        }
    }
    Err(Failure::Io("no detector leads".into()))
}

fn leader(status: &Status) -> Option<Endpoint> {
    status.metadata().get(LEADER_METADATA)?.to_str().ok()?.parse().ok()
}
