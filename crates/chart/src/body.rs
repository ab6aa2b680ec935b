//! The stored form of a body: a format byte, then the body. One place, so that further formats can come beside these; all are
//! read for ever, by the fragments that they were written with.

use std::cell::RefCell;
use std::fmt;
use std::sync::LazyLock;

use bytes::{BufMut, Bytes, BytesMut};
use hilum_fhir::limits::RESOURCE_BYTES_MAX;
use zstd::bulk::{Compressor, Decompressor};
use zstd::dict::{DecoderDictionary, EncoderDictionary};

use crate::error::ChartError;

/// UTF-8 JSON as it is.
const PLAIN: u8 = 1;
/// Its length (four bytes, big end first), then a zstd frame made with [`FRAGMENTS`].
const ZSTD_1: u8 = 2;
/// What resources of many types have in common: element names, code systems, the shapes of references. Never to be changed:
/// bodies are stored without what stands here.
const FRAGMENTS: &[u8] = include_bytes!("body/fragments-1.txt");
/// Fast: what is behind it costs more than it saves.
const LEVEL: i32 = 1;
/// Shorter bodies are stored as they are.
const SHORT_BYTES: usize = 64;

static TO: LazyLock<EncoderDictionary<'static>> = LazyLock::new(|| EncoderDictionary::copy(FRAGMENTS, LEVEL));
static FROM: LazyLock<DecoderDictionary<'static>> = LazyLock::new(|| DecoderDictionary::copy(FRAGMENTS));

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> =
        RefCell::new(Compressor::with_prepared_dictionary(&TO).ok());
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> =
        RefCell::new(Decompressor::with_prepared_dictionary(&FROM).ok());
}

/// A body as it is stored.
pub(crate) fn encode(body: &str) -> Bytes {
    let frame = (body.len() >= SHORT_BYTES).then(|| compressed(body)).flatten();
    let frame = frame.filter(|frame| frame.len() + 4 < body.len());
    let mut out = BytesMut::with_capacity(frame.as_ref().map_or(body.len(), Vec::len) + 5);
    if let Some(frame) = frame {
        out.put_u8(ZSTD_1);
        out.put_u32(body.len() as u32);
        out.put_slice(&frame);
    } else {
        out.put_u8(PLAIN);
        out.put_slice(body.as_bytes());
    }
    out.freeze()
}

/// The body again. Empty stays empty: a deletion has no body.
///
/// # Errors
/// [`ChartError::Stored`]: a format that is not known, or bytes that are none of it.
pub fn decode(stored: &Bytes) -> Result<Bytes, ChartError> {
    match stored.first() {
        None => Ok(Bytes::new()),
        Some(&PLAIN) => Ok(stored.slice(1..)),
        Some(&ZSTD_1) => expanded(stored).map(Bytes::from),
        Some(other) => Err(unreadable(format_args!("format {other} is not known"))),
    }
}

fn compressed(body: &str) -> Option<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|compressor| compressor.as_mut()?.compress(body.as_bytes()).ok())
}

fn expanded(stored: &[u8]) -> Result<Vec<u8>, ChartError> {
    let (length, frame) = stored.get(1..).and_then(<[u8]>::split_first_chunk::<4>).ok_or_else(damaged)?;
    let length = u32::from_be_bytes(*length) as usize;
    // What the door took is at most this long: a damaged length asks for no memory.
    if length > RESOURCE_BYTES_MAX {
        return Err(damaged());
    }
    let body = DECOMPRESSOR
        .with_borrow_mut(|decompressor| decompressor.as_mut()?.decompress(frame, length).ok())
        .filter(|body| body.len() == length);
    body.ok_or_else(damaged)
}

fn damaged() -> ChartError {
    unreadable("its compressed form is damaged")
}

fn unreadable(why: impl fmt::Display) -> ChartError {
    ChartError::Stored { what: "body", why: why.to_string() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const RESOURCE: &str = r#"{"resourceType":"Observation","id":"bp","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8480-6","display":"혈압"}]},"valueQuantity":{"value":1.50,"unit":"mmHg"}}"#;

    #[test]
    fn what_is_stored_comes_back_and_takes_less_room() {
        let long = format!("{{\"x\":\"{}\"}}", "é".repeat(100_000));
        let odd: String = (0..500_u32).filter_map(|n| char::from_u32(0x4E00 + n * 37)).collect();
        for body in ["", "{}", RESOURCE, &long, &odd] {
            let stored = encode(body);
            assert_eq!(decode(&stored).unwrap(), body.as_bytes());
            assert!(stored.len() <= body.len() + 1);
        }
        assert!(encode(RESOURCE).len() * 2 < RESOURCE.len());
    }

    /// Every form that was ever written is read for ever: these bytes are not to be changed.
    #[test]
    fn every_form_that_was_written_is_read() {
        let plain = Bytes::from_static(b"\x01{\"a\":1.50}");
        assert_eq!(decode(&plain).unwrap(), "{\"a\":1.50}".as_bytes());
        let zstd = Bytes::from_static(include_bytes!("body/golden-2.bin"));
        assert_eq!(decode(&zstd).unwrap(), RESOURCE.as_bytes());
    }

    #[test]
    fn what_is_damaged_or_unknown_is_said() {
        let whole = encode(RESOURCE);
        let mut cases =
            vec![Bytes::from_static(b"\x09x"), Bytes::from_static(b"\x02"), whole.slice(..whole.len() / 2)];
        for at in 1..5 {
            let mut damaged = whole.to_vec();
            damaged[at] ^= 0x40;
            cases.push(damaged.into());
        }
        for stored in cases {
            assert!(matches!(decode(&stored), Err(ChartError::Stored { .. })));
        }
    }
}
