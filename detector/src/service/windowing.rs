//! Owners' streams: opens and commits in, answers out.

use std::convert::Infallible;

use spikewatch_actors::{mailbox::Mailbox, task::Kind};
use spikewatch_proto::{
    convert::{cluster::Shape, early::Early},
    v1::{self, detector_message, owner_message::Message, refusal::Reason, windowing_server::Windowing},
};
use tonic::{Request, Response, Status, Streaming};

use super::{Answers, Outgoing, answers, gate::Gate};
use crate::{commit::Refused, committer, prepare};

/// Answers that a stream may hold for each shard before its owner reads them.
const PER_SHARD: usize = 4;

pub(crate) struct Service {
    pub(crate) shape: Shape,
    pub(crate) gate: Gate,
}

#[tonic::async_trait]
impl Windowing for Service {
    type ForwardStream = Answers<v1::DetectorMessage>;

    async fn forward(
        &self,
        request: Request<Streaming<v1::OwnerMessage>>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        let reign = self.gate.reign()?;
        let (outgoing, response) = answers(self.shape.shards as usize * PER_SHARD);
        let stream = Owner { shape: self.shape, committer: reign.committer.clone(), outgoing };
        let stop = reign.tasks.token();
        let mut incoming = request.into_inner();
        reign.tasks.spawn(Kind::CONNECTION, "owner's stream", async move {
            while let Some(next) = stop.run_until_cancelled(incoming.message()).await {
                let handled = match next {
                    Ok(Some(message)) => stream.handle(message).await,
                    Ok(None) => break,
                    Err(status) => Err(status),
                };
                if let Err(status) = handled {
                    tracing::info!(%status, "an owner's stream ended");
                    // The owner may be gone already.
                    let _ = stream.outgoing.try_send(Err(status));
                    break;
                }
            }
            Ok::<(), Infallible>(())
        });
        Ok(response)
    }
}

struct Owner {
    shape: Shape,
    committer: Mailbox<committer::Request>,
    outgoing: Outgoing<v1::DetectorMessage>,
}

impl Owner {
    async fn handle(&self, message: v1::OwnerMessage) -> Result<(), Status> {
        let request = match message.message {
            Some(Message::Open(open)) => committer::Request::Open(open, self.outgoing.clone()),
            Some(Message::Commit(commit)) => {
                let (shard, epoch, commit_no) = (commit.shard, commit.epoch.clone(), commit.commit_no);
                let traceparent = commit.traceparent.clone();
                match prepare::commit(commit, &self.shape) {
                    Ok(prepared) => committer::Request::Commit(prepared, traceparent, self.outgoing.clone()),
                    Err(invalid) => {
                        tracing::warn!(shard, commit_no, %invalid, "refused");
                        let refused = Refused { reason: Reason::Invalid, detail: invalid.to_string() };
                        let refusal = v1::Refusal { epoch, ..refused.message(shard, None, commit_no) };
                        let message = Some(detector_message::Message::Refusal(refusal));
                        let sent = self.outgoing.try_send(Ok(v1::DetectorMessage { message }));
                        return sent.map_err(|_| Status::resource_exhausted("answers are not read"));
                    }
                }
            }
            Some(Message::Early(message)) => match Early::read(&message, &self.shape) {
                Ok(early) => committer::Request::Early(early),
                Err(invalid) => {
                    // They only make alerts earlier: the bucket's end still tells.
                    tracing::warn!(shard = message.shard, %invalid, "early windows refused");
                    return Ok(());
                }
            },
            None => return Err(Status::invalid_argument("OwnerMessage.message: is missing")),
        };
        self.committer.send(request).await.map_err(|closed| Status::unavailable(closed.to_string()))
    }
}
