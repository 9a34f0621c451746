//! Who serves: only the detector that leads. One that stands by says where the leader is.

use std::sync::Arc;

use spikewatch_proto::LEADER_METADATA;
use tokio::sync::watch;
use tonic::Status;

use crate::leader::{Leadership, Reign};

/// The way to what is led, for those who serve it.
#[derive(Clone)]
pub(crate) struct Gate(pub(crate) watch::Receiver<Leadership>);

impl Gate {
    /// The reign, if this detector leads.
    ///
    /// # Errors
    /// It stands by; the status names the leader.
    pub(crate) fn reign(&self) -> Result<Arc<Reign>, Status> {
        match &*self.0.borrow() {
            Leadership::Leading(reign) => Ok(Arc::clone(reign)),
            Leadership::Standby { leader } => Err(refusal(leader.as_deref())),
        }
    }
}

fn refusal(leader: Option<&str>) -> Status {
    let Some(leader) = leader else {
        return Status::unavailable("this detector stands by, and nobody leads yet");
    };
    let mut status = Status::failed_precondition(format!("this detector stands by; {leader} leads"));
    if let Ok(address) = leader.parse() {
        status.metadata_mut().insert(LEADER_METADATA, address);
    }
    status
}

/// What listeners are told when this detector stops to lead.
pub(crate) fn over() -> Status {
    Status::unavailable("this detector leads no more")
}
