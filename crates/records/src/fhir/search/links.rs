//! The links of a page: first, previous, next, last, in the walk's style.

use super::kept;
use super::page::{Cell, Page};
use super::style::Style;
use super::walk::{Matches, Shown, Walk};
use crate::fhir::answer::Trouble;
use crate::limits::OFFSET_MAX;

type Links = Vec<(&'static str, String)>;

/// How pages of a walk that are counted are addressed.
pub(super) enum Address {
    /// Behind the base, by the name of a search that is kept.
    Named(String, String),
    /// By a sealed link.
    Sealed(String),
}

impl Address {
    pub(super) fn page(&self, offset: u32, count: u32) -> String {
        match self {
            Self::Named(base, name) => format!(
                "{base}?_getpages={name}&_getpagesoffset={offset}&_count={count}&_bundletype=searchset"
            ),
            Self::Sealed(link) => format!("{link}?_offset={offset}&_count={count}"),
        }
    }
}

impl Walk<'_> {
    /// The links of a page that shows `matches`, which stand in the walk's order.
    pub(super) async fn links(
        &self,
        mut page: Page,
        name: Option<String>,
        matches: &Matches,
    ) -> Result<Links, Trouble> {
        let is_begun = page.offset.map_or(!page.after.is_empty(), |offset| offset > 0);
        let (has_next, has_previous) =
            if page.reversed { (is_begun, matches.more) } else { (matches.more, is_begun) };
        if !has_next && !has_previous {
            return Ok(Links::new());
        }
        let (room, principal) = (self.ask.room, self.ask.caller.authority.principal());
        let name = match (self.style, name) {
            (Style::GetPages, None) => kept::keep_page(room, principal, &page).await?,
            (_, name) => name,
        };
        page.kept = page.kept.or_else(|| name.clone());
        let places = matches.shown.first().into_iter().chain(matches.shown.last());
        let places: Vec<&[Cell]> =
            places.map(|shown| shown.place.as_slice()).chain([&*matches.end]).collect();
        kept::keep_if_long(room, principal, &mut page, &places).await?;
        let Some(offset) = page.offset else {
            return self.sealed(&page, matches, has_next, has_previous);
        };
        let address = match name {
            Some(name) => Address::Named(self.ask.base.to_owned(), name),
            // Also where too much is kept.
            None => Address::Sealed(self.seal(&page, Vec::new(), false)?),
        };
        self.counted_links(&page, (&address, offset), matches)
    }

    /// By the matches beside the page: any costs the same.
    fn sealed(
        &self,
        page: &Page,
        matches: &Matches,
        has_next: bool,
        has_previous: bool,
    ) -> Result<Links, Trouble> {
        let Matches { shown, end, .. } = matches;
        // Where all that was looked at was withheld the walk goes on behind it.
        let edge = |shown: Option<&Shown>| shown.map_or(end.clone(), |shown| shown.place.clone());
        let behind = if page.reversed { edge(shown.last()) } else { end.clone() };
        let before = if page.reversed { end.clone() } else { edge(shown.first()) };
        let mut links = vec![("first", self.seal(page, Vec::new(), false)?)];
        if has_previous {
            links.push(("previous", self.seal(page, before, true)?));
        }
        if has_next {
            links.push(("next", self.seal(page, behind, false)?));
        }
        links.push(("last", self.seal(page, Vec::new(), true)?));
        Ok(links)
    }

    /// By how many matches are before the page. What lies behind the bound is walked by sealed links, so that no walk ends
    /// before its end.
    fn counted_links(
        &self,
        page: &Page,
        (address, offset): (&Address, u32),
        matches: &Matches,
    ) -> Result<Links, Trouble> {
        let count = page.count;
        let mut links = vec![("first", address.page(0, count))];
        if offset > 0 {
            let before = offset.saturating_sub(count);
            links.push(("previous", address.page(before, offset - before)));
        }
        if matches.more {
            let next = offset.saturating_add(count);
            let next = if next <= OFFSET_MAX {
                address.page(next, count)
            } else {
                self.seal(page, matches.end.clone(), false)?
            };
            links.push(("next", next));
        }
        let last = page.total.and_then(|total| u32::try_from(total.saturating_sub(1)).ok());
        let last = last.map(|last| last / count.max(1) * count).filter(|last| *last <= OFFSET_MAX);
        let last = match last {
            Some(last) => address.page(last, count),
            None => self.seal(page, Vec::new(), true)?,
        };
        links.push(("last", last));
        Ok(links)
    }

    fn seal(&self, page: &Page, after: Vec<Cell>, reversed: bool) -> Result<String, Trouble> {
        let ask = &self.ask;
        let there = Page { after, reversed, ..page.clone() };
        let token = there
            .seal(&ask.room.key, ask.caller.authority.principal(), ask.room.entropy.bytes())
            .map_err(|_| Trouble::TooLongForPages)?;
        Ok(format!("{}/_page/{token}", ask.base))
    }
}
