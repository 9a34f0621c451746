//! Jobs: those that ship, and a file of one's own.

use spikewatch_detector::job::{InvalidJob, Job};
use spikewatch_domain::span::Span;

use super::{Detector, file, layers::Fault};

/// The jobs that ship, and those of the file, which may stand in for them. An empty path names none.
///
/// # Errors
/// The file's fault.
pub(crate) fn load(detector: &Detector, bucket: Span) -> Result<Vec<Job>, Vec<Fault>> {
    let path = &detector.jobs;
    if path.as_os_str().is_empty() {
        return Ok(Job::built_in());
    }
    let read = |text: String| {
        let jobs = Job::from_toml(&text)?;
        Job::check_spans(&jobs, bucket).map(|()| jobs)
    };
    let own = file::read(path).and_then(|text| read(text).map_err(|error: InvalidJob| error.to_string()));
    own.map(Job::with_built_in).map_err(|problem| vec![Fault::new(path.display().to_string(), problem)])
}
