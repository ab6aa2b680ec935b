//! Fields: whether they say something, what of it repeats, and the data types of one value.

use hilum_hl7v2::{Path, Presence, Slot};

use super::Reader;
use crate::content::datatypes::{Action, Coded};
use crate::content::said::Said;
use crate::content::time::When;
use crate::limits::REPETITIONS_MAX;

/// The parts of one repetition, by number from 1.
pub(super) struct Parts<'m>([Option<Slot<'m>>; PARTS]);

/// More components than any data type has that we read.
const PARTS: usize = 24;

impl<'m> Parts<'m> {
    pub(super) fn of(parts: impl Iterator<Item = Slot<'m>>) -> Self {
        let mut all = [None; PARTS];
        for (place, part) in all.iter_mut().zip(parts) {
            *place = Some(part);
        }
        Self(all)
    }

    pub(super) fn get(&self, n: usize) -> Option<Slot<'m>> {
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

impl Reader<'_> {
    /// A field that is one value.
    pub(super) fn one<'m, T>(
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
    pub(super) fn many<'m, T>(
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

    pub(super) fn flag(&mut self, field: Slot<'_>, path: Path) -> Said<bool> {
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

    pub(super) fn coded(&mut self, field: Slot<'_>, path: Path) -> Said<Coded> {
        self.one(field, path, |reader, parts, path| reader.cwe(parts, path))
    }

    pub(super) fn codeds(&mut self, field: Slot<'_>, path: Path) -> Said<Vec<Coded>> {
        self.many(field, path, |reader, parts, path| reader.cwe(parts, path))
    }

    pub(super) fn moment(&mut self, field: Slot<'_>, path: Path) -> Said<When> {
        self.one(field, path, |reader, parts, path| reader.when(parts.get(1), path))
    }

    pub(super) fn cwe(&mut self, parts: &Parts<'_>, path: Path) -> Option<Coded> {
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

    pub(super) fn action(&mut self, slot: Option<Slot<'_>>, path: Path) -> Option<Action> {
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
}
