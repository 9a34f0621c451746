//! The tables, in the steps that made them. One logical schema in two dialects: a step has the same number in both.

use sqlx::{
    SqlSafeStr as _,
    migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator},
};

use super::StoreError;

/// The steps of one dialect.
macro_rules! steps {
    ($folder:literal) => {
        Migrator::with_migrations(vec![
            step(1, "first", include_str!(concat!("../../migrations/", $folder, "/0001_first.sql"))),
            step(2, "cluster", include_str!(concat!("../../migrations/", $folder, "/0002_cluster.sql"))),
            step(3, "late", include_str!(concat!("../../migrations/", $folder, "/0003_late.sql"))),
            step(4, "rules", include_str!(concat!("../../migrations/", $folder, "/0004_rules.sql"))),
        ])
    };
}

fn step(number: i64, name: &'static str, text: &'static str) -> Migration {
    Migration::new(number, name.into(), MigrationType::Simple, text.into_sql_str(), false)
}

pub(super) fn sqlite() -> Migrator {
    steps!("sqlite")
}

pub(super) fn postgres() -> Migrator {
    steps!("postgres")
}

/// Number of the newest step.
pub(super) fn newest(migrator: &Migrator) -> i64 {
    migrator.iter().map(|step| step.version).max().unwrap_or(0)
}

/// Makes the tables, or brings older ones up to date.
pub(super) async fn run<C: Migrate>(migrator: &Migrator, connection: &mut C) -> Result<(), StoreError> {
    migrator.run_direct(None, connection, false).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) => StoreError::Newer { found, known: newest(migrator) },
        other => StoreError::Migration(other),
    })
}
