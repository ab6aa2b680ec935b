//! Documents become commits: read → understood → finished, compared, checked and indexed → committed, each beside the others.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::stream::{FuturesOrdered, StreamExt as _};
use hilum_chart::import::{Draft, Ready, Stands};
use hilum_chart::index::Rows;
use hilum_chart::{Chart, ChartError};
use hilum_core::{Authority, Clock, Entropy, Id, InstallationKey, Timestamp};
use hilum_engines::tables::TablesError;
use hilum_fhir::check::{Finding, check};
use hilum_fhir::json::Json;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use super::document::{self, Asked, Document, Links};
use super::files::{End, File, Only, ROOM_KIB, Reader, Step, Unit};
use super::resolve::{Resolved, Resolver};
use super::{At, ImportError, Imported, Refusal, Refusals};
use crate::fhir::answer::owned;
use crate::fhir::write::part_of;
use crate::limits::{
    IMPORT_AGAIN_MAX, IMPORT_CHUNK_RESOURCES, IMPORT_CHUNKS_IN_FLIGHT, IMPORT_COMMIT_BYTES,
    IMPORT_COMMIT_ROWS, IMPORT_TRIES_MAX,
};
use crate::{DOOR, Room};

type Place = (&'static str, Id);
/// Something of the input, with its place there.
type Placed<T> = Vec<(At, T)>;

/// What the workers need, whichever thread they are on.
#[derive(Clone)]
struct Hand {
    chart: Chart,
    key: InstallationKey,
    entropy: Entropy,
    clock: Clock,
    authority: Arc<Authority>,
}

/// What became of a chunk, in the order of the files.
#[derive(Default)]
struct Chunk {
    /// How many chunks were begun before it.
    number: u64,
    made: Placed<Made>,
    refused: Vec<Refusal>,
}

/// What became of a resource.
enum Made {
    Ready(Ready),
    /// It stands as it comes.
    Same(Draft),
}

impl Made {
    fn place(&self) -> Place {
        match self {
            Self::Ready(ready) => ready.place(),
            Self::Same(draft) => (draft.resource_type, draft.id),
        }
    }

    fn into_draft(self) -> Draft {
        match self {
            Self::Ready(ready) => ready.into_draft(),
            Self::Same(draft) => draft,
        }
    }
}

/// What became of a commit.
#[derive(Default)]
struct Committed {
    places: Vec<Place>,
    refused: Vec<Refusal>,
    written: u64,
    unchanged: u64,
    rows: u64,
    body_bytes: u64,
    commits: u64,
}

pub(super) struct Work<'a> {
    room: &'a Room,
    hand: Hand,
    began: Timestamp,
    files: Arc<Vec<File>>,
    refusals: Refusals,
    show: &'a (dyn Fn(&Imported) + Send + Sync),
    done: Imported,
    /// Bytes of files that were read.
    bytes: Arc<AtomicU64>,
    /// What is being made ready, in its order.
    making: FuturesOrdered<JoinHandle<Result<Chunk, ChartError>>>,
    /// The next commit.
    next: Placed<Ready>,
    next_rows: usize,
    next_bytes: usize,
    /// How many chunks were begun.
    begun: u64,
    /// Places that are written: how many chunks had been begun when they were committed, `u64::MAX` while they are not. What
    /// those chunks say of them was compared with what stood before.
    places: HashMap<Place, u64>,
    committing: Option<JoinHandle<Result<Committed, ChartError>>>,
    /// What stands in the files a second time: behind what stood there before.
    again: Placed<Draft>,
    /// The places of these.
    behind: HashSet<Place>,
}

/// What a round left to be read again: by file, the documents.
type Left = BTreeMap<usize, BTreeSet<u64>>;

impl<'a> Work<'a> {
    pub(super) fn new(
        room: &'a Room,
        clock: &Clock,
        files: Vec<File>,
        refusals: Refusals,
        show: &'a (dyn Fn(&Imported) + Send + Sync),
    ) -> Self {
        let hand = Hand {
            chart: room.chart.clone(),
            key: room.key.clone(),
            entropy: room.entropy.clone(),
            clock: clock.clone(),
            authority: Arc::new(Authority::system("import")),
        };
        let bytes = files.iter().map(|file| file.size_bytes).sum();
        let done = Imported { files: files.len() as u64, bytes, ..Imported::default() };
        Self {
            room,
            hand,
            began: clock.now(),
            files: Arc::new(files),
            refusals,
            show,
            done,
            bytes: Arc::default(),
            making: FuturesOrdered::new(),
            next: Vec::new(),
            next_rows: 0,
            next_bytes: 0,
            begun: 0,
            places: HashMap::new(),
            committing: None,
            again: Vec::new(),
            behind: HashSet::new(),
        }
    }

    /// First the files that refer to nothing by searches, then the others, then what still found nothing.
    pub(super) async fn run(mut self) -> Result<Imported, ImportError> {
        let authority = Arc::clone(&self.hand.authority);
        let mut resolver = Resolver::new(self.room, &authority, self.began);
        let all = |refers: bool| {
            let files = self.files.iter().enumerate().filter(move |(_, file)| file.refers == refers);
            files.map(|(at, _)| (at, None)).collect::<Vec<(usize, Only)>>()
        };
        let (plain, referring) = (all(false), all(true));
        let mut left = self.round(&mut resolver, &plain, (true, false)).await?;
        for (file, documents) in self.round(&mut resolver, &referring, (true, false)).await? {
            left.entry(file).or_default().extend(documents);
        }
        while !left.is_empty() {
            let count = |left: &Left| left.values().map(BTreeSet::len).sum::<usize>();
            let before = count(&left);
            self.done.read_again += before as u64;
            let wanted: Vec<(usize, Only)> =
                left.into_iter().map(|(file, only)| (file, Some(only))).collect();
            left = self.round(&mut resolver, &wanted, (false, false)).await?;
            if !left.is_empty() && count(&left) == before {
                resolver.settle();
                let wanted: Vec<(usize, Only)> =
                    left.into_iter().map(|(file, only)| (file, Some(only))).collect();
                left = self.round(&mut resolver, &wanted, (false, true)).await?;
            }
        }
        (self.show)(&self.done);
        self.refusals.close()?;
        Ok(self.done)
    }

    /// Reads what is wanted, and commits all of it.
    async fn round(
        &mut self,
        resolver: &mut Resolver<'_>,
        wanted: &[(usize, Only)],
        (first, last): (bool, bool),
    ) -> Result<Left, ImportError> {
        let mut left = Left::new();
        if wanted.is_empty() {
            return Ok(left);
        }
        resolver.begin_round();
        let (steps, reading) = self.read(wanted.to_vec(), first);
        let key = self.hand.key.clone();
        let files = Arc::clone(&self.files);
        let mut understood = ReceiverStream::new(steps)
            .map(move |step| {
                let (key, files) = (key.clone(), Arc::clone(&files));
                tokio::task::spawn_blocking(move || understand(step, &files, &key))
            })
            .buffered(2);
        while let Some(step) = understood.next().await {
            match step.map_err(|_| ImportError::Interrupted)? {
                Understood::Ended => self.done.files_done += u64::from(first),
                Understood::Refused(refusal) => self.refuse([refusal])?,
                Understood::Unit(unit, documents, refused) => {
                    // Read again it would be refused again.
                    if first {
                        self.refuse(refused)?;
                    }
                    let mut kept = Vec::new();
                    for mut document in documents {
                        let mut refused = Vec::new();
                        match resolver.resolve(&unit.text, &mut document, last, &mut refused).await? {
                            Resolved::Yes => {
                                self.refuse(refused)?;
                                kept.push(document);
                            }
                            Resolved::Later => {
                                left.entry(unit.file).or_default().insert(document.number);
                            }
                        }
                    }
                    self.make(unit, kept).await?;
                }
            }
        }
        drop(understood);
        match reading.await.map_err(|_| ImportError::Interrupted)? {
            Ok(()) | Err(End::Dropped) => {}
            Err(End::Io(path, error)) => return Err(ImportError::Io { path, error }),
        }
        self.flush().await?;
        Ok(left)
    }

    fn read(
        &self,
        wanted: Vec<(usize, Only)>,
        counts: bool,
    ) -> (mpsc::Receiver<Step>, JoinHandle<Result<(), End>>) {
        let (steps, receiver) = mpsc::channel(2);
        let reader = Reader {
            files: Arc::clone(&self.files),
            bytes: if counts { Arc::clone(&self.bytes) } else { Arc::default() },
            room: Arc::new(Semaphore::new(ROOM_KIB)),
            steps,
            runtime: tokio::runtime::Handle::current(),
        };
        (receiver, tokio::task::spawn_blocking(move || reader.run(&wanted)))
    }

    fn refuse(&mut self, refused: impl IntoIterator<Item = Refusal>) -> Result<(), ImportError> {
        refused.into_iter().try_for_each(|one| self.refusals.say(one, &self.files, &mut self.done))
    }

    /// Has documents made ready, a chunk at a time.
    async fn make(&mut self, unit: Unit, documents: Vec<Document>) -> Result<(), ImportError> {
        let unit = Arc::new(unit);
        let mut chunk: Vec<(Asked, Arc<Links>)> = Vec::new();
        for Document { asked, links, .. } in documents {
            let links = Arc::new(links);
            for one in asked {
                chunk.push((one, Arc::clone(&links)));
                if chunk.len() == IMPORT_CHUNK_RESOURCES {
                    self.begin(&unit, std::mem::take(&mut chunk)).await?;
                }
            }
        }
        if !chunk.is_empty() {
            self.begin(&unit, chunk).await?;
        }
        Ok(())
    }

    async fn begin(&mut self, unit: &Arc<Unit>, chunk: Vec<(Asked, Arc<Links>)>) -> Result<(), ImportError> {
        while self.making.len() >= IMPORT_CHUNKS_IN_FLIGHT {
            self.made().await?;
        }
        if self.again.len() >= IMPORT_AGAIN_MAX {
            self.flush().await?;
        }
        let (hand, unit, number) = (self.hand.clone(), Arc::clone(unit), self.begun);
        self.begun += 1;
        self.making.push_back(tokio::spawn(async move { hand.chunk((number, unit), chunk).await }));
        Ok(())
    }

    /// Takes the chunk that was begun first into the next commit.
    async fn made(&mut self) -> Result<(), ImportError> {
        let Some(chunk) = self.making.next().await else { return Ok(()) };
        let Chunk { number, made, refused } = chunk.map_err(|_| ImportError::Interrupted)??;
        self.refuse(refused)?;
        for (at, one) in made {
            let place = one.place();
            let is_written = self.places.get(&place).is_some_and(|until| number < *until);
            // Also when what stood there first is committed already: what waits comes before it.
            if is_written || self.behind.contains(&place) {
                self.behind.insert(place);
                self.again.push((at, one.into_draft()));
                continue;
            }
            let Made::Ready(one) = one else {
                self.done.unchanged += 1;
                continue;
            };
            self.places.insert(place, u64::MAX);
            self.next_rows += one.writes();
            self.next_bytes += one.size_bytes();
            self.next.push((at, one));
            if self.next_rows >= IMPORT_COMMIT_ROWS || self.next_bytes >= IMPORT_COMMIT_BYTES {
                self.commit().await?;
            }
        }
        self.tell();
        Ok(())
    }

    /// Begins the next commit, behind the one that is under way.
    async fn commit(&mut self) -> Result<(), ImportError> {
        self.committed().await?;
        if self.next.is_empty() {
            return Ok(());
        }
        let ready = std::mem::take(&mut self.next);
        (self.next_rows, self.next_bytes) = (0, 0);
        let hand = self.hand.clone();
        self.committing = Some(tokio::spawn(async move { hand.commit(ready).await }));
        Ok(())
    }

    async fn committed(&mut self) -> Result<(), ImportError> {
        let Some(committing) = self.committing.take() else { return Ok(()) };
        let done = committing.await.map_err(|_| ImportError::Interrupted)??;
        // Chunks that were begun until now may have been compared with what stood before; those behind them have not.
        let oldest = self.begun.saturating_sub(self.making.len() as u64);
        self.places.retain(|_, until| *until > oldest);
        if oldest < self.begun {
            self.places.extend(done.places.iter().map(|place| (*place, self.begun)));
        } else {
            for place in &done.places {
                self.places.remove(place);
            }
        }
        self.done.written += done.written;
        self.done.unchanged += done.unchanged;
        self.done.rows += done.rows;
        self.done.body_bytes += done.body_bytes;
        self.done.commits += done.commits;
        self.refuse(done.refused)?;
        self.tell();
        Ok(())
    }

    /// Commits all that was begun.
    async fn flush(&mut self) -> Result<(), ImportError> {
        loop {
            while !self.making.is_empty() {
                self.made().await?;
            }
            self.commit().await?;
            self.committed().await?;
            if self.again.is_empty() {
                return Ok(());
            }
            // Of each place what came first; what comes behind it waits for it.
            let mut places = HashSet::new();
            let again = std::mem::take(&mut self.again).into_iter();
            let (first, rest) = again.partition(|(_, one)| places.insert((one.resource_type, one.id)));
            self.again = rest;
            self.behind.clear();
            let (hand, number) = (self.hand.clone(), self.begun);
            self.begun += 1;
            self.making.push_back(tokio::spawn(async move {
                hand.ready(first).await.map(|chunk| Chunk { number, ..chunk })
            }));
        }
    }

    fn tell(&mut self) {
        self.done.bytes_done = self.bytes.load(Ordering::Relaxed).min(self.done.bytes);
        (self.show)(&self.done);
    }
}

enum Understood {
    Unit(Unit, Vec<Document>, Vec<Refusal>),
    Refused(Refusal),
    Ended,
}

fn understand(step: Step, files: &[File], key: &InstallationKey) -> Understood {
    let unit = match step {
        Step::Ended => return Understood::Ended,
        Step::Refused { file, line, text } => {
            return Understood::Refused(At { file, line, entry: None }.refuse(text));
        }
        Step::Unit(unit) => unit,
    };
    let is_bulk = files.get(unit.file).is_some_and(|file| file.is_bulk);
    let (mut documents, mut refused) = (Vec::new(), Vec::new());
    for (number, part) in &unit.documents {
        let at = At { file: unit.file, line: (*number > 0).then_some(*number), entry: None };
        let (document, why) = document::read((&unit.text, part.clone()), at, is_bulk, key);
        documents.push(document);
        refused.extend(why);
    }
    Understood::Unit(unit, documents, refused)
}

impl Hand {
    /// Finishes resources, and makes ready what differs from what stands.
    async fn chunk(
        self,
        (number, unit): (u64, Arc<Unit>),
        asked: Vec<(Asked, Arc<Links>)>,
    ) -> Result<Chunk, ChartError> {
        let key = self.key.clone();
        let drafts = move || {
            let (mut drafts, mut refused) = (Vec::new(), Vec::new());
            for (one, links) in &asked {
                match document::draft(&unit.text, one, links, &key) {
                    Ok(draft) => drafts.push((one.at, draft)),
                    Err(why) => refused.push(why),
                }
            }
            (drafts, refused)
        };
        let (drafts, refused) = tokio::task::spawn_blocking(drafts).await.map_err(|_| ChartError::Stopped)?;
        let mut chunk = self.ready(drafts).await?;
        chunk.refused.splice(..0, refused);
        Ok(Chunk { number, ..chunk })
    }

    /// Compares drafts with what stands; checks and indexes those that differ.
    async fn ready(&self, drafts: Placed<Draft>) -> Result<Chunk, ChartError> {
        let (places, drafts): (Vec<At>, Vec<Draft>) = drafts.into_iter().unzip();
        let compared = self.chart.compare(&self.authority, DOOR, drafts).await?;
        let chart = self.chart.clone();
        let make = move || {
            let mut chunk = Chunk::default();
            for (at, one) in places.into_iter().zip(compared) {
                let ty = one.resource_type();
                match one.stands() {
                    Stands::Same => chunk.made.push((at, Made::Same(one.into_draft()))),
                    Stands::Owned(owner) => chunk.refused.push(at.refuse_in(ty, owned(owner))),
                    Stands::Foreign => {
                        chunk.refused.push(at.refuse_in(ty, "this id stands for another resource"));
                    }
                    Stands::Less => match rows_of(&chart, one.body()) {
                        Ok(rows) => chunk.made.push((at, Made::Ready(one.made(rows)))),
                        Err((expression, text)) => {
                            chunk.refused.push(Refusal { expression, ..at.refuse_in(ty, text) });
                        }
                    },
                }
            }
            chunk
        };
        tokio::task::spawn_blocking(make).await.map_err(|_| ChartError::Stopped)
    }

    /// Commits; where another writer was first, all of it is compared anew.
    async fn commit(self, mut ready: Placed<Ready>) -> Result<Committed, ChartError> {
        let mut done =
            Committed { places: ready.iter().map(|(_, one)| one.place()).collect(), ..Committed::default() };
        let source = self.entropy.record_id(self.clock.now());
        for _ in 0..IMPORT_TRIES_MAX {
            if ready.is_empty() {
                return Ok(done);
            }
            let (places, these): (Vec<At>, Vec<Ready>) = ready.into_iter().unzip();
            match self.chart.take_in(&self.authority, DOOR, source, &these).await {
                Ok(_) => {
                    done.written += these.len() as u64;
                    done.rows += these.iter().map(Ready::writes).sum::<usize>() as u64;
                    done.body_bytes += these.iter().map(Ready::size_bytes).sum::<usize>() as u64;
                    done.commits += 1;
                    return Ok(done);
                }
                Err(ChartError::Tables(TablesError::Conflict(_))) => {
                    let drafts = these.into_iter().map(Ready::into_draft);
                    let chunk = self.ready(places.into_iter().zip(drafts).collect()).await?;
                    done.refused.extend(chunk.refused);
                    ready = Vec::with_capacity(chunk.made.len());
                    for (at, one) in chunk.made {
                        match one {
                            Made::Ready(one) => ready.push((at, one)),
                            Made::Same(_) => done.unchanged += 1,
                        }
                    }
                }
                Err(other) => return Err(other),
            }
        }
        Err(ChartError::Tables(TablesError::Conflict(
            "others write the same resources all the time".to_owned(),
        )))
    }
}

/// A body that may stand: the whole of a resource, of the structure of R4; else where it is not, and why.
pub(super) fn checked(body: &str) -> Result<Json<'_>, (Option<String>, String)> {
    let json = Json::parse(body.as_bytes()).map_err(|why| (None, why.to_string()))?;
    match part_of(&json).or_else(|| check(&json).into_iter().next()) {
        Some(Finding { expression, text, .. }) => Err((Some(expression), text)),
        None => Ok(json),
    }
}

/// The index rows of a body; else where it is not as it must be, and why.
fn rows_of(chart: &Chart, body: &str) -> Result<Rows, (Option<String>, String)> {
    let json = checked(body)?;
    let rows = chart.indexer().map(|indexer| indexer.rows_of(&json)).unwrap_or_default();
    if rows.too_many {
        let max = hilum_fhir::limits::INDEX_ROWS_MAX;
        return Err((None, format!("more than {max} values to be found by")));
    }
    Ok(rows)
}
