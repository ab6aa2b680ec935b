//! The stored form of a record, the same on every engine and in archives: the envelope's header as JSON beside the bytes.

use bytes::Bytes;
use hilum_core::{Digest, Envelope, Stream};
use serde::Deserialize;

/// Why a stored record cannot be read.
#[derive(Debug)]
pub enum Unreadable {
    /// It is damaged, or was never one of ours. Says what is wrong, without content.
    Corrupt(&'static str),
    /// It is whole, and of a newer program: the version.
    Newer(u64),
}

/// What every version of the header says.
#[derive(Deserialize)]
struct Version {
    v: u64,
}

/// The header of an envelope, without its body.
///
/// # Errors
/// What the serializer says; an envelope has no value that it cannot write.
pub fn header(envelope: &Envelope) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(envelope)
}

/// The envelope of a record of `stream` that was stored as `header` and `body`.
pub fn envelope(stream: Stream, header: &[u8], body: Bytes) -> Result<Envelope, Unreadable> {
    // The version alone first: what a newer one says beyond it is not ours to judge. A parser's message may quote
    // what it read.
    let no_envelope = |_| Unreadable::Corrupt("the header is no envelope");
    let Version { v } = serde_json::from_slice(header).map_err(no_envelope)?;
    if v > u64::from(Envelope::VERSION) {
        return Err(Unreadable::Newer(v));
    }
    let envelope: Envelope = serde_json::from_slice(header).map_err(no_envelope)?;
    if envelope.stream != stream {
        return Err(Unreadable::Corrupt("the header names another stream"));
    }
    if Digest::of(&body) != envelope.digest {
        return Err(Unreadable::Corrupt("the body does not fit its digest"));
    }
    Ok(Envelope { body, ..envelope })
}
