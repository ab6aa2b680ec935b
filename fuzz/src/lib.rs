//! What each fuzz target holds to be true. `crates/hl7v2/tests/fuzz_corpus.rs` includes this file and replays the
//! corpora, so that a finding stays found without the fuzzer.

use hilum_core::Timestamp;
use hilum_hl7v2::mllp::{Deframer, Fault};
use hilum_hl7v2::time::{self, Defaults};
use hilum_hl7v2::{
    Answer, CharsetSettings, Flaw, Headers, Message, Path, Problem, acknowledge, batch, trigger,
};

const FALLBACKS: [Option<&str>; 6] =
    [None, Some("EUC-KR"), Some("8859/1"), Some("Shift_JIS"), Some("GB18030"), Some("BIG-5")];

fn settings(selector: u8) -> CharsetSettings {
    let fallback = FALLBACKS[usize::from(selector) % FALLBACKS.len()];
    CharsetSettings::new(None, fallback).expect("known names")
}

/// Any bytes: no panic, what is parsed is rendered as it was, every slot can be read, an answer can be parsed.
pub fn parser(bytes: &[u8]) {
    let (selector, raw) = bytes.split_first().unwrap_or((&0, &[]));
    let headers = Headers::peek(raw);
    let problem = headers.check().err().unwrap_or(Problem::TRANSIENT);
    if let Some(ack) = acknowledge(&headers, &Answer::Reject(problem), "id", Timestamp::from_micros(0)) {
        assert!(!ack.bytes.iter().any(|byte| matches!(byte, 0x0B | 0x1C)));
        assert!(Headers::peek(&ack.bytes).check().is_ok());
    }
    assert!(headers.identifiers().count() <= 64);
    for part in batch::split(raw).0 {
        if let batch::Part::Message { bytes, .. } = part {
            Message::parse(bytes, &settings(*selector)).ok();
        }
    }
    let Ok(message) = Message::parse(raw.to_vec().into(), &settings(*selector)) else { return };
    assert_eq!(message.render(), raw);
    for segment in message.all_segments() {
        for (number, field) in segment.fields() {
            assert_eq!(segment.field(number).raw(), field.raw());
            field.presence();
            field.whole();
            for repetition in field.repetitions().take(100) {
                for component in repetition.components().take(100) {
                    component.subcomponents().take(100).for_each(|slot| drop(slot.decode()));
                }
            }
        }
    }
    for finding in message.findings() {
        assert!(!finding.flaw.as_str().is_empty());
    }
    trigger::classify(&message);
    message.path_at(raw.len() / 2);
    let defaults = Defaults::of(&message, &time::zone("Europe/Berlin").expect("in the database"));
    for path in [Path::of("EVN-2"), Path::of("PID-7"), Path::of("PV1-44")] {
        time::read(&message.get(path), path, &defaults).ok();
    }
}

/// Any value: it is read without a panic; as a text it is written, escaped, and reads back as it was.
pub fn escapes(bytes: &[u8]) {
    let raw = [b"MSH|^~\\&#|A|B|C|D|1||ADT^A01|1|P|2.8\rNTE|1||", bytes, b"\r"].concat();
    if let Ok(message) = Message::parse(raw.into(), &settings(2)) {
        let comment = message.get(Path::of("NTE-3"));
        let decoded = comment.whole();
        assert!(decoded.text.len() <= 200 + 100 * comment.raw().len());
    }
    let Ok(text) = str::from_utf8(bytes) else { return };
    let head = b"MSH|^~\\&#|A|B|C|D|1||ADT^A01|1|P|2.8||||||UNICODE UTF-8\rNTE|1||x|y\r";
    let Ok(message) = Message::parse(head.to_vec().into(), &CharsetSettings::default()) else { return };
    let path = Path::of("NTE-3.1");
    match message.edit(path, text) {
        Ok(edited) if text.is_empty() || text == "\"\"" => assert!(!edited.get(path).has_value()),
        Ok(edited) => {
            assert_eq!(edited.get(path).text(), text);
            assert_eq!(edited.text("NTE-4").as_deref(), Some("y"));
            assert_eq!(edited.segment_count(), 2);
        }
        // ISO 2022 and U+FFFD are refused, whatever the value.
        Err(_) => assert!(text.contains('\u{1b}') || text.contains('\u{fffd}'), "{text:?}"),
    }
}

/// Any bytes under any declaration: U+FFFD is never silent, and splitting bytes is splitting the decoded text.
pub fn charset(bytes: &[u8]) {
    const DECLARED: [&str; 8] =
        ["", "8859/1", "UNICODE UTF-8", "EUC-KR", "SHIFT_JIS", "GB18030", "BIG-5", "ASCII~KS X 1001"];
    let (selector, value) = bytes.split_first().unwrap_or((&0, &[]));
    let declared = DECLARED[usize::from(selector >> 4) % DECLARED.len()];
    let head = format!("MSH|^~\\&|A|B|C|D|1||ADT^A01|1|P|2.5||||||{declared}\rNTE|1||");
    let raw = [head.as_bytes(), value, b"|end\r"].concat();
    let Ok(message) = Message::parse(raw.into(), &settings(selector & 0x0F)) else { return };
    let flaws = message.charset().flaws();
    let whole = message.to_text();
    assert_eq!(
        whole.text.contains('\u{fffd}'),
        flaws.contains(Flaw::CharsetUndecodable) || flaws.contains(Flaw::ReplacementSent)
    );
    if flaws.contains(Flaw::CharsetUndecodable) {
        assert!(message.charset().broken_at().is_some());
        return;
    }
    for segment in message.all_segments() {
        let text = String::from_utf8_lossy(segment.raw()).into_owned();
        let fields: Vec<String> =
            segment.fields().map(|(_, field)| field.whole().text.into_owned()).collect();
        if message.charset().charset().name() == "UNICODE UTF-8" && segment.index() > 0 {
            assert_eq!(text.split('|').count(), fields.len() + 1);
        }
    }
    let text_fields =
        whole.text.split(['\r', '\n']).filter(|line| !line.is_empty()).map(|line| line.split('|').count());
    let byte_fields =
        message.all_segments().map(|segment| segment.fields().count() + usize::from(segment.index() > 0));
    // A line feed in a text of a CR message is no line end for us, an end-of-block byte alone is no line.
    if !value.iter().any(|byte| matches!(byte, b'\n' | 0x1C)) {
        assert_eq!(text_fields.sum::<usize>(), byte_fields.sum::<usize>());
    }
}

/// Any stream in any pieces: the same frames, and no more held than the cap and one piece.
pub fn mllp(bytes: &[u8]) {
    const CAP: usize = 64;
    let (selector, stream) = bytes.split_first().unwrap_or((&0, &[]));
    let step = usize::from(*selector % 32) + 1;
    let run = |step: usize| {
        let mut deframer = Deframer::new(CAP);
        let mut out = Vec::new();
        for piece in stream.chunks(step) {
            deframer.push(piece);
            while let Some(next) = deframer.next_frame() {
                match next {
                    Ok(frame) => {
                        assert!(frame.body.len() <= CAP);
                        out.push(frame.body);
                    }
                    Err(Fault::Unterminated { body }) => assert!(body.len() <= CAP),
                    Err(Fault::TooLarge { head }) => assert!(head.len() <= CAP + step + 1),
                    Err(Fault::Stray) => {}
                }
            }
            assert!(deframer.buffered_bytes() <= CAP + step + 1);
        }
        deframer.finish();
        assert_eq!(deframer.buffered_bytes(), 0);
        out
    };
    assert_eq!(run(step), run(1));
}
