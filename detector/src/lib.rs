//! The centre. Commit → baselines → anomaly records → rules → alerts.

pub mod baseline;
