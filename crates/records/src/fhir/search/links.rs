//! The links of a page: first, previous, next, last, in the walk's style.

use super::kept;
use super::page::{Cell, Mark, Page};
use super::style::Style;
use super::walk::{Matches, Walk};
use crate::fhir::answer::Trouble;
use crate::limits::OFFSET_MAX;

type Links = Vec<(&'static str, String)>;

/// How pages of a walk that are counted are addressed.
pub(super) enum Address {
    /// Behind the base, by the name of a search that is kept, and the sealed place that a number stands for.
    Named(String, String, Option<String>),
    /// By a sealed link.
    Sealed(String),
}

impl Address {
    pub(super) fn page(&self, offset: u32, count: u32) -> String {
        match self {
            Self::Named(base, name, place) => {
                let place = place.as_ref().map(|place| format!("&_getpagesplace={place}"));
                format!(
                    "{base}?_getpages={name}&_getpagesoffset={offset}&_count={count}&_bundletype=searchset{}",
                    place.unwrap_or_default()
                )
            }
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
        let is_begun = match (page.offset, &page.mark) {
            (Some(offset), None) => offset > 0,
            _ => !page.after.is_empty(),
        };
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
        let (behind, before) = matches.edges(page.reversed);
        kept::keep_if_long(room, principal, &mut page, &[&behind, &before]).await?;
        let (next, previous) = (has_next.then_some(behind), has_previous.then_some(before));
        let Some(offset) = page.offset else { return self.sealed(&page, next, previous) };
        // One that found nothing stands at the end, however far beyond it was asked for.
        let at = page.total.filter(|_| matches.is_none()).and_then(|total| u32::try_from(total).ok());
        let at = at.map_or(offset, |total| total.min(offset));
        self.counted_links((&page, name.as_deref()), at, next, previous)
    }

    /// By the matches beside the page: any costs the same.
    fn sealed(
        &self,
        page: &Page,
        next: Option<Vec<Cell>>,
        previous: Option<Vec<Cell>>,
    ) -> Result<Links, Trouble> {
        let mut links = vec![("first", self.seal(page, Vec::new(), false)?)];
        if let Some(before) = previous {
            links.push(("previous", self.seal(page, before, true)?));
        }
        if let Some(behind) = next {
            links.push(("next", self.seal(page, behind, false)?));
        }
        links.push(("last", self.seal(page, Vec::new(), true)?));
        Ok(links)
    }

    /// By how many matches are before the page, and by the place for which that number stands: whom one may know of may change
    /// from page to page. What lies behind the bound is walked by sealed links, so that no walk ends before its end.
    fn counted_links(
        &self,
        (page, name): (&Page, Option<&str>),
        offset: u32,
        next: Option<Vec<Cell>>,
        previous: Option<Vec<Cell>>,
    ) -> Result<Links, Trouble> {
        let count = page.count;
        let link = |count: u32, mark: Mark| self.numbered((page, name), (mark.offset, count), Some(mark));
        let mut links = vec![("first", self.numbered((page, name), (0, count), None)?)];
        if let Some(after) = previous {
            let before = offset.saturating_sub(count);
            // Before the first of a walk there is something where somebody was let in since: all of that is at 0.
            let count = if offset == 0 { count } else { offset - before };
            let mark = Mark { offset: before, matches: count, after, reversed: true };
            links.push(("previous", link(count, mark)?));
        }
        if let Some(after) = next {
            let next = offset.saturating_add(page.wanted());
            let next = if next <= OFFSET_MAX {
                link(count, Mark { offset: next, matches: count, after, reversed: false })?
            } else {
                self.seal(page, after, false)?
            };
            links.push(("next", next));
        }
        let total = page.total.and_then(|total| u32::try_from(total).ok());
        let last = total.map(|total| (total, total.saturating_sub(1) / count.max(1) * count));
        let last = match last.filter(|(_, last)| *last <= OFFSET_MAX) {
            Some((total, last)) => {
                let mark = Mark { offset: last, matches: total - last, after: Vec::new(), reversed: true };
                link(count, mark)?
            }
            None => self.seal(page, Vec::new(), true)?,
        };
        links.push(("last", last));
        Ok(links)
    }

    /// The address of a page by its number.
    fn numbered(
        &self,
        (page, name): (&Page, Option<&str>),
        (offset, count): (u32, u32),
        mark: Option<Mark>,
    ) -> Result<String, Trouble> {
        let base = self.ask.base;
        let is_marked = mark.is_some();
        let there = Page { after: Vec::new(), reversed: false, count, mark, ..page.clone() };
        let address = match name {
            Some(name) => {
                let place = is_marked.then(|| self.token(&there)).transpose()?;
                Address::Named(base.to_owned(), name.to_owned(), place)
            }
            // Also where too much is kept.
            None => Address::Sealed(format!("{base}/_page/{}", self.token(&there)?)),
        };
        Ok(address.page(offset, count))
    }

    fn seal(&self, page: &Page, after: Vec<Cell>, reversed: bool) -> Result<String, Trouble> {
        let token = self.token(&Page { after, reversed, mark: None, ..page.clone() })?;
        Ok(format!("{}/_page/{token}", self.ask.base))
    }

    fn token(&self, page: &Page) -> Result<String, Trouble> {
        let (room, principal) = (self.ask.room, self.ask.caller.authority.principal());
        page.seal(&room.key, principal, room.entropy.bytes()).map_err(|_| Trouble::TooLongForPages)
    }
}
