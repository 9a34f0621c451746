//! Columns that were checked and are kept as they came: for whoever passes windows on without looking into them.

use spikewatch_domain::key::Subject;

use super::{INCOMPLETE, Invalid, Rows, row::RowRef};
use crate::v1;

/// Checked rows of one site.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Columns {
    /// Names no sites.
    message: v1::Windows,
    ascending: bool,
}

impl Columns {
    /// Takes the next `count` rows out of a message.
    ///
    /// # Errors
    /// As [`Rows::next`]; or there are fewer.
    pub fn take(rows: &mut Rows<'_>, count: usize) -> Result<Self, Invalid> {
        Self::take_checked(rows, count, |_, _| Ok(()))
    }

    /// As [`Columns::take`]; `check` has its say of each row, by its number among them.
    ///
    /// # Errors
    /// Those of `check`, too.
    pub fn take_checked(
        rows: &mut Rows<'_>,
        count: usize,
        mut check: impl FnMut(usize, &Subject) -> Result<(), Invalid>,
    ) -> Result<Self, Invalid> {
        let mut ascending = true;
        let mut last: Option<Subject> = None;
        for number in 0..count {
            let row = rows.next()?.ok_or_else(|| Invalid::new("Windows.events", "ends before the last row"))?;
            check(number, &row.subject)?;
            ascending &= last.as_ref().is_none_or(|last| *last < row.subject);
            last = Some(row.subject);
        }
        Ok(Self { message: rows.cut(), ascending })
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.message.events.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True if subjects ascend strictly: no two rows are of one subject.
    #[must_use]
    pub fn is_ascending(&self) -> bool {
        self.ascending
    }

    /// The rows.
    pub fn iter(&self) -> impl Iterator<Item = RowRef<'_>> {
        // They were checked when they were taken: there is no error to be met.
        let mut rows = Rows::over(&self.message).ok();
        std::iter::from_fn(move || rows.as_mut()?.next().ok().flatten())
    }

    /// Appends the rows to a message that names sites, as rows of the site with that index.
    pub fn append(&self, message: &mut v1::Windows, site: u32, incomplete: bool) {
        let from = &self.message;
        message.site.resize(message.site.len() + self.len(), site);
        let flag = if incomplete { INCOMPLETE } else { 0 };
        message.flags.extend(from.flags.iter().map(|flags| flags & !INCOMPLETE | flag));
        macro_rules! extend {
            ($($column:ident)*) => { $(message.$column.extend_from_slice(&from.$column);)* };
        }
        extend!(keys events bytes_out bytes_in packets_out packets_in denied);
        extend!(peer_count peers peer_events peer_bytes peer_bytes_out peer_inherited);
        extend!(service_count services service_events service_bytes service_inherited);
        extend!(distinct_length distinct name_count names name_events name_bytes name_inherited);
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of = &self.message;
        let long = of.events.len() * 5 + of.peer_bytes.len() * 2 + of.service_bytes.len() + of.name_bytes.len();
        let short = of.denied.len() * 4
            + of.peer_events.len()
            + of.peer_inherited.len()
            + of.services.len() * 2
            + of.service_inherited.len()
            + of.distinct_length.len()
            + of.name_count.len()
            + of.name_events.len() * 2;
        let names: usize = of.names.iter().map(|name| size_of::<String>() + name.len()).sum();
        long * 8 + short * 4 + of.keys.len() + of.peers.len() + of.distinct.len() + names
    }
}
