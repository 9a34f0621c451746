//! Columns of windows as they come over a wire: refused, or read and written back equal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use spikewatch_proto::{
    convert::windows::{push, read},
    v1,
};

fuzz_target!(|data: &[u8]| {
    let Ok(message) = v1::Windows::decode(data) else { return };
    let Ok(rows) = read(&message) else { return };
    let mut again = v1::Windows { sites: message.sites.clone(), ..v1::Windows::default() };
    for (row, at) in rows.iter().zip(0..) {
        push(&mut again, message.site.get(at).copied(), &row.subject, &row.window, row.incomplete);
    }
    assert_eq!(read(&again).as_ref(), Ok(&rows));
});
