//! Rules and their executions, for whoever runs the cluster.

use std::sync::Arc;

use spikewatch_proto::v1::{self, rules_server::Rules};
use tonic::{Request, Response, Status};

use super::{gate::Gate, internal};
use crate::{
    analysis::Command,
    store::{Range, Store},
};

/// Executions that are listed if nobody says how many.
const LISTED: u32 = 100;
/// Most executions that are listed.
const MOST_LISTED: u32 = 10_000;

pub(crate) struct Service {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) gate: Gate,
}

impl Service {
    async fn all(&self) -> Result<Vec<v1::Rule>, Status> {
        self.gate.reign()?.analysis.ask(Command::Rules).await.map_err(internal)
    }

    /// Id of the rule with this id or name.
    async fn id(&self, rule: &str) -> Result<String, Status> {
        let found = self.all().await?.into_iter().find(|known| known.id == rule || known.name == rule);
        found.map(|rule| rule.id).ok_or_else(|| unknown(rule))
    }
}

fn unknown(rule: &str) -> Status {
    Status::not_found(format!("there is no rule {rule:?}"))
}

#[tonic::async_trait]
impl Rules for Service {
    async fn list_rules(&self, _request: Request<v1::RulesQuery>) -> Result<Response<v1::RulesAnswer>, Status> {
        Ok(Response::new(v1::RulesAnswer { rules: self.all().await? }))
    }

    async fn list_executions(
        &self,
        request: Request<v1::ExecutionsQuery>,
    ) -> Result<Response<v1::ExecutionsAnswer>, Status> {
        let v1::ExecutionsQuery { rule, limit } = request.into_inner();
        let rule = if rule.is_empty() { None } else { Some(self.id(&rule).await?) };
        let limit = if limit == 0 { LISTED } else { limit.min(MOST_LISTED) };
        let executions = self.store.executions(rule, limit).await.map_err(internal)?;
        Ok(Response::new(v1::ExecutionsAnswer { executions }))
    }

    async fn run_rule(&self, request: Request<v1::RunRequest>) -> Result<Response<v1::Execution>, Status> {
        let v1::RunRequest { rule, from_ms, to_ms } = request.into_inner();
        if from_ms >= to_ms {
            return Err(Status::invalid_argument("RunRequest.to_ms: must lie after from_ms"));
        }
        let (reign, range) = (self.gate.reign()?, Range::of(from_ms, to_ms));
        let done = reign.analysis.ask(|reply| Command::Run(rule.clone(), range, reply)).await;
        done.map_err(internal)?.map_err(internal)?.map(Response::new).ok_or_else(|| unknown(&rule))
    }
}
