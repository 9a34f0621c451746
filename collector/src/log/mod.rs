//! Log lines (ECS, Zeek) → flow records.
