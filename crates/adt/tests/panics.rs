//! A message on which the program fails costs neither itself nor those behind it.
#![allow(clippy::unwrap_used)]

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use harness::{House, Msg};
use hilum_adt::accept::{Door, DoorParts, Incoming};
use hilum_adt::acks::AckTimes;
use hilum_adt::sources::{Came, Sources};
use hilum_core::{ContentType, failpoint};
use hilum_engines::log::ReadMax;

static FAILS: AtomicBool = AtomicBool::new(false);

fn handle(name: &'static str) {
    assert!(name != "judge" || !FAILS.load(Ordering::SeqCst), "a fault of ours, planted");
}

fn admission(control: &str, patient: &str, visit: &str) -> String {
    Msg::new("A01", control, "010800", patient, visit).at("W1^101^1^H").text()
}

#[tokio::test]
async fn a_message_on_which_the_program_fails_is_kept_answered_and_quarantined() {
    failpoint::install(handle);
    let house = House::new();
    let sources = Arc::new(Sources::new([], house.clock.now()).unwrap());
    let door = Door::new(DoorParts {
        log: house.log.clone(),
        clock: house.clock.clone(),
        entropy: house.entropy.clone(),
        key: house.key.clone(),
        sources: Arc::clone(&sources),
        acks: Arc::new(AckTimes::default()),
        message_bytes_max: 1 << 20,
        tracer: hilum_core::Tracer::off(),
    });
    let raw = admission("C1", "1", "V1");
    let incoming = Incoming {
        body: Bytes::from(raw.clone()),
        content_type: ContentType::Hl7v2,
        source: Arc::clone(sources.find(&Came::default())),
        peer: None,
        received: house.clock.now(),
        trace: None,
        replaces: None,
    };

    FAILS.store(true, Ordering::SeqCst);
    let accepted = door.accept(incoming).await.unwrap();
    let ack = String::from_utf8(accepted.ack.unwrap().to_vec()).unwrap();
    assert!(ack.contains("MSA|AA|C1"), "{ack}");
    house.run().await;
    FAILS.store(false, Ordering::SeqCst);

    let (stream, partition) = (accepted.position.stream, accepted.position.partition);
    let max = ReadMax { records: 1, bytes: usize::MAX };
    let kept = house.log.read(stream, partition, accepted.position.offset, max).await.unwrap();
    assert_eq!(kept[0].envelope.body, raw.as_bytes(), "the bytes are kept");
    let row = house.message(accepted.record).await;
    assert_eq!(
        (&*row["status"], &*row["rule"], &*row["control_id"], &*row["kind"], &*row["ack"]),
        ("quarantined", "read.panic", "C1", "ADT^A01", "AA")
    );

    // The partition has moved on: what comes behind it in the same one is applied.
    let body = Bytes::from(admission("C2", "2", "V2"));
    let again = hilum_core::Envelope {
        id: house.entropy.record_id(house.clock.now()),
        digest: hilum_core::Digest::of(&body),
        body,
        ..(*kept[0].envelope).clone()
    };
    house.log.append(again).await.unwrap();
    house.run().await;
    assert_eq!(house.census().await, ["inpatient W1-101-1 I in-progress Kim, Min"]);
}
