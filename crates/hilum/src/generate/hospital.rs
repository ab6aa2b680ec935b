//! The simulated hospital, one event at a time.

use std::collections::HashSet;

use hilum_core::Timestamp;

use super::message::{self, Charset, Head, Merged, Person, Place, Stay};
use super::{Dice, names};

const MINUTE: i64 = 60 * 1_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// One message as it is to be sent.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The bytes of the message, without MLLP framing.
    pub bytes: Vec<u8>,
    /// What happened, for the console of `demo`; nothing about the patient.
    pub what: &'static str,
}

#[derive(Debug)]
struct Inside {
    person: Person,
    stay: Stay,
    on_leave: bool,
    /// The place before the last move, for a cancelled transfer.
    before: Option<(Place, Timestamp)>,
}

/// A hospital that lives by a seed.
#[derive(Debug)]
pub struct Hospital {
    dice: Dice,
    facility: &'static str,
    inside: Vec<Inside>,
    expected: Vec<Inside>,
    discharged: Vec<Inside>,
    beds: HashSet<Place>,
    persons: usize,
    visits: usize,
    controls: usize,
    last: Option<Sent>,
}

impl Hospital {
    /// A hospital without patients.
    pub fn new(seed: u64, facility: &'static str) -> Self {
        Self {
            dice: Dice::new(seed),
            facility,
            inside: Vec::new(),
            expected: Vec::new(),
            discharged: Vec::new(),
            beds: HashSet::new(),
            persons: 0,
            visits: 0,
            controls: 0,
            last: None,
        }
    }

    /// Who lies in it when the demonstration begins: admissions of the last four days, in order.
    pub fn fill(&mut self, now: Timestamp, patients: usize) -> Vec<Sent> {
        let mut out = Vec::new();
        for n in 0..patients {
            let back = 4 * DAY - (4 * DAY - 10 * MINUTE) / (patients.max(1) as i64) * (n as i64);
            let at = now.plus_micros(-back);
            let sent = match n % 10 {
                0 | 1 => self.register(at.max(now.plus_micros(-5 * HOUR)), true),
                2 => self.register(at.max(now.plus_micros(-3 * HOUR)), false),
                3 if n % 20 == 3 => self.expect(now.plus_micros(-(n as i64) * MINUTE)),
                _ => self.admit(at),
            };
            out.extend(sent);
        }
        out
    }

    /// One thing that happens at `now`; sometimes two messages (a merge, a duplicate).
    pub fn step(&mut self, now: Timestamp) -> Vec<Sent> {
        let roll = self.dice.below(1_000);
        let sent = match roll {
            0..=169 => self.admit(now),
            170..=269 => self.register(now, true),
            270..=329 => self.register(now, false),
            330..=349 => self.expect(now),
            350..=519 => self.transfer(now),
            520..=659 => self.discharge(now),
            660..=759 => self.update(now),
            760..=799 => self.admit_from_emergency(now),
            800..=829 => self.cancel_transfer(now),
            830..=849 => self.cancel_admit(now),
            850..=879 => self.cancel_discharge(now),
            880..=909 => self.leave(now),
            910..=929 => self.late_transfer(now),
            930..=949 => self.merge(now),
            950..=974 => {
                self.last.clone().map(|sent| Sent { what: "a duplicate", ..sent }).into_iter().collect()
            }
            975..=984 => vec![self.malformed(now)],
            _ => self.show_up(now),
        };
        if let Some(last) = sent.last() {
            self.last = Some(last.clone());
        }
        sent
    }

    fn person(&mut self) -> Person {
        self.persons += 1;
        let dice = &self.dice;
        let woman = dice.below(2);
        let year = dice.between(1932, 2024);
        let born = format!("{year:04}{:02}{:02}", dice.between(1, 12), dice.between(1, 28));
        let korean = dice.chance(650);
        let (name, latin) = if korean {
            let (family, family_latin) = dice.pick(names::FAMILIES);
            let (given, given_latin) = dice.pick(names::GIVEN[woman]);
            let latin = dice.chance(400).then(|| ((*family_latin).to_owned(), (*given_latin).to_owned()));
            (((*family).to_owned(), (*given).to_owned()), latin)
        } else {
            let given = dice.pick(names::LATIN_GIVEN[woman]);
            (((*dice.pick(names::LATIN_FAMILIES)).to_owned(), (*given).to_owned()), None)
        };
        let national = (korean && dice.chance(600)).then(|| {
            let century = if year < 2000 { 1 } else { 3 } + woman;
            format!("{}-{century}{:06}", born.get(2..).unwrap_or_default(), dice.below(1_000_000))
        });
        let mut allergies: Vec<usize> =
            (0..dice.below(4).saturating_sub(1)).map(|_| dice.below(names::ALLERGIES.len())).collect();
        allergies.sort_unstable();
        allergies.dedup();
        let kin = dice.chance(500).then(|| {
            (
                format!("{} {}", name.0, if korean { "영수" } else { "Robin" }),
                *dice.pick(&["SPO", "CHD", "PAR", "SIB"]),
            )
        });
        Person {
            number: format!("{:08}", 10_000 + self.persons),
            name,
            latin,
            born,
            sex: if woman == 1 { 'F' } else { 'M' },
            national,
            allergies,
            kin,
            confidential: dice.chance(30),
        }
    }

    fn stay(&mut self, class: char, place: Option<Place>, at: Timestamp) -> Stay {
        self.visits += 1;
        Stay {
            visit: format!("V{:07}", self.visits),
            class,
            place,
            doctor: self.dice.below(names::DOCTORS.len()),
            diagnosis: self.dice.below(names::DIAGNOSES.len()),
            admitted: at,
            discharged: None,
        }
    }

    fn free_bed(&mut self) -> Option<Place> {
        for _ in 0..64 {
            let unit = *self.dice.pick(names::WARDS);
            let place = Place {
                unit: unit.code,
                room: format!(
                    "{}{:02}",
                    unit.code.chars().find(char::is_ascii_digit).unwrap_or('1'),
                    1 + self.dice.below(unit.rooms)
                ),
                bed: (1 + self.dice.below(unit.beds)).to_string(),
            };
            if self.beds.insert(place.clone()) {
                return Some(place);
            }
        }
        None
    }

    fn say(
        &mut self,
        trigger: &str,
        at: Timestamp,
        occurred: Timestamp,
        who: &Inside,
        what: &'static str,
    ) -> Sent {
        self.say_merged(trigger, at, occurred, (&who.person, Some(&who.stay)), None, what)
    }

    fn say_merged(
        &mut self,
        trigger: &str,
        at: Timestamp,
        occurred: Timestamp,
        (person, stay): (&Person, Option<&Stay>),
        merged: Option<&Merged<'_>>,
        what: &'static str,
    ) -> Sent {
        self.controls += 1;
        // The old registration desk still writes KS X 1001.
        let old_desk = self.controls.is_multiple_of(7);
        let head = Head {
            application: if old_desk { "OLDREG" } else { "HIS" },
            facility: self.facility,
            trigger,
            control_id: format!("{}{:08}", if old_desk { "R" } else { "H" }, self.controls),
            sent: at,
            occurred,
            charset: if old_desk { Charset::KsX1001 } else { Charset::Utf8 },
        };
        Sent { bytes: message::write(&head, person, stay, merged), what }
    }

    fn admit(&mut self, at: Timestamp) -> Vec<Sent> {
        let Some(place) = self.free_bed() else { return self.discharge(at) };
        let person = self.person();
        let who = Inside { person, stay: self.stay('I', Some(place), at), on_leave: false, before: None };
        let sent = self.say("A01", at, at, &who, "an admission");
        self.inside.push(who);
        vec![sent]
    }

    fn register(&mut self, at: Timestamp, emergency: bool) -> Vec<Sent> {
        let place = if emergency {
            Place {
                unit: names::EMERGENCY.code,
                room: String::new(),
                bed: (1 + self.dice.below(names::EMERGENCY.beds)).to_string(),
            }
        } else {
            Place {
                unit: names::CLINIC.code,
                room: (1 + self.dice.below(names::CLINIC.rooms)).to_string(),
                bed: String::new(),
            }
        };
        let person = self.person();
        let class = if emergency { 'E' } else { 'O' };
        let who = Inside { person, stay: self.stay(class, Some(place), at), on_leave: false, before: None };
        let sent = self.say(
            "A04",
            at,
            at,
            &who,
            if emergency { "an arrival in the ED" } else { "an outpatient visit" },
        );
        self.inside.push(who);
        vec![sent]
    }

    fn expect(&mut self, at: Timestamp) -> Vec<Sent> {
        let person = self.person();
        let place =
            Place { unit: self.dice.pick(names::WARDS).code, room: String::new(), bed: String::new() };
        let who = Inside { person, stay: self.stay('I', Some(place), at), on_leave: false, before: None };
        let sent = self.say("A05", at, at, &who, "a pre-admission");
        self.expected.push(who);
        vec![sent]
    }

    fn show_up(&mut self, at: Timestamp) -> Vec<Sent> {
        if self.expected.is_empty() {
            return self.expect(at);
        }
        let Some(place) = self.free_bed() else { return self.discharge(at) };
        let mut who = self.expected.remove(0);
        who.stay.place = Some(place);
        who.stay.admitted = at;
        let sent = self.say("A01", at, at, &who, "an expected patient arrives");
        self.inside.push(who);
        vec![sent]
    }

    /// The place of somebody who lies in a bed of a ward, taken out of the list.
    fn take_inpatient(&mut self) -> Option<Inside> {
        let from = self.dice.below(self.inside.len());
        let n = self.inside.len();
        let at = (0..n)
            .map(|i| (from + i) % n)
            .find(|&i| self.inside.get(i).is_some_and(|who| who.stay.class == 'I' && !who.on_leave))?;
        Some(self.inside.swap_remove(at))
    }

    fn transfer(&mut self, at: Timestamp) -> Vec<Sent> {
        let Some(mut who) = self.take_inpatient() else { return self.admit(at) };
        let mut sent = Vec::new();
        if let Some(place) = self.free_bed() {
            if let Some(old) = who.stay.place.replace(place) {
                self.beds.remove(&old);
                who.before = Some((old, at));
            }
            sent.push(self.say("A02", at, at, &who, "a transfer"));
        }
        self.inside.push(who);
        sent
    }

    fn late_transfer(&mut self, at: Timestamp) -> Vec<Sent> {
        let Some(who) = self.take_inpatient() else { return self.admit(at) };
        // A move of two hours ago that is reported only now; the current place stands.
        let mut past = who.stay.clone();
        past.place = Some(Place { unit: "ICU", room: "112".to_owned(), bed: "1".to_owned() });
        let occurred = who.stay.admitted.plus_micros(MINUTE);
        let sent = self.say_merged("A02", at, occurred, (&who.person, Some(&past)), None, "a late transfer");
        self.inside.push(who);
        vec![sent]
    }

    fn discharge(&mut self, at: Timestamp) -> Vec<Sent> {
        if self.inside.is_empty() {
            return self.admit(at);
        }
        let mut who = self.inside.swap_remove(self.dice.below(self.inside.len()));
        who.stay.discharged = Some(at);
        let sent = self.say("A03", at, at, &who, "a discharge");
        if let Some(place) = &who.stay.place {
            self.beds.remove(place);
        }
        self.discharged.push(who);
        if self.discharged.len() > 200 {
            self.discharged.remove(0);
        }
        vec![sent]
    }

    fn cancel_discharge(&mut self, at: Timestamp) -> Vec<Sent> {
        let Some(mut who) = self.discharged.pop() else { return self.update(at) };
        let Some(discharged) = who.stay.discharged.take() else { return Vec::new() };
        if let Some(place) = &who.stay.place {
            self.beds.insert(place.clone());
        }
        let sent = self.say("A13", at, discharged, &who, "a cancelled discharge");
        self.inside.push(who);
        vec![sent]
    }

    fn cancel_transfer(&mut self, at: Timestamp) -> Vec<Sent> {
        let Some(i) = self.inside.iter().position(|who| who.before.is_some()) else { return self.update(at) };
        let mut who = self.inside.swap_remove(i);
        let mut sent = Vec::new();
        if let Some((old, moved)) = who.before.take()
            && self.beds.insert(old.clone())
        {
            if let Some(new) = who.stay.place.replace(old) {
                self.beds.remove(&new);
            }
            sent.push(self.say("A12", at, moved, &who, "a cancelled transfer"));
        }
        self.inside.push(who);
        sent
    }

    fn cancel_admit(&mut self, at: Timestamp) -> Vec<Sent> {
        let Some(who) = self.take_inpatient() else { return self.admit(at) };
        if let Some(place) = &who.stay.place {
            self.beds.remove(place);
        }
        vec![self.say("A11", at, who.stay.admitted, &who, "a cancelled admission")]
    }

    fn admit_from_emergency(&mut self, at: Timestamp) -> Vec<Sent> {
        let Some(i) = self.inside.iter().position(|who| who.stay.class == 'E') else {
            return self.register(at, true);
        };
        let Some(place) = self.free_bed() else { return self.discharge(at) };
        let mut who = self.inside.swap_remove(i);
        who.stay.class = 'I';
        who.stay.place = Some(place);
        let sent = self.say("A06", at, at, &who, "an ED patient is admitted");
        self.inside.push(who);
        vec![sent]
    }

    fn leave(&mut self, at: Timestamp) -> Vec<Sent> {
        if let Some(i) = self.inside.iter().position(|who| who.on_leave) {
            let mut who = self.inside.swap_remove(i);
            who.on_leave = false;
            let sent = self.say("A22", at, at, &who, "a return from leave");
            self.inside.push(who);
            return vec![sent];
        }
        let Some(mut who) = self.take_inpatient() else { return self.admit(at) };
        who.on_leave = true;
        let sent = self.say("A21", at, at, &who, "a leave of absence");
        self.inside.push(who);
        vec![sent]
    }

    fn update(&mut self, at: Timestamp) -> Vec<Sent> {
        let Some(mut who) = self.take_inpatient() else { return self.admit(at) };
        who.stay.doctor = self.dice.below(names::DOCTORS.len());
        if who.person.allergies.is_empty() {
            who.person.allergies.push(self.dice.below(names::ALLERGIES.len()));
        }
        let sent = self.say("A08", at, at, &who, "an update");
        self.inside.push(who);
        vec![sent]
    }

    /// Registered twice: the second number is merged into the first.
    fn merge(&mut self, at: Timestamp) -> Vec<Sent> {
        let Some(who) = self.take_inpatient() else { return self.admit(at) };
        self.persons += 1;
        let double = Person { number: format!("{:08}", 10_000 + self.persons), ..who.person.clone() };
        let place = Place { unit: names::CLINIC.code, room: "1".to_owned(), bed: String::new() };
        let visit = self.stay('O', Some(place), at);
        let first = self.say_merged("A04", at, at, (&double, Some(&visit)), None, "a second registration");
        let merged = Merged { number: &double.number };
        let second = self.say_merged(
            "A40",
            at.plus_micros(1_000_000),
            at.plus_micros(1_000_000),
            (&who.person, None),
            Some(&merged),
            "a merge",
        );
        self.inside.push(who);
        vec![first, second]
    }

    fn malformed(&mut self, at: Timestamp) -> Sent {
        let person = self.person();
        let who = Inside { stay: self.stay('I', None, at), person, on_leave: false, before: None };
        let sent = self.say("A01", at, at, &who, "a malformed message");
        // Johab is a charset that nobody may guess at: the message is kept and set aside.
        let text = String::from_utf8_lossy(&sent.bytes).replacen("UNICODE UTF-8", "JOHAB", 1).replacen(
            "KS X 1001",
            "JOHAB",
            1,
        );
        Sent { bytes: text.into_bytes(), ..sent }
    }
}
