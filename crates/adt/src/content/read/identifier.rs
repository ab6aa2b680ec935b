//! Identifiers (CX, EI) and who issued them: what names a person or a visit, and what is hidden (rules 14, 19).

use std::sync::Arc;

use hilum_core::{Id, InstallationKey};
use hilum_hl7v2::{Path, Presence, Slot};

use super::Reader;
use super::field::Parts;
use crate::content::datatypes::{Identifier, Usage};
use crate::content::said::Said;
use crate::identity::is_placeholder;
use crate::limits::REPETITIONS_MAX;
use crate::map::summary::{is_korean_number, mask_national};

/// HD as sent.
#[derive(Default)]
pub(super) struct Authority {
    pub(super) namespace: String,
    pub(super) universal: String,
    pub(super) universal_type: String,
}

impl Reader<'_> {
    pub(super) fn authority<'m>(
        &mut self,
        mut parts: impl Iterator<Item = Slot<'m>>,
        path: Path,
    ) -> Authority {
        Authority {
            namespace: self.text(parts.next(), path),
            universal: self.text(parts.next(), path),
            universal_type: self.text(parts.next(), path),
        }
    }

    /// The authority's one name: what the alias table says for the whole HD, the universal id or the namespace id, else
    /// the universal id, which is unique in the world, else the namespace id. And whether it is empty.
    pub(super) fn canonical(&self, authority: &Authority) -> (String, bool) {
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
    pub(super) fn facility_name(&self, authority: &Authority) -> String {
        let (canonical, _) = self.canonical(authority);
        let is_alias = canonical != authority.universal && canonical != authority.namespace;
        if is_alias || authority.namespace.is_empty() { canonical } else { authority.namespace.clone() }
    }

    /// Puts an identifier together; its use is decided by the caller.
    pub(super) fn identified(&mut self, value: String, authority: &Authority, kind: String) -> Identifier {
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
            authority_guessed: authority_assumed && self.guesses_authority,
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
    pub(super) fn cx(&mut self, parts: &Parts<'_>, path: Path, blank: &str) -> Option<Identifier> {
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
    pub(super) fn named(&mut self, parts: &Parts<'_>, path: Path, blank: &str) -> Option<Identifier> {
        let identifier = self.cx(parts, path, blank)?;
        if identifier.hash.is_none() && is_placeholder(&identifier.value, self.settings) {
            self.find("identifier-placeholder", path, "stands for none: it names nobody");
            return None;
        }
        Some(identifier)
    }

    /// EI.
    pub(super) fn ei(&mut self, parts: &Parts<'_>, path: Path) -> Option<Identifier> {
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
    pub(super) fn patient_numbers(&mut self, field: Slot<'_>, path: Path) -> Said<Vec<Identifier>> {
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
    pub(super) fn add_numbers(&mut self, numbers: &mut Said<Vec<Identifier>>, field: Slot<'_>, path: Path) {
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

    /// PID-19: a number of no stated type; 13 digits that begin with a date are Korean.
    pub(super) fn national(&mut self, parts: &Parts<'_>, path: Path) -> Option<Identifier> {
        let value = self.number(parts.get(1), path)?;
        let kind = if is_korean_number(&value) { "NNKOR" } else { "SS" };
        // The issuer is a state, not the source: the type says which.
        let authority = Authority { namespace: kind.to_owned(), ..Authority::default() };
        Some(self.identified(value, &authority, kind.to_owned()))
    }

    pub(super) fn licence(&mut self, parts: &Parts<'_>, path: Path) -> Option<Identifier> {
        let value = self.number(parts.get(1), path)?;
        let namespace = self.text(parts.get(2), path.with_component(2));
        let mut licence =
            self.identified(value, &Authority { namespace, ..Authority::default() }, "DL".to_owned());
        licence.to = self.when(parts.get(3), path.with_component(3));
        Some(licence)
    }
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
