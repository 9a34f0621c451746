//! Input and output that are not what they should be: an exit code, a message that names what, and never a hang.

use std::{
    ffi::OsStr,
    fs::File,
    io::{Read as _, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use crate::program::{Done, command, data, done, run};

fn replay(path: &Path) -> Done {
    run(&[OsStr::new("replay"), OsStr::new("--quiet"), path.as_os_str()])
}

/// The code, and that the message names the file and says this.
fn refused(path: &Path, code: i32, says: &str) {
    let refused = replay(path);
    assert_eq!(refused.code, code, "{}: {}", path.display(), refused.err);
    let named = refused.err.contains(&*path.to_string_lossy());
    assert!(named && refused.err.contains(says) && refused.out.is_empty(), "{says:?} is not in: {}", refused.err);
}

fn written(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn compressed_files_that_break_off_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let small = std::fs::read(data("recorded.pcap")).unwrap();
    // What breaks off within the first look at a file, and what does so later.
    let (header, packets) = small.split_at(24);
    let large = [header, &packets.repeat(20)].concat();
    for capture in [small, large] {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&capture).unwrap();
        let gzip = gzip.finish().unwrap();
        let path = written(folder.path(), "whole.gz", &gzip);
        assert_eq!(replay(&path).code, 0);
        refused(&written(folder.path(), "cut.gz", &gzip[..gzip.len() - 100]), 74, "truncated gzip stream");
    }
}

#[test]
fn what_holds_nothing_is_no_input() {
    let folder = tempfile::tempdir().unwrap();
    refused(&written(folder.path(), "empty", b""), 65, "it is empty");
    let inside = folder.path().join("inside");
    std::fs::create_dir(&inside).unwrap();
    refused(&inside, 65, "a folder that holds no files");
    std::fs::create_dir(inside.join("deeper")).unwrap();
    refused(&inside, 65, "folders within it are not looked into");
    std::fs::copy(data("recorded.pcap"), inside.join("a.pcap")).unwrap();
    assert_eq!(replay(&inside).code, 0, "a folder stands for its files");
}

/// The file is sparse: it takes no room on the disk.
#[test]
fn raw_datagrams_past_the_limit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut datagram = vec![0u8; 24 + 48];
    (datagram[1], datagram[3]) = (5, 1);
    let path = written(folder.path(), "flows.nf5", &datagram);
    File::options().write(true).open(&path).unwrap().set_len((64 << 20) + 1).unwrap();
    refused(&path, 65, "more than 64 MiB of raw datagrams; split it, or use a capture");
}

#[test]
fn a_pipe_is_read_like_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let replaying = command(&["replay", "--emit", "windows", path.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let bytes = std::fs::read(data("recorded.pcap")).unwrap();
    let mut pipe = File::options().write(true).open(&path).unwrap();
    // The file may go once it is open: what it held is read all the same.
    std::fs::remove_file(&path).unwrap();
    bytes.chunks(1000).for_each(|part| pipe.write_all(part).unwrap());
    drop(pipe);
    let replayed = done(replaying.wait_with_output().unwrap());
    let file = run(&["replay", "--emit", "windows", data("recorded.pcap").to_str().unwrap()]);
    assert_eq!((replayed.code, &replayed.out), (0, &file.out), "{}", replayed.err);
}

#[test]
fn names_need_not_be_utf8() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(OsStr::from_bytes(b"caf\xe9.pcap"));
    std::fs::copy(data("recorded.pcap"), &path).unwrap();
    assert_eq!(replay(&path).code, 0);
    refused(&folder.path().join(OsStr::from_bytes(b"nothing\xe9")), 74, "No such file");
    let site = command(&["config", "check"]).env("SPIKEWATCH__COLLECTOR__SITE", OsStr::from_bytes(b"\xe9")).output();
    let site = done(site.unwrap());
    assert_eq!(site.code, 64);
    assert!(site.err.contains("SPIKEWATCH__COLLECTOR__SITE") && site.err.contains("site name"), "{}", site.err);
}

#[test]
fn output_that_can_not_be_written_is_74() {
    let folder = tempfile::tempdir().unwrap();
    let table = written(folder.path(), "values.csv", b"timestamp,value\n0,1\n900,2\n");
    let (capture, table) = (data("recorded.pcap"), table.to_str().unwrap().to_owned());
    let capture = capture.to_str().unwrap();
    for arguments in [
        &["replay", "--quiet", "--emit", "windows", capture][..],
        &["replay", "--quiet", "--emit", "flows", capture],
        &["score", &table],
        &["config", "dump"],
        &["config", "check"],
        &["--help"],
        &["--version"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = done(command(arguments).stdout(full).output().unwrap());
        assert_eq!(output.code, 74, "{arguments:?}: {}", output.err);
        let mut quiet = command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // As `| head -1` does, if a little earlier.
        drop(quiet.stdout.take());
        let mut said = String::new();
        quiet.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((quiet.wait().unwrap().code(), said.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn configurations_of_any_size_are_answered_soon() {
    let folder = tempfile::tempdir().unwrap();
    let check = |path: &Path| run(&[OsStr::new("config"), "check".as_ref(), "--config".as_ref(), path.as_os_str()]);
    let lines = |line: &dyn Fn(usize) -> String| (0..20_000).map(line).collect::<String>();
    let unknown = format!("[collector]\n{}", lines(&|i| format!("x{i} = {i}\n")));
    let wrong = check(&written(folder.path(), "unknown.toml", unknown.as_bytes()));
    assert_eq!(wrong.code, 64);
    assert!(wrong.err.contains("unknown.toml:2: collector.x0: unknown field"), "{}", wrong.err);
    assert!(wrong.err.ends_with("and perhaps more faults than these\n"), "{}", wrong.err);
    assert!(wrong.err.lines().count() < 110);
    let broken = check(&written(folder.path(), "broken.toml", lines(&|_| "=\n".into()).as_bytes()));
    assert!(broken.code == 64 && broken.err.lines().count() < 110, "{}", broken.err);
    assert!(broken.err.trim_end().ends_with("more faults like these"), "{}", broken.err);
    let many = lines(&|i| format!("host-{i} = [\"10.0.{}.{}\"]\n", i / 256, i % 256));
    let many = check(&written(folder.path(), "many.toml", format!("[collector.aliases]\n{many}").as_bytes()));
    assert_eq!((many.code, many.out.as_str()), (0, "OK\n"), "{}", many.err);
    let deep = format!("x = {}{}\n", "[".repeat(20_000), "]".repeat(20_000));
    assert_eq!(check(&written(folder.path(), "deep.toml", deep.as_bytes())).code, 64);
    let endless = check(Path::new("/dev/zero"));
    assert!(endless.code == 64 && endless.err.contains("/dev/zero: is larger than 4 MiB"), "{}", endless.err);
    let binary = check(&written(folder.path(), "binary.toml", b"[node]\n\xff"));
    assert!(binary.code == 64 && binary.err.contains("not UTF-8 at byte 7"), "{}", binary.err);
}
