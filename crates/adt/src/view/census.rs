//! The census: who is in the house, and where (clinical-rules 25, 27).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hilum_core::{Id, InstallationKey, Seq, Timestamp};
use hilum_engines::limits::SCAN_ROWS_MAX;
use hilum_engines::tables::{Read, Row, Scan, Tables};
use serde::Serialize;

use super::confidence::is_confidential_row;
use super::journey::Sight;
use super::names::{tight, words};
use super::place::Place;
use super::reconcile::{Differs, Reconciled};
use super::row::Columns;
use super::{Freshness, ViewError, as_optional_text, as_text};
use crate::limits::BOARD_ROWS_MAX;
use crate::state::{BoardDetail, BoardIdentifier, BoardList, BoardPending};
use crate::tables::BOARD;

/// What of the census is asked for. An absent filter lets all through; texts are compared whole, `q` by part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// One list; absent = all.
    pub list: Option<BoardList>,
    /// One facility.
    pub facility: Option<String>,
    /// One unit.
    pub unit: Option<String>,
    /// One class code.
    pub class: Option<String>,
    /// One status.
    pub status: Option<String>,
    /// Only rows that carry a mark.
    pub marked: bool,
    /// Part of a name, identifier, room, bed or attending, without regard to case.
    pub q: Option<String>,
}

/// One encounter of the census. A confidential one keeps class, status and marks; who it is and where is withheld.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// The encounter; of a confidential line for who does not mend an id that names the line and nothing else.
    #[serde(serialize_with = "as_text")]
    pub encounter: Id,
    /// The patient; absent when withheld.
    #[serde(serialize_with = "as_optional_text")]
    pub patient_id: Option<Id>,
    /// `inpatient`, `emergency`, `outpatient`, `expected`, `leave`.
    pub list: String,
    /// Facility.
    pub facility: Option<String>,
    /// Unit; absent when withheld or when there is none.
    pub unit: Option<String>,
    /// Room.
    pub room: Option<String>,
    /// Bed.
    pub bed: Option<String>,
    /// Who.
    pub patient: Who,
    /// Class code as the source sent it.
    pub class: String,
    /// FHIR Encounter.status.
    pub status: String,
    /// Since when, RFC 3339 in UTC.
    #[serde(serialize_with = "as_optional_text")]
    pub since: Option<Timestamp>,
    /// The attending.
    pub attending: Option<String>,
    /// Mark ids, in order.
    pub marks: Vec<String>,
    /// Whether who and where are withheld.
    pub confidential: bool,
    /// What is announced.
    pub pending: Vec<BoardPending>,
    /// The visit number.
    pub visit: Option<String>,
    /// The source that spoke last.
    pub source: String,
    /// The message that made the row what it is; absent where `encounter` names nothing else.
    #[serde(serialize_with = "as_optional_text")]
    pub message: Option<Id>,
    /// The commit that made it.
    pub t: Seq,
}

/// Who a line is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Who {
    /// As a banner shows it; absent when withheld or not known.
    pub name: Option<String>,
    /// FHIR date.
    pub birth_date: Option<String>,
    /// FHIR gender.
    pub gender: Option<String>,
    /// Identifiers, national numbers masked.
    pub identifiers: Vec<BoardIdentifier>,
    /// Died at, or `unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub died: Option<String>,
}

/// The census as read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Census {
    /// Lines by list, facility, unit, room, bed; withheld places last of their list.
    pub encounters: Vec<Line>,
    /// Whether there are more lines than one answer holds.
    pub truncated: bool,
    /// Lines of each list before any other filter.
    pub lists: BTreeMap<String, usize>,
    /// Lines of each unit of the asked list before any other filter; withheld ones are not counted here.
    pub units: BTreeMap<String, usize>,
    /// Nobody vanishes (clinical-rules 27).
    pub count: Count,
    /// How fresh.
    #[serde(flatten)]
    pub freshness: Freshness,
}

/// The reconciler's figures, with this answer's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    /// Open encounters of the fold.
    pub open: usize,
    /// Rows of the board, expected patients left out.
    pub on_board: usize,
    /// Lines of this answer's lists when no filter is set, expected patients left out.
    pub shown: usize,
    /// Open, and on no list.
    pub not_shown: usize,
    /// On a list, and not open.
    pub not_open: usize,
    /// Open, and not so in the chart.
    pub not_in_chart: usize,
    /// Rows of the board that cannot be read, and stand as a line without a name.
    pub unreadable: usize,
    /// Of these, inpatients without a bed.
    pub without_bed: usize,
    /// Of these, with identity undecided.
    pub identity_undecided: usize,
}

impl Count {
    /// Whether somebody may have vanished: to be acted on.
    pub const fn is_different(&self) -> bool {
        self.open != self.shown
            || self.open != self.on_board
            || self.not_shown + self.not_open + self.not_in_chart + self.unreadable > 0
    }

    /// Holds what is shown against what a look has found. Commits go on between the two: who was let in or left since
    /// is no difference, so that the fold's count is the board's but for those whose writings differ.
    fn reconcile(&mut self, found: &Reconciled, on_board: &BTreeSet<Id>, truncated: bool) {
        self.not_in_chart = found.count(Differs::NotInChart);
        for (id, differs) in &found.differing {
            match differs {
                Differs::NotShown if !on_board.contains(id) => self.not_shown += 1,
                Differs::NotOpen if on_board.contains(id) => self.not_open += 1,
                // A row that cannot be read is counted as it is shown.
                Differs::NotShown | Differs::NotOpen | Differs::NotInChart | Differs::Unreadable => {}
            }
        }
        if truncated {
            (self.open, self.on_board) = (found.open, found.on_board);
        } else {
            self.on_board = on_board.len();
            self.open = self.on_board + self.not_shown - self.not_open;
        }
    }
}

/// Reads the census.
///
/// # Errors
/// [`ViewError::NotFound`] when the authority may not read charts, else the engine's.
pub async fn read(
    sight: Sight<'_>,
    query: &Query,
    freshness: Freshness,
    found: &Reconciled,
) -> Result<Census, ViewError> {
    if !sight.authority.reads_charts() {
        return Err(ViewError::NotFound);
    }
    let (rows, truncated) = all_rows(sight.tables).await?;
    let withheld = withheld(&rows)?;
    let mut lines = Vec::with_capacity(rows.len());
    for row in &rows {
        lines.push(line(row, &withheld)?);
    }
    mark_similar_names(&mut lines);
    mark_shared_beds(&mut lines);
    let mut lists = BTreeMap::new();
    let mut units = BTreeMap::new();
    let mut count = Count::default();
    let expected = BoardList::Expected.as_str();
    let on_board = lines.iter().filter(|line| line.list != expected).map(|line| line.encounter).collect();
    count.reconcile(found, &on_board, truncated);
    for line in &lines {
        *lists.entry(line.list.clone()).or_insert(0) += 1;
        count.unreadable += usize::from(line.marks.iter().any(|mark| mark == UNREADABLE));
        let in_list = query.list.is_none_or(|list| list.as_str() == line.list);
        if let Some(unit) = line.unit.as_ref().filter(|_| in_list) {
            *units.entry(unit.clone()).or_insert(0) += 1;
        }
        if line.list != expected {
            count.shown += usize::from(BoardList::ALL.iter().any(|list| list.as_str() == line.list));
            count.without_bed += usize::from(
                line.list == BoardList::Inpatient.as_str() && line.bed.is_none() && !line.confidential,
            );
            count.identity_undecided +=
                usize::from(line.marks.iter().any(|mark| mark == "identity-undecided"));
        }
    }
    lines.retain(|line| admits(query, line));
    if !sight.authority.decides() {
        for line in &mut lines {
            untie(line, sight.key);
        }
    }
    // Lists in the order of the page; within one, by place.
    let list = |line: &Line| BoardList::ALL.iter().position(|list| list.as_str() == line.list);
    lines.sort_by_cached_key(|line| (list(line).unwrap_or(usize::MAX), Place::of(line)));
    Ok(Census { encounters: lines, truncated, lists, units, count, freshness })
}

/// The rows of the board, and whether there are more than are read. By their key, which never moves.
async fn all_rows(tables: &Tables) -> Result<(Vec<Row>, bool), ViewError> {
    let mut scan = Scan::by_key(BOARD.name, Vec::new());
    let mut all: Vec<Row> = Vec::new();
    loop {
        let rows = tables.read(&[Read::Scan(scan.clone())]).await?.into_iter().next().unwrap_or_default();
        let more = rows.len() >= SCAN_ROWS_MAX as usize;
        all.extend(rows);
        let last = all.last().filter(|_| more && all.len() < BOARD_ROWS_MAX);
        let Some(last) = last else { return Ok((all, more)) };
        scan.after = Some(last.values.iter().take(BOARD.key_len).cloned().collect());
    }
}

/// The mark of whoever has a row that cannot be read: somebody is there, who it is cannot be said.
pub(super) const UNREADABLE: &str = "row-unreadable";

/// Whether a row of the board holds what this program writes.
pub(super) fn is_readable(row: &Row) -> bool {
    let columns = Columns { table: &BOARD, row };
    columns.json::<BoardDetail>("detail").is_ok() && columns.json::<Vec<String>>("marks").is_ok()
}

/// What stands for a row that cannot be read, so that it takes nobody else from the census and nobody vanishes: its
/// columns, and nothing of who or where.
fn placeholder(columns: &Columns<'_>) -> Result<Line, ViewError> {
    let mut marks: Vec<String> = columns.json("marks").unwrap_or_default();
    marks.insert(0, UNREADABLE.to_owned());
    Ok(Line {
        encounter: columns.id("encounter")?,
        patient_id: None,
        list: columns.text("list")?.to_owned(),
        facility: None,
        unit: None,
        room: None,
        bed: None,
        patient: Who::default(),
        class: columns.text("class")?.to_owned(),
        status: columns.text("status")?.to_owned(),
        since: columns.optional_time("since")?,
        attending: None,
        marks,
        confidential: true,
        pending: Vec::new(),
        visit: None,
        source: columns.text("source")?.to_owned(),
        message: Some(columns.id("message")?),
        t: columns.seq("from_t")?,
    })
}

/// Who has a row that asks for confidence: none of their other rows may tell who they are.
fn withheld(rows: &[Row]) -> Result<BTreeSet<Id>, ViewError> {
    let mut all = BTreeSet::new();
    for row in rows {
        if is_confidential_row(row) {
            all.insert(Columns { table: &BOARD, row }.id("patient")?);
        }
    }
    Ok(all)
}

/// Takes from a confidential line what leads to messages, and by them to whom it is about (ADR 9). It keeps an id of its own:
/// the same as long as the stay is.
fn untie(line: &mut Line, key: &InstallationKey) {
    if line.confidential {
        line.encounter = key.id("CensusLine", &[line.encounter.as_bytes()]);
        line.message = None;
        // When the row was written is when the person's page changed.
        line.t = Seq(0);
    }
}

fn line(row: &Row, withheld: &BTreeSet<Id>) -> Result<Line, ViewError> {
    let columns = Columns { table: &BOARD, row };
    if !is_readable(row) {
        return placeholder(&columns);
    }
    let confidential = withheld.contains(&columns.id("patient")?);
    let open = |text: &str| (!confidential && !text.is_empty()).then(|| text.to_owned());
    let open_column = |name| Ok::<_, ViewError>(columns.optional_text(name)?.and_then(open));
    let detail: BoardDetail = columns.json("detail")?;
    let patient = if confidential {
        Who::default()
    } else {
        Who {
            name: open_column("name")?,
            birth_date: detail.birth_date,
            gender: detail.gender,
            identifiers: detail.identifiers,
            died: detail.died,
        }
    };
    let pending = detail
        .pending
        .into_iter()
        .map(|pending| BoardPending { place: pending.place.as_deref().and_then(open), ..pending })
        .collect();
    Ok(Line {
        encounter: columns.id("encounter")?,
        patient_id: (!confidential).then(|| columns.id("patient")).transpose()?,
        list: columns.text("list")?.to_owned(),
        facility: open_column("facility")?,
        unit: open_column("unit")?,
        room: open_column("room")?,
        bed: open_column("bed")?,
        patient,
        class: columns.text("class")?.to_owned(),
        status: columns.text("status")?.to_owned(),
        since: columns.optional_time("since")?,
        attending: columns.optional_text("attending")?.map(str::to_owned),
        marks: columns.json("marks")?,
        confidential,
        pending,
        visit: if confidential { None } else { detail.visit },
        source: columns.text("source")?.to_owned(),
        message: Some(columns.id("message")?),
        t: columns.seq("from_t")?,
    })
}

/// Two patients of similar name on one list are marked as such: the same name but for case, spaces and punctuation.
fn mark_similar_names(lines: &mut [Line]) {
    let key = |line: &Line| {
        let name = line.patient.name.as_deref()?;
        let key: String = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        (!key.is_empty()).then(|| (line.list.clone(), key))
    };
    let mut patients: HashMap<_, Vec<Option<Id>>> = HashMap::new();
    for line in lines.iter() {
        if let Some(key) = key(line) {
            let seen = patients.entry(key).or_default();
            if !seen.contains(&line.patient_id) {
                seen.push(line.patient_id);
            }
        }
    }
    for line in lines {
        if key(line).is_some_and(|key| patients.get(&key).is_some_and(|seen| seen.len() > 1)) {
            line.marks.push("similar-name".to_owned());
        }
    }
}

/// Two in one bed are marked as such (clinical-rules 25). A withheld place marks nobody: that would tell it.
fn mark_shared_beds(lines: &mut [Line]) {
    let place = |line: &Line| {
        let is_here = [BoardList::Inpatient, BoardList::Emergency, BoardList::Leave]
            .iter()
            .any(|list| list.as_str() == line.list);
        let bed = line.bed.clone().filter(|_| is_here && !line.confidential)?;
        Some((line.facility.clone(), line.unit.clone(), line.room.clone(), bed))
    };
    let mut held: HashMap<_, usize> = HashMap::new();
    for place in lines.iter().filter_map(place) {
        *held.entry(place).or_default() += 1;
    }
    for line in lines {
        if place(line).is_some_and(|place| held.get(&place).is_some_and(|count| *count > 1)) {
            line.marks.insert(0, "bed-shared".to_owned());
        }
    }
}

fn admits(query: &Query, line: &Line) -> bool {
    let same =
        |asked: &Option<String>, is: Option<&str>| asked.as_deref().is_none_or(|asked| is == Some(asked));
    query.list.is_none_or(|list| list.as_str() == line.list)
        && same(&query.facility, line.facility.as_deref())
        && same(&query.unit, line.unit.as_deref())
        && same(&query.class, Some(&line.class))
        && same(&query.status, Some(&line.status))
        && (!query.marked || !line.marks.is_empty())
        && query.q.as_deref().is_none_or(|q| mentions(line, q))
}

/// Whether each word of `q` stands somewhere in the line. A withheld line mentions nothing.
fn mentions(line: &Line, q: &str) -> bool {
    if line.confidential {
        return q.trim().is_empty();
    }
    let mut hay = String::new();
    let texts = [&line.patient.name, &line.unit, &line.room, &line.bed, &line.attending, &line.visit];
    for text in texts.into_iter().flatten().chain(line.patient.identifiers.iter().map(|id| &id.value)) {
        hay.push_str(&tight(text));
        hay.push('\n');
    }
    words(q).all(|word| hay.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(list: BoardList, bed: Option<&str>, confidential: bool) -> Line {
        let text = |text: &str| Some(text.to_owned()).filter(|_| !confidential);
        Line {
            encounter: Id::from_bytes([0; 16]),
            patient_id: None,
            list: list.as_str().to_owned(),
            facility: text("SEOUL"),
            unit: text("7W"),
            room: text("701"),
            bed: bed.and_then(text),
            patient: Who::default(),
            class: "I".to_owned(),
            status: "in-progress".to_owned(),
            since: None,
            attending: None,
            marks: vec!["key-inferred".to_owned()],
            confidential,
            pending: Vec::new(),
            visit: None,
            source: String::new(),
            message: None,
            t: Seq(0),
        }
    }

    #[test]
    fn a_masked_line_leads_nowhere_and_keeps_its_place() {
        let key = InstallationKey::new([7; 32]);
        let untied = |confidential: bool| {
            let mut line = line(BoardList::Inpatient, None, confidential);
            (line.message, line.t) = (Some(line.encounter), Seq(7));
            untie(&mut line, &key);
            assert_eq!(line.t == Seq(0), confidential);
            line
        };
        let (open, masked) = (untied(false), untied(true));
        let nil = Id::from_bytes([0; 16]);
        assert_eq!((open.encounter, open.message), (nil, Some(nil)));
        assert_eq!((masked.message, masked.encounter), (None, untied(true).encounter));
        // The button that leads to the next page names the line that this one ends with.
        assert!(!Place::of(&masked).to_text().contains(&nil.to_string()), "{:?}", Place::of(&masked));
    }

    #[test]
    fn two_in_one_bed_are_marked_and_nobody_else() {
        let cases = [
            ("two inpatients", vec![(BoardList::Inpatient, Some("1"), false); 2], vec![true, true]),
            (
                "one on leave, whose bed is held",
                vec![(BoardList::Leave, Some("1"), false), (BoardList::Inpatient, Some("1"), false)],
                vec![true, true],
            ),
            (
                "beds that differ",
                vec![(BoardList::Inpatient, Some("1"), false), (BoardList::Inpatient, Some("2"), false)],
                vec![false, false],
            ),
            ("no bed is no bed in common", vec![(BoardList::Inpatient, None, false); 2], vec![false, false]),
            (
                "who is expected is not in it",
                vec![(BoardList::Expected, Some("1"), false), (BoardList::Inpatient, Some("1"), false)],
                vec![false, false],
            ),
            (
                "a withheld place is told by no mark",
                vec![(BoardList::Inpatient, Some("1"), true), (BoardList::Inpatient, Some("1"), false)],
                vec![false, false],
            ),
        ];
        for (why, rows, want) in cases {
            let mut lines: Vec<Line> =
                rows.into_iter().map(|(list, bed, confidential)| line(list, bed, confidential)).collect();
            mark_shared_beds(&mut lines);
            let is_marked = |line: &Line| line.marks.iter().any(|mark| mark == "bed-shared");
            assert_eq!(lines.iter().map(is_marked).collect::<Vec<_>>(), want, "{why}");
        }
    }
}
