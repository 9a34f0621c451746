//! Numbers at places that may lie past the end of what is there.

/// The byte at `at`.
pub(super) fn byte(data: &[u8], at: usize) -> Option<u8> {
    data.get(at).copied()
}

/// The `N` bytes from `at` on.
pub(super) fn bytes<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..)?.first_chunk().copied()
}

/// The 16-bit number in network byte order at `at`.
pub(super) fn be16(data: &[u8], at: usize) -> Option<u16> {
    bytes(data, at).map(u16::from_be_bytes)
}

/// The 32-bit number in network byte order at `at`.
pub(super) fn be32(data: &[u8], at: usize) -> Option<u32> {
    bytes(data, at).map(u32::from_be_bytes)
}

/// The byte order of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum ByteOrder {
    /// Least significant byte first.
    #[default]
    Little,
    /// Most significant byte first.
    Big,
}

impl ByteOrder {
    /// The 16-bit number at `at`.
    pub(super) fn u16(self, data: &[u8], at: usize) -> Option<u16> {
        bytes(data, at)
            .map(|bytes| if self == Self::Big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    /// The 32-bit number at `at`.
    pub(super) fn u32(self, data: &[u8], at: usize) -> Option<u32> {
        bytes(data, at)
            .map(|bytes| if self == Self::Big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// The signed 64-bit number at `at`.
    pub(super) fn i64(self, data: &[u8], at: usize) -> Option<i64> {
        bytes(data, at)
            .map(|bytes| if self == Self::Big { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) })
    }
}
