//! Reading big-endian numbers from a datagram without losing the position, which every fault names.

/// A part of a datagram that is read from front to back. All reads give `None` past the end and then move nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at the front of `bytes`, which lie at `offset` of the datagram.
    pub(super) fn new(bytes: &'a [u8], offset: usize) -> Self {
        Self { bytes, offset }
    }

    /// Position of the next byte within the datagram.
    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.bytes.split_first_chunk::<N>()?;
        self.bytes = tail;
        self.offset += N;
        Some(*head)
    }

    /// The next byte.
    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// The next two bytes as a number.
    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next four bytes as a number.
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next `length` bytes, as a cursor of their own.
    pub(super) fn part(&mut self, length: usize) -> Option<Cursor<'a>> {
        let (head, tail) = self.bytes.split_at_checked(length)?;
        let part = Cursor::new(head, self.offset);
        self.bytes = tail;
        self.offset += length;
        Some(part)
    }

    /// The next `length` bytes, or what there is of them.
    pub(super) fn part_or_rest(&mut self, length: usize) -> Cursor<'a> {
        let length = length.min(self.bytes.len());
        self.part(length).unwrap_or(Self { bytes: &[], offset: self.offset })
    }
}
