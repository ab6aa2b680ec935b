//! Leaves: texts, numbers and times, and what was odd about them.

use std::borrow::Cow;

use hilum_hl7v2::{Flaw, Path, Slot};

use super::{Reader, signs};
use crate::content::Finding;
use crate::content::time::When;
use crate::limits::{FINDINGS_MAX, IDENTIFIER_BYTES_MAX, TEXT_BYTES_MAX};

impl Reader<'_> {
    pub(super) fn find(&mut self, rule: &'static str, path: Path, text: &'static str) {
        if self.findings.len() + 1 < FINDINGS_MAX {
            self.findings.push(Finding { rule: rule.into(), path: path.to_string(), text: text.into() });
        } else if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding {
                rule: "findings-more".into(),
                path: String::new(),
                text: "there are more findings than are kept".into(),
            });
        }
    }

    /// The decoded text of a leaf, with what was odd about it among the findings.
    fn decoded<'m>(&mut self, slot: Slot<'m>, path: Path) -> Cow<'m, str> {
        let decoded = slot.decode();
        for flaw in decoded.flaws.iter() {
            self.find(flaw.as_str(), path, flaw.text());
        }
        decoded.text
    }

    /// The text of a leaf: blanks around it cut off, line ends and tabs as blanks, other control characters removed.
    pub(super) fn text(&mut self, slot: Option<Slot<'_>>, path: Path) -> String {
        let Some(slot) = slot else { return String::new() };
        if slot.raw().is_empty() {
            return String::new();
        }
        let text = self.decoded(slot, path);
        if signs::are_private(&text) {
            self.find(
                "text-private",
                path,
                "signs of private use: only who sent them knows what they look like",
            );
        }
        let trimmed = text.trim_matches(' ');
        if !trimmed.chars().any(is_odd) && trimmed.len() <= TEXT_BYTES_MAX {
            return trimmed.to_owned();
        }
        let mut clean = String::with_capacity(trimmed.len());
        let mut removed = false;
        for character in trimmed.chars() {
            match character {
                '\n' | '\r' | '\t' => clean.push(' '),
                odd if is_odd(odd) => removed = true,
                plain => clean.push(plain),
            }
        }
        if removed {
            self.find("text-control", path, "control characters were removed");
        }
        if clean.len() > TEXT_BYTES_MAX {
            let end = (0..=TEXT_BYTES_MAX).rev().find(|&end| clean.is_char_boundary(end)).unwrap_or(0);
            clean.truncate(end);
            self.find("text-too-long", path, "longer than the bound: cut off");
        }
        clean.trim_matches(' ').to_owned()
    }

    /// The value of an identifier: byte-exact, control characters as their pictures.
    pub(super) fn number(&mut self, slot: Option<Slot<'_>>, path: Path) -> Option<String> {
        let slot = slot?;
        let text = self.decoded(slot, path);
        if text.trim().is_empty() {
            return None;
        }
        let is_plain = !text.chars().any(is_odd);
        let picture = |character: char| match u32::from(character) {
            low @ 0..=0x1F => char::from_u32(0x2400 + low).unwrap_or('\u{2426}'),
            0x7F => '\u{2421}',
            _ if is_odd(character) => '\u{2426}',
            _ => character,
        };
        // A picture is longer than what it shows: the bound holds for what is kept.
        let number: String = if is_plain { text.into_owned() } else { text.chars().map(picture).collect() };
        if number.len() > IDENTIFIER_BYTES_MAX {
            self.find("identifier-too-long", path, "longer than the bound: left out");
            return None;
        }
        if !is_plain {
            self.find(
                "identifier-control",
                path,
                "control characters in an identifier show as their pictures",
            );
        }
        Some(number)
    }

    pub(super) fn when(&mut self, slot: Option<Slot<'_>>, path: Path) -> Option<When> {
        let slot = slot.filter(hilum_hl7v2::Slot::has_value)?;
        let raw = slot.text();
        match When::read(&raw, &self.zones) {
            Ok((when, false)) => Some(when),
            Ok((when, true)) => {
                self.find(
                    "time-ambiguous",
                    path,
                    "a local time at a change of the clock: the earlier offset was taken",
                );
                Some(when)
            }
            Err(_) => {
                self.find(Flaw::TimeInvalid.as_str(), path, Flaw::TimeInvalid.text());
                None
            }
        }
    }

    pub(super) fn positive(&mut self, slot: Option<Slot<'_>>, path: Path) -> Option<u32> {
        let slot = slot.filter(hilum_hl7v2::Slot::has_value)?;
        let number = slot.text().trim().parse::<u32>().ok();
        if number.is_none() {
            self.find("number-invalid", path, "not a whole number");
        }
        number
    }
}

/// Whether a character has no place in a text: control characters, and those that turn the direction of writing.
fn is_odd(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}' | '\u{FFFE}' | '\u{FFFF}')
}
