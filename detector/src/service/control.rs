//! Who is joined, and who owns what: the actor that assigns shards, and the service that aggregators and collectors ask.

use std::{convert::Infallible, sync::Arc};

use spikewatch_actors::{
    Seams,
    mailbox::{Inbox, Mailbox, mailbox},
    task::{Kind, Tasks},
};
use spikewatch_proto::{
    PROTOCOL_VERSION,
    convert::cluster::Shape,
    v1::{self, control_server::Control},
};
use tokio::sync::{oneshot, watch};
use tonic::{Request, Response, Status, Streaming};

use super::{Answers, Outgoing, answers};
use crate::{
    cluster::{Assignments, CannotJoin, Cluster},
    store::{Store, StoreError, Term},
};

/// Longest name and address.
const LONGEST: usize = 256;

/// What the actor is told.
pub(crate) enum Change {
    /// An aggregator's stream began; answered with its session.
    Join { name: String, address: String, instance: Vec<u8>, reply: oneshot::Sender<Result<u64, CannotJoin>> },
    /// It ended.
    Leave { name: String, session: u64 },
}

/// Starts the actor that assigns shards.
pub(crate) fn start(
    store: Arc<dyn Store>,
    term: Term,
    number: u64,
    seams: &Seams,
) -> (Mailbox<Change>, watch::Receiver<Arc<Assignments>>) {
    let (sender, inbox) = mailbox("control", 256);
    let cluster = Cluster::new(store.shape().shards, number);
    let (assignments, watched) = watch::channel(Arc::new(cluster.assignments().clone()));
    let stop = seams.tasks.token();
    seams.tasks.spawn(Kind::ROLE, "control", async move {
        stop.run_until_cancelled(assign(store, term, cluster, inbox, assignments)).await.unwrap_or(Ok(()))
    });
    (sender, watched)
}

async fn assign(
    store: Arc<dyn Store>,
    term: Term,
    mut cluster: Cluster,
    mut inbox: Inbox<Change>,
    assignments: watch::Sender<Arc<Assignments>>,
) -> Result<(), StoreError> {
    while let Some(change) = inbox.recv().await {
        let before = cluster.assignments().number;
        let joined = match change {
            Change::Join { name, address, instance, reply } => {
                tracing::info!(aggregator = name, address, "joined");
                Some((reply, cluster.join(&name, &address, &instance)))
            }
            Change::Leave { name, session } => {
                tracing::info!(aggregator = name, "left");
                cluster.leave(&name, session);
                None
            }
        };
        let now = cluster.assignments();
        if now.number != before {
            // Numbers are never used twice, so it is durable before anyone sees it.
            store.assigned(term, now.number).await?;
            assignments.send_replace(Arc::new(now.clone()));
        }
        if let Some((reply, session)) = joined {
            // The stream may have ended meanwhile; its end will be told.
            let _ = reply.send(session);
        }
    }
    Ok(())
}

pub(crate) struct Service {
    pub(crate) shape: Shape,
    pub(crate) control: Mailbox<Change>,
    pub(crate) assignments: watch::Receiver<Arc<Assignments>>,
    pub(crate) tasks: Tasks,
}

#[tonic::async_trait]
impl Control for Service {
    type JoinClusterStream = Answers<v1::Assignment>;
    type WatchRoutesStream = Answers<v1::Routes>;

    async fn join_cluster(
        &self,
        request: Request<Streaming<v1::Join>>,
    ) -> Result<Response<Self::JoinClusterStream>, Status> {
        let mut incoming = request.into_inner();
        let first = incoming.message().await?.ok_or_else(|| Status::invalid_argument("no Join came"))?;
        check(&first)?;
        let name = first.aggregator.clone();
        let join = |reply| Change::Join {
            name: first.aggregator,
            address: first.advertise,
            instance: first.instance.to_vec(),
            reply,
        };
        let gone = |closed: spikewatch_actors::mailbox::Closed| Status::unavailable(closed.to_string());
        let session = self.control.ask(join).await.map_err(gone)?;
        let session = session.map_err(|error| Status::failed_precondition(error.to_string()))?;
        let (outgoing, response) = answers(0);
        let (control, assignments, shape) = (self.control.clone(), self.assignments.clone(), self.shape);
        let stop = self.tasks.token();
        self.tasks.spawn(Kind::CONNECTION, "aggregator's stream", async move {
            let served = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = heartbeats(incoming) => control.send(Change::Leave { name, session }).await,
                () = tell(assignments, outgoing, |now| assignment(now, &name, shape)) => {
                    control.send(Change::Leave { name: name.clone(), session }).await
                }
            };
            // Without the actor nothing is assigned any more.
            let _ = served;
            Ok::<(), Infallible>(())
        });
        Ok(response)
    }

    async fn watch_routes(
        &self,
        _request: Request<v1::RoutesRequest>,
    ) -> Result<Response<Self::WatchRoutesStream>, Status> {
        let (outgoing, response) = answers(0);
        let (assignments, shape, stop) = (self.assignments.clone(), self.shape, self.tasks.token());
        self.tasks.spawn(Kind::CONNECTION, "routes", async move {
            stop.run_until_cancelled(tell(assignments, outgoing, |now| routes(now, shape))).await;
            Ok::<(), Infallible>(())
        });
        Ok(response)
    }
}

fn check(join: &v1::Join) -> Result<(), Status> {
    let invalid = |problem: String| Err(Status::invalid_argument(problem));
    if join.protocol_version != PROTOCOL_VERSION {
        let theirs = join.protocol_version;
        return invalid(format!("Join.protocol_version: is {theirs}, this program speaks {PROTOCOL_VERSION}"));
    }
    for (field, text) in [("Join.aggregator", &join.aggregator), ("Join.advertise", &join.advertise)] {
        if !(1..=LONGEST).contains(&text.len()) {
            return invalid(format!("{field}: has {} bytes, expected 1 to {LONGEST}", text.len()));
        }
    }
    if join.instance.len() != 16 {
        return invalid(format!("Join.instance: has {} bytes, expected 16", join.instance.len()));
    }
    Ok(())
}

/// Reads heartbeats until the stream ends.
async fn heartbeats(mut incoming: Streaming<v1::Join>) {
    while let Ok(Some(_)) = incoming.message().await {}
}

/// Sends what is made of the assignments, now and at every change, until nobody listens.
async fn tell<T>(
    mut assignments: watch::Receiver<Arc<Assignments>>,
    outgoing: Outgoing<T>,
    message: impl Fn(&Assignments) -> T,
) {
    assignments.mark_changed();
    while assignments.changed().await.is_ok() {
        let message = message(&assignments.borrow_and_update().clone());
        if outgoing.send(Ok(message)).await.is_err() {
            return;
        }
    }
}

fn assignment(now: &Assignments, name: &str, shape: Shape) -> v1::Assignment {
    v1::Assignment { number: now.number, shard: now.shards_of(name).collect(), shape: Some(shape.into()) }
}

fn routes(now: &Assignments, shape: Shape) -> v1::Routes {
    let route = |(shard, aggregator, address): (u32, &str, &str)| v1::Route {
        shard,
        aggregator: aggregator.to_owned(),
        address: address.to_owned(),
    };
    v1::Routes { number: now.number, routes: now.routes().map(route).collect(), shape: Some(shape.into()) }
}
