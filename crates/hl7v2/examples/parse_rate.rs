//! Messages per second on one core: parse + nine census fields, escapes and charset on.
//!
//! `cargo run --release -p hilum-hl7v2 --example parse_rate`

#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use hilum_hl7v2::census::census_fields;
use hilum_hl7v2::{CharsetSettings, Message};

const FAMILY: [&str; 8] = ["Kim", "Lee", "Müller", "황", "남궁", "O\\T\\Neill", "Smith", "Garcia"];
const SEGMENTS: [&str; 6] = [
    "NK1|1|Kim^Young^^^Mrs.|SPO^Spouse^HL70063|12 Long Street^^Seoul^^03080^KOR||02-555-1234|||||||||||||||",
    "AL1|1|DA|1605^Penicillin^L|SV|Anaphylaxis|20100203\rAL1|2|FA|255604002^Peanut^SCT|MO|Hives|20150607",
    "DG1|1|I10|I63.9^Cerebral infarction, unspecified^I10|Stroke\\T\\aphasia|202607140930|A|||||||||1|D7^Han",
    "PD1|||Example Primary Care^^12345|D99^Choi^Minsu^^^Dr|||||||N",
    "IN1|1|NHIS^National Health Insurance|0001|National Health Insurance Service|32 Geongang-ro^^Wonju^^26464^KOR|||||||20200101|||1|Kim^Given|SEL|19800115|Daehak-ro^^Seoul",
    "OBX|1|NM|8867-4^Heart rate^LN||72|/min^^UCUM|60-100|N|||F|||202607140925\rOBX|2|NM|8310-5^Body temperature^LN||36.8|Cel",
];

/// `count` ADT messages of about 1.2 kB; each fourth has text beyond ASCII, each eighth an escape in what is read.
fn generate(count: usize) -> Vec<Bytes> {
    (0..count)
        .map(|n| {
            let family = FAMILY[n % FAMILY.len()];
            let event = ["A01", "A02", "A03", "A08"][n % 4];
            let mut raw = format!(
                "MSH|^~\\&|HIS|SNUH|HILUM|HUB|20260714093015.123+0900||ADT^{event}^ADT_A01|MSG{n:08}|P|2.5.1|||AL|NE|KOR|UNICODE UTF-8\r\
                 EVN|{event}|20260714093015||O|D7^Han^Jimin|20260714093000\r\
                 PID|1||{n:08}^^^SNUH&1.2.410.100&ISO^MR~A{n:07}^^^NHIS^SS||{family}^Given{n}^^^^^L||19{:02}0{}15|{}||2106-3|\
                 {n} Daehak-ro^^Jongno-gu^Seoul^03080^KOR^H||02-2072-{:04}^PRN^PH||KO|M||ACC{n:07}^^^SNUH^AN|||||||||||N\r\
                 PV1|1|I|W{}^{}^{}^SNUH^^N||||D{}^Han^Jimin^^^Dr|D8^Seo^Yuna^^^Dr||MED|||||||D7^Han^Jimin|IP|V{n:08}^^^SNUH^VN|\
                 ||||||||||||||||||||||||202607140900\r",
                n % 90 + 10,
                n % 9 + 1,
                if n % 2 == 0 { 'M' } else { 'F' },
                n % 10_000,
                n % 12,
                n % 40 + 100,
                n % 4 + 1,
                n % 50,
            );
            for segment in SEGMENTS {
                raw += segment;
                raw.push('\r');
            }
            raw.into()
        })
        .collect()
}

fn rate(name: &str, messages: &[Bytes], mut work: impl FnMut(&Bytes)) {
    let mut best = f64::MAX;
    for _ in 0..50 {
        let start = Instant::now();
        for message in messages {
            work(message);
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    let per_message_ns = best / messages.len() as f64 * 1e9;
    println!("{name:<40} {:>10.0} msg/s {per_message_ns:>8.0} ns", 1e9 / per_message_ns);
}

fn main() {
    let settings = CharsetSettings::new(None, Some("EUC-KR")).expect("a known charset");
    let messages = generate(2_000);
    let bytes: usize = messages.iter().map(Bytes::len).sum();
    println!("{} messages of {} bytes", messages.len(), bytes / messages.len());
    let parse = |bytes: &Bytes| Message::parse(bytes.clone(), &settings).expect("parses");
    rate("parse", &messages, |bytes| {
        black_box(parse(bytes));
    });
    rate("parse + nine fields", &messages, |bytes| {
        let message = parse(bytes);
        black_box(census_fields(&message));
    });
    let ascii: Vec<Bytes> = messages.iter().filter(|bytes| bytes.is_ascii()).cloned().collect();
    rate("parse + nine fields, ASCII alone", &ascii, |bytes| {
        let message = parse(bytes);
        black_box(census_fields(&message));
    });
    let korean: Vec<Bytes> = messages
        .iter()
        .map(|bytes| String::from_utf8_lossy(bytes).replace("Given", "철수").replace("Müller", "황호"))
        .map(|text| text.replace("UNICODE UTF-8", "KS X 1001"))
        .map(|text| encoding_rs::EUC_KR.encode(&text).0.into_owned().into())
        .collect();
    rate("parse + nine fields, all CP949", &korean, |bytes| {
        let message = parse(bytes);
        black_box(census_fields(&message));
    });
}
