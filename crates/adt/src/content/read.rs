//! From a parsed message to its content: one pass over the segments, one over each field's parts.

use std::borrow::Cow;
use std::sync::Arc;

use hilum_core::{Id, InstallationKey};
use hilum_hl7v2::{Flaw, Message, Path, Presence, Segment, Slot};

use super::datatypes::{
    Action, Address, Coded, DischargeTo, Identifier, Name, Place, Provider, Representation, Telecom, Usage,
};
use super::items::{Allergy, Diagnosis, Item, NextOfKin};
use super::person::{PersonContent, Prior};
use super::said::Said;
use super::time::{When, Zones};
use super::visit::{Movement, VisitContent};
use super::{Block, Content, Finding};
use crate::identity::is_placeholder;
use crate::limits::{
    BLOCKS_MAX, FINDINGS_MAX, GROUP_ITEMS_MAX, IDENTIFIER_BYTES_MAX, REPETITIONS_MAX, TEXT_BYTES_MAX,
};
use crate::map::summary::{is_korean_number, mask_national};
use crate::settings::SourceSettings;

/// What reading depends on beside the message.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The settings of the source that applied.
    pub settings: &'a SourceSettings,
    /// The source's name.
    pub source: &'a str,
    /// Keys the hashes of national numbers and of items.
    pub key: &'a InstallationKey,
}

impl Content {
    /// Reads what `message` says. Never fails: what cannot be read is a finding.
    pub fn read(message: &Message, context: &Context<'_>) -> Self {
        let mut reader = Reader::new(message, context);
        let blocks = reader.blocks(message);
        Self { blocks, findings: reader.findings }
    }
}

/// The parts of one repetition, by number from 1.
struct Parts<'m>([Option<Slot<'m>>; PARTS]);

/// More components than any data type has that we read.
const PARTS: usize = 24;

impl<'m> Parts<'m> {
    fn of(parts: impl Iterator<Item = Slot<'m>>) -> Self {
        let mut all = [None; PARTS];
        for (place, part) in all.iter_mut().zip(parts) {
            *place = Some(part);
        }
        Self(all)
    }

    fn get(&self, n: usize) -> Option<Slot<'m>> {
        self.0.get(n - 1).copied().flatten()
    }

    /// Whether `""` stands in a component and no component has a value.
    fn are_null(&self) -> bool {
        let mut has_null = false;
        for part in self.0.iter().flatten() {
            match part.presence() {
                Presence::Value => return false,
                Presence::Null => has_null = true,
                Presence::Absent | Presence::Empty => {}
            }
        }
        has_null
    }
}

/// HD as sent.
#[derive(Default)]
struct Authority {
    namespace: String,
    universal: String,
    universal_type: String,
}

struct Reader<'a> {
    settings: &'a SourceSettings,
    key: &'a InstallationKey,
    zones: Zones,
    /// The authority of what names none.
    assumed_authority: String,
    /// The facility of a place that names none.
    assumed_facility: String,
    findings: Vec<Finding>,
}

/// Where the second PV1, PV2 … of one patient would go: nowhere.
const REPEATED: &str = "a second one for the same patient: only the first is read";

impl<'a> Reader<'a> {
    fn new(message: &Message, context: &Context<'a>) -> Self {
        let msh = message.segment("MSH");
        let msh7 = msh.and_then(|msh| msh.value(7, 1));
        let mut reader = Self {
            settings: context.settings,
            key: context.key,
            zones: Zones::of(msh7.as_deref(), &context.settings.zone),
            assumed_authority: String::new(),
            assumed_facility: String::new(),
            findings: Vec::new(),
        };
        let facility = msh.map_or_else(Authority::default, |msh| {
            reader.authority(msh.field(4).components(), Path::of("MSH-4"))
        });
        let (facility_authority, _) = reader.canonical(&facility);
        let own = context.settings.authority.clone().unwrap_or_default();
        let first =
            |names: [&str; 3]| names.into_iter().find(|name| !name.is_empty()).unwrap_or_default().to_owned();
        reader.assumed_authority = first([&own, &facility_authority, context.source]);
        reader.assumed_facility = first([&reader.facility_name(&facility), &own, context.source]);
        reader
    }

    // ---- findings and texts

    fn find(&mut self, rule: &'static str, path: Path, text: &'static str) {
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
    fn text(&mut self, slot: Option<Slot<'_>>, path: Path) -> String {
        let Some(slot) = slot else { return String::new() };
        if slot.raw().is_empty() {
            return String::new();
        }
        let text = self.decoded(slot, path);
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
    fn number(&mut self, slot: Option<Slot<'_>>, path: Path) -> Option<String> {
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

    fn when(&mut self, slot: Option<Slot<'_>>, path: Path) -> Option<When> {
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

    fn positive(&mut self, slot: Option<Slot<'_>>, path: Path) -> Option<u32> {
        let slot = slot.filter(hilum_hl7v2::Slot::has_value)?;
        let number = slot.text().trim().parse::<u32>().ok();
        if number.is_none() {
            self.find("number-invalid", path, "not a whole number");
        }
        number
    }

    // ---- presence

    /// A field that is one value.
    fn one<'m, T>(
        &mut self,
        field: Slot<'m>,
        path: Path,
        read: impl FnOnce(&mut Self, &Parts<'m>, Path) -> Option<T>,
    ) -> Said<T> {
        match field.presence() {
            Presence::Absent | Presence::Empty => return Said::Nothing,
            Presence::Null => return Said::Deleted,
            Presence::Value => {}
        }
        let parts = Parts::of(field.components());
        if parts.are_null() {
            return self.null_parts(path);
        }
        read(self, &parts, path).into()
    }

    /// A field that repeats.
    fn many<'m, T>(
        &mut self,
        field: Slot<'m>,
        path: Path,
        mut read: impl FnMut(&mut Self, &Parts<'m>, Path) -> Option<T>,
    ) -> Said<Vec<T>> {
        match field.presence() {
            Presence::Absent | Presence::Empty => return Said::Nothing,
            Presence::Null => return Said::Deleted,
            Presence::Value => {}
        }
        // Most fields have one: room for more is made when they come.
        let mut items = Vec::with_capacity(1);
        let mut nulls = false;
        for (at, repetition) in field.repetitions().enumerate() {
            if at == REPETITIONS_MAX {
                self.find("repetitions-too-many", path, "more repetitions than are read");
                break;
            }
            let parts = Parts::of(repetition.components());
            nulls |= parts.are_null();
            let path = if at == 0 { path } else { path.with_repetition(at as u16 + 1) };
            items.extend(read(self, &parts, path));
        }
        if items.is_empty() && nulls {
            return self.null_parts(path);
        }
        if items.is_empty() { Said::Nothing } else { Said::of(items) }
    }

    /// `""` in components alone: what it means is the source's to say (clinical-rules 12).
    fn null_parts<T>(&mut self, path: Path) -> Said<T> {
        if self.settings.component_null_deletes {
            return Said::Deleted;
        }
        self.find("null-component", path, "\"\" in components only: the field stays as it is");
        Said::Nothing
    }

    fn flag(&mut self, field: Slot<'_>, path: Path) -> Said<bool> {
        self.one(field, path, |reader, parts, path| {
            let text = reader.text(parts.get(1), path);
            match text.as_str() {
                "Y" | "y" | "YES" | "Yes" | "yes" => Some(true),
                "N" | "n" | "NO" | "No" | "no" => Some(false),
                _ => {
                    reader.find("flag-invalid", path, "neither Y nor N");
                    None
                }
            }
        })
    }

    fn coded(&mut self, field: Slot<'_>, path: Path) -> Said<Coded> {
        self.one(field, path, |reader, parts, path| reader.cwe(parts, path))
    }

    fn codeds(&mut self, field: Slot<'_>, path: Path) -> Said<Vec<Coded>> {
        self.many(field, path, |reader, parts, path| reader.cwe(parts, path))
    }

    fn moment(&mut self, field: Slot<'_>, path: Path) -> Said<When> {
        self.one(field, path, |reader, parts, path| reader.when(parts.get(1), path))
    }

    // ---- data types

    fn cwe(&mut self, parts: &Parts<'_>, path: Path) -> Option<Coded> {
        let mut get = |n: u16| self.text(parts.get(usize::from(n)), path.with_component(n));
        let coded = Coded {
            code: get(1),
            text: get(2),
            system: get(3),
            alternate_code: get(4),
            alternate_text: get(5),
            alternate_system: get(6),
            version: get(7),
            alternate_version: get(8),
            original: get(9),
        };
        (!coded.is_empty()).then_some(coded)
    }

    fn authority<'m>(&mut self, mut parts: impl Iterator<Item = Slot<'m>>, path: Path) -> Authority {
        Authority {
            namespace: self.text(parts.next(), path),
            universal: self.text(parts.next(), path),
            universal_type: self.text(parts.next(), path),
        }
    }

    /// The authority's one name: what the alias table says for the whole HD, the universal id or the namespace id, else
    /// the universal id, which is unique in the world, else the namespace id. And whether it is empty.
    fn canonical(&self, authority: &Authority) -> (String, bool) {
        let Authority { namespace, universal, universal_type } = authority;
        let aliases = &self.settings.authority_aliases;
        if !aliases.is_empty() {
            let whole = format!("{namespace}^{universal}^{universal_type}");
            let keys = [whole.as_str(), universal, namespace];
            if let Some(name) =
                keys.into_iter().filter(|key| !key.is_empty()).find_map(|key| aliases.get(key))
            {
                return (name.clone(), false);
            }
        }
        let name = if universal.is_empty() { namespace } else { universal };
        (name.clone(), name.is_empty())
    }

    /// A facility's name: its alias, else the namespace id, which people know, else the universal id.
    fn facility_name(&self, authority: &Authority) -> String {
        let (canonical, _) = self.canonical(authority);
        let is_alias = canonical != authority.universal && canonical != authority.namespace;
        if is_alias || authority.namespace.is_empty() { canonical } else { authority.namespace.clone() }
    }

    /// Puts an identifier together; its use is decided by the caller.
    fn identified(&mut self, value: String, authority: &Authority, kind: String) -> Identifier {
        let (mut canonical, authority_assumed) = self.canonical(authority);
        if authority_assumed {
            canonical.clone_from(&self.assumed_authority);
        }
        let namespace =
            if authority.namespace == canonical { String::new() } else { authority.namespace.clone() };
        let identifier = Identifier {
            value,
            authority: canonical,
            namespace,
            authority_assumed,
            kind,
            ..Identifier::default()
        };
        if is_national(&identifier.kind) { self.hidden(identifier) } else { identifier }
    }

    /// Masks a national number and keeps its keyed hash.
    fn hidden(&self, mut identifier: Identifier) -> Identifier {
        identifier.hash = Some(national_hash(self.key, &identifier.value));
        identifier.value = mask_national(&identifier.value);
        identifier
    }

    /// CX; `blank` is the type of one that has none.
    fn cx(&mut self, parts: &Parts<'_>, path: Path, blank: &str) -> Option<Identifier> {
        let value = self.number(parts.get(1), path)?;
        let authority = match parts.get(4) {
            Some(slot) => self.authority(slot.subcomponents(), path.with_component(4)),
            None => Authority::default(),
        };
        let mut kind = self.text(parts.get(5), path.with_component(5));
        if kind.is_empty() {
            blank.clone_into(&mut kind);
        }
        let mut identifier = self.identified(value, &authority, kind);
        identifier.check = self.text(parts.get(2), path.with_component(2));
        identifier.check_scheme = self.text(parts.get(3), path.with_component(3));
        identifier.from = self.when(parts.get(7), path.with_component(7));
        identifier.to = self.when(parts.get(8), path.with_component(8));
        Some(identifier)
    }

    /// CX of a number that names somebody or a visit: a value that stands for "none" would make all who carry it one.
    fn named(&mut self, parts: &Parts<'_>, path: Path, blank: &str) -> Option<Identifier> {
        let identifier = self.cx(parts, path, blank)?;
        if identifier.hash.is_none() && is_placeholder(&identifier.value, self.settings) {
            self.find("identifier-placeholder", path, "stands for none: it names nobody");
            return None;
        }
        Some(identifier)
    }

    /// EI.
    fn ei(&mut self, parts: &Parts<'_>, path: Path) -> Option<Identifier> {
        let value = self.number(parts.get(1), path)?;
        let hd = [parts.get(2), parts.get(3), parts.get(4)];
        let authority = Authority {
            namespace: self.text(hd[0], path.with_component(2)),
            universal: self.text(hd[1], path.with_component(3)),
            universal_type: self.text(hd[2], path.with_component(4)),
        };
        Some(self.identified(value, &authority, String::new()))
    }

    /// PID-3, MRG-1: all that identifies, and which of it is the primary one (clinical-rules 14). A primary one is found
    /// at any place, also behind more repetitions than are read.
    fn patient_numbers(&mut self, field: Slot<'_>, path: Path) -> Said<Vec<Identifier>> {
        match field.presence() {
            Presence::Absent | Presence::Empty => return Said::Nothing,
            Presence::Null => return Said::Deleted,
            Presence::Value => {}
        }
        let mut items: Vec<Identifier> = Vec::with_capacity(1);
        let mut has_primary = false;
        for (at, repetition) in field.repetitions().enumerate() {
            let path =
                if at == 0 { path } else { path.with_repetition(u16::try_from(at + 1).unwrap_or(u16::MAX)) };
            if at == REPETITIONS_MAX {
                self.find("repetitions-too-many", path.with_repetition(0), "more repetitions than are read");
            }
            if at >= REPETITIONS_MAX && has_primary {
                break;
            }
            let parts = Parts::of(repetition.components());
            let Some(mut identifier) = self.named(&parts, path, &self.settings.blank_type) else { continue };
            let may = self.may_be_primary(&identifier);
            if at >= REPETITIONS_MAX && !may {
                continue;
            }
            identifier.usage = self.usage(&identifier, has_primary);
            has_primary |= may;
            items.push(identifier);
        }
        if items.is_empty() { Said::Nothing } else { Said::of(items) }
    }

    fn may_be_primary(&self, identifier: &Identifier) -> bool {
        let fits = |wanted: &String| {
            let wanted = self.settings.authority_aliases.get(wanted).unwrap_or(wanted);
            *wanted == identifier.authority || *wanted == identifier.namespace
        };
        identifier.kind == self.settings.primary_type
            && self.settings.primary_authority.as_ref().is_none_or(fits)
    }

    fn usage(&self, identifier: &Identifier, has_primary: bool) -> Usage {
        if self.may_be_primary(identifier) && !has_primary {
            Usage::Primary
        } else if self.settings.identifying_types.contains(&identifier.kind)
            || identifier.kind == self.settings.primary_type
        {
            Usage::Identifying
        } else {
            Usage::Attribute
        }
    }

    /// Adds PID-2 and PID-4, where the source reads them.
    fn add_numbers(&mut self, numbers: &mut Said<Vec<Identifier>>, field: Slot<'_>, path: Path) {
        let Said::Value(more) = self.patient_numbers(field, path) else { return };
        let mut all = match std::mem::take(numbers) {
            Said::Value(all) => Arc::unwrap_or_clone(all),
            Said::Nothing | Said::Deleted => Vec::new(),
        };
        for mut one in Arc::unwrap_or_clone(more) {
            if all.iter().any(|known| known.key() == one.key()) {
                continue;
            }
            if one.usage == Usage::Primary && all.iter().any(|known| known.usage == Usage::Primary) {
                one.usage = Usage::Identifying;
            }
            all.push(one);
        }
        *numbers = Said::of(all);
    }

    /// XPN from part `first` on: the parts of XCN stand one later.
    fn name(&mut self, parts: &Parts<'_>, path: Path) -> Option<Name> {
        let mut get = |n: u16| self.text(parts.get(usize::from(n)), path.with_component(n));
        let mut name = Name {
            given: get(2),
            middle: get(3),
            suffix: get(4),
            prefix: get(5),
            degree: get(6),
            kind: get(7),
            assembly: get(11),
            professional: get(14),
            called: get(15),
            ..Name::default()
        };
        name.family = self.family(parts.get(1), path.with_component(1));
        name.representation = self.representation(parts.get(8), path.with_component(8));
        (name.from, name.to) = self.range(parts, path, 10, 12);
        let is_empty =
            [&name.family, &name.given, &name.middle, &name.called].into_iter().all(String::is_empty);
        (!is_empty).then_some(name)
    }

    /// FN: the surname, else its own prefix and own surname.
    fn family(&mut self, slot: Option<Slot<'_>>, path: Path) -> String {
        let Some(slot) = slot else { return String::new() };
        let mut parts = slot.subcomponents();
        let family = self.text(parts.next(), path);
        if !family.is_empty() {
            return family;
        }
        let prefix = self.text(parts.next(), path);
        let own = self.text(parts.next(), path);
        if prefix.is_empty() || own.is_empty() { own } else { format!("{prefix} {own}") }
    }

    fn representation(&mut self, slot: Option<Slot<'_>>, path: Path) -> Option<Representation> {
        let slot = slot.filter(hilum_hl7v2::Slot::has_value)?;
        match slot.text().trim() {
            "A" => Some(Representation::Alphabetic),
            "I" => Some(Representation::Ideographic),
            "P" => Some(Representation::Phonetic),
            _ => {
                self.find("code-unknown", path, "not a name representation code of table 0465");
                None
            }
        }
    }

    /// From and to: two components, or the subcomponents of an older range component.
    fn range(
        &mut self,
        parts: &Parts<'_>,
        path: Path,
        range: u16,
        from: u16,
    ) -> (Option<When>, Option<When>) {
        let mut begin = self.when(parts.get(usize::from(from)), path.with_component(from));
        let mut end = self.when(parts.get(usize::from(from) + 1), path.with_component(from + 1));
        if let Some(slot) = parts.get(usize::from(range)).filter(hilum_hl7v2::Slot::has_value) {
            let mut halves = slot.subcomponents();
            let path = path.with_component(range);
            begin = begin.or_else(|| self.when(halves.next(), path));
            end = end.or_else(|| self.when(slot.subcomponents().nth(1), path));
        }
        (begin, end)
    }

    fn address(&mut self, parts: &Parts<'_>, path: Path) -> Option<Address> {
        let mut lines = Vec::new();
        if let Some(street) = parts.get(1) {
            for part in street.subcomponents().take(3) {
                lines.push(self.text(Some(part), path.with_component(1)));
            }
        }
        for n in [2, 19] {
            lines.push(self.text(parts.get(usize::from(n)), path.with_component(n)));
        }
        lines.retain(|line| !line.is_empty());
        let mut get = |n: u16| self.text(parts.get(usize::from(n)), path.with_component(n));
        let mut address = Address {
            lines,
            city: get(3),
            state: get(4),
            postal_code: get(5),
            country: get(6),
            kind: get(7),
            district: get(9),
            from: None,
            to: None,
        };
        (address.from, address.to) = self.range(parts, path, 12, 13);
        let is_empty = address.lines.is_empty()
            && [&address.city, &address.state, &address.postal_code, &address.country, &address.district]
                .into_iter()
                .all(String::is_empty);
        (!is_empty).then_some(address)
    }

    /// XTN; `usage` is what the field says where XTN.2 says nothing.
    fn telecom(&mut self, parts: &Parts<'_>, path: Path, usage: &str) -> Option<Telecom> {
        let mut get = |n: u16| self.text(parts.get(usize::from(n)), path.with_component(n));
        let mut telecom = Telecom { usage: get(2), kind: get(3), extension: get(8), ..Telecom::default() };
        let mail = get(4);
        let is_mail = matches!(telecom.kind.as_str(), "Internet" | "X.400") || telecom.usage == "NET";
        let (country, area, local) = (get(5), get(6), get(7));
        let unformatted = get(12);
        let first = get(1);
        let composed = if local.is_empty() || area.is_empty() {
            String::new()
        } else {
            let country = country.trim_start_matches('+');
            if country.is_empty() { format!("{area} {local}") } else { format!("+{country} {area} {local}") }
        };
        // What newer versions of the standard say stands before what they withdrew: whole, in parts, then XTN.1. A local
        // part alone is no number where XTN.1 has a whole one.
        let numbers = [&unformatted, &composed, &first, &local];
        let number = numbers.into_iter().find(|number| !number.is_empty());
        telecom.value = match (is_mail && !mail.is_empty(), number) {
            (true, _) | (false, None) => mail,
            (false, Some(number)) => number.clone(),
        };
        if telecom.usage.is_empty() {
            usage.clone_into(&mut telecom.usage);
        }
        if telecom.value.is_empty() {
            return None;
        }
        telecom.rank = self.positive(parts.get(18), path.with_component(18)).filter(|&rank| rank > 0);
        telecom.from = self.when(parts.get(13), path.with_component(13));
        telecom.to = self.when(parts.get(14), path.with_component(14));
        Some(telecom)
    }

    /// XCN.
    fn provider(&mut self, parts: &Parts<'_>, path: Path) -> Option<Provider> {
        let identifier = self.number(parts.get(1), path).map(|value| {
            let authority = match parts.get(9) {
                Some(slot) => self.authority(slot.subcomponents(), path.with_component(9)),
                None => Authority::default(),
            };
            let kind = self.text(parts.get(13), path.with_component(13));
            let mut identifier = self.identified(value, &authority, kind);
            identifier.check = self.text(parts.get(11), path.with_component(11));
            identifier.check_scheme = self.text(parts.get(12), path.with_component(12));
            identifier
        });
        let mut get = |n: u16| self.text(parts.get(usize::from(n)), path.with_component(n));
        let mut name = Name {
            given: get(3),
            middle: get(4),
            suffix: get(5),
            prefix: get(6),
            degree: get(7),
            kind: get(10),
            assembly: get(18),
            professional: get(21),
            ..Name::default()
        };
        name.family = self.family(parts.get(2), path.with_component(2));
        name.representation = self.representation(parts.get(15), path.with_component(15));
        (name.from, name.to) = self.range(parts, path, 17, 19);
        let has_name = [&name.family, &name.given].into_iter().any(|part| !part.is_empty());
        (identifier.is_some() || has_name).then_some(Provider { identifier, name })
    }

    fn providers(&mut self, field: Slot<'_>, path: Path) -> Said<Vec<Provider>> {
        self.many(field, path, |reader, parts, path| reader.provider(parts, path))
    }

    fn place(&mut self, field: Slot<'_>, path: Path) -> Said<Place> {
        self.one(field, path, |reader, parts, path| {
            let mut get = |n: u16| reader.text(parts.get(usize::from(n)), path.with_component(n));
            let mut place = Place {
                unit: get(1),
                room: get(2),
                bed: get(3),
                status: get(5),
                kind: get(6),
                building: get(7),
                floor: get(8),
                description: get(9),
                ..Place::default()
            };
            if let Some(slot) = parts.get(4) {
                let facility = reader.authority(slot.subcomponents(), path.with_component(4));
                place.facility = reader.facility_name(&facility);
            }
            let named =
                [&place.facility, &place.unit, &place.room, &place.bed, &place.building, &place.floor];
            if named.into_iter().all(String::is_empty) {
                return None;
            }
            if place.facility.is_empty() {
                place.facility.clone_from(&reader.assumed_facility);
                place.facility_assumed = true;
            }
            Some(place)
        })
    }

    fn action(&mut self, slot: Option<Slot<'_>>, path: Path) -> Option<Action> {
        let slot = slot.filter(hilum_hl7v2::Slot::has_value)?;
        match slot.text().trim() {
            "A" => Some(Action::Add),
            "D" => Some(Action::Delete),
            "U" => Some(Action::Update),
            "X" => Some(Action::Keep),
            _ => {
                self.find("code-unknown", path, "not a segment action code of table 0206");
                None
            }
        }
    }

    // ---- segments

    fn blocks(&mut self, message: &Message) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::with_capacity(1);
        let mut groups = Groups::default();
        let mut seen = [0_u32; SEGMENTS.len()];
        for segment in message.all_segments() {
            let Some(which) = SEGMENTS.iter().position(|name| segment.is(name)) else { continue };
            let Some(count) = seen.get_mut(which) else { continue };
            *count += 1;
            let name = SEGMENTS.get(which).copied().unwrap_or("PID");
            let mut bytes = [0; 3];
            bytes.copy_from_slice(name.as_bytes());
            let path = Path::segment_only(bytes).with_occurrence(*count);
            let starts =
                name == "PID" || (name == "MRG" && blocks.last().is_some_and(|block| block.prior.is_some()));
            if starts {
                if let Some(block) = blocks.last_mut() {
                    self.close(block, &mut groups);
                }
                if blocks.len() == BLOCKS_MAX {
                    self.find("patients-too-many", path, "more patients in one message than are read");
                    return blocks;
                }
                // A45 moves several visits of one patient: each MRG has its own PV1, and all have the PID.
                let person = match (name, blocks.last()) {
                    ("MRG", Some(last)) => last.person.clone(),
                    _ => PersonContent::default(),
                };
                blocks.push(Block { person, ..Block::default() });
            }
            let Some(block) = blocks.last_mut() else {
                self.find("segment-no-patient", path, "stands before any PID");
                continue;
            };
            match name {
                "PID" => self.pid(segment, path, block, &mut groups),
                "PD1" => self.pd1(segment, path, &mut block.person),
                "MRG" => block.prior = Some(self.mrg(segment, path)),
                "PV1" if block.visit.is_none() => self.pv1(segment, path, block, &mut groups),
                "PV2" if !groups.has_pv2 => {
                    groups.has_pv2 = true;
                    self.pv2(segment, path, block);
                }
                "PV1" | "PV2" => self.find("segment-repeated", path, REPEATED),
                "ARV" => self.arv(segment, path, block),
                "NK1" => groups.next_of_kin.push((segment, path)),
                "AL1" => groups.allergies.push((segment, path)),
                "IAM" => groups.adverse_reactions.push((segment, path)),
                "IAR" => {
                    let of = groups.adverse_reactions.last().map(|(_, iam)| iam.occurrence());
                    groups.reactions.extend(of.map(|iam| (iam, segment, path)));
                }
                _ => groups.diagnoses.push((segment, path)),
            }
        }
        if let Some(block) = blocks.last_mut() {
            self.close(block, &mut groups);
        }
        blocks
    }

    /// Reads the groups of a block that ends.
    fn close(&mut self, block: &mut Block, groups: &mut Groups<'_>) {
        let groups = std::mem::take(groups);
        block.next_of_kin = self.group(&groups.next_of_kin, Self::nk1, |_, _| {});
        block.allergies = self.group(&groups.allergies, Self::al1, unite);
        let reactions = &groups.reactions;
        block.adverse_reactions =
            self.group(&groups.adverse_reactions, |reader, iam, at| reader.iam(iam, at, reactions), unite);
        block.diagnoses = self.group(&groups.diagnoses, Self::dg1, |_, _| {});
        if let Some(visit) = block.visit.as_mut()
            && visit.account.is_nothing()
        {
            visit.account = groups.account;
        }
    }

    /// A group of segments: absent changes nothing; one alone with `""` in all its fields empties it.
    fn group<'m, T: Item>(
        &mut self,
        segments: &[(Segment<'m>, Path)],
        read: impl Fn(&mut Self, Segment<'m>, Path) -> Option<T>,
        unite: impl Fn(&mut T, T),
    ) -> Said<Vec<T>> {
        match segments {
            [] => return Said::Nothing,
            [(only, _)] if is_null_segment(*only) => return Said::Deleted,
            _ => {}
        }
        let mut items: Vec<T> = Vec::with_capacity(segments.len().min(GROUP_ITEMS_MAX));
        for (at, &(segment, path)) in segments.iter().enumerate() {
            if at == GROUP_ITEMS_MAX {
                self.find("group-too-many", path, "more segments of this group than are read");
                break;
            }
            let Some(item) = read(self, segment, path) else {
                self.find("group-empty-item", path, "says nothing");
                continue;
            };
            match items.iter_mut().find(|known| known.key() == item.key() && known.action() == item.action())
            {
                Some(known) => {
                    self.find("group-same-item", path, "names the same as an earlier segment");
                    unite(known, item);
                }
                None => items.push(item),
            }
        }
        if items.is_empty() { Said::Nothing } else { Said::of(items) }
    }

    fn pid(&mut self, segment: Segment<'_>, at: Path, block: &mut Block, groups: &mut Groups<'_>) {
        let person = &mut block.person;
        let mut older = [None, None];
        let mut county = Said::Nothing;
        for (number, field) in segment.fields() {
            if field.raw().is_empty() {
                continue;
            }
            let path = at.with_field(number);
            match number {
                2 => older[0] = Some((field, path)),
                3 => person.identifiers = self.patient_numbers(field, path),
                4 => older[1] = Some((field, path)),
                5 => person.names = self.many(field, path, Self::name),
                6 => person.mothers_maiden = self.many(field, path, Self::name),
                7 => person.birth = self.moment(field, path),
                8 => person.sex = self.coded(field, path),
                9 => person.aliases = self.many(field, path, Self::name),
                11 => person.addresses = self.many(field, path, Self::address),
                12 => {
                    county =
                        self.one(field, path, |reader, parts, path| Some(reader.text(parts.get(1), path)));
                }
                13 => person.home_phones = self.many(field, path, |r, p, path| r.telecom(p, path, "PRN")),
                14 => person.work_phones = self.many(field, path, |r, p, path| r.telecom(p, path, "WPN")),
                15 => person.language = self.coded(field, path),
                16 => person.marital_status = self.coded(field, path),
                17 => person.religion = self.coded(field, path),
                18 => groups.account = self.one(field, path, |r, p, path| r.named(p, path, "AN")),
                19 => person.national = self.one(field, path, Self::national),
                20 => person.licence = self.one(field, path, Self::licence),
                21 => {
                    person.mother =
                        self.many(field, path, |r, p, path| r.cx(p, path, &r.settings.blank_type));
                }
                23 => {
                    person.birth_place = self.one(field, path, |reader, parts, path| {
                        Some(reader.text(parts.get(1), path)).filter(|text| !text.is_empty())
                    });
                }
                24 => person.multiple_birth = self.flag(field, path),
                25 => person.birth_order = self.one(field, path, |r, p, path| r.positive(p.get(1), path)),
                26 => person.citizenships = self.codeds(field, path),
                28 => person.nationality = self.coded(field, path),
                29 => person.died = self.moment(field, path),
                30 => person.dead = self.flag(field, path),
                31 => person.identity_unknown = self.flag(field, path),
                32 => person.reliability = self.codeds(field, path),
                40 => person.telecoms = self.many(field, path, |r, p, path| r.telecom(p, path, "")),
                _ => {}
            }
        }
        if self.settings.use_pid2_pid4 {
            for (field, path) in older.into_iter().flatten() {
                self.add_numbers(&mut person.identifiers, field, path);
            }
        }
        if let (Said::Value(county), Said::Value(addresses)) = (county, &mut person.addresses)
            && let Some(address) =
                Arc::make_mut(addresses).iter_mut().find(|address| address.district.is_empty())
        {
            address.district = Arc::unwrap_or_clone(county);
        }
        if person.died.value().is_some() && person.dead.value() == Some(&false) {
            self.find("death-contradictory", at.with_field(30), "a time of death, and not dead");
        }
    }

    /// PID-19: a number of no stated type; 13 digits that begin with a date are Korean.
    fn national(&mut self, parts: &Parts<'_>, path: Path) -> Option<Identifier> {
        let value = self.number(parts.get(1), path)?;
        let kind = if is_korean_number(&value) { "NNKOR" } else { "SS" };
        // The issuer is a state, not the source: the type says which.
        let authority = Authority { namespace: kind.to_owned(), ..Authority::default() };
        Some(self.identified(value, &authority, kind.to_owned()))
    }

    fn licence(&mut self, parts: &Parts<'_>, path: Path) -> Option<Identifier> {
        let value = self.number(parts.get(1), path)?;
        let namespace = self.text(parts.get(2), path.with_component(2));
        let mut licence =
            self.identified(value, &Authority { namespace, ..Authority::default() }, "DL".to_owned());
        licence.to = self.when(parts.get(3), path.with_component(3));
        Some(licence)
    }

    fn pd1(&mut self, segment: Segment<'_>, at: Path, person: &mut PersonContent) {
        person.primary_care = self.providers(segment.field(4), at.with_field(4));
        person.protected = self.flag(segment.field(12), at.with_field(12));
    }

    fn mrg(&mut self, segment: Segment<'_>, at: Path) -> Prior {
        let mut numbers = self.patient_numbers(segment.field(1), at.with_field(1));
        if self.settings.use_pid2_pid4 {
            self.add_numbers(&mut numbers, segment.field(4), at.with_field(4));
        }
        let mut one = |n: u16, blank: &str| {
            let said = self.one(segment.field(n), at.with_field(n), |r, p, path| r.named(p, path, blank));
            said.value().cloned()
        };
        let (account, visit, alternate_visit) = (one(3, "AN"), one(5, "VN"), one(6, "VN"));
        let names = self.many(segment.field(7), at.with_field(7), Self::name);
        Prior {
            identifiers: numbers.items().to_vec(),
            account,
            visit,
            alternate_visit,
            names: names.items().to_vec(),
        }
    }

    fn pv1(&mut self, segment: Segment<'_>, at: Path, block: &mut Block, groups: &mut Groups<'_>) {
        let mut movement = Movement::default();
        let mut visit =
            VisitContent { account: std::mem::take(&mut groups.account), ..VisitContent::default() };
        for (number, field) in segment.fields() {
            if field.raw().is_empty() {
                continue;
            }
            let path = at.with_field(number);
            match number {
                2 => movement.class = self.coded(field, path),
                3 => movement.place = self.place(field, path),
                4 => visit.admission_type = self.coded(field, path),
                5 => visit.preadmit_number = self.one(field, path, |r, p, path| r.cx(p, path, "")),
                6 => movement.prior_place = self.place(field, path),
                7 => visit.attending = self.providers(field, path),
                8 => visit.referring = self.providers(field, path),
                9 => visit.consulting = self.providers(field, path),
                10 => visit.service = self.coded(field, path),
                11 => movement.temporary = self.place(field, path),
                13 => visit.readmission = self.coded(field, path),
                14 => visit.admit_source = self.coded(field, path),
                15 => visit.ambulatory = self.codeds(field, path),
                16 => visit.vip = self.coded(field, path),
                17 => visit.admitting = self.providers(field, path),
                18 => visit.patient_type = self.coded(field, path),
                19 => visit.number = self.one(field, path, |r, p, path| r.named(p, path, "VN")),
                36 => movement.disposition = self.coded(field, path),
                37 => movement.discharged_to = self.one(field, path, Self::discharge_to),
                38 => visit.diet = self.coded(field, path),
                39 => visit.servicing_facility = self.coded(field, path),
                40 => movement.bed_status = self.coded(field, path),
                42 => movement.pending = self.place(field, path),
                43 => movement.prior_temporary = self.place(field, path),
                44 => movement.admitted = self.moment(field, path),
                45 => movement.discharged = self.last_moment(field, path),
                50 => visit.alternate_number = self.one(field, path, |r, p, path| r.named(p, path, "VN")),
                52 => visit.other_providers = self.providers(field, path),
                _ => {}
            }
        }
        block.movement = Some(movement);
        block.visit = Some(visit);
    }

    /// The last of several times (PV1-45 repeated before v2.5).
    fn last_moment(&mut self, field: Slot<'_>, path: Path) -> Said<When> {
        match self.many(field, path, |reader, parts, path| reader.when(parts.get(1), path)) {
            Said::Value(all) => all.last().cloned().into(),
            Said::Deleted => Said::Deleted,
            Said::Nothing => Said::Nothing,
        }
    }

    /// DLD: the place has subcomponents where it is a code with a text, as it has from v2.6 on.
    fn discharge_to(&mut self, parts: &Parts<'_>, path: Path) -> Option<DischargeTo> {
        let place = parts.get(1).and_then(|slot| self.cwe(&Parts::of(slot.subcomponents()), path));
        let at = self.when(parts.get(2), path.with_component(2));
        let to = DischargeTo { place: place.unwrap_or_default(), at };
        (!to.place.is_empty() || to.at.is_some()).then_some(to)
    }

    fn pv2(&mut self, segment: Segment<'_>, at: Path, block: &mut Block) {
        let (Some(movement), Some(visit)) = (block.movement.as_mut(), block.visit.as_mut()) else {
            self.find("segment-no-visit", at, "PV2 without PV1 is not read");
            return;
        };
        for (number, field) in segment.fields() {
            if field.raw().is_empty() {
                continue;
            }
            let path = at.with_field(number);
            match number {
                1 => movement.prior_pending = self.place(field, path),
                3 => visit.reason = self.coded(field, path),
                4 => visit.transfer_reason = self.coded(field, path),
                8 => visit.expected_admit = self.moment(field, path),
                9 => visit.expected_discharge = self.moment(field, path),
                12 => {
                    visit.description = self.one(field, path, |reader, parts, path| {
                        Some(reader.text(parts.get(1), path)).filter(|text| !text.is_empty())
                    });
                }
                13 => visit.referral_source = self.providers(field, path),
                22 => visit.protected = self.flag(field, path),
                25 => visit.priority = self.coded(field, path),
                36 => visit.newborn = self.flag(field, path),
                38 => visit.arrival_mode = self.coded(field, path),
                47 => movement.expected_return = self.moment(field, path),
                _ => {}
            }
        }
    }

    /// ARV: a restriction on the person, or behind PV1 on the visit. D takes one away; X says nothing new.
    fn arv(&mut self, segment: Segment<'_>, at: Path, block: &mut Block) {
        let action = self.action(Some(segment.field(2)), at.with_field(2));
        let values = self.codeds(segment.field(3), at.with_field(3));
        let said = match &mut block.visit {
            Some(visit) => &mut visit.restrictions,
            None => &mut block.person.restrictions,
        };
        match action {
            Some(Action::Delete) => {
                if said.is_nothing() {
                    *said = Said::Deleted;
                }
            }
            Some(Action::Keep) => {}
            Some(Action::Add | Action::Update) | None => {
                let mut all = said.items().to_vec();
                all.extend(values.items().iter().cloned());
                if all.is_empty() {
                    all.push(Coded { code: "ALL".to_owned(), ..Coded::default() });
                }
                all.truncate(REPETITIONS_MAX);
                *said = Said::of(all);
            }
        }
    }

    fn item_key(&self, parts: &[&str]) -> Id {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        self.key.id("item", &parts)
    }

    fn nk1(&mut self, segment: Segment<'_>, at: Path) -> Option<NextOfKin> {
        let mut telecoms = Vec::new();
        for (n, usage) in [(5, ""), (6, "WPN"), (40, ""), (31, ""), (41, "")] {
            let said = self.many(segment.field(n), at.with_field(n), |r, p, path| r.telecom(p, path, usage));
            telecoms.extend_from_slice(said.items());
        }
        let mut addresses = Vec::new();
        for n in [4, 32] {
            let said = self.many(segment.field(n), at.with_field(n), Self::address);
            addresses.extend_from_slice(said.items());
        }
        let mut identifiers = Vec::new();
        for n in [33, 12] {
            let said = self.many(segment.field(n), at.with_field(n), |r, p, path| r.cx(p, path, ""));
            identifiers.extend_from_slice(said.items());
        }
        let has_own_number = segment.field(33).has_value();
        let national = self.one(segment.field(37), at.with_field(37), Self::national);
        identifiers.extend(national.value().cloned());
        let names = self.many(segment.field(2), at.with_field(2), Self::name);
        let contacts = self.many(segment.field(30), at.with_field(30), Self::name);
        let organization = segment.field(13);
        let organization = self.text(Some(organization), at.with_field(13));
        let mut code =
            |n: u16| self.coded(segment.field(n), at.with_field(n)).value().cloned().unwrap_or_default();
        let (relationship, role, sex, language) = (code(3), code(7), code(15), code(20));
        let mut time = |n: u16| self.moment(segment.field(n), at.with_field(n)).value().cloned();
        let (from, to, birth) = (time(8), time(9), time(16));
        let names = names.items().to_vec();
        let key = match (names.first(), identifiers.first()) {
            (_, Some(own)) if has_own_number => {
                let (authority, value) = own.key();
                self.item_key(&["NK1", "id", &authority, &value])
            }
            (Some(name), _) => {
                let kin = if relationship.code.is_empty() { &relationship.text } else { &relationship.code };
                self.item_key(&["NK1", "name", &name.family, &name.given, &name.middle, kin])
            }
            (None, _) if !organization.is_empty() => self.item_key(&["NK1", "organization", &organization]),
            (None, _) => return None,
        };
        Some(NextOfKin {
            key,
            names,
            relationship,
            role,
            addresses,
            telecoms,
            from,
            to,
            identifiers,
            organization,
            sex,
            birth,
            language,
            contacts: contacts.items().to_vec(),
        })
    }

    fn al1(&mut self, segment: Segment<'_>, at: Path) -> Option<Allergy> {
        let mut code =
            |n: u16| self.coded(segment.field(n), at.with_field(n)).value().cloned().unwrap_or_default();
        let (kind, substance, severity) = (code(2), code(3), code(4));
        if substance.is_empty() {
            return None;
        }
        let reactions = self.codeds(segment.field(5), at.with_field(5));
        let onset = self.moment(segment.field(6), at.with_field(6));
        Some(Allergy {
            key: self.allergy_key(None, &substance),
            action: None,
            identifier: None,
            kind,
            code: substance,
            severity,
            reactions: reactions.items().to_vec(),
            reaction_severity: Coded::default(),
            onset: onset.value().cloned(),
            onset_text: String::new(),
            reported: None,
            status: Coded::default(),
        })
    }

    fn allergy_key(&self, identifier: Option<&Identifier>, substance: &Coded) -> Id {
        if let Some(identifier) = identifier {
            let (authority, value) = identifier.key();
            return self.item_key(&["allergy", "id", &authority, &value]);
        }
        if substance.code.is_empty() {
            return self.item_key(&["allergy", "text", substance.words()]);
        }
        self.item_key(&["allergy", "code", &substance.system, &substance.code])
    }

    fn iam(
        &mut self,
        segment: Segment<'_>,
        at: Path,
        reactions: &[(u32, Segment<'_>, Path)],
    ) -> Option<Allergy> {
        let mut code =
            |n: u16| self.coded(segment.field(n), at.with_field(n)).value().cloned().unwrap_or_default();
        let (kind, substance, severity, status) = (code(2), code(3), code(4), code(17));
        let action = self.action(Some(segment.field(6)), at.with_field(6));
        let identifier = self.one(segment.field(7), at.with_field(7), Self::ei).value().cloned();
        if substance.is_empty() && identifier.is_none() {
            return None;
        }
        let mut reaction_severity = Coded::default();
        let mut known = self.codeds(segment.field(5), at.with_field(5)).items().to_vec();
        for &(_, iar, path) in reactions.iter().filter(|(iam, ..)| *iam == at.occurrence()) {
            known.extend(self.coded(iar.field(1), path.with_field(1)).value().cloned());
            let said = self.coded(iar.field(2), path.with_field(2));
            if let (true, Some(said)) = (reaction_severity.is_empty(), said.value()) {
                reaction_severity = said.clone();
            }
        }
        known.truncate(REPETITIONS_MAX);
        let mut time = |n: u16| self.moment(segment.field(n), at.with_field(n)).value().cloned();
        let (onset, reported) = (time(11), time(13));
        let onset_text = self.text(Some(segment.field(12)), at.with_field(12));
        Some(Allergy {
            key: self.allergy_key(identifier.as_ref(), &substance),
            action,
            identifier,
            kind,
            code: substance,
            severity,
            reactions: known,
            reaction_severity,
            onset,
            onset_text,
            reported,
            status,
        })
    }

    fn dg1(&mut self, segment: Segment<'_>, at: Path) -> Option<Diagnosis> {
        let mut code =
            |n: u16| self.coded(segment.field(n), at.with_field(n)).value().cloned().unwrap_or_default();
        let (method, mut diagnosis, kind) = (code(2), code(3), code(6));
        if diagnosis.system.is_empty() && !diagnosis.code.is_empty() {
            diagnosis.system = method.code;
        }
        let description = self.text(Some(segment.field(4)), at.with_field(4));
        let identifier = self.one(segment.field(20), at.with_field(20), Self::ei).value().cloned();
        let action = self.action(Some(segment.field(21)), at.with_field(21));
        let mut time = |n: u16| self.moment(segment.field(n), at.with_field(n)).value().cloned();
        let (happened, attested) = (time(5), time(19));
        let place = self.positive(Some(segment.field(1)), at.with_field(1));
        let rank = self.positive(Some(segment.field(15)), at.with_field(15));
        let clinicians = self.providers(segment.field(16), at.with_field(16));
        let confidential = self.flag(segment.field(18), at.with_field(18));
        let key = if let Some(identifier) = &identifier {
            let (authority, value) = identifier.key();
            self.item_key(&["DG1", "id", &authority, &value])
        } else if diagnosis.code.is_empty() {
            let words = if description.is_empty() { diagnosis.words() } else { &description };
            if words.is_empty() {
                return None;
            }
            self.item_key(&["DG1", "text", words, &kind.code])
        } else {
            self.item_key(&["DG1", "code", &diagnosis.system, &diagnosis.code, &kind.code])
        };
        Some(Diagnosis {
            key,
            action,
            identifier,
            place,
            code: diagnosis,
            description,
            at: happened,
            kind,
            rank,
            clinician: clinicians.items().first().cloned(),
            confidential: confidential.value() == Some(&true),
            attested,
        })
    }
}

/// The segments that are read.
const SEGMENTS: [&str; 11] = ["PID", "PD1", "MRG", "PV1", "PV2", "ARV", "NK1", "AL1", "IAM", "IAR", "DG1"];

/// What waits until its block ends.
#[derive(Default)]
struct Groups<'m> {
    account: Said<Identifier>,
    has_pv2: bool,
    next_of_kin: Vec<(Segment<'m>, Path)>,
    allergies: Vec<(Segment<'m>, Path)>,
    adverse_reactions: Vec<(Segment<'m>, Path)>,
    /// IAR, with the occurrence of its IAM.
    reactions: Vec<(u32, Segment<'m>, Path)>,
    diagnoses: Vec<(Segment<'m>, Path)>,
}

/// Two segments for one substance: both reactions are known.
fn unite(known: &mut Allergy, other: Allergy) {
    for reaction in other.reactions {
        if !known.reactions.contains(&reaction) && known.reactions.len() < REPETITIONS_MAX {
            known.reactions.push(reaction);
        }
    }
    if known.severity.is_empty() {
        known.severity = other.severity;
    }
}

/// Whether all that a segment says is `""`, its set id aside.
fn is_null_segment(segment: Segment<'_>) -> bool {
    let mut has_null = false;
    for (number, field) in segment.fields() {
        match field.presence() {
            Presence::Value if number > 1 => return false,
            Presence::Null => has_null = true,
            Presence::Value | Presence::Absent | Presence::Empty => {}
        }
    }
    has_null
}

/// Whether a character has no place in a text: control characters, and those that turn the direction of writing.
fn is_odd(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}' | '\u{FFFE}' | '\u{FFFF}')
}

/// The keyed hash by which a national number is found: separators and case do not count (clinical-rules 19).
pub fn national_hash(key: &InstallationKey, number: &str) -> Id {
    let signs = number.bytes().filter(u8::is_ascii_alphanumeric);
    let signs: Vec<u8> = signs.map(|sign| sign.to_ascii_uppercase()).collect();
    key.id("national", &[&signs])
}

/// Whether a type (table 0203) is a national person number, which never stands in clear (clinical-rules 19).
pub fn is_national(kind: &str) -> bool {
    matches!(kind, "SS" | "SB" | "NI") || (kind.len() == 5 && kind.starts_with("NN"))
}
