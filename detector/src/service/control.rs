//! Who is joined, and who owns what: the actor that assigns shards, and the service that aggregators and collectors ask.

use std::{convert::Infallible, sync::Arc, time::Duration};

use spikewatch_actors::{
    Seams,
    mailbox::{Closed, Inbox, Mailbox, mailbox},
    task::Kind,
};
use spikewatch_proto::{
    PROTOCOL_VERSION,
    convert::cluster::Shape,
    v1::{self, control_server::Control},
};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep_until},
};
use tonic::{Request, Response, Status, Streaming};

use super::{Answers, Outgoing, answers, gate::Gate};
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
    /// It showed that it lives; answered with whether that still means anything.
    Heard { name: String, session: u64, leaving: bool, released: Vec<u32>, reply: oneshot::Sender<bool> },
    /// Its stream ended.
    Ended { name: String, session: u64 },
}

/// Starts the actor that assigns shards.
pub(crate) fn start(
    (store, term): (Arc<dyn Store>, Term),
    cluster: Cluster,
    began: Instant,
    seams: &Seams,
) -> (Mailbox<Change>, watch::Receiver<Arc<Assignments>>) {
    let (sender, inbox) = mailbox("control", 256);
    let (assignments, watched) = watch::channel(Arc::new(cluster.assignments().clone()));
    let stop = seams.tasks.token();
    let controller = Controller { store, term, cluster, began, assignments };
    seams.tasks.spawn(Kind::ROLE, "control", async move {
        stop.run_until_cancelled(controller.run(inbox)).await.unwrap_or(Ok(()))
    });
    (sender, watched)
}

struct Controller {
    store: Arc<dyn Store>,
    term: Term,
    cluster: Cluster,
    /// When the cluster's clock stood at 0.
    began: Instant,
    assignments: watch::Sender<Arc<Assignments>>,
}

impl Controller {
    async fn run(mut self, mut inbox: Inbox<Change>) -> Result<(), StoreError> {
        loop {
            let deadline = self.cluster.deadline().map(|ms| self.began + Duration::from_millis(ms));
            let change = tokio::select! {
                change = inbox.recv() => match change {
                    Some(change) => Some(change),
                    None => return Ok(()),
                },
                () = sleep_until(deadline.unwrap_or(self.began)), if deadline.is_some() => None,
            };
            self.take(change).await?;
        }
    }

    async fn take(&mut self, change: Option<Change>) -> Result<(), StoreError> {
        let before = self.cluster.assignments().number;
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Whoever asked may be gone by the time of the answer; its end will be told.
        let answer: Box<dyn FnOnce() + Send> = match change {
            Some(Change::Join { name, address, instance, reply }) => {
                let session = self.cluster.join(&name, &address, &instance, now_ms);
                match &session {
                    Ok(_) => tracing::info!(aggregator = name, address, "joined"),
                    Err(error) => tracing::warn!(aggregator = name, address, %error, "not joined"),
                }
                Box::new(move || {
                    let _ = reply.send(session);
                })
            }
            Some(Change::Heard { name, session, leaving, released, reply }) => {
                let counts = self.cluster.heard(&name, session, leaving, &released, now_ms);
                Box::new(move || {
                    let _ = reply.send(counts);
                })
            }
            Some(Change::Ended { name, session }) => {
                self.cluster.ended(&name, session, now_ms);
                Box::new(|| ())
            }
            None => {
                self.cluster.tick(now_ms);
                Box::new(|| ())
            }
        };
        for name in self.cluster.take_buried() {
            tracing::warn!(aggregator = name, "gone: its shards go to others");
        }
        let now = self.cluster.assignments();
        if now.number != before {
            // Numbers are never used twice, so it is durable before anyone sees it.
            self.store.assigned(self.term, now.number).await?;
            self.assignments.send_replace(Arc::new(now.clone()));
        }
        answer();
        Ok(())
    }
}

pub(crate) struct Service {
    pub(crate) shape: Shape,
    pub(crate) gate: Gate,
}

#[tonic::async_trait]
impl Control for Service {
    type JoinClusterStream = Answers<v1::Assignment>;
    type WatchRoutesStream = Answers<v1::Routes>;

    async fn join_cluster(
        &self,
        request: Request<Streaming<v1::Join>>,
    ) -> Result<Response<Self::JoinClusterStream>, Status> {
        let reign = self.gate.reign()?;
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
        let session = reign.control.ask(join).await.map_err(gone)?;
        let session = session.map_err(|error| match error {
            CannotJoin::NameTaken(_) => Status::already_exists(error.to_string()),
            CannotJoin::TooMany => Status::resource_exhausted(error.to_string()),
        })?;
        let (outgoing, response) = answers(0);
        let (control, stop) = (reign.control.clone(), reign.tasks.token());
        let member = Member { name, session, shape: self.shape, control, assignments: reign.assignments.clone() };
        reign.tasks.spawn(Kind::CONNECTION, "aggregator's stream", async move {
            let served = tokio::select! {
                // Its streams end because this detector stops; the next leader expects it back.
                () = stop.cancelled() => return Ok(()),
                () = outgoing.closed() => Ok(()),
                served = member.serve(incoming, &outgoing) => served,
            };
            if let Err(status) = served {
                // Nobody may be listening.
                let _ = outgoing.try_send(Err(status));
            }
            let Member { name, session, control, .. } = member;
            // Without the actor nothing is assigned any more.
            let _ = control.send(Change::Ended { name, session }).await;
            Ok::<(), Infallible>(())
        });
        Ok(response)
    }

    async fn watch_routes(
        &self,
        _request: Request<v1::RoutesRequest>,
    ) -> Result<Response<Self::WatchRoutesStream>, Status> {
        let reign = self.gate.reign()?;
        let (outgoing, response) = answers(0);
        let (mut assignments, shape, stop) = (reign.assignments.clone(), self.shape, reign.tasks.token());
        reign.tasks.spawn(Kind::CONNECTION, "routes", async move {
            let tell = async {
                assignments.mark_changed();
                while assignments.changed().await.is_ok() {
                    let now = Arc::clone(&assignments.borrow_and_update());
                    if now.is_settled() && outgoing.send(Ok(routes(&now, shape))).await.is_err() {
                        return;
                    }
                }
            };
            stop.run_until_cancelled(tell).await;
            Ok::<(), Infallible>(())
        });
        Ok(response)
    }
}

fn gone(closed: Closed) -> Status {
    Status::unavailable(closed.to_string())
}

/// One aggregator's stream.
struct Member {
    name: String,
    session: u64,
    shape: Shape,
    control: Mailbox<Change>,
    assignments: watch::Receiver<Arc<Assignments>>,
}

impl Member {
    /// Takes heartbeats and answers them, and tells every change, until the stream ends or means nothing any more.
    async fn serve(
        &self,
        mut incoming: Streaming<v1::Join>,
        outgoing: &Outgoing<v1::Assignment>,
    ) -> Result<(), Status> {
        let mut assignments = self.assignments.clone();
        assignments.mark_changed();
        loop {
            tokio::select! {
                changed = assignments.changed() => changed.map_err(|_| Status::unavailable("nothing is assigned any more"))?,
                message = incoming.message() => {
                    let Some(message) = message? else { return Ok(()) };
                    check(&message)?;
                    let (name, session) = (self.name.clone(), self.session);
                    let v1::Join { leaving, released, .. } = message;
                    let heard = |reply| Change::Heard { name, session, leaving, released, reply };
                    if !self.control.ask(heard).await.map_err(gone)? {
                        return Err(Status::aborted("it was silent for too long, or joined again on another stream"));
                    }
                }
            }
            let now = Arc::clone(&assignments.borrow_and_update());
            if outgoing.send(Ok(self.assignment(&now))).await.is_err() {
                return Ok(());
            }
        }
    }

    fn assignment(&self, now: &Assignments) -> v1::Assignment {
        let share = now.share(&self.name);
        let (shard, since) = share.shards.into_iter().unzip();
        v1::Assignment { number: now.number, shard, since, release: share.release, shape: Some(self.shape.into()) }
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

fn routes(now: &Assignments, shape: Shape) -> v1::Routes {
    let route = |(shard, aggregator, address): (u32, &str, &str)| v1::Route {
        shard,
        aggregator: aggregator.to_owned(),
        address: address.to_owned(),
    };
    v1::Routes { number: now.number, routes: now.routes().map(route).collect(), shape: Some(shape.into()) }
}
