//! The chart's doors: every read takes an [`Authority`] and gives nothing to one that may not read; every chart-first
//! write goes through [`Chart::commit`], which asks the rules of all rooms and commits resource, rows and outbox at
//! once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use hilum_core::{Authority, Clock, Digest, Id, Seq};
use hilum_engines::tables::{Batch, Expect, Read, Row, Scan, Tables, TablesError, Value, Write};
use hilum_fhir::{FhirId, ResourceBody};
use tokio::sync::OnceCell;

use crate::error::ChartError;
use crate::family::{Head, Ties};
use crate::index::Indexer;
use crate::index::life::since;
use crate::index::mend::is_whole;
use crate::limits::{
    COMMIT_ATTEMPTS_MAX, CONFLICT_BACKOFF, HISTORY_VERSIONS_MAX, INDEX_BELIEVED_US, READ_RESOURCES_MAX,
    WALK_PAGE_ROWS, WRITE_INLINE_BYTES_MAX,
};
use crate::port;
use crate::projection::{Changes, Reads, RegisterChange, ResourceChange, Rows};
use crate::resources::{
    HISTORY, Indexing, RESOURCE, Stored, Version, Writer, is_of, key, read_current, read_stamp,
};
use crate::runner::compute;

/// What a rule is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Proposed<'a> {
    /// What should stand.
    pub change: &'a ResourceChange,
    /// What stands.
    pub current: Option<&'a Stored>,
}

/// Why a rule refuses a change; without patient data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(pub String);

/// A room's say on a resource that arrives by another's route. Pure; registered by the wiring.
#[derive(Debug, Clone, Copy)]
pub struct CommitRule {
    /// Its id, shown to whoever is refused.
    pub name: &'static str,
    /// The type that it is asked about.
    pub resource_type: &'static str,
    /// Refuses, or adds changes that are committed with it. What a rule adds is not asked about again.
    pub check: fn(&Proposed<'_>, &mut Changes) -> Result<(), Refusal>,
}

/// What a chart-first door wants to commit.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// The door's name; it owns what it writes.
    pub door: &'static str,
    /// Rows, resources, outbox.
    pub changes: Changes,
    /// The version that a resource must have now (`If-Match`); 0 = it must not exist.
    pub if_versions: BTreeMap<(&'static str, Id), i64>,
    /// The logical id of each resource that is no UUID: its id in the chart is a hash of that text.
    pub logical_ids: BTreeMap<(&'static str, Id), FhirId>,
    /// Rows that the door's decision rests on.
    pub expects: Vec<Expect>,
    /// A head of each patient whose compartment this touches: their families are read and bumped, so that a merge
    /// and this commit are ordered.
    pub heads: Vec<Head>,
}

/// What was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The commit; the newest one when nothing had to be written.
    pub t: Seq,
    /// The versions that were made; what stood already is missing.
    pub versions: BTreeMap<(&'static str, Id), i64>,
}

/// The chart of all patients. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Chart {
    tables: Tables,
    pub(crate) clock: Clock,
    pub(crate) rules: Arc<[CommitRule]>,
    pub(crate) indexer: Option<Arc<Indexer>>,
    /// Until when, in µs, that all is indexed need not be asked again.
    whole_until_us: Arc<AtomicI64>,
    /// Since when the index stands, once that was asked.
    indexed_since: Arc<OnceCell<Seq>>,
}

impl Chart {
    /// The chart in `tables`, whose schema has [`crate::resources::TABLES`] and [`crate::family::TABLES`].
    pub fn open(tables: Tables, clock: Clock) -> Self {
        Self {
            tables,
            clock,
            rules: Arc::new([]),
            indexer: None,
            whole_until_us: Arc::default(),
            indexed_since: Arc::default(),
        }
    }

    /// The same chart with these rules for chart-first commits.
    #[must_use]
    pub fn with_rules(self, rules: impl Into<Arc<[CommitRule]>>) -> Self {
        Self { rules: rules.into(), ..self }
    }

    /// The same chart with what makes resources found by searches.
    #[must_use]
    pub fn with_indexer(self, indexer: Arc<Indexer>) -> Self {
        Self { indexer: Some(indexer), ..self }
    }

    /// What makes resources found by searches; absent where there are none.
    pub fn indexer(&self) -> Option<&Indexer> {
        self.indexer.as_deref()
    }

    /// Whether a search would find all that is there. That it would is believed for [`INDEX_BELIEVED_US`].
    ///
    /// # Errors
    /// The engine's.
    pub async fn is_indexed(&self) -> Result<bool, ChartError> {
        let Some(indexer) = &self.indexer else { return Ok(false) };
        let now_us = self.clock.now().as_micros();
        let until_us = self.whole_until_us.load(Ordering::Relaxed);
        // A clock that is set back believes nothing longer.
        if now_us < until_us && until_us - now_us <= INDEX_BELIEVED_US {
            return Ok(true);
        }
        let is_whole = is_whole(&self.tables, indexer).await?;
        if is_whole {
            self.whole_until_us.store(now_us.saturating_add(INDEX_BELIEVED_US), Ordering::Relaxed);
        }
        Ok(is_whole)
    }

    /// Since which commit the index stands. It is made anew with all processes stopped: asked once.
    ///
    /// # Errors
    /// The engine's.
    pub async fn indexed_since(&self) -> Result<Seq, ChartError> {
        self.indexed_since.get_or_try_init(|| since(&self.tables)).await.copied()
    }

    /// The tables that it stands in.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The current version.
    ///
    /// # Errors
    /// [`ChartError::NotFound`] when there is none or `authority` may not read it, [`ChartError::Gone`] when it is
    /// deleted.
    pub async fn read(
        &self,
        authority: &Authority,
        resource_type: &str,
        id: Id,
    ) -> Result<Stored, ChartError> {
        let found = self.read_all(authority, &[(resource_type, id)]).await?.pop().flatten();
        match found {
            None => Err(ChartError::NotFound),
            Some(stored) if stored.deleted => Err(ChartError::Gone { version: stored.version }),
            Some(stored) => Ok(stored),
        }
    }

    /// Current versions in the order asked for, deleted ones as such, in one round trip.
    ///
    /// # Errors
    /// [`ChartError::Bound`] for more than [`READ_RESOURCES_MAX`]; [`ChartError::NotFound`] when `authority` may not
    /// read.
    pub async fn read_all(
        &self,
        authority: &Authority,
        wanted: &[(&str, Id)],
    ) -> Result<Vec<Option<Stored>>, ChartError> {
        let found = self.current_rows(authority, wanted).await?;
        found.into_iter().map(|rows| rows.first().map(Stored::current).transpose()).collect()
    }

    async fn current_rows(
        &self,
        authority: &Authority,
        wanted: &[(&str, Id)],
    ) -> Result<Vec<Vec<Row>>, ChartError> {
        may_read(authority)?;
        if wanted.len() > READ_RESOURCES_MAX {
            return Err(ChartError::Bound {
                what: "resources",
                asked: wanted.len(),
                max: READ_RESOURCES_MAX,
            });
        }
        let reads: Vec<Read> = wanted.iter().map(|(ty, id)| read_current(ty, *id)).collect();
        Ok(port::read(&self.tables, &reads).await?)
    }

    /// Those of the current versions that somebody else than `door` made and that are no deletions.
    ///
    /// # Errors
    /// As [`Chart::read_all`].
    pub async fn of_others(
        &self,
        authority: &Authority,
        door: &str,
        wanted: &[(&str, Id)],
    ) -> Result<Vec<Stored>, ChartError> {
        let rows = self.current_rows(authority, wanted).await?;
        // Most are of the door: their bodies need not be read.
        let others = rows.iter().flatten().filter(|row| !is_of(row, door)).map(Stored::current);
        others
            .filter(|stored| stored.as_ref().is_ok_and(|stored| !stored.deleted) || stored.is_err())
            .collect()
    }

    /// One version, current or earlier, also one that is a deletion.
    ///
    /// # Errors
    /// [`ChartError::NotFound`].
    pub async fn version(
        &self,
        authority: &Authority,
        resource_type: &str,
        id: Id,
        version: i64,
    ) -> Result<Stored, ChartError> {
        may_read(authority)?;
        let mut earlier = key(resource_type, id);
        earlier.push(Value::Int(version));
        let reads = [read_current(resource_type, id), Read::Get { table: HISTORY.name, key: earlier }];
        let mut found = port::read(&self.tables, &reads).await?.into_iter();
        let (current, earlier) = (found.next().unwrap_or_default(), found.next().unwrap_or_default());
        if let Some(stored) = current.first().map(Stored::current).transpose()?
            && stored.version == version
        {
            return Ok(stored);
        }
        earlier.first().map(Stored::earlier).transpose()?.ok_or(ChartError::NotFound)
    }

    /// Versions of one resource, newest first: those before `before`, at most `limit` and [`HISTORY_VERSIONS_MAX`].
    ///
    /// # Errors
    /// [`ChartError::NotFound`] when it never was.
    pub async fn history(
        &self,
        authority: &Authority,
        resource_type: &str,
        id: Id,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Stored>, ChartError> {
        may_read(authority)?;
        let limit = limit.min(HISTORY_VERSIONS_MAX);
        let earlier = Scan {
            to: before.map(Value::Int),
            limit,
            descending: true,
            ..Scan::by_key(HISTORY.name, key(resource_type, id))
        };
        let reads = [read_current(resource_type, id), Read::Scan(earlier)];
        let mut found = port::read(&self.tables, &reads).await?.into_iter();
        let (current, earlier) = (found.next().unwrap_or_default(), found.next().unwrap_or_default());
        let current = Stored::current(current.first().ok_or(ChartError::NotFound)?)?;
        let mut out: Vec<Stored> = Vec::new();
        if before.is_none_or(|before| current.version < before) {
            out.push(current);
        }
        for row in &earlier {
            let stored = Stored::earlier(row)?;
            // Two reads may see a version in both places, or the newer one's commit between them.
            if out.last().is_none_or(|newer| stored.version < newer.version) {
                out.push(stored);
            }
        }
        out.truncate(limit as usize);
        Ok(out)
    }

    /// Current resources of a type by id, those that are not deleted, behind `after`. A page may be shorter than
    /// `limit`; the last one gives no cursor.
    ///
    /// # Errors
    /// [`ChartError::NotFound`] when `authority` may not read.
    pub async fn page(
        &self,
        authority: &Authority,
        resource_type: &str,
        after: Option<Id>,
        limit: u32,
    ) -> Result<(Vec<Stored>, Option<Id>), ChartError> {
        may_read(authority)?;
        let limit = limit.clamp(1, READ_RESOURCES_MAX as u32);
        let prefix = vec![Value::Text(resource_type.to_owned())];
        let after = after.map(|id| key(resource_type, id));
        let rows = page(&self.tables, Scan { after, limit, ..Scan::by_key(RESOURCE.name, prefix) }).await?;
        let all: Vec<Stored> = rows.iter().map(Stored::current).collect::<Result<_, _>>()?;
        let cursor = all.last().filter(|_| all.len() == limit as usize).map(|last| last.id);
        Ok((all.into_iter().filter(|stored| !stored.deleted).collect(), cursor))
    }

    /// Resources of a type by id as they were at the commit `t`, those that were not deleted, behind `after`: the whole of it
    /// is one instant, whatever is written meanwhile. A page may be shorter than `limit`; the last one gives no cursor.
    ///
    /// # Errors
    /// [`ChartError::NotFound`] when `authority` may not read.
    pub async fn page_at(
        &self,
        authority: &Authority,
        resource_type: &str,
        t: Seq,
        after: Option<Id>,
        limit: u32,
    ) -> Result<(Vec<Stored>, Option<Id>), ChartError> {
        may_read(authority)?;
        let limit = limit.clamp(1, READ_RESOURCES_MAX as u32);
        let prefix = vec![Value::Text(resource_type.to_owned())];
        let after = after.map(|id| key(resource_type, id));
        let rows = page(&self.tables, Scan { after, limit, ..Scan::by_key(RESOURCE.name, prefix) }).await?;
        let (mut all, mut last) = (Vec::with_capacity(rows.len()), None);
        for row in &rows {
            let current = Stored::current(row)?;
            last = Some(current.id);
            // What was written since was something else then, or nothing.
            let then = if current.t_from > t {
                self.version_at(resource_type, current.id, t).await?
            } else {
                Some(current).filter(|stored| !stored.deleted)
            };
            all.extend(then);
        }
        Ok((all, last.filter(|_| rows.len() == limit as usize)))
    }

    /// BLAKE3 over all current resources of `types` (empty = all) that are not deleted, by (type, id), without
    /// versionId and lastUpdated: two charts that say the same have the same. Reads in pages: of a chart that is being
    /// written it is the hash of no single instant.
    ///
    /// # Errors
    /// [`ChartError::NotFound`] when `authority` may not read.
    pub async fn canonical_hash(&self, authority: &Authority, types: &[&str]) -> Result<Digest, ChartError> {
        self.hash(authority, types, None).await
    }

    /// The same over what `owner` (a projection) owns, of all types.
    ///
    /// # Errors
    /// As [`Chart::canonical_hash`].
    pub async fn canonical_hash_of(&self, authority: &Authority, owner: &str) -> Result<Digest, ChartError> {
        self.hash(authority, &[], Some(owner)).await
    }

    async fn hash(
        &self,
        authority: &Authority,
        types: &[&str],
        owner: Option<&str>,
    ) -> Result<Digest, ChartError> {
        may_read(authority)?;
        let mut prefixes: Vec<Vec<Value>> =
            types.iter().map(|ty| vec![Value::Text((*ty).to_owned())]).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        if prefixes.is_empty() {
            prefixes.push(Vec::new());
        }
        let mut hasher = blake3::Hasher::new();
        for prefix in prefixes {
            let mut after = None;
            loop {
                let scan = Scan {
                    after: after.take(),
                    limit: WALK_PAGE_ROWS,
                    ..Scan::by_key(RESOURCE.name, prefix.clone())
                };
                let rows = page(&self.tables, scan).await?;
                for row in &rows {
                    let stored = Stored::current(row)?;
                    if !stored.deleted && owner.is_none_or(|owner| stored.owner == owner) {
                        for part in [stored.resource_type.as_bytes(), stored.id.as_bytes(), &stored.body] {
                            hasher.update(&(part.len() as u64).to_le_bytes());
                            hasher.update(part);
                        }
                    }
                }
                match rows.last() {
                    Some(last) if rows.len() == WALK_PAGE_ROWS as usize => {
                        after = last.values.get(..RESOURCE.key_len).map(<[Value]>::to_vec);
                    }
                    _ => break,
                }
            }
        }
        Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
    }

    /// Commits what a chart-first door brings: all or nothing, durable when it resolves, and every later read sees
    /// it. Tries again when another writer was first, as long as the versions named still hold.
    ///
    /// # Errors
    /// [`ChartError::Version`], [`ChartError::Owned`], [`ChartError::Refused`], [`ChartError::Body`]: nothing was
    /// written.
    pub async fn commit(&self, authority: &Authority, mut commit: Commit) -> Result<Committed, ChartError> {
        if !authority.decides() {
            return Err(ChartError::Forbidden);
        }
        let Commit { changes, logical_ids, .. } = &mut commit;
        for change in changes.resources.values_mut() {
            check_body(change, logical_ids)?;
        }
        for register in changes.register_resources.values_mut() {
            check_body(&mut register.change, logical_ids)?;
        }
        let mut wait = CONFLICT_BACKOFF.0;
        for _ in 1..COMMIT_ATTEMPTS_MAX {
            match self.attempt(&commit).await {
                Err(ChartError::Tables(TablesError::Conflict(_))) => {}
                done => return done,
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(CONFLICT_BACKOFF.1);
        }
        self.attempt(&commit).await
    }

    async fn attempt(&self, commit: &Commit) -> Result<Committed, ChartError> {
        let mut changes = commit.changes.clone();
        let families = self.families(&commit.heads).await?;
        if let Some((ties, rows)) = &families
            && let Some(families) = ties.resolve(rows)
        {
            families.write(&[], rows, &mut changes);
        }
        let asked: Vec<ResourceChange> = changes
            .resources
            .values()
            .chain(changes.register_resources.values().map(|register| &register.change))
            .cloned()
            .collect();
        let mut current = self.current(&changes).await?;
        for change in &asked {
            let row = current.get(&(change.resource_type, change.id));
            let stored = row.map(Stored::current).transpose()?;
            check_version(commit, change, stored.as_ref())?;
            if let Some(stored) = stored.as_ref().filter(|stored| stored.owner != commit.door) {
                return Err(ChartError::Owned { owner: stored.owner.clone() });
            }
            for rule in self.rules.iter().filter(|rule| rule.resource_type == change.resource_type) {
                let proposed = Proposed { change, current: stored.as_ref() };
                (rule.check)(&proposed, &mut changes)
                    .map_err(|Refusal(text)| ChartError::Refused { rule: rule.name, text })?;
            }
        }
        // Rules may have added resources: what stands of those is read too.
        current.extend(
            self.current(&changes)
                .await?
                .into_iter()
                .filter(|(key, _)| !asked.iter().any(|change| (change.resource_type, change.id) == *key)),
        );
        let mut batch = Batch { expects: commit.expects.clone(), ..Batch::default() };
        batch.outbox = std::mem::take(&mut changes.outbox);
        if let Some((_, rows)) = &families {
            batch.expects.extend(expectations(rows));
        }
        let index = self.indexer.as_ref().map(Indexing::of_door);
        let writer = Writer { owner: commit.door, now: self.clock.now(), index };
        let stamps = self.stamps(&changes).await?;
        let resources = std::mem::take(&mut changes.resources);
        let registers = std::mem::take(&mut changes.register_resources);
        let size_bytes: usize =
            resources.values().filter_map(|change| change.body.as_ref()).map(String::len).sum();
        let work = move || write(&writer, (resources, registers), (&current, &stamps), batch);
        let (mut batch, versions) =
            if size_bytes > WRITE_INLINE_BYTES_MAX { compute(work).await?? } else { work()? };
        batch.writes.extend(changes.rows.into_iter().map(|((table, key), values)| match values {
            Some(values) => Write::Put { table, values },
            None => Write::Delete { table, key },
        }));
        batch.writes.extend(
            changes.registers.into_iter().map(|((table, _), values)| Write::PutIfNewer { table, values }),
        );
        let t = port::commit(&self.tables, batch).await?;
        Ok(Committed { t, versions })
    }

    async fn families(&self, heads: &[Head]) -> Result<Option<(Ties, Rows)>, ChartError> {
        if heads.is_empty() {
            return Ok(None);
        }
        let mut ties = Ties::default();
        for &head in heads {
            ties.tie([head]); // touched, not tied to each other
        }
        let mut rows = Rows::default();
        for _heads_then_families in 0..2 {
            let mut reads = Reads::default();
            ties.needs(&[], &rows, &mut reads);
            let gets: Vec<Read> =
                reads.gets.iter().map(|(table, key)| Read::Get { table, key: key.clone() }).collect();
            let found = port::read(&self.tables, &gets).await?;
            for ((table, key), mut found) in reads.gets.into_iter().zip(found) {
                rows.put_get(table, key, found.pop());
            }
        }
        Ok(Some((ties, rows)))
    }

    async fn current(&self, changes: &Changes) -> Result<BTreeMap<(&'static str, Id), Row>, ChartError> {
        let places: Vec<_> =
            changes.resources.keys().chain(changes.register_resources.keys()).copied().collect();
        self.rows_of(&places, read_current).await
    }

    async fn stamps(&self, changes: &Changes) -> Result<BTreeMap<(&'static str, Id), Row>, ChartError> {
        let places: Vec<_> = changes.register_resources.keys().copied().collect();
        self.rows_of(&places, read_stamp).await
    }

    async fn rows_of(
        &self,
        places: &[(&'static str, Id)],
        read: fn(&str, Id) -> Read,
    ) -> Result<BTreeMap<(&'static str, Id), Row>, ChartError> {
        let reads: Vec<Read> = places.iter().map(|&(ty, id)| read(ty, id)).collect();
        let found = port::read(&self.tables, &reads).await?;
        let rows = found.into_iter().map(|mut rows| rows.pop());
        Ok(places.iter().zip(rows).filter_map(|(place, row)| Some((*place, row?))).collect())
    }
}

pub(crate) fn may_read(authority: &Authority) -> Result<(), ChartError> {
    if authority.reads_charts() { Ok(()) } else { Err(ChartError::NotFound) }
}

type Place = (&'static str, Id);

/// Adds to a batch what makes these the current versions, and tells which they are.
fn write(
    writer: &Writer<'_>,
    (resources, registers): (BTreeMap<Place, ResourceChange>, BTreeMap<Place, RegisterChange>),
    (current, stamps): (&BTreeMap<Place, Row>, &BTreeMap<Place, Row>),
    mut batch: Batch,
) -> Result<(Batch, BTreeMap<Place, i64>), ChartError> {
    let mut versions = BTreeMap::new();
    for (place, change) in &resources {
        if let Some(version) = writer.write(&Version::from(change), current.get(place), &mut batch)? {
            versions.insert(*place, version);
        }
    }
    for (place, register) in &registers {
        let (current, stamp) = (current.get(place), stamps.get(place));
        if let Some(version) = writer.write_register(register, current, stamp, &mut batch)? {
            versions.insert(*place, version);
        }
    }
    Ok((batch, versions))
}

/// What the commit must find as it was read.
pub(crate) fn expectations(rows: &Rows) -> impl Iterator<Item = Expect> + '_ {
    rows.gets().map(|(table, key, row)| Expect { table, key: key.clone(), t: row.map(|row| row.t) })
}

/// The rows of one scan.
pub(crate) async fn page(tables: &Tables, scan: Scan) -> Result<Vec<Row>, ChartError> {
    Ok(port::read(tables, &[Read::Scan(scan)]).await?.pop().unwrap_or_default())
}

fn check_version(
    commit: &Commit,
    change: &ResourceChange,
    stored: Option<&Stored>,
) -> Result<(), ChartError> {
    let current = stored.map_or(0, |stored| stored.version);
    match commit.if_versions.get(&(change.resource_type, change.id)) {
        Some(&given) if given != current => Err(ChartError::Version { given, current }),
        _ => Ok(()),
    }
}

/// Checks that a body is the resource that it is said to be, and takes out what the server sets.
fn check_body(
    change: &mut ResourceChange,
    logical_ids: &BTreeMap<(&'static str, Id), FhirId>,
) -> Result<(), ChartError> {
    let Some(body) = change.body.take() else { return Ok(()) };
    let fault = |error: hilum_fhir::ResourceError| ChartError::Body(error.to_string());
    let parsed = ResourceBody::parse(body.clone().into()).map_err(fault)?;
    if parsed.resource_type().as_str() != change.resource_type {
        return Err(ChartError::Body("resourceType is not the one that is written".to_owned()));
    }
    let logical = logical_ids.get(&(change.resource_type, change.id)).cloned();
    if *parsed.id() != logical.unwrap_or_else(|| change.id.into()) {
        return Err(ChartError::Body("id is not the one that is written".to_owned()));
    }
    change.body = Some(hilum_fhir::resource::without_server_meta(&body).map_err(fault)?.into_owned());
    Ok(())
}
