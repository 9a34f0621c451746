//! The kernel's own count of the datagrams that it dropped at a socket, because they came faster than they were read:
//! column `drops` of `/proc/net/udp` and `udp6`, in the row that has the socket's inode. Only Linux has them.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    os::fd::AsRawFd,
};

/// One socket per row, IPv4 and IPv6. A socket is in one of them.
const TABLES: [&str; 2] = ["/proc/net/udp", "/proc/net/udp6"];
/// Columns, split at blanks.
const INODE: usize = 9;
const DROPS: usize = 12;

/// Follows the count of one socket.
#[derive(Debug)]
pub(super) struct KernelDrops {
    table: &'static str,
    inode: u64,
    last: u32,
    total: u64,
}

impl KernelDrops {
    /// Of this socket; nothing where the kernel doesn't tell.
    pub(super) fn of(socket: &impl AsRawFd) -> Option<Self> {
        let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).ok()?;
        let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        let (table, last) = TABLES.into_iter().find_map(|table| Some((table, drops(table, inode)?)))?;
        Some(Self { table, inode, last, total: u64::from(last) })
    }

    /// Dropped since the socket was made. The table is made by the kernel as it is read: this touches no disk.
    pub(super) fn total(&mut self) -> u64 {
        if let Some(now) = drops(self.table, self.inode) {
            self.counted(now);
        }
        self.total
    }

    /// The kernel counts in 32 bits, and begins again at 0.
    fn counted(&mut self, now: u32) {
        self.total += u64::from(now.wrapping_sub(self.last));
        self.last = now;
    }
}

fn drops(table: &str, inode: u64) -> Option<u32> {
    let lines = BufReader::new(File::open(table).ok()?).lines().map_while(Result::ok);
    lines.skip(1).find_map(|line| drops_of_row(&line, inode))
}

/// The row's drops, if it is the socket's.
fn drops_of_row(row: &str, inode: u64) -> Option<u32> {
    let mut columns = row.split_whitespace();
    if columns.nth(INODE)?.parse() != Ok(inode) {
        return None;
    }
    // Printed as signed, though it only ever grows.
    columns.nth(DROPS - INODE - 1)?.parse::<i64>().ok().map(|drops| drops as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = "12218: 0100007F:A2D5 00000000:0000 07 00000000:00001D40 00:00000000 00000000     0        0 \
                       23067 2 000000003fa2c08b 991       ";

    #[test]
    fn a_row_is_told_by_its_inode() {
        assert_eq!(drops_of_row(ROW, 23_067), Some(991));
        assert_eq!(drops_of_row(ROW, 991), None);
        assert_eq!(drops_of_row("", 0), None);
        assert_eq!(drops_of_row(ROW.trim_end().strip_suffix("991").unwrap(), 23_067), None);
        assert_eq!(drops_of_row(&ROW.replace("991", "-1"), 23_067), Some(u32::MAX));
    }

    #[test]
    fn the_count_goes_on_when_the_kernels_wraps() {
        let mut drops = KernelDrops { table: "/nonexistent", inode: 1, last: u32::MAX, total: u64::from(u32::MAX) };
        assert_eq!(drops.total(), u64::from(u32::MAX), "what can't be read is as it was");
        drops.counted(3);
        assert_eq!(drops.total, u64::from(u32::MAX) + 4);
    }
}
