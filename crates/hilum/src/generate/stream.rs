//! A whole feed in the order of arrival, for measuring: so many messages, a fifth as many encounters, some late,
//! some cancelled, some merged.

use hilum_core::Timestamp;

use super::message::{self, Charset, Head, Merged, Person, Place, Stay};
use super::{Dice, names};

/// What the feed holds.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Number of messages.
    pub messages: usize,
    /// Messages that arrive later than their successors, per 1,000.
    pub late_per_mille: usize,
    /// Messages that cancel another, per 1,000.
    pub cancel_per_mille: usize,
    /// Merges, per 1,000.
    pub merge_per_mille: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { messages: 100_000, late_per_mille: 100, cancel_per_mille: 20, merge_per_mille: 5 }
    }
}

/// Messages in the order in which they are to be sent. Five for an encounter; about a thousand encounters are open
/// at a time.
pub fn messages(seed: u64, start: Timestamp, shape: Shape) -> Vec<Vec<u8>> {
    let dice = Dice::new(seed);
    let encounters = shape.messages.div_ceil(5);
    // (place in the order of arrival, message)
    let mut out: Vec<(u64, Vec<u8>)> = Vec::with_capacity(shape.messages + 8);
    for n in 0..encounters {
        for (step, bytes) in encounter(&dice, n, start, shape).into_iter().enumerate() {
            // Encounters overlap: each begins one place behind the last, its steps lie a thousand places apart.
            let mut place = (n as u64) * 5 + (step as u64) * 5_000;
            if dice.chance(shape.late_per_mille) {
                place += 5_000 + dice.below(20_000) as u64;
            }
            out.push((place, bytes));
        }
    }
    out.sort_by_key(|(place, _)| *place);
    out.truncate(shape.messages);
    out.into_iter().map(|(_, bytes)| bytes).collect()
}

fn encounter(dice: &Dice, n: usize, start: Timestamp, shape: Shape) -> Vec<Vec<u8>> {
    const MINUTE: i64 = 60_000_000;
    let admitted = start.plus_micros(n as i64 * 1_000_000);
    let woman = dice.below(2);
    let (family, _) = dice.pick(names::FAMILIES);
    let (given, _) = dice.pick(names::GIVEN[woman]);
    let person = Person {
        number: format!("{:08}", 1_000_000 + n),
        name: ((*family).to_owned(), (*given).to_owned()),
        latin: Some(("HONG".to_owned(), "Gildong".to_owned())),
        born: format!("{:04}{:02}{:02}", dice.between(1932, 2024), dice.between(1, 12), dice.between(1, 28)),
        sex: if woman == 1 { 'F' } else { 'M' },
        national: None,
        allergies: if dice.chance(300) { vec![dice.below(names::ALLERGIES.len())] } else { Vec::new() },
        kin: Some((format!("{family} 영수"), "SPO")),
        confidential: dice.chance(20),
    };
    let bed = |dice: &Dice| {
        let unit = dice.pick(names::WARDS);
        Place {
            unit: unit.code,
            room: format!("{:03}", dice.below(400)),
            bed: (1 + dice.below(4)).to_string(),
        }
    };
    let mut stay = Stay {
        visit: format!("V{n:08}"),
        class: 'I',
        place: Some(bed(dice)),
        doctor: dice.below(names::DOCTORS.len()),
        diagnosis: dice.below(names::DIAGNOSES.len()),
        admitted,
        discharged: None,
    };
    let mut out = Vec::with_capacity(5);
    let mut say = |trigger: &str,
                   minutes: i64,
                   occurred: i64,
                   person: &Person,
                   stay: &Stay,
                   merged: Option<&Merged<'_>>| {
        let head = Head {
            application: "HIS",
            facility: "BENCH",
            trigger,
            control_id: format!("B{n:08}{}", out.len()),
            sent: admitted.plus_micros(minutes * MINUTE),
            occurred: admitted.plus_micros(occurred * MINUTE),
            charset: Charset::Utf8,
        };
        out.push(message::write(&head, person, Some(stay), merged));
    };
    say("A01", 0, 0, &person, &stay, None);
    let first = stay.place.clone();
    stay.place = Some(bed(dice));
    say("A02", 30, 30, &person, &stay, None);
    // A cancel stands for one of an encounter's five messages.
    if dice.chance(shape.cancel_per_mille * 5) {
        stay.place = first;
        say("A12", 40, 30, &person, &stay, None);
    } else {
        stay.doctor = dice.below(names::DOCTORS.len());
        say("A08", 45, 45, &person, &stay, None);
    }
    if dice.chance(shape.merge_per_mille * 5) && n > 0 {
        let old = format!("{:08}", 1_000_000 + n - 1);
        say("A40", 60, 60, &person, &stay, Some(&Merged { number: &old }));
    } else {
        stay.place = Some(bed(dice));
        say("A02", 90, 90, &person, &stay, None);
    }
    // Half of the patients stay, so that the census has something to show.
    if n.is_multiple_of(2) {
        stay.discharged = Some(admitted.plus_micros(120 * MINUTE));
        say("A03", 120, 120, &person, &stay, None);
    } else {
        say("A08", 120, 120, &person, &stay, None);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_feed_is_a_function_of_its_seed_and_has_the_size_that_was_asked() {
        let shape = Shape { messages: 1_000, ..Shape::default() };
        let start = Timestamp::from_micros(1_760_000_000_000_000);
        let one = messages(7, start, shape);
        assert_eq!(one, messages(7, start, shape));
        assert_ne!(one, messages(8, start, shape));
        assert_eq!(one.len(), 1_000);
        assert!(one.iter().all(|bytes| bytes.len() >= 1_000), "each message has 1 kB");
        let count =
            |trigger: &str| one.iter().filter(|b| String::from_utf8_lossy(b).contains(trigger)).count();
        assert!((5..60).contains(&count("|ADT^A12^")), "cancels: {}", count("|ADT^A12^"));
        assert!((1..20).contains(&count("|ADT^A40^")), "merges: {}", count("|ADT^A40^"));
    }
}
