//! Records to append.

use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use hilum_core::{Clock, Envelope, Id, Stream, Timestamp};
use hilum_engines::log::{Log, ReadMax};
use hilum_testkit::record;

pub const ALL: ReadMax = ReadMax { records: 100_000, bytes: usize::MAX };
pub const START: i64 = 1_700_000_000_000_000;

/// A clock that moves by a millisecond each time it is read.
pub fn ticking() -> Clock {
    let micros = AtomicI64::new(START);
    Clock::new(move || Timestamp::from_micros(micros.fetch_add(1_000, Ordering::Relaxed)))
}

pub fn key(n: u64) -> Id {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    Id::from_bytes(bytes)
}

pub fn envelope(stream: Stream, n: u64, body: impl Into<Bytes>) -> Envelope {
    let peer = Some("127.0.0.1:2575".to_owned());
    Envelope { peer, key: key(n), ..record::envelope(stream, body) }
}

pub fn hl7(n: u64) -> Envelope {
    envelope(Stream::Hl7In, n, format!("MSH|^~\\&|{n}").into_bytes())
}

pub async fn bodies(log: &Log, stream: Stream, partition: u16) -> Vec<String> {
    let mut found = Vec::new();
    let mut from = 0;
    loop {
        let records = log.read(stream, partition, from, ALL).await.expect("reads");
        let Some(last) = records.last() else { return found };
        from = last.position.offset + 1;
        found.extend(records.iter().map(|r| String::from_utf8_lossy(&r.envelope.body).into_owned()));
    }
}
