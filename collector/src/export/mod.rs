//! Flow exports (NetFlow, IPFIX, sFlow) → flow records.
