//! Calendars, with the iCalendar files that they name.

use std::path::Path;

use spikewatch_detector::calendar::Calendar;

use super::{Detector, file, layers::Fault};

/// Reads all calendars.
///
/// # Errors
/// All faults of all calendars.
pub(crate) fn load(detector: &Detector) -> Result<Vec<Calendar>, Vec<Fault>> {
    let (mut calendars, mut faults) = (Vec::new(), Vec::new());
    for (index, written) in detector.calendars.iter().enumerate() {
        let text =
            written.file.as_deref().map(|path| file::read(Path::new(path)).map_err(|error| format!("{path} {error}")));
        let read = text
            .transpose()
            .and_then(|text| Calendar::new(written.clone(), text.as_deref()).map_err(|error| error.to_string()));
        match read {
            Ok(calendar) => calendars.push(calendar),
            Err(problem) => faults.push(Fault::new(format!("detector.calendars[{index}]"), problem)),
        }
    }
    if faults.is_empty() { Ok(calendars) } else { Err(faults) }
}
