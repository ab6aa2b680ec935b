//! A generated stream: a small hospital with more trouble than a real one has in a year.
#![allow(dead_code)]

use hilum_core::Entropy;

use super::{Msg, time};

pub struct Dice(Entropy);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(Entropy::seeded(seed))
    }

    /// 0..n
    pub fn below(&self, n: usize) -> usize {
        (u32::from_le_bytes(self.0.bytes::<4>()) as usize) % n
    }

    pub fn one_in(&self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub fn shuffle<T>(&self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

const NAMES: &[&str] = &["김^민준", "남궁^서연", "황보민", "Kim^Min", "O'Neil^Zoë", "무명남", "황호^뷁"];
const PLACES: &[&str] = &["W1^101^1^H", "W1^101^2^H", "W2^201^1^H", "ED^1^^H", "", "W3^^^H", "W2^201^1^G"];
const EVENTS: &[&str] = &[
    "A01", "A01", "A02", "A02", "A02", "A03", "A03", "A04", "A05", "A06", "A07", "A08", "A08", "A08", "A09",
    "A10", "A11", "A12", "A12", "A13", "A13", "A14", "A15", "A16", "A21", "A22", "A23", "A25", "A26", "A27",
    "A28", "A29", "A31", "A31", "A32", "A33", "A38", "A52", "A53", "A54", "A60", "A40", "A40", "A40", "A24",
    "A37", "A45", "A17", "A20", "A43",
];

/// `count` messages about few patients, so that everything meets everything.
pub fn messages(seed: u64, count: usize) -> Vec<String> {
    let dice = Dice::new(seed);
    let patients = ["11", "12", "13", "14", "15", "16"];
    (0..count).map(|n| message(&dice, n, &patients)).collect()
}

fn message(dice: &Dice, n: usize, patients: &[&str]) -> String {
    let event: &'static str = dice.pick(EVENTS);
    let at = minute(dice);
    let patient = dice.pick(patients);
    let mut one = said(dice, n, event, &at, patient);
    if dice.one_in(12) {
        return set_aside(dice, one, patient);
    }
    match event {
        "A20" => {
            return format!(
                "MSH|^~\\&|APP|H|HILUM|H|{}||ADT^A20|c{n}|P|2.5\rEVN||{}\rNPU|W1^101^1^H|{}\r",
                time(&at),
                time(&at),
                dice.pick(&["U", "O", "K", "I"])
            );
        }
        "A40" => {
            let old = dice.pick(patients);
            one = one.pid3(&format!("{patient}^^^H^MR")).with(&format!("MRG|{old}^^^H^MR")).without_pv1();
        }
        "A45" => {
            let old = dice.pick(patients);
            let visit = dice.below(8);
            one =
                one.pid3(&format!("{patient}^^^H^MR")).with(&format!("MRG|{old}^^^H^MR||||V{visit}^^^H^VN"));
        }
        "A17" | "A24" | "A37" => {
            let other = dice.pick(patients);
            let two = said(dice, n, event, &at, other).pid3(&format!("{other}^^^H^MR"));
            return one.pid3(&format!("{patient}^^^H^MR")).with_second(Some(&two));
        }
        "A28" | "A31" | "A29" | "A43" => one = one.without_pv1(),
        "A06" | "A07" if dice.one_in(2) => {
            one = one.with(&format!("MRG|{patient}^^^H^MR||||V{}^^^H^VN", dice.below(8)));
        }
        _ => {}
    }
    one.text()
}

/// A message that is quarantined: its MRG pairs with nothing, or nothing names its visit. What stands in for `^^^X^MR` or
/// behind `PID` corrects it ([`corrected`]).
fn set_aside(dice: &Dice, mut one: Msg, patient: &str) -> String {
    one = one.pid3(&format!("{patient}^^^H^MR")).without_pv1();
    if dice.one_in(2) {
        return one.event("A40").with("MRG|9^^^X^MR").text();
    }
    one.event("A03").text()
}

/// The correction of what [`set_aside`] made; `None` for any other message.
pub fn corrected(text: &str) -> Option<String> {
    if text.contains("ADT^A40") && text.contains("^^^X^MR") {
        return Some(text.replace("9^^^X^MR", "15^^^H^MR"));
    }
    let is_aside = text.contains("ADT^A03") && !text.contains("PV1|");
    is_aside.then(|| format!("{text}PV1|1|I|W9^901^1^H||||||||||||||||V1^^^H^VN\r"))
}

fn minute(dice: &Dice) -> String {
    format!("{:02}{:02}{:02}", 1 + dice.below(3), dice.below(24), dice.below(4) * 15)
}

fn said(dice: &Dice, n: usize, event: &'static str, at: &str, patient: &str) -> Msg {
    let visit = if dice.one_in(4) { String::new() } else { format!("V{}", dice.below(8)) };
    let control = if dice.one_in(12) { format!("c{}", dice.below(10)) } else { format!("c{n}") };
    let mut one = Msg::new(event, &control, at, patient, &visit).at(dice.pick(PLACES)).name(dice.pick(NAMES));
    one = one.class(dice.pick(&["I", "I", "I", "O", "E", ""]));
    if dice.one_in(3) {
        one = one.event_time(&minute(dice));
    }
    if dice.one_in(10) {
        one = one.recorded("20290101");
    }
    match dice.below(14) {
        0 => one = one.pid3(""),
        1 => one = one.pid3(&format!("{patient}^^^H^MR~77^^^B^PI")),
        3 => one = one.pid3(&format!("{patient}^^^H^MR~77^^^B^PI~78^^^B^PI")),
        4 => one = one.pid3(&format!("{patient}^^^H^MR~{}^^^H^MR", 11 + dice.below(9))),
        2 => one = one.pid3(&format!("{patient}^^^H^MR~{}^^^H^PI", 11 + dice.below(6))),
        _ => {}
    }
    if dice.one_in(4) {
        one = one.born(dice.pick(&["19800101", "19990909", "19000101", "", "\"\"", "1980"]));
    }
    if dice.one_in(6) {
        one = one.pid(30, dice.pick(&["Y", "N", "\"\""]));
    }
    if dice.one_in(6) {
        one = one.pid(13, dice.pick(&["010-1111", "010-2222", "\"\""]));
    }
    if dice.one_in(5) {
        one = one.pv1(44, &time(&minute(dice)));
    }
    if dice.one_in(5) {
        one = one.pv1(7, dice.pick(&["11^Lee^Doc^^^^^^H", "12^박^의사^^^^^^H", "\"\""]));
    }
    if dice.one_in(6) {
        one = one.pv1(36, dice.pick(&["01", "20"]));
    }
    if dice.one_in(6) {
        one = one.pv1(42, dice.pick(PLACES));
    }
    if dice.one_in(9) {
        one = one.with(&format!("PD1||||||||||||{}", dice.pick(&["Y", "N"])));
    }
    for _ in 0..dice.below(3) {
        one = one.with(dice.pick(&[
            "AL1|1|DA|PEN^Penicillin|SV",
            "AL1|1|MA|LAT^Latex|MO",
            "AL1|\"\"|\"\"|\"\"|\"\"",
            "IAM|1|DA|PEN^Penicillin|SV||A",
            "IAM|1|DA|PEN^Penicillin|SV||D",
            "NK1|1|김^어머니|MTH",
            "NK1|1|Lee^Son|SON",
            "DG1|1||I10^Hypertension^I10|||A",
            "DG1|1||E11^Diabetes^I10|||F",
            "DG1|1||I10^Hypertension^I10|||A\rDG1|2||J18^Pneumonia^I10|||A",
            "DG1|\"\"||\"\"",
        ]));
    }
    one
}
