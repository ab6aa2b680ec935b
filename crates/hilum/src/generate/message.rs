//! The text of one message.

use std::fmt::Write as _;

use hilum_core::Timestamp;

use super::names;

/// A synthetic person as the hospital's system knows them.
#[derive(Debug, Clone)]
pub struct Person {
    /// The number in PID-3, type MR.
    pub number: String,
    /// Family and given name as PID-5 carries them, first repetition.
    pub name: (String, String),
    /// The Latin form beside a Korean name.
    pub latin: Option<(String, String)>,
    /// `YYYYMMDD`.
    pub born: String,
    /// PID-8.
    pub sex: char,
    /// The national number (PID-19), invented.
    pub national: Option<String>,
    /// Index into [`names::ALLERGIES`]; `None` = none recorded.
    pub allergies: Vec<usize>,
    /// Next of kin: name and relationship code (table 0063).
    pub kin: Option<(String, &'static str)>,
    /// Whether PV1-16 asks for discretion.
    pub confidential: bool,
}

/// A place as PV1-3 carries it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// Unit.
    pub unit: &'static str,
    /// Room.
    pub room: String,
    /// Bed.
    pub bed: String,
}

/// One stay.
#[derive(Debug, Clone)]
pub struct Stay {
    /// PV1-19.
    pub visit: String,
    /// PV1-2.
    pub class: char,
    /// PV1-3; absent for who is expected or gone.
    pub place: Option<Place>,
    /// Index into [`names::DOCTORS`].
    pub doctor: usize,
    /// Index into [`names::DIAGNOSES`].
    pub diagnosis: usize,
    /// PV1-44.
    pub admitted: Timestamp,
    /// PV1-45.
    pub discharged: Option<Timestamp>,
}

/// What stands in MSH and EVN.
#[derive(Debug, Clone)]
pub struct Head<'a> {
    /// MSH-3.
    pub application: &'a str,
    /// MSH-4 and the authority of PID-3.
    pub facility: &'a str,
    /// MSH-9.2 and EVN-1.
    pub trigger: &'a str,
    /// MSH-10.
    pub control_id: String,
    /// MSH-7 and EVN-2.
    pub sent: Timestamp,
    /// EVN-6.
    pub occurred: Timestamp,
    /// MSH-18.
    pub charset: Charset,
}

/// The charset that a message is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// UTF-8.
    Utf8,
    /// KS X 1001 (EUC-KR).
    KsX1001,
}

/// The old number of a merge.
#[derive(Debug, Clone)]
pub struct Merged<'a> {
    /// MRG-1.
    pub number: &'a str,
}

/// Seoul's local time with offset, as DTM with seconds.
pub fn dtm(at: Timestamp) -> String {
    const SEOUL_S: i64 = 9 * 3600;
    let local = at.plus_micros(SEOUL_S * 1_000_000).to_jiff();
    format!("{}+0900", local.strftime("%Y%m%d%H%M%S"))
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' => out.push_str("\\F\\"),
            '^' => out.push_str("\\S\\"),
            '&' => out.push_str("\\T\\"),
            '~' => out.push_str("\\R\\"),
            '\\' => out.push_str("\\E\\"),
            c => out.push(c),
        }
    }
    out
}

/// Writes one message; segments end with CR. At least 1,000 bytes where there is a visit.
pub fn write(head: &Head<'_>, person: &Person, stay: Option<&Stay>, merged: Option<&Merged<'_>>) -> Vec<u8> {
    let mut text = String::with_capacity(1_600);
    let charset = match head.charset {
        Charset::Utf8 => "UNICODE UTF-8",
        Charset::KsX1001 => "KS X 1001",
    };
    let Head { application, facility, trigger, control_id, .. } = head;
    let (sent, occurred) = (dtm(head.sent), dtm(head.occurred));
    // Writing to a String cannot fail; the macro keeps the lines readable.
    macro_rules! line {
        ($($part:tt)*) => {{
            write!(text, $($part)*).expect("a String takes every write");
            text.push('\r');
        }};
    }
    line!(
        "MSH|^~\\&|{application}|{facility}|HILUM|{facility}|{sent}||ADT^{trigger}^{}|{control_id}|P|2.5.1|||||KOR|{charset}",
        structure(trigger)
    );
    line!("EVN|{trigger}|{sent}|||OP{:03}^Clerk^Ward|{occurred}", control_id.len() * 7 % 1000);
    let (family, given) = (escape(&person.name.0), escape(&person.name.1));
    let names = match &person.latin {
        Some((latin_family, latin_given)) => {
            format!("{family}^{given}^^^^^L^I~{}^{}^^^^^L^A", escape(latin_family), escape(latin_given))
        }
        None => format!("{family}^{given}^^^^^L"),
    };
    let national = person.national.as_deref().unwrap_or_default();
    line!(
        "PID|1||{number}^^^{facility}^MR||{names}||{born}|{sex}|||12 Sejong-daero^Jung-gu^Seoul^^04524^KOR^H||^PRN^PH^^82^2^5550{tail}||ko^Korean^ISO639|M|NON|{number}-A^^^{facility}^AN|{national}",
        number = person.number,
        born = person.born,
        sex = person.sex,
        tail = person.number.chars().rev().take(3).collect::<String>(),
    );
    if let Some(merged) = merged {
        line!("MRG|{}^^^{facility}^MR", merged.number);
    }
    if let Some((name, relationship)) = &person.kin {
        line!(
            "NK1|1|{}|{relationship}^^HL70063|12 Sejong-daero^Jung-gu^Seoul^^04524^KOR|^PRN^PH^^82^10^55501234",
            escape(name).replacen(' ', "^", 1)
        );
    }
    if let Some(stay) = stay {
        let place = stay
            .place
            .as_ref()
            .map_or_else(String::new, |p| format!("{}^{}^{}^{facility}", p.unit, p.room, p.bed));
        let (id, doctor_family, doctor_given) = names::DOCTORS[stay.doctor];
        let service = names::WARDS
            .iter()
            .chain([&names::EMERGENCY, &names::CLINIC])
            .find(|unit| stay.place.as_ref().is_some_and(|p| p.unit == unit.code))
            .map_or("MED", |unit| unit.service);
        let vip = if person.confidential { "VIP" } else { "" };
        let discharged = stay.discharged.map(dtm).unwrap_or_default();
        let disposition = if stay.discharged.is_some() { "01" } else { "" };
        let attending = format!("{id}^{doctor_family}^{doctor_given}^^^Dr^MD^^{facility}");
        let referring = format!("D1002^Brandt^Ulrike^^^Dr^MD^^{facility}");
        let visit = format!("{}^^^{facility}^VN", stay.visit);
        let admitted = dtm(stay.admitted);
        let class = stay.class.to_string();
        let pv1 = [
            (1, "1"),
            (2, class.as_str()),
            (3, &place),
            (4, if stay.class == 'E' { "E" } else { "R" }),
            (7, &attending),
            (8, &referring),
            (10, service),
            (14, "1"),
            (16, vip),
            (17, &attending),
            (19, &visit),
            (20, "SELF"),
            (36, disposition),
            (44, &admitted),
            (45, &discharged),
        ];
        line!("{}", segment("PV1", &pv1));
        let (code, diagnosis) = names::DIAGNOSES[stay.diagnosis];
        line!("PV2|||{code}^{diagnosis}^I10|||||||||||||||||||N");
        for (n, &allergy) in person.allergies.iter().enumerate() {
            let (kind, code, name, severity, reaction) = names::ALLERGIES[allergy];
            line!("AL1|{}|{kind}^^HL70127|{code}^{name}^L|{severity}^^HL70128|{reaction}", n + 1);
        }
        line!(
            "DG1|1||{code}^{diagnosis}^I10||{}|W|||||||||1|{id}^{doctor_family}^{doctor_given}",
            dtm(stay.admitted)
        );
        line!(
            "ZHI|1|synthetic|This message describes nobody: hilum's simulated hospital wrote it for a demonstration or a measurement, and every name, number and date in it was rolled by a seeded die."
        );
    }
    match head.charset {
        Charset::Utf8 => text.into_bytes(),
        Charset::KsX1001 => {
            let (bytes, _, unmappable) = encoding_rs::EUC_KR.encode(&text);
            // What KS X 1001 cannot say goes out as UTF-8 under its own name.
            if unmappable {
                text.replacen("KS X 1001", "UNICODE UTF-8", 1).into_bytes()
            } else {
                bytes.into_owned()
            }
        }
    }
}

/// A segment from its numbered fields, given in order.
fn segment(name: &str, fields: &[(usize, &str)]) -> String {
    let mut out = name.to_owned();
    let mut at = 0;
    for (number, value) in fields {
        while at < *number {
            out.push('|');
            at += 1;
        }
        out.push_str(value);
    }
    out
}

fn structure(trigger: &str) -> &'static str {
    match trigger {
        "A02" | "A21" | "A22" | "A23" | "A25" | "A26" | "A27" | "A29" | "A32" | "A33" | "A52" | "A53" => {
            "ADT_A02"
        }
        "A03" => "ADT_A03",
        "A05" | "A14" | "A28" | "A31" => "ADT_A05",
        "A06" | "A07" => "ADT_A06",
        "A09" | "A10" | "A11" | "A12" => "ADT_A09",
        "A40" => "ADT_A39",
        _ => "ADT_A01",
    }
}
