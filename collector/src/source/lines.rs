//! Lines of a log, in whichever format it is.

use serde::{Deserialize, Serialize};

use super::file::Expected;
use crate::{
    fault::Decoded,
    log::{
        ecs::{EcsDecoder, EcsOptions},
        zeek::ZeekDecoder,
    },
    recognise::{Format, Unrecognised, recognise},
};

/// Longest line, bytes.
pub(crate) const MAX_LINE: usize = 1 << 20;

/// Decodes the lines of one log.
#[derive(Debug)]
pub(crate) enum LineDecoder {
    Ecs(EcsDecoder),
    Zeek(ZeekDecoder),
}

/// What a decoder knows by what came before.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Known {
    Ecs,
    /// The last header, as it stood.
    Zeek(Vec<u8>),
}

impl LineDecoder {
    /// That of a log whose format was told, or else that of what it begins with.
    ///
    /// # Errors
    /// What it begins with is no log.
    pub(crate) fn of(expected: Expected, start: &[u8], ecs: &EcsOptions) -> Result<Self, Unrecognised> {
        let format = match expected {
            Expected::Ecs => Format::Ecs,
            Expected::Zeek => Format::ZeekTsv,
            _ => recognise(start)?,
        };
        match format {
            Format::Ecs => Ok(Self::Ecs(EcsDecoder::new(ecs.clone()))),
            Format::ZeekTsv | Format::ZeekJson => Ok(Self::Zeek(ZeekDecoder::new())),
            other => Err(Unrecognised { found: format!("{other:?}, which has no lines") }),
        }
    }

    /// One that goes on.
    pub(crate) fn from_known(known: &Known, ecs: &EcsOptions) -> Self {
        match known {
            Known::Ecs => Self::Ecs(EcsDecoder::new(ecs.clone())),
            Known::Zeek(header) => {
                let mut zeek = ZeekDecoder::new();
                let mut nothing = Decoded::default();
                header.split_inclusive(|byte| *byte == b'\n').for_each(|line| zeek.decode(line, &mut nothing));
                Self::Zeek(zeek)
            }
        }
    }

    /// What has to be known to go on.
    pub(crate) fn known(&self) -> Known {
        match self {
            Self::Ecs(_) => Known::Ecs,
            Self::Zeek(zeek) => Known::Zeek(zeek.header().to_vec()),
        }
    }

    /// Decodes one line.
    pub(crate) fn decode(&mut self, line: &[u8], out: &mut Decoded) {
        match self {
            Self::Ecs(ecs) => ecs.decode(line, out),
            Self::Zeek(zeek) => zeek.decode(line, out),
        }
    }
}
