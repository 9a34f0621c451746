//! Files as they are stored → their content. gzip (RFC 1952, any number of members) and Zstandard (RFC 8878, any number
//! of frames) are told by their first bytes and read through; everything else passes unchanged. The content is a stream:
//! memory does not grow with it.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

/// Most memory that a Zstandard frame may ask for, as a power of two: 128 MiB, what `zstd -d` allows too.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Content that is read ahead, bytes.
const READ_AHEAD: usize = 128 * 1024;
/// Bytes that tell the format.
const MAGIC: usize = 4;

/// The content of `reader`, decompressed if need be.
///
/// # Errors
/// What `reader` says. Later reads fail with `UnexpectedEof` where a compressed stream is cut off, with `InvalidData`
/// where it is corrupt; both name the format and the offset in the compressed stream, up to which it was consumed.
pub fn open<R: BufRead + Send + 'static>(mut reader: R) -> io::Result<Box<dyn BufRead + Send>> {
    if let Some(magic) = reader.fill_buf()?.first_chunk::<MAGIC>().copied() {
        return content(&magic, reader);
    }
    // A pipe may give a byte at a time; and a file may be that short.
    let mut magic = Vec::with_capacity(MAGIC);
    reader.by_ref().take(MAGIC as u64).read_to_end(&mut magic)?;
    let whole = Cursor::new(magic.clone()).chain(reader);
    content(&magic, BufReader::with_capacity(READ_AHEAD, whole))
}

fn content<R: BufRead + Send + 'static>(magic: &[u8], reader: R) -> io::Result<Box<dyn BufRead + Send>> {
    match magic {
        [0x1F, 0x8B, ..] => Ok(decompressed("gzip", MultiGzDecoder::new(Counted::new(reader)))),
        // The second form is a skippable frame, with which some compressors begin.
        [0x28, 0xB5, 0x2F, 0xFD] | [0x50..=0x5F, 0x2A, 0x4D, 0x18] => {
            let mut decoder = ZstdDecoder::with_buffer(Counted::new(reader))?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Ok(decompressed("zstd", decoder))
        }
        _ => Ok(Box::new(reader)),
    }
}

fn decompressed<D: Offset + Read + Send + 'static>(format: &'static str, decoder: D) -> Box<dyn BufRead + Send> {
    Box::new(BufReader::with_capacity(READ_AHEAD, Explained { format, decoder }))
}

/// Knows how much of the compressed stream was consumed.
trait Offset {
    fn offset(&self) -> u64;
}

impl<R> Offset for MultiGzDecoder<Counted<R>> {
    fn offset(&self) -> u64 {
        self.get_ref().consumed
    }
}

impl<R: BufRead> Offset for ZstdDecoder<'_, Counted<R>> {
    fn offset(&self) -> u64 {
        self.get_ref().consumed
    }
}

/// Says in its errors what was being read, and where.
struct Explained<D> {
    format: &'static str,
    decoder: D,
}

impl<D: Offset + Read> Read for Explained<D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.decoder.read(buffer).map_err(|error| {
            let (format, offset) = (self.format, self.decoder.offset());
            match error.kind() {
                // Not the stream's fault: what it is read from said so.
                _ if error.raw_os_error().is_some() => error,
                io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => error,
                io::ErrorKind::UnexpectedEof => {
                    let text = format!("truncated {format} stream: it ends at offset {offset}, before it is complete");
                    io::Error::new(io::ErrorKind::UnexpectedEof, text)
                }
                _ => {
                    let text = format!("corrupt {format} stream at offset {offset}: {error}");
                    io::Error::new(io::ErrorKind::InvalidData, text)
                }
            }
        })
    }
}

/// Counts what is consumed of a reader.
struct Counted<R> {
    reader: R,
    consumed: u64,
}

impl<R> Counted<R> {
    fn new(reader: R) -> Self {
        Self { reader, consumed: 0 }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.consumed += read as u64;
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.consumed += amount as u64;
        self.reader.consume(amount);
    }
}
