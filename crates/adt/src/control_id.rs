//! By what a message is found: its control id (MSH-10).

use hilum_hl7v2::{CharsetSettings, Message, Path};

/// A control id as messages are found by it: what a message with this MSH-10 is filed under, in the usual delimiters.
pub(crate) fn as_named(raw: &str) -> String {
    let header = format!("MSH|^~\\&|||||||ADT^A01|{raw}|P|2.5");
    match Message::parse(header.into(), &CharsetSettings::default().unicode()) {
        Ok(message) => of(&message),
        Err(_) => raw.to_owned(),
    }
}

/// What a message is filed under.
pub(crate) fn of(message: &Message) -> String {
    message.get(Path::of("MSH-10.1")).text().trim().to_owned()
}

/// What an answer to this message names, where [`as_named`] does not lead from there to what it is filed under: its
/// delimiters are its own, or a line feed stands in it.
pub(crate) fn answered_otherwise(message: &Message) -> Option<String> {
    let raw = message.get(Path::of("MSH-10")).raw_text();
    let answered = raw.split(['\r', '\n']).next().unwrap_or_default();
    let filed = of(message);
    // Nearly all: plain letters and digits.
    let is_plain = answered.bytes().all(|byte| byte.is_ascii_alphanumeric()) && answered == filed;
    (!is_plain && as_named(answered) != filed).then(|| answered.to_owned())
}
