//! Messages: what stands where, presence, leniency, editing, charsets end to end.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use encoding_rs::{BIG5, EUC_KR, GB18030, SHIFT_JIS};
use hilum_hl7v2::charset::Rule;
use hilum_hl7v2::{
    CharsetSettings, EditError, Finding, Flaw, Message, ParseError, Path, Presence, Value, trigger,
};

const HEAD: &str = "MSH|^~\\&|APP|FAC|HIS|HOSP|20260714||ADT^A01^ADT_A01|C1|P|2.5";

fn parse(raw: impl Into<Bytes>) -> Message {
    Message::parse(raw.into(), &CharsetSettings::default()).unwrap()
}

fn at(raw: &'static str) -> Path {
    Path::parse(raw).unwrap()
}

#[test]
fn what_stands_where() {
    let message = parse(format!(
        "{HEAD}\rPID|1||7^^^SNUH&1.2&ISO^MR~8^^^NHIS^SS||EVERYMAN&von^ADAM~에브리맨^아담\r\
         OBX|1|ST|a||one\rOBX|2|ST|b||Smith & Wesson\rZXX|x^y\r"
    ));
    let cases = [
        ("field separator", "MSH-1", "|"),
        ("encoding characters are no escapes", "MSH-2", "^~\\&"),
        ("third field of a header", "MSH-3", "APP"),
        ("component of a header", "MSH-9.2", "A01"),
        ("first repetition where none is said", "PID-3.1", "7"),
        ("first leaf of a field", "PID-3", "7"),
        ("repetition", "PID-3[2]", "8"),
        ("component of a repetition", "PID-3[2].4", "NHIS"),
        ("subcomponent", "PID-3.4.2", "1.2"),
        ("first subcomponent where none is said", "PID-3.4", "SNUH"),
        ("whole where there are no subcomponents", "PID-3.5.1", "MR"),
        ("family name", "PID-5.1", "EVERYMAN"),
        ("prefix", "PID-5.1.2", "von"),
        ("other script", "PID-5[2].1", "에브리맨"),
        ("first segment where none is said", "OBX-5", "one"),
        ("second segment", "OBX[2]-1", "2"),
        ("Z segment", "ZXX-1.2", "y"),
        ("components of a simple value", "PID-1.1.1", "1"),
    ];
    for (why, path, want) in cases {
        assert_eq!(message.get(at(path)).text(), want, "{why}");
    }
    for absent in ["PID-1.2", "PID-1.1.2", "PID-3[3]", "PID-99", "OBX[3]-1", "AL1-1", "PID-3.9", "MSH-40"] {
        assert_eq!(message.get(at(absent)).presence(), Presence::Absent, "{absent}");
        assert_eq!(message.get(at(absent)).text(), "", "{absent}");
    }
    assert_eq!(message.get(at("OBX[2]-5")).whole().text, "Smith & Wesson");
    assert_eq!(message.get(at("PID-3")).repetitions().count(), 2);
    assert_eq!(message.segments("OBX").count(), 2);
    let names: Vec<&str> = message.all_segments().map(|segment| segment.name()).collect();
    assert_eq!(names, ["MSH", "PID", "OBX", "OBX", "ZXX"]);
    let fields: Vec<u16> = message.segment("MSH").unwrap().fields().map(|(number, _)| number).collect();
    assert_eq!(fields, (1..=12).collect::<Vec<u16>>());
    let fields: Vec<(u16, String)> = message
        .segment("PID")
        .unwrap()
        .fields()
        .map(|(number, slot)| (number, slot.text().into_owned()))
        .collect();
    assert_eq!(fields[2], (3, "7".to_owned()));
    let paths: Vec<String> =
        message.segments_with_paths().filter_map(|(path, _)| path).map(|path| path.to_string()).collect();
    assert_eq!(paths, ["MSH", "PID", "OBX", "OBX[2]", "ZXX"]);
    assert_eq!(message.path_of(&message.segment_at(3).unwrap()).unwrap().to_string(), "OBX[2]");
}

#[test]
fn absent_empty_null_and_value_are_four_things() {
    let message = parse(format!("{HEAD}\rPID|1||\"\"|^^|\"\"~b|a~\"\"|\"\"^x|\"|\"\"x|~|\r"));
    let cases = [
        ("value", "PID-1", Presence::Value),
        ("empty", "PID-2", Presence::Empty),
        ("null", "PID-3", Presence::Null),
        ("delimiters alone are empty", "PID-4", Presence::Empty),
        ("null in the first repetition", "PID-5", Presence::Null),
        ("its second repetition", "PID-5[2]", Presence::Value),
        ("null in a later repetition", "PID-6", Presence::Value),
        ("that repetition", "PID-6[2]", Presence::Null),
        ("null in a component is no null of the field", "PID-7", Presence::Value),
        ("that component", "PID-7.1", Presence::Null),
        ("one quote is text", "PID-8", Presence::Value),
        ("quotes and text are text", "PID-9", Presence::Value),
        ("empty repetitions", "PID-10", Presence::Empty),
        ("after the last delimiter", "PID-11", Presence::Empty),
        ("beyond", "PID-12", Presence::Absent),
        ("component of an empty field", "PID-2.1", Presence::Empty),
        ("second component of an empty field", "PID-2.2", Presence::Absent),
        ("no such segment", "NK1-1", Presence::Absent),
    ];
    for (why, path, want) in cases {
        assert_eq!(message.get(at(path)).presence(), want, "{why}");
    }
    for none in ["PID-2", "PID-3", "PID-7.1", "PID-12"] {
        assert_eq!(message.get(at(none)).value(), None, "{none}");
    }
    assert_eq!(message.text("PID-9").as_deref(), Some("\"\"x"));
}

#[test]
fn lenient_in() {
    let cases = [
        ("CR", format!("{HEAD}\rPID|1\rPV1|1|I\r")),
        ("LF", format!("{HEAD}\nPID|1\nPV1|1|I\n")),
        ("CRLF", format!("{HEAD}\r\nPID|1\r\nPV1|1|I\r\n")),
        ("no last line end", format!("{HEAD}\rPID|1\rPV1|1|I")),
        ("byte order mark", format!("\u{feff}{HEAD}\nPID|1\nPV1|1|I")),
        ("blank lines", format!("\r\n{HEAD}\r\r\nPID|1\n\n\rPV1|1|I\r\r")),
        ("mixed line ends", format!("{HEAD}\rPID|1\nPV1|1|I\r\n")),
        ("start of block before it", format!("\u{b}{HEAD}\rPID|1\rPV1|1|I\r\u{1c}\r")),
    ];
    for (why, raw) in cases {
        let message = parse(raw.clone());
        assert_eq!(message.segment_count(), 3, "{why}");
        assert_eq!(message.text("PV1-2").as_deref(), Some("I"), "{why}");
        assert_eq!(message.text("MSH-12").as_deref(), Some("2.5"), "{why}");
        assert_eq!(message.render(), raw.as_bytes(), "{why}");
        assert!(message.findings().is_empty(), "{why}");
    }
}

#[test]
fn a_line_feed_inside_a_text_of_a_cr_message_is_text() {
    let message = parse(format!("{HEAD}\rOBX|1|TX|||two\nlines|x\rPV1|1|I\r"));
    assert_eq!(message.segment_count(), 3);
    assert_eq!(message.text("OBX-5").as_deref(), Some("two\nlines"));
    assert_eq!(message.text("OBX-6").as_deref(), Some("x"));
}

#[test]
fn own_delimiters() {
    let message = parse("MSH*:;!%#*APP*FAC***1**ADT:A01*C1*P*2.7\rPID*1**7:::X%1.2:MR;8**a!F!b!S!!P!\\\r");
    assert_eq!(message.text("MSH-9.2").as_deref(), Some("A01"));
    assert_eq!(message.text("PID-3.4.2").as_deref(), Some("1.2"));
    assert_eq!(message.text("PID-3[2]").as_deref(), Some("8"));
    assert_eq!(message.text("PID-5").as_deref(), Some("a*b:#\\"));
    let short = parse("MSH|^|APP\rPID|1||a~b^c&d\\F\\|x\r");
    assert_eq!(short.text("PID-3").as_deref(), Some("a~b"));
    assert_eq!(short.text("PID-3.2").as_deref(), Some("c&d\\F\\"));
    assert_eq!(short.render(), short.bytes().as_ref());
}

#[test]
fn what_is_no_message() {
    let many = format!("{HEAD}\r{}", "NTE|1\r".repeat(hilum_hl7v2::limits::SEGMENTS_MAX));
    let cases: [(&str, Vec<u8>, &str, Option<&str>); 10] = [
        ("empty", Vec::new(), "no-msh", Some("MSH")),
        ("blank", b"\r\n \r".to_vec(), "no-msh", Some("MSH")),
        ("another segment first", b"PID|1\rMSH|^~\\&|A\r".to_vec(), "no-msh", Some("MSH")),
        ("a batch", b"FHS|^~\\&\rMSH|^~\\&|A\r".to_vec(), "no-msh", Some("MSH")),
        ("MSH alone", b"MSH".to_vec(), "delimiters", Some("MSH-1")),
        ("wrong MSH-2", b"MSH|^^~&|A".to_vec(), "delimiters", Some("MSH-2")),
        (
            "two messages in one",
            format!("{HEAD}\rPID|1\r{HEAD}\rPID|2\r").into(),
            "second-msh",
            Some("MSH[2]"),
        ),
        ("UTF-16", b"\xFF\xFEM\0S\0H\0".to_vec(), "charset-unsupported", Some("MSH-18")),
        (
            "undecided",
            [HEAD.as_bytes(), b"\rPID|1||1||\xB0\xA1\r"].concat(),
            "charset-undecided",
            Some("MSH-18"),
        ),
        ("too many segments", many.into_bytes(), "too-many-segments", None),
    ];
    for (why, raw, rule, path) in cases {
        let error = Message::parse(raw.into(), &CharsetSettings::default()).unwrap_err();
        assert_eq!(
            (error.rule(), error.path().map(|path| path.to_string()).as_deref()),
            (rule, path),
            "{why}"
        );
    }
    let large = vec![b'M'; hilum_hl7v2::limits::MESSAGE_BYTES_MAX + 1];
    assert_eq!(Message::parse(large.into(), &CharsetSettings::default()).unwrap_err(), ParseError::TooLarge);
}

#[test]
fn odd_lines_are_kept_and_found() {
    let raw = format!("{HEAD}\nPID|1\nthis is no segment\npid|x\nZZ9|z\n");
    let message = parse(raw.clone());
    let names: Vec<&str> = message.all_segments().map(|segment| segment.name()).collect();
    assert_eq!(names, ["MSH", "PID", "", "", "ZZ9"]);
    assert_eq!(message.findings(), [Finding::whole(Flaw::SegmentName)]);
    assert_eq!(message.render(), raw.as_bytes());
}

fn settings(fallback: &str) -> CharsetSettings {
    CharsetSettings::new(None, Some(fallback)).unwrap()
}

#[test]
fn golden_names_in_cp949() {
    for name in ["황호", "천호", "뷁"] {
        let text = format!("{HEAD}\rPID|1||7||{name}\r");
        let (raw, _, _) = EUC_KR.encode(&text);
        let message = Message::parse(raw.clone().into_owned().into(), &settings("CP949")).unwrap();
        assert_eq!(message.text("PID-5.1").as_deref(), Some(name));
        assert_eq!(message.charset().rule(), Rule::Fallback);
        assert_eq!(message.render(), raw.as_ref());
        assert!(message.findings().is_empty());
    }
}

#[test]
fn trail_bytes_that_are_delimiters_split_nothing() {
    // Each text has characters whose second byte is one of | ^ ~ \ & in that charset.
    let cases = [
        ("SHIFT_JIS", SHIFT_JIS, "ポル|ー能表|予十"),
        ("BIG-5", BIG5, "四育|功許|蓋墦"),
        ("GB 18030-2000", GB18030, "億|巪|乗丱"),
    ];
    for (name, encoding, text) in cases {
        let family = text.replace('|', "");
        let head = format!("{HEAD}||||||{name}");
        let raw = format!("{head}\rPID|1||7^^^{family}^MR~8||{family}^{family}~B|{family}|x\\F\\{family}\r");
        let (bytes, _, unmappable) = encoding.encode(&raw);
        assert!(!unmappable, "{name}");
        let message = parse(bytes.clone().into_owned());
        assert_eq!(message.charset().rule(), Rule::Msh18, "{name}");
        assert_eq!(message.text("PID-5.2"), Some(family.clone()), "{name}");
        assert_eq!(message.text("PID-3.4"), Some(family.clone()), "{name}");
        assert_eq!(message.text("PID-3[2]").as_deref(), Some("8"), "{name}");
        assert_eq!(message.text("PID-5[2]").as_deref(), Some("B"), "{name}");
        assert_eq!(message.text("PID-6"), Some(family.clone()), "{name}");
        assert_eq!(message.text("PID-7"), Some(format!("x|{family}")), "{name}");
        assert_eq!(message.render(), bytes.as_ref(), "{name}");
        let low_trails =
            bytes.windows(2).filter(|pair| pair[0] >= 0x81 && b"|^~\\&".contains(&pair[1])).count();
        assert!(low_trails >= 1, "{name}: the text proves nothing");
    }
}

#[test]
fn nothing_undecodable_is_silent() {
    let (name, _, _) = EUC_KR.encode("김철수");
    let raw = [HEAD.as_bytes(), b"||||||EUC-KR\rPID|1||7||", &name, b"^\xC8|x\r"].concat();
    let message = parse(raw);
    assert_eq!(message.findings(), [Finding::at(Flaw::CharsetUndecodable, at("PID-5.2"))]);
    let decoded = message.get(at("PID-5.2")).decode();
    assert!(decoded.text.contains('\u{fffd}') && decoded.flaws.contains(Flaw::CharsetUndecodable));
    assert!(message.get(at("PID-5.1")).decode().flaws.is_empty());

    let sent = parse(format!("{HEAD}\rPID|1||7||a~Kim \u{fffd}\r"));
    assert_eq!(sent.findings(), [Finding::at(Flaw::ReplacementSent, at("PID-5[2]"))]);
    assert!(sent.get(at("PID-5[2]")).decode().flaws.contains(Flaw::ReplacementSent));

    let hex = parse(format!("{HEAD}\rPID|1||7||\\XFF\\\\F\\\r"));
    let decoded = hex.get(at("PID-5")).decode();
    assert_eq!((decoded.text.as_ref(), decoded.flaws.contains(Flaw::EscapeHex)), ("\\XFF\\|", true));
}

#[test]
fn hexadecimal_is_in_the_message_s_charset() {
    let raw = format!("{HEAD}\rPID|1||7||\\XC8B2\\\\XC8A3\\\r");
    let message = Message::parse(raw.clone().into(), &settings("CP949")).unwrap();
    assert_eq!(message.text("PID-5").as_deref(), Some("황호"));
    let declared = parse(raw.replacen("|2.5", "|2.5||||||KS X 1001", 1));
    assert_eq!(declared.text("PID-5").as_deref(), Some("황호"));
}

#[test]
fn text_that_came_as_json_is_utf_8() {
    let raw = format!("{HEAD}||||||8859/1\rPID|1||7||황호\r");
    let message = Message::parse(raw.into(), &settings("EUC-KR").unicode()).unwrap();
    assert_eq!((message.charset().rule(), message.text("PID-5.1").as_deref()), (Rule::Unicode, Some("황호")));
    assert!(message.findings().is_empty());
}

#[test]
fn edits() {
    let raw = format!("{HEAD}\nPID|1||7^^^X&1.2^MR~8||Kim^Chul\nPV1|1|I\n");
    let message = parse(raw.clone());
    let cases: [(&str, &str, Value<'_>, &str, &str); 12] = [
        ("field", "PV1-2", "E".into(), "PV1|1|I", "PV1|1|E"),
        ("first repetition's component", "PID-3.5", "PI".into(), "^MR~8", "^PI~8"),
        ("second repetition", "PID-3[2]", "9".into(), "~8|", "~9|"),
        ("third repetition is added", "PID-3[3]", "9".into(), "~8|", "~8~9|"),
        ("component of a new repetition", "PID-3[2].5", "SS".into(), "~8|", "~8^^^^SS|"),
        ("subcomponent", "PID-3.4.2", "9.9".into(), "X&1.2", "X&9.9"),
        ("field beyond the end", "PV1-5.2", "x".into(), "PV1|1|I", "PV1|1|I|||^x"),
        ("empty", "PID-5", "".into(), "Kim^Chul", ""),
        ("null", "PID-5", "\"\"".into(), "Kim^Chul", "\"\""),
        ("delimiters are escaped", "PID-5.1", "a|b^c\\d\n".into(), "Kim^", "a\\F\\b\\S\\c\\E\\d\\X0A\\^"),
        ("delimiters as such", "PID-5", Value::Raw("Lee^Young"), "Kim^Chul", "Lee^Young"),
        ("beyond ASCII", "PID-5.1", "황호".into(), "Kim^", "황호^"),
    ];
    for (why, path, value, from, to) in cases {
        let edited = message.edit(at(path), value).unwrap();
        assert_eq!(String::from_utf8_lossy(edited.bytes()), raw.replacen(from, to, 1), "{why}");
    }
    let refused: [(&str, &str, Value<'_>, EditError); 6] = [
        ("MSH-1", "MSH-1", "x".into(), EditError::NotAField),
        ("a segment", "PID", "x".into(), EditError::NotAField),
        ("no such segment", "PV1[2]-2", "x".into(), EditError::NoSegment),
        ("line ends as such", "PID-5", Value::Raw("a\rb"), EditError::NotRepresentable),
        ("field delimiters as such", "PID-5", Value::Raw("a|b"), EditError::NotRepresentable),
        ("a text that reads as null", "PID-5", Value::Text("\"\""), EditError::NotRepresentable),
    ];
    for (why, path, value, want) in refused {
        assert_eq!(message.edit(at(path), value).unwrap_err(), want, "{why}");
    }
}

#[test]
fn edits_are_written_in_the_message_s_charset() {
    let plain = format!("{HEAD}\rPID|1||7||Kim\r");
    let korean = Message::parse(plain.clone().into(), &settings("EUC-KR")).unwrap();
    let edited = korean.edit(at("PID-5"), "황호").unwrap();
    assert_eq!(edited.charset().rule(), Rule::Fallback);
    assert_eq!(edited.text("PID-5").as_deref(), Some("황호"));
    assert!(edited.bytes().ends_with(&[&EUC_KR.encode("황호").0[..], b"\r"].concat()));
    let edited = korean.edit(at("PID-5"), "😀").unwrap();
    assert_eq!((edited.charset().rule(), edited.text("PID-5").as_deref()), (Rule::Utf8Valid, Some("😀")));
    let latin = parse(format!("{HEAD}||||||8859/1\rPID|1||7||Kim\r"));
    assert_eq!(latin.edit(at("PID-5"), "황호").unwrap_err(), EditError::NotRepresentable);
    assert_eq!(latin.edit(at("PID-5"), "é").unwrap().text("PID-5").as_deref(), Some("é"));
    let japanese = parse(format!("{HEAD}||||||SHIFT_JIS\rPID|1||7||Kim\r"));
    let edited = japanese.edit(at("PID-5.2"), "ポ|ソ").unwrap();
    assert_eq!(edited.text("PID-5.2").as_deref(), Some("ポ|ソ"));
    assert_eq!(edited.render(), edited.bytes().as_ref());
}

#[test]
fn whole_texts_are_edited() {
    let korean = Message::parse(
        EUC_KR.encode(&format!("{HEAD}\rPID|1||7||김철수\r")).0.into_owned().into(),
        &settings("EUC-KR"),
    )
    .unwrap();
    let text = korean.to_text().text.into_owned();
    let edited = korean.with_text(&text.replace('\r', "\r\n").replace("김철수", "황호")).unwrap();
    assert_eq!(edited.text("PID-5").as_deref(), Some("황호"));
    assert_eq!(edited.segment_count(), 2);
    assert_eq!(korean.with_text(&text).unwrap().bytes(), korean.bytes());
    assert!(matches!(korean.with_text("nothing"), Err(EditError::Broken(ParseError::NoHeader))));
}

#[test]
fn five_thousand_repetitions_are_read_in_one_pass() {
    let raw = format!("{HEAD}\rPID|1||{}\r", vec!["7^^^X^MR"; 5_000].join("~"));
    let message = parse(raw);
    let kinds = message.get(at("PID-3")).repetitions().filter(|slot| slot.component(5).text() == "MR");
    assert_eq!(kinds.count(), 5_000);
}

#[test]
fn the_trigger_is_read() {
    let classified = trigger::classify(&parse(format!("{HEAD}\rEVN|A04\r")));
    assert_eq!(classified.kind(), "ADT^A01");
    assert_eq!(classified.finding, Some(Finding::at(Flaw::EventDiffers, at("EVN-1"))));
}

#[test]
fn debug_prints_no_patient_data() {
    let message = parse(format!("{HEAD}\rPID|1||7||CANARY^CANARY\r"));
    let printed = format!(
        "{message:?} {:?} {:?} {:?}",
        message.segment("PID"),
        message.get(at("PID-5")),
        Message::parse(Bytes::from("CANARY"), &CharsetSettings::default())
    );
    assert!(!printed.contains("CANARY"), "{printed}");
}
