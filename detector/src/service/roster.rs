//! The roster of collectors, for whoever runs the cluster.

use std::collections::BTreeMap;

use spikewatch_domain::key::SiteName;
use spikewatch_proto::v1::{self, roster_server::Roster};
use tonic::{Request, Response, Status};

use super::{gate::Gate, internal};
use crate::committer::RosterRequest;

pub(crate) struct Service {
    pub(crate) gate: Gate,
}

#[tonic::async_trait]
impl Roster for Service {
    async fn list_collectors(
        &self,
        _request: Request<v1::CollectorsQuery>,
    ) -> Result<Response<v1::Collectors>, Status> {
        let members = self.gate.reign()?.roster.ask(RosterRequest::List).await.map_err(internal)?;
        let mut collectors: BTreeMap<(SiteName, SiteName), v1::CollectorState> = BTreeMap::new();
        for (of, member) in members {
            let state = v1::CollectorState {
                site: of.site.to_string(),
                collector: of.collector.to_string(),
                last_bucket_start_ms: member.last_bucket,
                last_heard_ms: member.last_heard,
                silent: member.absent && !member.retired,
                retired: member.retired,
            };
            let newest = |state: &v1::CollectorState| (!state.retired, state.last_bucket_start_ms);
            let known = collectors.entry((of.site, of.collector)).or_insert_with(|| state.clone());
            if newest(&state) > newest(known) {
                *known = state;
            }
        }
        Ok(Response::new(v1::Collectors { collectors: collectors.into_values().collect() }))
    }

    async fn retire_collector(&self, request: Request<v1::RetireRequest>) -> Result<Response<v1::Retired>, Status> {
        let v1::RetireRequest { site, collector } = request.into_inner();
        let name = |field: &str, text: &str| {
            text.parse::<SiteName>()
                .map_err(|error| Status::invalid_argument(format!("RetireRequest.{field}: {error}")))
        };
        let (of, own) = (name("site", &site)?, name("collector", &collector)?);
        let retire = |reply| RosterRequest::Retire(of, own, reply);
        let known = self.gate.reign()?.roster.ask(retire).await.map_err(internal)?;
        if known.map_err(|error| Status::unavailable(error.to_string()))? {
            return Ok(Response::new(v1::Retired {}));
        }
        Err(Status::not_found(format!("{site}/{collector} is not in the roster")))
    }
}
