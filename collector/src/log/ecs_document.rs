//! The fields of an ECS document that say anything about a flow, as they stand in it
//! (<https://www.elastic.co/docs/reference/ecs>).

use std::net::IpAddr;

use spikewatch_domain::record::Place;

use super::json::{Fields, Node};
use super::protocol;
use super::scalar::Scalar;

/// Most addresses that are kept of one host.
const MOST_ADDRESSES: usize = 32;

/// One end of the flow as the document gives it.
#[derive(Debug, Default)]
pub(super) struct End<'a> {
    pub(super) ip: Scalar<'a>,
    pub(super) port: Scalar<'a>,
    pub(super) bytes: Scalar<'a>,
    pub(super) packets: Scalar<'a>,
    pub(super) place: Place,
}

/// What was found in one document. Lists are reduced to what is asked of them.
#[derive(Debug, Default)]
pub(super) struct Document<'a> {
    /// `@timestamp`
    pub(super) timestamp: Scalar<'a>,
    /// `type`, in which Packetbeat names the protocol of a transaction, or `flow`.
    pub(super) kind: Scalar<'a>,
    /// `event.start`, `event.end`
    pub(super) start: Scalar<'a>,
    pub(super) end: Scalar<'a>,
    /// `event.duration`, nanoseconds
    pub(super) duration: Scalar<'a>,
    pub(super) action: Scalar<'a>,
    pub(super) module: Scalar<'a>,
    pub(super) dataset: Scalar<'a>,
    /// `event.category` is a network category.
    pub(super) is_network: bool,
    /// `event.category` as far as it was none: the last value.
    pub(super) category: Scalar<'a>,
    /// `event.type` or Elastic Defend's `event.action` says that something starts, ends. One document may say both.
    pub(super) starts: bool,
    pub(super) ends: bool,
    /// `event.type` holds `denied`, or `event.outcome` says so.
    pub(super) denied: bool,
    pub(super) source: End<'a>,
    pub(super) destination: End<'a>,
    pub(super) client: End<'a>,
    pub(super) server: End<'a>,
    pub(super) network_bytes: Scalar<'a>,
    pub(super) network_packets: Scalar<'a>,
    pub(super) transport: Scalar<'a>,
    pub(super) iana_number: Scalar<'a>,
    pub(super) community_id: Scalar<'a>,
    pub(super) host_name: Scalar<'a>,
    /// `host.ip`; what is no address is left out.
    pub(super) host_addresses: Vec<IpAddr>,
    pub(super) user: Scalar<'a>,
    pub(super) process: Scalar<'a>,
    pub(super) agent: Scalar<'a>,
    pub(super) agent_type: Scalar<'a>,
    pub(super) flow: Scalar<'a>,
    pub(super) flow_is_final: bool,
    /// `suricata.eve.event_type`
    pub(super) suricata: Scalar<'a>,
}

/// An object of the document.
#[derive(Debug, Clone, Copy)]
pub(super) enum Group {
    Root,
    Event,
    Network,
    Host,
    User,
    Process,
    Agent,
    Flow,
    Suricata,
    Eve,
    End(Side),
    Geo(Side),
    As(Side),
}

/// Which of the four ends that ECS knows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Side {
    Source,
    Destination,
    Client,
    Server,
}

/// A field of the document.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field {
    Timestamp,
    Kind,
    Start,
    Finish,
    Duration,
    Action,
    Module,
    Dataset,
    Category,
    Type,
    Outcome,
    Bytes,
    Packets,
    Transport,
    IanaNumber,
    CommunityId,
    HostName,
    HostAddress,
    User,
    Process,
    Agent,
    AgentType,
    Flow,
    FlowFinal,
    Suricata,
    EndIp(Side),
    EndPort(Side),
    EndBytes(Side),
    EndPackets(Side),
    EndCountry(Side),
    EndAsn(Side),
}

impl<'a> Document<'a> {
    fn end_of(&mut self, side: Side) -> &mut End<'a> {
        match side {
            Side::Source => &mut self.source,
            Side::Destination => &mut self.destination,
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }
}

impl<'a> Fields<'a> for Document<'a> {
    type Group = Group;
    type Field = Field;

    fn child(group: Group, key: &str) -> Node<Group, Field> {
        match (group, key) {
            // A search hit carries the document in `_source`.
            (Group::Root, "_source") => Node::Group(Group::Root),
            (Group::Root, "@timestamp") => Node::Field(Field::Timestamp),
            (Group::Root, "type") => Node::Field(Field::Kind),
            (Group::Root, "event") => Node::Group(Group::Event),
            (Group::Root, "source") => Node::Group(Group::End(Side::Source)),
            (Group::Root, "destination") => Node::Group(Group::End(Side::Destination)),
            (Group::Root, "client") => Node::Group(Group::End(Side::Client)),
            (Group::Root, "server") => Node::Group(Group::End(Side::Server)),
            (Group::Root, "network") => Node::Group(Group::Network),
            (Group::Root, "host") => Node::Group(Group::Host),
            (Group::Root, "user") => Node::Group(Group::User),
            (Group::Root, "process") => Node::Group(Group::Process),
            (Group::Root, "agent") => Node::Group(Group::Agent),
            (Group::Root, "flow") => Node::Group(Group::Flow),
            (Group::Root, "suricata") => Node::Group(Group::Suricata),
            (Group::Suricata, "eve") => Node::Group(Group::Eve),
            (Group::Eve, "event_type") => Node::Field(Field::Suricata),
            (Group::Event, "start") => Node::Field(Field::Start),
            (Group::Event, "end") => Node::Field(Field::Finish),
            (Group::Event, "duration") => Node::Field(Field::Duration),
            (Group::Event, "action") => Node::Field(Field::Action),
            (Group::Event, "module") => Node::Field(Field::Module),
            (Group::Event, "dataset") => Node::Field(Field::Dataset),
            (Group::Event, "category") => Node::Field(Field::Category),
            (Group::Event, "type") => Node::Field(Field::Type),
            (Group::Event, "outcome") => Node::Field(Field::Outcome),
            (Group::End(side), "ip") => Node::Field(Field::EndIp(side)),
            (Group::End(side), "port") => Node::Field(Field::EndPort(side)),
            (Group::End(side), "bytes") => Node::Field(Field::EndBytes(side)),
            (Group::End(side), "packets") => Node::Field(Field::EndPackets(side)),
            (Group::End(side), "geo") => Node::Group(Group::Geo(side)),
            (Group::End(side), "as") => Node::Group(Group::As(side)),
            (Group::Geo(side), "country_iso_code") => Node::Field(Field::EndCountry(side)),
            (Group::As(side), "number") => Node::Field(Field::EndAsn(side)),
            (Group::Network, "bytes") => Node::Field(Field::Bytes),
            (Group::Network, "packets") => Node::Field(Field::Packets),
            (Group::Network, "transport") => Node::Field(Field::Transport),
            (Group::Network, "iana_number") => Node::Field(Field::IanaNumber),
            (Group::Network, "community_id") => Node::Field(Field::CommunityId),
            (Group::Host, "name") => Node::Field(Field::HostName),
            (Group::Host, "ip") => Node::Field(Field::HostAddress),
            (Group::User, "name") => Node::Field(Field::User),
            (Group::Process, "name") => Node::Field(Field::Process),
            (Group::Agent, "id") => Node::Field(Field::Agent),
            (Group::Agent, "type") => Node::Field(Field::AgentType),
            (Group::Flow, "id") => Node::Field(Field::Flow),
            (Group::Flow, "final") => Node::Field(Field::FlowFinal),
            _ => Node::Other,
        }
    }

    fn set(&mut self, field: Field, value: Scalar<'a>) {
        match field {
            Field::Timestamp => self.timestamp = value,
            Field::Kind => self.kind = value,
            Field::Start => self.start = value,
            Field::Finish => self.end = value,
            Field::Duration => self.duration = value,
            Field::Action => {
                self.starts |= matches!(value.text(), Some("connection_attempted" | "connection_accepted"));
                self.ends |= value.is("disconnect_received");
                self.action = value;
            }
            Field::Module => self.module = value,
            Field::Dataset => self.dataset = value,
            Field::Category => {
                self.is_network |= matches!(value.text(), Some("network" | "network_session" | "network_traffic"));
                self.category = value;
            }
            Field::Type => match value.text() {
                Some("start") => self.starts = true,
                Some("end") => self.ends = true,
                Some("denied") => self.denied = true,
                _ => {}
            },
            Field::Outcome => self.denied |= matches!(value.text(), Some("deny" | "denied")),
            Field::Bytes => self.network_bytes = value,
            Field::Packets => self.network_packets = value,
            Field::Transport => self.transport = value,
            Field::IanaNumber => self.iana_number = value,
            Field::CommunityId => self.community_id = value,
            Field::HostName => self.host_name = value,
            Field::HostAddress => {
                if self.host_addresses.len() < MOST_ADDRESSES {
                    self.host_addresses.extend(value.text().and_then(protocol::address));
                }
            }
            Field::User => self.user = value,
            Field::Process => self.process = value,
            Field::Agent => self.agent = value,
            Field::AgentType => self.agent_type = value,
            Field::Flow => self.flow = value,
            Field::FlowFinal => self.flow_is_final = value == Scalar::Bool(true) || value.is("true"),
            Field::Suricata => self.suricata = value,
            Field::EndIp(side) => self.end_of(side).ip = value,
            Field::EndPort(side) => self.end_of(side).port = value,
            Field::EndBytes(side) => self.end_of(side).bytes = value,
            Field::EndPackets(side) => self.end_of(side).packets = value,
            // What is no code or number says nothing, and is no reason to leave the flow out.
            Field::EndCountry(side) => self.end_of(side).place.country = value.text().and_then(Place::country_code),
            Field::EndAsn(side) => self.end_of(side).place.asn = as_number(&value),
        }
    }
}

/// The number of an autonomous system, written as a number or as text.
fn as_number(value: &Scalar<'_>) -> Option<u32> {
    match value {
        Scalar::Unsigned(number) => u32::try_from(*number).ok().filter(|number| *number != 0),
        value => value.text().and_then(Place::as_number),
    }
}
