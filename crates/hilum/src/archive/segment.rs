//! Records in a file of an archive: the magic, then one after the other, each the length of its header and of its body
//! (32 bits, little end first), when it was durable (64 bits, microseconds since 1970; the least number = not known),
//! the header and the body as every log keeps them.

use anyhow::{Context as _, anyhow, bail};
use bytes::{Buf as _, Bytes};
use hilum_core::{Envelope, Stream, Timestamp};
use hilum_engines::log::stored::{self, Unreadable};

/// How a file of records begins.
pub const MAGIC: &[u8] = b"hilum records 1\n";

const FIXED_BYTES: usize = 4 + 4 + 8;

/// Adds a record.
///
/// # Errors
/// When it is larger than any log takes.
pub fn put(out: &mut Vec<u8>, envelope: &Envelope, durable: Option<Timestamp>) -> anyhow::Result<()> {
    let header = stored::header(envelope)?;
    let length = |bytes: usize| u32::try_from(bytes).context("a record is too large for an archive");
    out.extend_from_slice(&length(header.len())?.to_le_bytes());
    out.extend_from_slice(&length(envelope.body.len())?.to_le_bytes());
    out.extend_from_slice(&durable.map_or(i64::MIN, Timestamp::as_micros).to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(&envelope.body);
    Ok(())
}

/// The records of a file, in order.
#[derive(Debug)]
pub struct Records {
    stream: Stream,
    rest: Bytes,
}

impl Records {
    /// Of `stream`, as the file says.
    ///
    /// # Errors
    /// When it is no file of records.
    pub fn new(stream: Stream, mut file: Bytes) -> anyhow::Result<Self> {
        if !file.starts_with(MAGIC) {
            bail!("it is no file of records");
        }
        file.advance(MAGIC.len());
        Ok(Self { stream, rest: file })
    }

    fn take(&mut self) -> anyhow::Result<Envelope> {
        let cut = || anyhow!("it ends in the middle of a record");
        if self.rest.len() < FIXED_BYTES {
            return Err(cut());
        }
        let (header, body) = (self.rest.get_u32_le() as usize, self.rest.get_u32_le() as usize);
        let _durable = self.rest.get_i64_le();
        if self.rest.len() < header.saturating_add(body) {
            return Err(cut());
        }
        let (header, body) = (self.rest.split_to(header), self.rest.split_to(body));
        stored::envelope(self.stream, &header, body).map_err(|why| match why {
            Unreadable::Corrupt(why) => anyhow!("a record of it cannot be read: {why}"),
            Unreadable::Newer(version) => {
                anyhow!("a record of it has envelope version {version}: start the newer program")
            }
        })
    }
}

impl Iterator for Records {
    type Item = anyhow::Result<Envelope>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let taken = self.take();
        if taken.is_err() {
            self.rest.clear();
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hilum_testkit::record;

    #[test]
    fn what_is_put_is_read_and_what_is_broken_is_said() {
        let one = record::envelope(Stream::Hl7In, &b"MSH|1"[..]);
        let two = record::envelope(Stream::Hl7In, &b""[..]);
        let mut file = MAGIC.to_vec();
        put(&mut file, &one, None).expect("fits");
        let first = file.len();
        put(&mut file, &two, Some(Timestamp::from_micros(7))).expect("fits");
        let read = |file: &[u8], stream| -> anyhow::Result<Vec<Envelope>> {
            Records::new(stream, Bytes::copy_from_slice(file))?.collect()
        };
        assert_eq!(read(&file, Stream::Hl7In).expect("whole"), [one, two]);
        let mut flipped = file.clone();
        flipped[first - 1] ^= 1;
        let cases = [
            ("no magic", file[1..].to_vec(), Stream::Hl7In, "no file of records"),
            ("cut in the lengths", file[..first + 5].to_vec(), Stream::Hl7In, "in the middle"),
            ("cut in the header", file[..first + 40].to_vec(), Stream::Hl7In, "in the middle"),
            ("a bit of a body", flipped, Stream::Hl7In, "does not fit its digest"),
            ("another stream", file, Stream::Decisions, "names another stream"),
        ];
        for (why, file, stream, want) in cases {
            let said = format!("{:#}", read(&file, stream).expect_err(why));
            assert!(said.contains(want), "{why}: {said}");
        }
    }
}
