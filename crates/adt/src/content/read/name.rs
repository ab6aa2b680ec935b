//! Names (XPN) and providers (XCN).

use hilum_core::is_blank;
use hilum_hl7v2::{Path, Slot};

use super::field::Parts;
use super::identifier::Authority;
use super::{Reader, signs};
use crate::content::datatypes::{Name, Provider, Representation};
use crate::content::said::Said;
use crate::content::time::When;

impl Reader<'_> {
    /// XPN from part `first` on: the parts of XCN stand one later.
    pub(super) fn name(&mut self, parts: &Parts<'_>, path: Path) -> Option<Name> {
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
        let called = [
            (1, &mut name.family),
            (2, &mut name.given),
            (3, &mut name.middle),
            (4, &mut name.suffix),
            (5, &mut name.prefix),
            (15, &mut name.called),
        ];
        for (component, part) in called {
            self.check_name(part, path.with_component(component));
        }
        name.representation = self.representation(parts.get(8), path.with_component(8));
        (name.from, name.to) = self.range(parts, path, 10, 12);
        let is_empty =
            [&name.family, &name.given, &name.middle, &name.called].into_iter().all(String::is_empty);
        (!is_empty).then_some(name)
    }

    /// What nobody sees counts as absent; what no name has is said.
    fn check_name(&mut self, part: &mut String, path: Path) {
        if !part.is_empty() && is_blank(part) {
            part.clear();
            self.find("name-blank", path, "of blanks or signs without width alone: counts as absent");
        } else if signs::are_odd(part) {
            self.find(
                "name-signs",
                path,
                "signs that no name has: the sender's charset may be another than the one that was taken",
            );
        }
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
    pub(super) fn range(
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

    pub(super) fn providers(&mut self, field: Slot<'_>, path: Path) -> Said<Vec<Provider>> {
        self.many(field, path, |reader, parts, path| reader.provider(parts, path))
    }
}
