//! Captured packets → flow records: capture files (`capture`), links and tunnels down to the innermost IP flow
//! (`headers`), and packets gathered into bidirectional flows (`flow_table`).

pub mod capture;
pub mod flow_table;
pub mod headers;
