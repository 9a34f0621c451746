//! Baselines: what is normal for a series.
