//! Captured packets → flow records.
