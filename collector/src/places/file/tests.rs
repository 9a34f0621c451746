use std::{fs, net::IpAddr, sync::atomic::Ordering::Relaxed};

use crate::places::mmdb::Mmdb;

use super::*;
use crate::places::{Asn, Country};

struct Place {
    _folder: tempfile::TempDir,
    options: PlaceOptions,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let country_database = folder.path().join("countries.mmdb");
        fs::write(&country_database, Mmdb::countries(&[("192.0.2.0/24", "DE")])).unwrap();
        Self { _folder: folder, options: PlaceOptions { country_database, ..PlaceOptions::default() } }
    }

    fn path(&self) -> &Path {
        &self.options.country_database
    }

    /// As a careful updater does: the whole file at once.
    fn replace(&self, content: &[u8]) {
        let new = self.path().with_extension("new");
        fs::write(&new, content).unwrap();
        fs::rename(&new, self.path()).unwrap();
    }
}

fn country(files: &Files) -> Option<[u8; 2]> {
    let address: IpAddr = [192, 0, 2, 1].into();
    files.databases().country.unwrap().look_up(address).map(|Country(code)| code)
}

/// Looked at until nothing new is to be expected; true if what is in use has changed.
fn looked(files: &mut Files, metrics: &Metrics) -> bool {
    (0..3).map(|_| files.look(metrics)).filter(|changed| *changed).count() > 0
}

fn counted(metrics: &Metrics) -> (u64, u64) {
    let counters = metrics.counters();
    (counters.database_reloads.load(Relaxed), counters.database_failures.load(Relaxed))
}

#[test]
fn a_file_that_changes_is_read_again() {
    let (place, metrics) = (Place::new(), Metrics::default());
    let mut files = Files::open(&place.options).unwrap();
    assert!(!looked(&mut files, &metrics));
    place.replace(&Mmdb::countries(&[("192.0.2.0/24", "FR")]));
    assert!(!files.look(&metrics), "it may be written yet");
    assert_eq!(country(&files), Some(*b"DE"));
    assert!(files.look(&metrics));
    assert_eq!((country(&files), counted(&metrics)), (Some(*b"FR"), (1, 0)));
    assert!(!looked(&mut files, &metrics));
}

#[test]
fn a_new_file_that_is_broken_or_gone_leaves_the_old_one_in_use_and_counts_once() {
    let (place, metrics) = (Place::new(), Metrics::default());
    let mut files = Files::open(&place.options).unwrap();
    place.replace(b"<html>Too many requests</html>");
    assert!(!looked(&mut files, &metrics) && !looked(&mut files, &metrics));
    assert_eq!((country(&files), counted(&metrics)), (Some(*b"DE"), (0, 1)));
    fs::remove_file(place.path()).unwrap();
    assert!(!looked(&mut files, &metrics) && !looked(&mut files, &metrics));
    assert_eq!((country(&files), counted(&metrics)), (Some(*b"DE"), (0, 2)));
    place.replace(&Mmdb::countries(&[("192.0.2.0/24", "US")]));
    assert!(looked(&mut files, &metrics));
    assert_eq!((country(&files), counted(&metrics)), (Some(*b"US"), (1, 2)));
}

#[test]
fn one_file_changes_and_the_other_stays() {
    let (mut place, metrics) = (Place::new(), Metrics::default());
    place.options.asn_database = place.path().with_file_name("systems.mmdb");
    fs::write(&place.options.asn_database, Mmdb::asns(&[("192.0.2.0/24", 64_500)])).unwrap();
    let mut files = Files::open(&place.options).unwrap();
    place.replace(&Mmdb::countries(&[("192.0.2.0/24", "FR")]));
    assert!(looked(&mut files, &metrics));
    let asn = files.databases().asn.unwrap().look_up([192, 0, 2, 1].into());
    assert_eq!((country(&files), asn), (Some(*b"FR"), Some(Asn(64_500))));
}

#[test]
fn at_the_start_a_file_must_be_usable_and_is_named() {
    let place = Place::new();
    let error = |options: &PlaceOptions| Files::open(options).unwrap_err().to_string();
    let path = place.path().display().to_string();
    let swapped = PlaceOptions { asn_database: place.path().to_owned(), ..PlaceOptions::default() };
    let said = error(&swapped);
    let expected = format!("collector.asn_database: {path}: it is a \"GeoLite2-Country\", of which no record has auto");
    assert!(said.starts_with(&expected), "{said}");
    fs::remove_file(place.path()).unwrap();
    let said = error(&place.options);
    assert!(said.starts_with(&format!("collector.country_database: {path}: No such file")), "{said}");
    assert!(said.ends_with("expected a MaxMind DB file (.mmdb)"), "{said}");
    let none = Files::open(&PlaceOptions::default()).unwrap();
    assert!(none.databases().is_empty());
}
