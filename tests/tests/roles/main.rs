//! All roles in one process, over real gRPC on loopback, as `spikewatch run` has them.

mod cluster;
mod countries;
mod early;
mod netflow;
mod ports;
mod traces;
