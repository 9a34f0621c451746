//! One dialect for two databases: statements with `$1`-numbered values, transactions, rows.
//!
//! All statements are texts that SQLite and PostgreSQL both accept, so there is one of each. Numbers are 64-bit integers on
//! both sides; neither database has unsigned ones, so what is beyond 63 bits is refused.

use sqlx::{
    AssertSqlSafe, Postgres, Row as _, SqlSafeStr as _, SqlStr, Sqlite, Transaction,
    postgres::{PgArguments, PgRow},
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::{
    error::{StoreError, damaged},
    postgres::Session,
};

/// Most values of one statement. SQLite takes 32,766.
const MOST_VALUES: usize = 4096;

/// One value of a statement.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    Number(u64),
    /// A number that may be missing.
    Maybe(Option<u64>),
    /// 64 bits that are no number, as a digest.
    Bits(u64),
    Real(f64),
    Text(&'a str),
    /// A text that may be missing.
    MaybeText(Option<&'a str>),
    Bytes(&'a [u8]),
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Value<'_> {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<bool> for Value<'_> {
    fn from(truth: bool) -> Self {
        Self::Number(truth.into())
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

/// A statement and its values.
pub(super) struct Statement<'a> {
    text: SqlStr,
    values: Vec<Value<'a>>,
}

/// A statement of this program's own text.
pub(super) fn sql(text: &'static str) -> Statement<'static> {
    Statement { text: text.into_sql_str(), values: Vec::new() }
}

impl<'a> Statement<'a> {
    /// The next value.
    pub(super) fn bind<'b>(self, value: impl Into<Value<'b>>) -> Statement<'b>
    where
        'a: 'b,
    {
        let mut values: Vec<Value<'b>> = self.values;
        values.push(value.into());
        Statement { text: self.text, values }
    }

    fn check(&self) -> Result<(), StoreError> {
        for value in &self.values {
            if let Value::Number(number) | Value::Maybe(Some(number)) = value
                && i64::try_from(*number).is_err()
            {
                return Err(StoreError::TooLarge { number: *number, statement: self.text.as_str().to_owned() });
            }
        }
        Ok(())
    }
}

macro_rules! bound {
    ($statement:expr) => {{
        let mut query = sqlx::query($statement.text);
        for value in $statement.values {
            query = match value {
                Value::Number(number) => query.bind(number.cast_signed()),
                Value::Maybe(number) => query.bind(number.map(u64::cast_signed)),
                Value::Bits(bits) => query.bind(bits.cast_signed()),
                Value::Real(real) => query.bind(real),
                Value::Text(text) => query.bind(text),
                Value::MaybeText(text) => query.bind(text),
                Value::Bytes(bytes) => query.bind(bytes),
            };
        }
        query
    }};
}

fn for_sqlite(statement: Statement<'_>) -> Query<'_, Sqlite, SqliteArguments> {
    bound!(statement)
}

fn for_postgres(statement: Statement<'_>) -> Query<'_, Postgres, PgArguments> {
    bound!(statement)
}

/// A transaction. Dropped without [`commit`](Self::commit), it is undone.
pub(super) enum Work {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Session),
}

impl Work {
    /// Runs a statement; returns how many rows it changed.
    pub(super) async fn execute(&mut self, statement: Statement<'_>) -> Result<u64, StoreError> {
        statement.check()?;
        match self {
            Self::Sqlite(work) => Ok(for_sqlite(statement).execute(&mut **work).await?.rows_affected()),
            Self::Postgres(session) => session.execute(for_postgres(statement)).await,
        }
    }

    /// Runs a statement; returns its rows.
    pub(super) async fn rows(&mut self, statement: Statement<'_>) -> Result<Vec<Row>, StoreError> {
        statement.check()?;
        match self {
            Self::Sqlite(work) => {
                Ok(for_sqlite(statement).fetch_all(&mut **work).await?.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(session) => {
                Ok(session.rows(for_postgres(statement)).await?.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Runs a statement that has at most one row.
    pub(super) async fn row(&mut self, statement: Statement<'_>) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(statement).await?.pop())
    }

    /// Inserts many rows with few statements: `head VALUES (…), (…) tail`. No two rows may have one key.
    pub(super) async fn insert<const WIDTH: usize>(
        &mut self,
        head: &str,
        rows: &[[Value<'_>; WIDTH]],
        tail: &str,
    ) -> Result<(), StoreError> {
        let mut rest = rows;
        while !rest.is_empty() {
            // Few lengths, so that prepared statements are found again.
            let most = (MOST_VALUES / WIDTH).min(rest.len()).max(1);
            let length = if most < 16 { 1 } else { 1 << most.ilog2() };
            let (now, later) = rest.split_at(length);
            let numbered = |row: usize| {
                let values = (1..=WIDTH).map(|column| format!("${}", row * WIDTH + column)).collect::<Vec<_>>();
                format!("({})", values.join(", "))
            };
            let values = (0..now.len()).map(numbered).collect::<Vec<_>>().join(", ");
            let text = AssertSqlSafe(format!("{head} VALUES {values} {tail}")).into_sql_str();
            self.execute(Statement { text, values: now.iter().flatten().cloned().collect() }).await?;
            rest = later;
        }
        Ok(())
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] if it may have been made all the same.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(work) => Ok(work.commit().await?),
            Self::Postgres(session) => session.commit().await,
        }
    }
}

/// One row of an answer.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! get {
    ($row:expr, $column:expr) => {
        match $row {
            Row::Sqlite(row) => row.try_get($column),
            Row::Postgres(row) => row.try_get($column),
        }
    };
}

impl Row {
    pub(super) fn number(&self, column: &'static str) -> Result<u64, StoreError> {
        unsigned(get!(self, column)?, column)
    }

    pub(super) fn maybe_number(&self, column: &'static str) -> Result<Option<u64>, StoreError> {
        let number: Option<i64> = get!(self, column)?;
        number.map(|number| unsigned(number, column)).transpose()
    }

    pub(super) fn bits(&self, column: &'static str) -> Result<u64, StoreError> {
        let number: i64 = get!(self, column)?;
        Ok(number.cast_unsigned())
    }

    pub(super) fn truth(&self, column: &'static str) -> Result<bool, StoreError> {
        Ok(self.number(column)? != 0)
    }

    pub(super) fn text(&self, column: &'static str) -> Result<&str, StoreError> {
        Ok(get!(self, column)?)
    }

    pub(super) fn maybe_bytes(&self, column: &'static str) -> Result<Option<&[u8]>, StoreError> {
        Ok(get!(self, column)?)
    }

    pub(super) fn bytes(&self, column: &'static str) -> Result<&[u8], StoreError> {
        Ok(get!(self, column)?)
    }
}

fn unsigned(number: i64, column: &'static str) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| damaged(column, format!("it is {number}, expected 0 or more")))
}
