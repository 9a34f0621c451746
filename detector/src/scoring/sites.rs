//! Which sites had data in a bucket, so which silent series were really silent: absence is not zero.

use std::collections::{BTreeMap, BTreeSet};

use spikewatch_domain::{key::SiteName, record::EventMillis, span::Span};

use super::{
    Row,
    state::{SiteState, Unreadable},
};

/// A site that was silent for longer has a gap: nothing is known of it, and nothing is learnt.
const LONGEST_SILENCE_MS: u64 = 86_400_000;

/// Number of the pseudo-site of global series.
pub(super) const GLOBAL: u32 = 0;

/// What is known of a site in one bucket.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Presence {
    /// No window at all. If the site comes back soon, its series were 0; else it is a gap.
    Silent {
        /// No member is missing, and there were windows within a day.
        vouched: bool,
    },
    /// It had windows.
    Present {
        /// All its members vouched: series without a window were 0, and everything is learnt.
        complete: bool,
        /// Silent buckets since its last windows, in order, in which all series were 0.
        zeros: Vec<EventMillis>,
    },
}

#[derive(Debug, Default)]
struct Site {
    last: Option<EventMillis>,
    /// Buckets since `last` in which a member was missing, at most a day of them.
    unknown: BTreeSet<EventMillis>,
}

#[derive(Debug)]
pub(super) struct Sites {
    span: Span,
    numbers: BTreeMap<SiteName, u32>,
    sites: Vec<Site>,
}

impl Sites {
    pub(super) fn new(span: Span) -> Self {
        Self { span, numbers: BTreeMap::new(), sites: vec![Site::default()] }
    }

    /// The sites' names, by number; the pseudo-site of global series has none.
    pub(super) fn by_number(&self) -> Vec<Option<SiteName>> {
        let mut names = vec![None; self.sites.len()];
        for (name, number) in &self.numbers {
            if let Some(place) = names.get_mut(*number as usize) {
                *place = Some(name.clone());
            }
        }
        names
    }

    /// All of it, by number.
    pub(super) fn stored(&self) -> Vec<SiteState> {
        let state = |site: &Site| SiteState {
            name: String::new(),
            last: site.last,
            unknown: site.unknown.iter().copied().collect(),
        };
        let mut states: Vec<SiteState> = self.sites.iter().map(state).collect();
        for (name, number) in &self.numbers {
            if let Some(state) = states.get_mut(*number as usize) {
                name.as_str().clone_into(&mut state.name);
            }
        }
        states
    }

    /// Takes back what [`stored`](Self::stored) gave.
    pub(super) fn restore(span: Span, states: &[SiteState]) -> Result<Self, Unreadable> {
        let site = |state: &SiteState| Site { last: state.last, unknown: state.unknown.iter().copied().collect() };
        let sites: Vec<Site> = states.iter().map(site).collect();
        let mut numbers = BTreeMap::new();
        for (state, number) in states.iter().zip(0u32..).skip(1) {
            numbers.insert(state.name.parse().map_err(Unreadable::because)?, number);
        }
        if sites.is_empty() || numbers.len() + 1 != sites.len() {
            return Err(Unreadable::because("its sites are not one each"));
        }
        Ok(Self { span, numbers, sites })
    }

    /// The number of a site that had a window before.
    pub(super) fn number(&self, site: &SiteName) -> Option<u32> {
        self.numbers.get(site).copied()
    }

    /// The sites' names, from number 1 on.
    pub(super) fn names(&self) -> Vec<&SiteName> {
        let mut names: Vec<_> = self.numbers.iter().collect();
        names.sort_by_key(|(_, number)| **number);
        names.into_iter().map(|(name, _)| name).collect()
    }

    /// Start of the newest bucket with windows.
    pub(super) fn newest(&self) -> Option<EventMillis> {
        self.sites.iter().filter_map(|site| site.last).max()
    }

    /// Enters the next bucket. `rows` are ordered by site. The result is indexed by site number.
    pub(super) fn enter(&mut self, start: EventMillis, rows: &[Row], missing: &BTreeSet<SiteName>) -> Vec<Presence> {
        let mut complete: BTreeMap<u32, bool> = BTreeMap::new();
        for part in rows.chunk_by(|a, b| a.site == b.site) {
            let Some(first) = part.first() else { continue };
            let number = self.enrol(&first.site);
            let known = !missing.contains(&first.site) && part.iter().all(|row| !row.incomplete);
            complete.insert(number, known);
        }
        if !complete.is_empty() {
            let all = missing.is_empty() && complete.values().all(|known| *known);
            complete.insert(GLOBAL, all);
        }
        let unknown: BTreeSet<u32> = missing.iter().filter_map(|site| self.number(site)).collect();
        let span = self.span;
        let enter = |(site, number): (&mut Site, u32)| match complete.get(&number) {
            Some(complete) => Presence::Present { complete: *complete, zeros: site.appear(start, span) },
            None => {
                let doubtful = unknown.contains(&number) || (number == GLOBAL && !unknown.is_empty());
                if doubtful {
                    site.doubt(start);
                }
                Presence::Silent { vouched: !doubtful && site.is_recent(start) }
            }
        };
        self.sites.iter_mut().zip(0u32..).map(enter).collect()
    }

    fn enrol(&mut self, site: &SiteName) -> u32 {
        if let Some(number) = self.numbers.get(site) {
            return *number;
        }
        let number = u32::try_from(self.sites.len()).unwrap_or(u32::MAX);
        self.numbers.insert(site.clone(), number);
        self.sites.push(Site::default());
        number
    }
}

impl Site {
    fn appear(&mut self, start: EventMillis, span: Span) -> Vec<EventMillis> {
        let unknown = std::mem::take(&mut self.unknown);
        let Some(last) = self.last.replace(start) else { return Vec::new() };
        if start.saturating_sub(last) > LONGEST_SILENCE_MS {
            return Vec::new();
        }
        span.starts(span.end(last)..start).filter(|silent| *silent < start && !unknown.contains(silent)).collect()
    }

    fn is_recent(&self, start: EventMillis) -> bool {
        self.last.is_some_and(|last| start.saturating_sub(last) <= LONGEST_SILENCE_MS)
    }

    fn doubt(&mut self, start: EventMillis) {
        if self.is_recent(start) {
            self.unknown.insert(start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spikewatch_domain::{key::Subject, window::Window};

    const QUARTER: u64 = 900_000;

    fn row(site: &str) -> Row {
        Row { site: site.parse().unwrap(), subject: Subject::Site, window: Window::default(), incomplete: false }
    }

    fn present(complete: bool, zeros: &[u64]) -> Presence {
        Presence::Present { complete, zeros: zeros.iter().map(|n| n * QUARTER).collect() }
    }

    #[test]
    fn a_short_silence_is_zero_and_a_long_one_a_gap() {
        let none = BTreeSet::new();
        let mut sites = Sites::new(Span::QUARTER_HOUR);
        assert_eq!(sites.enter(0, &[row("a"), row("b")], &none)[1], present(true, &[]));
        let second = sites.enter(QUARTER, &[row("b")], &none);
        assert_eq!(second[1..], [Presence::Silent { vouched: true }, present(true, &[])]);
        assert_eq!(
            sites.enter(3 * QUARTER, &[row("a"), row("b")], &none)[1..],
            [present(true, &[1, 2]), present(true, &[2])]
        );
        let later = 100 * QUARTER;
        assert_eq!(sites.enter(later, &[row("a")], &none)[0..2], [present(true, &[]), present(true, &[])]);
    }

    #[test]
    fn nothing_is_known_while_a_member_is_missing() {
        let missing = BTreeSet::from(["a".parse().unwrap()]);
        let mut sites = Sites::new(Span::QUARTER_HOUR);
        sites.enter(0, &[row("a"), row("b")], &BTreeSet::new());
        assert_eq!(
            sites.enter(QUARTER, &[row("b")], &missing),
            [present(false, &[]), Presence::Silent { vouched: false }, present(true, &[])]
        );
        assert_eq!(sites.enter(2 * QUARTER, &[row("a")], &missing)[1], present(false, &[]));
    }
}
