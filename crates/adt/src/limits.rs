//! The bounds of this crate. Those that an installation may move stand in its configuration with these defaults.

/// Largest message that a door takes, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// MLLP connections at the same time; further ones are closed at once.
pub const MLLP_CONNECTIONS_MAX: usize = 8_192;
/// Messages of one connection between "read" and "answered": beyond it the socket is not read.
pub const MLLP_WINDOW_MESSAGES: usize = 128;
/// Bytes of messages between "read" and "durable" over all MLLP connections: beyond it sockets are not read.
pub const MLLP_BUFFER_BYTES_MAX: usize = 96 << 20;
/// Seconds after which a connection that sends nothing is closed; TCP keepalive finds dead peers earlier.
pub const MLLP_IDLE_S: u64 = 4 * 3_600;
/// Seconds from the first byte of a frame to its last.
pub const MLLP_READ_S: u64 = 30;
/// Seconds that a peer may take to read an answer.
pub const MLLP_WRITE_S: u64 = 30;
/// Seconds of silence before TCP asks whether the peer is still there.
pub const MLLP_KEEPALIVE_S: u64 = 60;
/// Bytes that one read of a socket takes at most.
pub const MLLP_READ_BYTES: usize = 16 << 10;
/// Milliseconds in which a closing connection still drops what its peer sends, so that the last answer arrives.
pub const MLLP_LINGER_MS: u64 = 1_000;
/// Bytes that a closing connection drops at most.
pub const MLLP_LINGER_BYTES_MAX: usize = 64 << 20;
/// Connections that the kernel keeps for us until they are accepted.
pub const MLLP_BACKLOG: i32 = 4_096;
/// Milliseconds between two looks at whether the log accepts again.
pub const GATE_LOOK_MS: u64 = 50;
/// Bytes of HTTP bodies beyond their small beginnings, over all requests; and bytes of messages between read and durable
/// over all doors: beyond either HTTP answers 503.
pub const HTTP_BUFFER_BYTES_MAX: usize = 96 << 20;
/// The small beginning of an HTTP body: those share a bound of their own, so that slow large bodies do not keep small
/// messages out.
pub const HTTP_SMALL_BYTES: usize = 64 << 10;
/// Bytes of the small beginnings of HTTP bodies over all requests: beyond it HTTP answers 503.
pub const HTTP_SMALL_BUFFER_BYTES_MAX: usize = 32 << 20;
/// Bytes of the small beginnings of HTTP bodies of one API key: beyond it that key is answered 503, and the others are not.
pub const HTTP_SMALL_KEY_BYTES_MAX: usize = HTTP_SMALL_BUFFER_BYTES_MAX / 4;
/// Bytes of the HTTP bodies of one API key beyond their small beginnings; the largest message in its JSON form fits.
pub const HTTP_KEY_BYTES_MAX: usize = HTTP_BUFFER_BYTES_MAX / 2;
/// Bytes of a body that is too large that are kept, so that it can be answered.
pub const HTTP_HEAD_BYTES: usize = 4 << 10;
/// Seconds after which a client may ask again when the log does not accept.
pub const HTTP_RETRY_AFTER_S: u64 = 5;
/// Acknowledgment instants that are remembered until the projection asks for them.
pub const ACK_TIMES_MAX: usize = 65_536;
/// Messages of one import that wait for the log at the same time.
pub const IMPORT_WINDOW_MESSAGES: usize = 512;
/// Largest file that an import takes, in bytes.
pub const IMPORT_FILE_BYTES_MAX: u64 = 4 << 30;
/// Files without a message that an import names; further ones are counted.
pub const IMPORT_FILES_NAMED_MAX: usize = 20;
/// Files that one import takes.
pub const IMPORT_FILES_MAX: usize = 1_000_000;
/// Named sources in the configuration.
pub const SOURCES_MAX: usize = 256;
/// Bytes of a facility or a number that go into the partition key.
pub const KEY_PART_BYTES_MAX: usize = 256;

/// Most findings that are kept of one message; the last one then says that there were more.
pub const FINDINGS_MAX: usize = 100;
/// Most repetitions of one field that are read: the rest is a finding. A primary identifier is found at any place.
pub const REPETITIONS_MAX: usize = 64;
/// Most items of one group of segments (NK1, AL1, IAM, DG1) that are read.
pub const GROUP_ITEMS_MAX: usize = 256;
/// Longest text of one component in bytes: the rest is cut off.
pub const TEXT_BYTES_MAX: usize = 4096;
/// Longest identifier in bytes: a longer one is left out, for a cut one would name somebody else.
pub const IDENTIFIER_BYTES_MAX: usize = 512;
/// Bytes of a message that cannot be read in which its patient is looked for.
pub const PEEK_BYTES_MAX: usize = 64 << 10;
/// Most blocks of one patient (PID and what follows) in one message.
pub const BLOCKS_MAX: usize = 64;

/// Message rows that one step of a filtered list reads.
pub const MESSAGE_PAGE_ROWS: u32 = 500;
/// Rows of the board that a census reads, a scan at a time.
pub const BOARD_ROWS_MAX: usize = 100_000;
/// Rows of a list that one census page shows: a ward and its neighbours, within 0.5 MB. The others are counted on it, and
/// one click away.
pub const CENSUS_PAGE_ROWS: usize = 500;
/// Frames that are shown for one control id that they hold behind their first one.
pub const FRAMES_SHOWN_MAX: u32 = 200;
/// Further control ids that one frame is found by.
pub const FRAME_CONTROL_IDS_MAX: usize = 1_000;
/// Steps of a filtered list: a filter that no index serves looks at so many pages and no more.
pub const MESSAGE_PAGES_MAX: usize = 20;

/// Contents of one register entry whose first message is remembered: those with the least hashes.
pub const FIRSTS_MAX: usize = 32;
/// Items that one group of one source keeps, history included: those that were sent last.
pub const GROUP_KEPT_MAX: usize = 1_024;

/// Seconds that `?applied=` waits at most.
pub const APPLIED_WAIT_S: u64 = 5;
/// Rows of a list that are given when no number is asked for.
pub const LIST_ROWS: u32 = 100;
/// Rows of a list that are given at most.
pub const LIST_ROWS_MAX: u32 = 1_000;

/// Seconds that a time which is no plan may lie ahead of the message's own MSH-7 and still sort.
pub const TIME_AHEAD_S: i64 = 15 * 60;
/// The first year, by the local date, of which an admission can be: nobody who is in the house was admitted before.
pub const ADMISSION_FROM_YEAR: i16 = 1900;
/// Seconds that an admission time may lie ahead of its message's receipt: a day, whatever the zones.
pub const ADMISSION_AHEAD_S: i64 = 86_400;
/// Further identifying numbers that are remembered of one patient number: those with the least ids.
pub const CARRIED_MAX: usize = 16;
/// Patient numbers that are remembered as carriers of one further identifying number: those with the least ids.
pub const CARRIERS_MAX: usize = 64;
/// Messages in quarantine that are remembered of one patient: those with the least ids. The mark counts no further.
pub const NOT_APPLIED_MAX: usize = 1_000;
/// Facts that are kept of one visit, or of all visits of one patient that carry no number: those of the latest movement
/// stamps. Far below what one range may have, so that no message is refused for it.
pub const VISIT_FACTS_MAX: usize = 20_000;
/// Decisions that are asked for one by one where a visit without a number may be meant: beyond that, all are read.
pub const DECIDED_ASKED_MAX: usize = 4_000;
/// Copies and other messages that are remembered under one source, sender and MSH-10: those that came last.
pub const SEEN_MAX: usize = 64;
/// Hours within which the same MSH-10 with other bytes is flagged; senders restart their numbers daily.
pub const CONTROL_ID_REUSE_H: i64 = 24;
/// Decisions read at a time when the process starts.
pub const DECISIONS_READ_RECORDS: usize = 1_000;
/// Bytes of decisions read at a time when the process starts.
pub const DECISIONS_READ_BYTES: usize = 8 << 20;

/// Bytes of a text that stands in an index: a longer one is cut there and whole in the resource. Four of them and a
/// word fit the engines' bound on one index entry.
pub const INDEXED_TEXT_BYTES_MAX: usize = 240;

/// Records of the same bytes that the journey of a message names.
pub const COPIES_SHOWN_MAX: u32 = 50;
/// Corrections of corrections that the journey of a message follows each way.
pub const LINEAGE_MAX: usize = 16;
/// Fields that the journey of a message shows; further ones stand in its raw text.
pub const FIELDS_SHOWN_MAX: usize = 4_000;
/// Characters of one field that the journey of a message shows.
pub const FIELD_SHOWN_CHARS: usize = 2_000;
/// Characters of a whole message that a page shows.
pub const TEXT_SHOWN_CHARS: usize = 200_000;

/// Signs that a number has at least which stands in a text without its authority and is looked up as somebody's.
pub const MENTION_CHARS_MIN: usize = 5;
/// Numbers of one text that are looked up: one that holds more is withheld from who does not mend.
pub const MENTIONS_MAX: usize = 5_000;
/// Numbers of one value (of several authorities) that are looked at for each of them.
pub const MENTION_ROWS_MAX: u32 = 200;

/// Encounters of one patient that a page shows, newest first.
pub const PATIENT_ENCOUNTERS_MAX: u32 = 200;
/// Records of one person that a page shows.
pub const PATIENT_RECORDS_MAX: u32 = 64;
/// Patients that one search gives.
pub const SEARCH_PATIENTS_MAX: usize = 100;
/// Numbers of one value (of several authorities) that a search by identifier looks at.
pub const SEARCH_ROWS_MAX: u32 = 5_000;
/// Patients that a search by name, date of birth or further identifier looks at: no index serves it yet.
pub const SEARCH_LOOKS_MAX: usize = 1_000_000;
/// Characters of a reason or note that an operator gives.
pub const REASON_CHARS_MAX: usize = 1_000;
/// Items of the work queue that a page shows, oldest first.
pub const WORK_ROWS_MAX: u32 = 200;
/// Seconds that one look of the reconciler serves all who ask.
pub const RECONCILE_EVERY_S: i64 = 5;
/// Seconds between two looks of the reconciler at the chart.
pub const RECONCILE_CHART_EVERY_S: i64 = 60;
/// Encounters that differ and are read again before they count; more than that count at once.
pub const RECONCILE_CONFIRM_MAX: usize = 400;
/// Settings that are remembered as lost, so that the log is not looked through again for each message that names them.
pub const LOST_SETTINGS_MAX: usize = 1_000;
