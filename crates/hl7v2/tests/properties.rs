//! Laws that hold for any bytes.

#![allow(clippy::unwrap_used)]

use hilum_hl7v2::mllp::{self, Deframer};
use hilum_hl7v2::time::{self, Defaults};
use hilum_hl7v2::{
    Answer, CharsetSettings, Headers, Message, Path, Presence, Problem, acknowledge, batch, trigger,
};
use proptest::prelude::*;

/// Bytes that look like a message: delimiters, line ends, marks and lead bytes are frequent.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "|", "^", "~", "\\", "&", "\"\"", "\r", "\n", "\r\n", "PID|", "\rPID|1||7^^^X^MR|", "\rMSH|", "#",
            "\\F\\", "\\X0D\\", "\\.br\\", "황호", "é", "\u{fffd}", "EUC-KR", "20260714", "+0900", "\u{b}", "\u{1c}",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        2 => prop::collection::vec(any::<u8>(), 0..4),
        2 => "[A-Za-z0-9 ]{0,6}".prop_map(String::into_bytes),
        1 => Just(vec![0x83, 0x7C]),
        1 => Just(vec![0xA5, 0x7C]),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

fn message_bytes() -> impl Strategy<Value = Vec<u8>> {
    let head = prop::sample::select(vec![
        "MSH|^~\\&|A|B|C|D|20260714093000||ADT^A01|1|P|2.5",
        "MSH|^~\\&|A|B|C|D|20260714093000||ADT^A01|1|P|2.5||||||8859/1",
        "MSH|^~\\&#|A|B|C|D|20260714||ADT^A01|1|P|2.8||||||SHIFT_JIS",
        "MSH|^~\\&|A|B|C|D|1||ADT^A40|1|P|2.5||||||BIG-5",
        "MSH|^~\\&|A|B|C|D|1||ADT^A01|1|P|2.5||||||GB18030~ASCII",
        "MSH*:;!%*A*B***1**ADT:A01*1",
        "\u{feff}MSH|^~\\&|A",
        "MSH|^",
    ]);
    (head, soup()).prop_map(|(head, rest)| [head.as_bytes(), b"\r", &rest].concat())
}

fn settings() -> impl Strategy<Value = CharsetSettings> {
    prop::sample::select(vec![
        CharsetSettings::default(),
        CharsetSettings::new(None, Some("EUC-KR")).unwrap(),
        CharsetSettings::new(None, Some("8859/1")).unwrap(),
        CharsetSettings::new(None, Some("Shift_JIS")).unwrap(),
        CharsetSettings::new(Some("GB18030"), None).unwrap(),
        CharsetSettings::default().unicode(),
    ])
}

fn path() -> impl Strategy<Value = Path> {
    let segment = prop::sample::select(vec!["PID", "MSH", "ZZZ", "OBX"]);
    (segment, 1..3_u32, 1..12_u16, 0..4_u16, 0..5_u16, 0..3_u16).prop_map(
        |(segment, occurrence, field, repetition, component, subcomponent)| {
            let said = |before: &str, n: u16, after: &str| match n {
                0 => String::new(),
                n => format!("{before}{n}{after}"),
            };
            let subcomponent = if component > 0 { subcomponent } else { 0 };
            let path = [
                format!("{segment}[{occurrence}]-{field}"),
                said("[", repetition, "]"),
                said(".", component, ""),
                said(".", subcomponent, ""),
            ]
            .concat();
            Path::parse(&path).unwrap()
        },
    )
}

/// Reads everything that can be read.
fn read_all(message: &Message) {
    for segment in message.all_segments() {
        assert!(message.path_of(&segment).is_some() || segment.name().is_empty());
        for (number, field) in segment.fields() {
            assert_eq!(segment.field(number).raw(), field.raw());
            assert_ne!(field.presence(), Presence::Absent);
            assert!(field.whole().text.len() <= 3 * field.raw().len() * 100);
            for repetition in field.repetitions() {
                for component in repetition.components() {
                    for subcomponent in component.subcomponents() {
                        let decoded = subcomponent.decode();
                        assert!(!decoded.text.contains('\u{fffd}') || !decoded.flaws.is_empty());
                    }
                }
            }
        }
    }
    message.findings();
    message.to_text();
    trigger::classify(message);
    for offset in 0..message.bytes().len() {
        message.path_at(offset);
    }
    let zone = Defaults::of(message, &time::zone("Europe/Berlin").unwrap());
    time::read(&message.get(Path::of("EVN-2")), Path::of("EVN-2"), &zone).ok();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_never_panic(bytes in prop_oneof![soup(), message_bytes()], settings in settings()) {
        if let Ok(message) = Message::parse(bytes.clone().into(), &settings) {
            prop_assert_eq!(message.render(), bytes);
            read_all(&message);
        }
    }

    #[test]
    fn an_edit_reads_back_and_changes_only_its_segment(
        bytes in message_bytes(),
        settings in settings(),
        path in path(),
        value in prop_oneof!["[a-z|^~&#\\\\\r\n]{0,6}", Just("황호".to_owned()), Just("\"\"".to_owned())],
    ) {
        let Ok(message) = Message::parse(bytes.clone().into(), &settings) else { return Ok(()) };
        let Ok(edited) = message.edit(path, value.as_str()) else { return Ok(()) };
        let slot = edited.get(path);
        match value.as_str() {
            "" => prop_assert!(!slot.has_value()),
            "\"\"" => prop_assert_eq!(slot.presence(), Presence::Null),
            text => prop_assert_eq!(slot.text(), text),
        }
        prop_assert_eq!(edited.segment_count(), message.segment_count());
        let mut changed = 0;
        for (before, after) in message.all_segments().zip(edited.all_segments()) {
            changed += usize::from(before.raw() != after.raw());
            if before.raw() != after.raw() {
                prop_assert_eq!(before.name(), path.segment());
                for (number, field) in before.fields() {
                    if number != path.field() {
                        prop_assert_eq!(field.raw(), after.field(number).raw());
                    }
                }
            }
        }
        prop_assert!(changed <= 1);
        let outside = |message: &Message| {
            let inside: usize = message.all_segments().map(|segment| segment.raw().len()).sum();
            message.bytes().len() - inside
        };
        prop_assert_eq!(outside(&message), outside(&edited));
    }

    #[test]
    fn any_header_is_answered_in_one_frame(bytes in prop_oneof![soup(), message_bytes()]) {
        let headers = Headers::peek(&bytes);
        let problem = headers.check().err().unwrap_or(Problem::TRANSIENT);
        for answer in [Answer::Accept, Answer::Error(problem), Answer::Reject(problem)] {
            let Some(ack) = acknowledge(&headers, &answer, "id", hilum_core::Timestamp::from_micros(0)) else { continue };
            let mut deframer = Deframer::default();
            deframer.push(&mllp::frame(&ack.bytes));
            let frame = deframer.next_frame().unwrap().unwrap();
            prop_assert_eq!(&frame.body, &ack.bytes);
            prop_assert!(!frame.inner_marks && deframer.next_frame().is_none());
            prop_assert!(ack.bytes.starts_with(b"MSH") && ack.bytes.len() < 16 * 1024);
        }
        prop_assert!(headers.identifiers().count() <= 64);
    }

    #[test]
    fn frames_are_the_same_however_they_are_read(
        bytes in prop::collection::vec(prop::sample::select(b"\x0B\x1C\r\nMSHa|".to_vec()), 0..200),
        step in 1..9_usize,
    ) {
        let run = |step: usize| {
            let mut deframer = Deframer::new(24);
            let mut out = Vec::new();
            for piece in bytes.chunks(step) {
                deframer.push(piece);
                while let Some(next) = deframer.next_frame() {
                    if let Ok(frame) = next {
                        out.push(frame.body);
                    }
                }
                assert!(deframer.buffered_bytes() <= 24 + step.max(1));
            }
            out
        };
        prop_assert_eq!(run(step), run(1));
    }

    #[test]
    fn a_file_is_its_parts(bytes in soup(), step in 1..9_usize) {
        let (parts, summary) = batch::split(&bytes);
        let mut splitter = batch::Splitter::default();
        for piece in bytes.chunks(step) {
            splitter.push(piece);
        }
        splitter.finish();
        let streamed: Vec<_> = std::iter::from_fn(|| splitter.next_part()).collect();
        prop_assert_eq!(&streamed, &parts);
        prop_assert_eq!(splitter.summary(), summary);
        for part in parts {
            if let batch::Part::Message { bytes: message, offset } = part {
                let at = usize::try_from(offset).unwrap();
                prop_assert!(bytes[at..].starts_with(&message) || message.len() + at > bytes.len() || bytes[at..].contains(&0x1C));
            }
        }
    }

    #[test]
    fn any_time_is_a_value_or_an_error(raw in prop_oneof!["[0-9]{0,20}([.][0-9]{0,6})?([+-][0-9]{0,5})?", ".{0,12}"]) {
        for zone in ["UTC", "Asia/Seoul", "Europe/Berlin", "America/Santiago"] {
            if let Ok(time) = time::parse(&raw, &Defaults::zone(time::zone(zone).unwrap())) {
                prop_assert!(time.lower < time.upper());
            }
        }
    }

    #[test]
    fn what_is_a_path_prints_as_it_was(raw in "[A-Z]{1,3}[0-9]?(\\[[0-9]{1,2}\\])?(-[0-9]{1,3})?(\\[[0-9]{1,2}\\])?([.][0-9]{1,2}){0,3}") {
        if let Ok(path) = Path::parse(&raw) {
            prop_assert_eq!(Path::parse(&path.to_string()), Ok(path));
        }
    }
}

/// Half a character of Big5 ends PID-1: a separator behind it would be its other half.
#[test]
fn an_edit_that_would_swallow_a_separator_is_refused() {
    let mut bytes = b"MSH|^~\\&|A|B|C|D|1||ADT^A40|1|P|2.5||||||BIG-5\rPID|".to_vec();
    bytes.extend([129, 14, 135]);
    let settings = CharsetSettings::default();
    let message = Message::parse(bytes.into(), &settings).unwrap();
    assert!(message.edit(Path::parse("PID-2").unwrap(), "").is_err());
    assert!(message.edit(Path::parse("PID-1").unwrap(), "x").is_ok());
}
