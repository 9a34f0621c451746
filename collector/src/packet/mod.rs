//! Captured packets → flow records: capture files (`capture`), link headers, tunnels and IP headers down to the innermost
//! flow (`headers`), and packets gathered into bidirectional flows (`flow_table`).

pub mod capture;
mod flow;
pub mod flow_table;
mod fragments;
pub mod headers;
mod input;
mod ip;
mod link;
mod order;
mod pcapng;
mod tunnel;
mod wire;
