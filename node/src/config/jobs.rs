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

#[cfg(test)]
mod tests {
    use super::*;

    /// The jobs of a configuration with this file, or its fault but for the folder.
    fn jobs(text: &str) -> Result<Vec<Job>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jobs.toml");
        std::fs::write(&path, text).unwrap();
        let loaded = load(&Detector { jobs: path, ..Detector::default() }, Span::QUARTER_HOUR);
        loaded.map_err(|faults| faults[0].to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    const QUIET: &str = "[[job]]\nid = \"quiet\"\nmeasure = \"events\"\nfunction = \"low_count\"\nsplit = \"host\"\n";

    #[test]
    fn a_file_adds_jobs_and_stands_in_for_those_that_ship() {
        let shipped = load(&Detector::default(), Span::QUARTER_HOUR).unwrap();
        assert_eq!(shipped, Job::built_in());
        let added = jobs(QUIET).unwrap();
        assert_eq!((added.len(), added.last().unwrap().id.as_str()), (shipped.len() + 1, "quiet"));
        let instead = jobs(&QUIET.replace("\"quiet\"", "\"high_bytes_in_by_host\"")).unwrap();
        assert_eq!(instead.len(), shipped.len());
        assert!(instead.iter().any(|job| job.id == "high_bytes_in_by_host" && job.function.name() == "low_count"));
    }

    #[test]
    fn faults_name_file_job_and_field() {
        let span = format!("{QUIET}bucket_span = \"20m\"\n");
        let expected = "jobs.toml: job \"quiet\": bucket_span 20m must be a multiple of the base bucket, 15m";
        assert_eq!(jobs(&span).unwrap_err(), expected);
        let max = jobs(&QUIET.replace("low_count", "max")).unwrap_err();
        assert!(max.starts_with("jobs.toml: job \"quiet\": function \"max\" must be another function"), "{max}");
        let faults = load(&Detector { jobs: "no/such.toml".into(), ..Detector::default() }, Span::QUARTER_HOUR);
        assert!(faults.unwrap_err()[0].to_string().starts_with("no/such.toml: "));
    }
}
