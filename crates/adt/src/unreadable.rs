//! What stands for a record of the log that cannot be read: a quarantined message of which only the place is known.

use hilum_chart::projection::{Changes, Unreadable};
use hilum_core::{Clock, Id, InstallationKey, Stream};
use hilum_engines::tables::{Outgoing, Value};

use crate::content::Finding;
use crate::routes::MESSAGE_TOPIC;
use crate::tables::MESSAGE;
use crate::view::messages::DECISION_KIND;

/// The rule of the quarantine.
pub const RULE: &str = "log.corrupt";

/// The id of the row: a function of the place in this life of the log.
fn id_of(key: &InstallationKey, record: &Unreadable) -> Id {
    let place = record.position.to_string();
    key.id("Unreadable", &[record.epoch.0.as_bytes(), place.as_bytes()])
}

/// Writes the row.
pub(crate) fn write(key: &InstallationKey, clock: &Clock, record: &Unreadable, out: &mut Changes) {
    let id = id_of(key, record);
    let text = |text: &str| Value::Text(text.to_owned());
    let place = record.position.to_string();
    let finding = Finding {
        rule: RULE.into(),
        path: place.clone(),
        text: format!("the log cannot read this record: {}", record.why).into(),
    };
    let is_decision = record.position.stream == Stream::Decisions;
    out.put(
        &MESSAGE,
        vec![
            Value::Id(id),
            Value::Int(i64::from(record.position.partition)),
            Value::Int(record.position.offset as i64),
            text(""),
            Value::Time(record.received),
            Value::Null,
            Value::Null,
            Value::Time(clock.now()),
            text(""),
            text(if is_decision { DECISION_KIND } else { "" }),
            text("quarantined"),
            text(RULE),
            Value::Text(place),
            Value::Text(serde_json::to_string(&[finding]).unwrap_or_default()),
            text(""),
            text(""),
            text("[]"),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Int(0),
            Value::ThisCommit,
            Value::Id(id),
        ],
    );
    out.outbox.push(Outgoing { topic: MESSAGE_TOPIC, key: id, body: bytes::Bytes::from_static(b"{}") });
}
