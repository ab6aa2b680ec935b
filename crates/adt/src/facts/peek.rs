//! The patient of a message that cannot be read: as far as PID-3 stands in plain ASCII before whatever is wrong with it.

use bytes::Bytes;
use hilum_core::ContentType;
use hilum_hl7v2::Message;

use super::read::Context;
use crate::accept;
use crate::content::{self, Content};
use crate::identity::Number;
use crate::limits::PEEK_BYTES_MAX;

/// The primary number of the first PID, if it can be seen.
pub fn number(body: &[u8], source: &str, context: &Context<'_>) -> Option<Number> {
    let (body, is_cut) = match body.get(..PEEK_BYTES_MAX) {
        Some(head) => (head, head.len() < body.len()),
        None => (body, false),
    };
    let mut lines = body.split(|byte| matches!(byte, b'\r' | b'\n'));
    let header = lines.find(|line| line.starts_with(b"MSH"))?;
    let separator = *header.get(3)?;
    let pid = lines.find(|line| line.starts_with(b"PID") && line.get(3) == Some(&separator))?;
    // A number that is cut off is another patient's.
    if is_cut && pid.split(|byte| *byte == separator).count() < 5 {
        return None;
    }
    // Up to PID-3: what comes behind it may hold anything.
    let pid: Vec<u8> = pid.split(|byte| *byte == separator).take(4).collect::<Vec<_>>().join(&separator);
    if !pid.is_ascii() {
        return None;
    }
    let plain = |byte: &u8| if byte.is_ascii() && *byte != 0x1B { *byte } else { b'?' };
    let mut text: Vec<u8> = header.iter().map(plain).collect();
    text.push(b'\r');
    text.extend(pid);
    text.push(b'\r');
    // As Unicode, which MSH-18 has no say in.
    let charset = accept::charset_settings(context.settings, ContentType::Hl7v2Unicode);
    let message = Message::parse(Bytes::from(text), &charset).ok()?;
    let content =
        Content::read(&message, &content::Context { settings: context.settings, source, key: context.key });
    let primary = content.blocks.first()?.person.primary()?;
    Some(Number::of(context.key, primary))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SourceSettings;
    use hilum_core::InstallationKey;

    #[test]
    fn a_number_that_is_cut_off_is_nobodys() {
        let key = InstallationKey::new([7; 32]);
        let settings = SourceSettings::default();
        let context = Context { settings: &settings, key: &key, arrival: None };
        let head = "MSH|^~\\&|A|H|B|H|20261120||ADT^A08|1|P|2.5\rEVN|";
        let body = |before: usize, number: &str, behind: &str| {
            let text = format!("{head}{}\rPID|1||{number}{behind}", "x".repeat(before));
            text.into_bytes()
        };
        let whole = number(&body(0, "12345^^^H^MR", "||B^C"), "s", &context);
        assert!(whole.is_some());
        // The cut falls behind `123`.
        let before = PEEK_BYTES_MAX - head.len() - "\rPID|1||123".len();
        assert!(number(&body(before, "12345^^^H^MR", "||B^C"), "s", &context).is_none());
    }
}
