//! Where a file lies: SQLite's locks and shared memory don't hold on network filesystems.

use std::path::{Path, PathBuf};

use super::StoreError;

/// Types as the kernel names them in its list of mounts.
const NETWORK: &[&str] = &[
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ncpfs",
    "afs",
    "ceph",
    "lustre",
    "beegfs",
    "gpfs",
    "glusterfs",
    "orangefs",
    "fuse.sshfs",
    "fuse.glusterfs",
    "fuse.ceph",
    "fuse.s3fs",
    "fuse.rclone",
    "fuse.davfs",
    "davfs",
];

/// Refuses a file on a network filesystem. Where the system has no list of mounts, nothing is known and nothing refused.
pub(super) fn check_local(file: &Path) -> Result<(), StoreError> {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mounts") else { return Ok(()) };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let Ok(folder) = folder.canonicalize() else { return Ok(()) };
    match kind_of(&folder, &mounts) {
        Some(kind) if NETWORK.contains(&kind) => {
            Err(StoreError::NetworkFilesystem { path: file.display().to_string(), kind: kind.to_owned() })
        }
        _ => Ok(()),
    }
}

/// The type of the filesystem that a folder lies on. Lines are "device folder type options …"; the last one that fits
/// best counts, since mounts cover earlier ones.
fn kind_of<'a>(folder: &Path, mounts: &'a str) -> Option<&'a str> {
    let mount = |line: &'a str| {
        let mut fields = line.split(' ');
        let at = PathBuf::from(unescaped(fields.nth(1)?));
        let kind = fields.next()?;
        folder.starts_with(&at).then(|| (at.components().count(), kind))
    };
    mounts.lines().filter_map(mount).max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind)
}

/// Blanks and the like are written as a backslash and three octal digits.
fn unescaped(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_and_newest_mount_tells() {
        let mounts = "/dev/sda1 / ext4 rw 0 0\nserver:/x /data nfs4 rw 0 0\n\
                      /dev/sdb1 /data/local\\040disk xfs rw 0 0\ntmpfs /tmp tmpfs rw 0 0\nserver:/y /tmp nfs rw 0 0\n";
        let kind = |path: &str| kind_of(Path::new(path), mounts);
        assert_eq!(kind("/var/lib"), Some("ext4"));
        assert_eq!(kind("/data/store"), Some("nfs4"));
        assert_eq!(kind("/database"), Some("ext4"));
        assert_eq!(kind("/data/local disk/store"), Some("xfs"));
        assert_eq!(kind("/tmp/x"), Some("nfs"));
    }

    #[test]
    fn a_local_folder_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        check_local(&folder.path().join("store.db")).unwrap();
    }
}
