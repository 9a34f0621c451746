//! Relays routes, so that a collector can ask any aggregator where its shards are.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt as _};
use spikewatch_proto::v1::{self, control_server::Control};
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tonic::{Request, Response, Status, Streaming};

use crate::Shared;

/// The part of the control service that aggregators serve.
#[derive(Debug, Clone)]
pub(crate) struct RouteRelay(pub(crate) Arc<Shared>);

#[tonic::async_trait]
impl Control for RouteRelay {
    type JoinClusterStream = ReceiverStream<Result<v1::Assignment, Status>>;
    type WatchRoutesStream = Pin<Box<dyn Stream<Item = Result<v1::Routes, Status>> + Send>>;

    async fn join_cluster(
        &self,
        _request: Request<Streaming<v1::Join>>,
    ) -> Result<Response<Self::JoinClusterStream>, Status> {
        Err(Status::unimplemented("aggregators join at the detector"))
    }

    async fn watch_routes(
        &self,
        _request: Request<v1::RoutesRequest>,
    ) -> Result<Response<Self::WatchRoutesStream>, Status> {
        let stopped = self.0.seams.tasks.token().cancelled_owned();
        // Without a detector the routes may be old news: whoever listens does better elsewhere.
        let mut known = false;
        let current = WatchStream::new(self.0.routes.subscribe()).take_while(move |routes| {
            known |= routes.is_some();
            std::future::ready(routes.is_some() || !known)
        });
        let known = current.filter_map(|routes| async { routes.map(Ok) });
        Ok(Response::new(Box::pin(known.take_until(stopped))))
    }
}
