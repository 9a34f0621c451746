//! The same over a real file system.

use spikewatch_collector::spool::{Error, Opened, Options, Part, Record, SliceMeta, Spool, disk::Disk, summarise};

use crate::world::owner;

fn open(directory: &std::path::Path) -> Result<(Spool<Disk>, Opened), Error> {
    let options = Options { segment_bytes: 100_000, ..Options::new(owner()) };
    let mut id = 0;
    let random = || {
        id += 1;
        [id; 16]
    };
    let (spool, recovered) = Spool::open(options, Disk::new(directory).unwrap(), random)?;
    assert_eq!((&recovered.cut, &recovered.damage), (&vec![], &vec![]));
    Ok((spool, recovered.opened))
}

fn append(spool: &mut Spool<Disk>, slice_no: u64, payload: &[u8]) {
    let incarnation = spool.numberings().last().unwrap().incarnation;
    let seq = spool.numberings().last().unwrap().next_seq[1];
    let part = Part { shard: 1, rows: 2, first_seq: seq, seq, events: 3, bytes: 4 };
    let meta = SliceMeta { slice_no, incarnation, start: 10_000, bucket: 0, parts: vec![part] };
    spool.append(&Record::Slice { meta, payload }).unwrap();
}

#[test]
fn a_spool_on_the_file_system_is_written_locked_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("spool");
    let (mut spool, opened) = open(&directory).unwrap();
    assert_eq!(opened, Opened::New);
    let payload: Vec<u8> = (0..40_000u32).flat_map(|number| (number * number).to_le_bytes()).collect();
    for slice_no in 1..=5 {
        append(&mut spool, slice_no, &payload);
        spool.sync().unwrap();
    }
    assert!(matches!(open(&directory), Err(Error::Locked(_))));
    drop(spool);
    std::fs::write(directory.join("notes.txt"), "not ours").unwrap();
    std::fs::create_dir(directory.join("00000000000000000099.spool")).unwrap();
    let (spool, opened) = open(&directory).unwrap();
    assert_eq!(opened, Opened::Resumed);
    assert!(spool.stream(1).all(|(_, slice)| slice.unwrap().payload == payload));
    assert_eq!(spool.stream(1).count(), 5);
}

#[test]
fn a_summary_changes_nothing_and_needs_no_lock() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("spool");
    assert_eq!(summarise(&Disk::existing(&directory)).unwrap(), None);
    let (mut spool, _) = open(&directory).unwrap();
    append(&mut spool, 1, &[7; 100]);
    spool.sync().unwrap();
    let files = |directory: &std::path::Path| {
        let mut files: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), entry.metadata().unwrap().len()))
            .collect();
        files.sort();
        files
    };
    let before = files(&directory);
    let summary = summarise(&Disk::existing(&directory)).unwrap().unwrap();
    assert_eq!(files(&directory), before);
    assert_eq!(summary.owner, owner());
    assert_eq!((summary.slices, summary.segments.len(), summary.segments[0].live_slices), (Some((1, 1)), 1, 1));
    assert_eq!(summary.numberings, spool.numberings());
    assert_eq!((summary.cut, summary.damage, summary.doubt), (vec![], vec![], None));
}
