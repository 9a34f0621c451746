use std::{fs, io::Write as _};

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::*;
use crate::{log::ecs::EcsOptions, metrics::Metrics, pipeline::tests::pipeline};

/// A folder with a log in it, and who follows it.
struct Site {
    folder: TempDir,
    runtime: Runtime,
    follower: Option<(Follower, mpsc::Receiver<Input>)>,
    followed: Followed,
    /// Lines that came, in order.
    lines: Vec<String>,
    rotations: u32,
}

impl Site {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let followed = Followed::new(EcsOptions::default(), Vec::new());
        Self { folder, runtime, follower: None, followed, lines: Vec::new(), rotations: 0 }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("conn.log")
    }

    fn rotated(&mut self) -> PathBuf {
        self.rotations += 1;
        self.folder.path().join(format!("conn.log.{}", self.rotations))
    }

    fn append(&self, text: &str) {
        let mut file = fs::File::options().append(true).create(true).open(self.log()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// What was taken so far is what a check-point has; the rest is forgotten.
    fn restart(&mut self) {
        self.follower = None;
        self.followed = Followed::new(EcsOptions::default(), self.followed.save());
    }

    /// Reads until nothing is left, but takes only so many messages of what comes.
    fn look(&mut self, at_most: usize) {
        let _in_runtime = self.runtime.enter();
        let pattern = Pattern { glob: format!("{}*", self.log().display()), expected: Expected::Zeek };
        let (follower, inputs) = self.follower.get_or_insert_with(|| {
            let (sender, inputs) = mpsc::channel(10_000);
            let (clock, token) = (Clock::system(), CancellationToken::new());
            (Follower::new(vec![pattern], &self.followed, sender, clock, token), inputs)
        });
        follower.scan();
        while follower.round() == Some(true) {}
        for _ in 0..at_most {
            match inputs.try_recv() {
                Ok(Input::Chunk(chunk)) => {
                    let text = String::from_utf8(chunk.lines.clone()).unwrap();
                    self.lines.extend(text.lines().map(str::to_owned));
                    self.followed.take(chunk, 0, &mut pipeline(), &Metrics::default());
                }
                Ok(Input::Gone { number }) => self.followed.forget(number),
                _ => break,
            }
        }
    }
}

/// Long enough that one of them tells a file from another.
fn line(number: usize) -> String {
    format!("{number:0300}")
}

#[test]
fn a_line_that_is_not_finished_waits() {
    let mut site = Site::new();
    site.append("one\ntw");
    site.look(9);
    assert_eq!(site.lines, ["one"]);
    site.append("o\n");
    site.look(9);
    assert_eq!(site.lines, ["one", "two"]);
}

#[test]
fn a_line_too_long_costs_only_itself() {
    let mut site = Site::new();
    site.append("one\n");
    site.append(&"x".repeat(3 << 20));
    site.look(99);
    site.append("x\ntwo\n");
    site.look(99);
    site.restart();
    site.append("three\n");
    site.look(99);
    assert_eq!(site.lines, ["one", "two", "three"]);
}

#[test]
fn a_file_that_leaves_the_pattern_while_nobody_looks_is_read_to_its_end() {
    let mut site = Site::new();
    site.append(&format!("{}\n", line(1)));
    site.look(9);
    site.append("two\n");
    site.restart();
    fs::rename(site.log(), site.folder.path().join("elsewhere.log")).unwrap();
    site.append("three\n");
    site.look(9);
    site.lines.sort();
    assert_eq!(site.lines, [line(1), "three".to_owned(), "two".to_owned()]);
}

#[test]
fn what_is_compressed_is_not_read_again() {
    let mut site = Site::new();
    fs::write(site.folder.path().join("conn.log.gz"), [0x1f, 0x8b, 8, 0, 10, 10]).unwrap();
    site.append("one\n");
    site.look(9);
    assert_eq!(site.lines, ["one"]);
}

/// What happens to a log.
#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    /// Half of a line now, the rest with the next.
    Half,
    Rename,
    CopyAndCut,
    Look,
    /// It is killed when it has taken so many messages.
    Kill(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..5usize).prop_map(Step::Write),
        1 => Just(Step::Half),
        2 => Just(Step::Rename),
        2 => Just(Step::CopyAndCut),
        3 => Just(Step::Look),
        2 => (0..4usize).prop_map(Step::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_happens_to_it_each_line_comes_once(steps in proptest::collection::vec(step(), 1..40)) {
        let mut site = Site::new();
        let mut written = Vec::new();
        let mut half = String::new();
        site.append("");
        for step in steps {
            match step {
                Step::Write(lines) => for _ in 0..lines {
                    let whole = line(written.len());
                    site.append(whole.strip_prefix(half.as_str()).unwrap());
                    site.append("\n");
                    half.clear();
                    written.push(whole);
                },
                Step::Half if half.is_empty() => {
                    half = line(written.len())[..150].to_owned();
                    site.append(&half);
                }
                // Who writes goes on where it was, so half a line stays half a line.
                Step::Rename if half.is_empty() => {
                    let to = site.rotated();
                    fs::rename(site.log(), to).unwrap();
                    site.append("");
                }
                Step::CopyAndCut if half.is_empty() => {
                    let to = site.rotated();
                    fs::copy(site.log(), to).unwrap();
                    fs::File::options().write(true).open(site.log()).unwrap().set_len(0).unwrap();
                }
                Step::Half | Step::Rename | Step::CopyAndCut => {}
                Step::Look => site.look(usize::MAX),
                Step::Kill(after) => {
                    site.look(after);
                    site.restart();
                }
            }
        }
        site.look(usize::MAX);
        site.look(usize::MAX);
        let numbers = |lines: &[String]| lines.iter().map(|line| line.parse().unwrap()).collect::<Vec<usize>>();
        site.lines.sort();
        prop_assert_eq!(numbers(&site.lines), numbers(&written));
    }
}
