//! A record of the log, as a door would make it; what matters to a test it says itself (`..envelope(…)`).

use bytes::Bytes;
use hilum_core::{ContentType, Digest, Envelope, Id, RecordId, SourceName, Stream, Timestamp};

/// When it is received: 2023-11-14.
pub const RECEIVED: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

/// An envelope of this program's version around `body`: of the source `default`, with the key 0.
///
/// # Panics
/// Never.
pub fn envelope(stream: Stream, body: impl Into<Bytes>) -> Envelope {
    let body = body.into();
    Envelope {
        v: Envelope::VERSION,
        id: RecordId::new(RECEIVED, [7; 10]),
        stream,
        source: SourceName::parse("default").expect("a name"),
        settings_sha: Digest::of(b"settings"),
        received: RECEIVED,
        peer: None,
        digest: Digest::of(&body),
        key: Id::from_bytes([0; 16]),
        content_type: ContentType::Hl7v2,
        charset_rule: None,
        replaces: None,
        cipher_key: None,
        trace: None,
        body,
    }
}
