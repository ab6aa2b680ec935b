//! Files of messages: FHS/BHS/BTS/FTS batches (chapter 2, batch protocol) and messages one after the other. Each
//! message becomes one of its own, in its own bytes.

use std::collections::VecDeque;

use bytes::Bytes;
use memchr::memchr2;

use crate::charset;
use crate::limits::{MESSAGE_BYTES_MAX, OVERSIZED_HEAD_BYTES};

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// One message.
    Message {
        /// Its bytes, from `MSH` (or the byte order mark in front of it) to its last line end.
        bytes: Bytes,
        /// Where it begins in the file.
        offset: u64,
    },
    /// A message larger than the cap: dropped, all but its beginning.
    TooLarge {
        /// The first bytes.
        head: Bytes,
        /// Where it begins in the file.
        offset: u64,
    },
    /// Lines that belong to no message.
    Stray {
        /// How many bytes, line ends not counted.
        size_bytes: u64,
        /// Where the first of them begins in the file.
        offset: u64,
    },
}

/// What a file said about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Messages found, those over the cap included.
    pub messages: u64,
    /// FHS and FTS segments found.
    pub file_marks: u64,
    /// BHS segments found.
    pub batches: u64,
    /// Batches whose BTS-1 is another number than the messages in them.
    pub miscounted_batches: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// MSH: a message begins.
    Header,
    /// BHS.
    BatchHeader,
    /// BTS.
    BatchTrailer,
    /// FHS or FTS.
    FileMark,
    /// Part of a message, or stray.
    Other,
}

#[derive(Debug)]
struct Current {
    bytes: Vec<u8>,
    offset: u64,
    too_large: bool,
}

/// Longest start of a line that says what the line is: start of block, byte order mark, name, delimiter.
const LINE_HEAD_BYTES: usize = 8;
/// Most bytes of a BTS segment that are looked at.
const TRAILER_BYTES: usize = 64;

/// Cuts a file into messages as it is read; holds one message at most, besides the parts that were not taken.
///
/// ```
/// use hilum_hl7v2::batch::{self, Part};
/// let file = "FHS|^~\\&\rBHS|^~\\&\rMSH|^~\\&|one\rPID|1\rMSH|^~\\&|two\rBTS|2\rFTS|1\r";
/// let (parts, summary) = batch::split(file.as_bytes());
/// assert_eq!((parts.len(), summary.batches, summary.miscounted_batches), (2, 1, 0));
/// assert!(matches!(&parts[1], Part::Message { bytes, .. } if bytes == "MSH|^~\\&|two\r"));
/// ```
#[derive(Debug)]
pub struct Splitter {
    cap: usize,
    /// Bytes pushed and looked at.
    offset: u64,
    /// The first bytes of the file, until it is known whether they are UTF-16 or UTF-32; then absent.
    start: Option<Vec<u8>>,
    /// There are no lines to see: all is one message, to be quarantined by name.
    opaque: bool,
    /// The start of a line, until it is known what the line is.
    line_head: Vec<u8>,
    line: Option<Line>,
    trailer: Vec<u8>,
    current: Option<Current>,
    stray: Option<(u64, u64)>,
    ready: VecDeque<Part>,
    summary: Summary,
    in_batch: u64,
}

impl Default for Splitter {
    fn default() -> Self {
        Self::new(MESSAGE_BYTES_MAX)
    }
}

impl Splitter {
    /// A splitter for messages of at most `size_bytes_max`.
    pub fn new(size_bytes_max: usize) -> Self {
        Self {
            cap: size_bytes_max,
            offset: 0,
            start: Some(Vec::new()),
            opaque: false,
            line_head: Vec::new(),
            line: None,
            trailer: Vec::new(),
            current: None,
            stray: None,
            ready: VecDeque::new(),
            summary: Summary::default(),
            in_batch: 0,
        }
    }

    /// Takes what was read; then take parts until there is none.
    pub fn push(&mut self, mut read: &[u8]) {
        if let Some(mut start) = self.start.take() {
            let (more, rest) = read.split_at(read.len().min(4 - start.len()));
            start.extend_from_slice(more);
            if start.len() < 4 {
                self.start = Some(start);
                return;
            }
            self.begin(&start);
            read = rest;
        }
        self.push_lines(read);
    }

    /// The end of the file: what is left becomes parts.
    pub fn finish(&mut self) {
        if let Some(start) = self.start.take() {
            self.begin(&start);
        }
        if self.line.is_none() && !self.line_head.is_empty() {
            self.begin_line();
        }
        self.end_line();
        self.end_message();
        self.flush_stray();
    }

    /// The next part, in file order.
    pub fn next_part(&mut self) -> Option<Part> {
        self.ready.pop_front()
    }

    /// What was found so far.
    pub const fn summary(&self) -> Summary {
        self.summary
    }

    fn begin(&mut self, start: &[u8]) {
        if charset::refuse_wide(start).is_err() {
            self.opaque = true;
            self.begin_message(0);
        }
        self.push_lines(start);
    }

    fn push_lines(&mut self, mut read: &[u8]) {
        if self.opaque {
            self.offset += read.len() as u64;
            self.append(read);
            return;
        }
        while let Some(&first) = read.first() {
            let taken = if self.line.is_some() {
                let end = memchr2(b'\r', b'\n', read).unwrap_or(read.len());
                let (text, rest) = read.split_at(end);
                self.offset += end as u64;
                self.append(text);
                if let Some(&line_end) = rest.first() {
                    self.push_line_end(line_end);
                }
                end + usize::from(!rest.is_empty())
            } else if matches!(first, b'\r' | b'\n') {
                self.begin_line();
                self.push_line_end(first);
                1
            } else {
                self.line_head.push(first);
                self.offset += 1;
                if self.line_head.len() == LINE_HEAD_BYTES {
                    self.begin_line();
                }
                1
            };
            read = read.get(taken..).unwrap_or_default();
        }
    }

    /// Says what the line is whose start is in `line_head`, and takes that start.
    fn begin_line(&mut self) {
        let head = std::mem::take(&mut self.line_head);
        let (kind, skip) = classify(&head);
        if kind != Line::Other {
            self.end_message();
        }
        match kind {
            Line::Header => {
                self.flush_stray();
                self.begin_message(self.offset - (head.len() - skip) as u64);
            }
            Line::BatchHeader => {
                self.summary.batches += 1;
                self.in_batch = 0;
            }
            Line::BatchTrailer => self.trailer.clear(),
            Line::FileMark => self.summary.file_marks += 1,
            Line::Other => {}
        }
        self.line = Some(kind);
        if self.current.is_none() && kind == Line::Other && !head.is_empty() {
            self.stray.get_or_insert((self.offset - head.len() as u64, 0));
        }
        self.append(head.get(skip..).unwrap_or_default());
    }

    fn push_line_end(&mut self, line_end: u8) {
        let closes_block =
            self.current.as_mut().is_some_and(|current| current.bytes.pop_if(|b| *b == 0x1C).is_some());
        self.end_line();
        self.offset += 1;
        if closes_block {
            self.end_message();
        } else if self.current.is_some() {
            self.append(&[line_end]);
        }
    }

    fn end_line(&mut self) {
        if self.line.take() == Some(Line::BatchTrailer) {
            if batch_count(&self.trailer).is_some_and(|said| said != self.in_batch) {
                self.summary.miscounted_batches += 1;
            }
            self.in_batch = 0;
        }
    }

    /// Bytes of the line that is being read.
    fn append(&mut self, bytes: &[u8]) {
        if let Some(current) = &mut self.current {
            if !current.too_large {
                current.bytes.extend_from_slice(bytes);
                if current.bytes.len() > self.cap {
                    current.too_large = true;
                    current.bytes.truncate(OVERSIZED_HEAD_BYTES);
                    current.bytes.shrink_to_fit();
                }
            }
        } else if self.line == Some(Line::BatchTrailer) {
            let room = TRAILER_BYTES.saturating_sub(self.trailer.len());
            self.trailer.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        } else if let Some((_, size_bytes)) = &mut self.stray
            && self.line == Some(Line::Other)
        {
            *size_bytes += bytes.len() as u64;
        }
    }

    fn begin_message(&mut self, offset: u64) {
        self.summary.messages += 1;
        self.in_batch += 1;
        self.current = Some(Current { bytes: Vec::new(), offset, too_large: false });
    }

    fn end_message(&mut self) {
        let Some(Current { mut bytes, offset, too_large }) = self.current.take() else { return };
        if too_large {
            self.ready.push_back(Part::TooLarge { head: bytes.into(), offset });
            return;
        }
        if !self.opaque {
            let text =
                bytes.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
            let line_end = if bytes.get(text..).is_some_and(|end| end.starts_with(b"\r\n")) { 2 } else { 1 };
            bytes.truncate(text + line_end);
        }
        self.ready.push_back(Part::Message { bytes: bytes.into(), offset });
    }

    fn flush_stray(&mut self) {
        if let Some((offset, size_bytes)) = self.stray.take() {
            self.ready.push_back(Part::Stray { size_bytes, offset });
        }
    }
}

/// What a line is, and how many bytes of framing stand before it: a start of block does not belong to a message,
/// a byte order mark does.
fn classify(head: &[u8]) -> (Line, usize) {
    let skip = head.iter().take_while(|byte| matches!(byte, 0x0B | 0x1C)).count();
    let unframed = head.get(skip..).unwrap_or_default();
    let line = unframed.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(unframed);
    let kind = match line.get(..3) {
        Some(b"MSH") => Line::Header,
        Some(b"BHS") => Line::BatchHeader,
        Some(b"BTS") => Line::BatchTrailer,
        Some(b"FHS" | b"FTS") => Line::FileMark,
        _ => return (Line::Other, 0),
    };
    // A word that begins alike is text.
    if line.get(3).is_some_and(u8::is_ascii_alphanumeric) { (Line::Other, 0) } else { (kind, skip) }
}

/// BTS-1.
fn batch_count(trailer: &[u8]) -> Option<u64> {
    let delimiter = trailer.get(3)?;
    let count = trailer.get(4..)?.split(|byte| byte == delimiter).next()?;
    str::from_utf8(count).ok()?.trim().parse().ok()
}

/// Cuts `file` into its parts at once.
pub fn split(file: &[u8]) -> (Vec<Part>, Summary) {
    let mut splitter = Splitter::default();
    splitter.push(file);
    splitter.finish();
    (std::mem::take(&mut splitter.ready).into(), splitter.summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(part: &Part) -> String {
        match part {
            Part::Message { bytes, offset } => format!("{offset} {}", String::from_utf8_lossy(bytes)),
            Part::TooLarge { head, offset } => format!("{offset} large {}", head.len()),
            Part::Stray { size_bytes, offset } => format!("{offset} stray {size_bytes}"),
        }
    }

    #[test]
    fn files_and_their_parts_however_they_are_read() {
        let cases: [(&str, &str, &[&str]); 14] = [
            ("empty", "", &[]),
            ("blank", "\r\n\r\n", &[]),
            ("one", "MSH|1\rPID|1\r", &["0 MSH|1\rPID|1\r"]),
            ("no last line end", "MSH|1\rPID|1", &["0 MSH|1\rPID|1"]),
            ("short", "MSH", &["0 MSH"]),
            ("two", "MSH|1\rMSH|2\r", &["0 MSH|1\r", "6 MSH|2\r"]),
            ("blank lines between", "MSH|1\n\n\nMSH|2\n\n", &["0 MSH|1\n", "8 MSH|2\n"]),
            ("CRLF", "MSH|1\r\nPID|1\r\n\r\nMSH|2\r\n", &["0 MSH|1\r\nPID|1\r\n", "16 MSH|2\r\n"]),
            ("batch", "FHS|^\rBHS|^\rMSH|1\rMSH|2\rBTS|2\rFTS|1\r", &["12 MSH|1\r", "18 MSH|2\r"]),
            (
                "byte order marks",
                "\u{feff}MSH|1\r\u{feff}MSH|2\r",
                &["0 \u{feff}MSH|1\r", "9 \u{feff}MSH|2\r"],
            ),
            (
                "frames",
                "\u{b}MSH|1\r\u{1c}\r\u{b}MSH|2\u{1c}\r\n\u{b}MSH|3\r\u{1c}\r",
                &["1 MSH|1\r", "10 MSH|2", "19 MSH|3\r"],
            ),
            ("stray lines", "hello\nworld\nMSH|1\nBTS\nx\n", &["0 stray 10", "12 MSH|1\n", "22 stray 1"]),
            ("a word that begins alike", "MSHELL\rMSH|1\rMSHX\r", &["0 stray 6", "7 MSH|1\rMSHX\r"]),
            ("empty batch", "FHS|^\rBHS|^\rBTS|0\rFTS|1\r", &[]),
        ];
        for (why, file, want) in cases {
            for step in [1, 2, 5, 1000] {
                let mut splitter = Splitter::default();
                let mut parts = Vec::new();
                for piece in file.as_bytes().chunks(step) {
                    splitter.push(piece);
                    parts.extend(std::iter::from_fn(|| splitter.next_part()));
                }
                splitter.finish();
                parts.extend(std::iter::from_fn(|| splitter.next_part()));
                let parts: Vec<String> = parts.iter().map(shown).collect();
                assert_eq!(parts, want, "{why}, {step} bytes at once");
            }
        }
    }

    #[test]
    fn batches_are_counted() {
        let cases = [
            ("right", "BHS|^\rMSH|1\rBTS|1\rBHS|^\rBTS|0\r", (1, 2, 0)),
            ("wrong", "BHS|^\rMSH|1\rMSH|2\rBTS|3\r", (2, 1, 1)),
            ("not said", "BHS|^\rMSH|1\rBTS\r", (1, 1, 0)),
            ("no last line end", "BHS|^\rMSH|1\rBTS|2", (1, 1, 1)),
        ];
        for (why, file, want) in cases {
            let (_, summary) = split(file.as_bytes());
            assert_eq!((summary.messages, summary.batches, summary.miscounted_batches), want, "{why}");
        }
    }

    #[test]
    fn over_the_cap_is_dropped() {
        let mut splitter = Splitter::new(64 * 1024);
        splitter.push(b"MSH|1\r");
        for _ in 0..1_000 {
            splitter.push(&[b'x'; 4096]);
            assert!(splitter.current.as_ref().is_none_or(|current| current.bytes.len() <= 64 * 1024));
        }
        splitter.push(b"\rMSH|2\r");
        splitter.finish();
        let parts: Vec<String> =
            std::iter::from_fn(|| splitter.next_part()).map(|part| shown(&part)).collect();
        assert_eq!(parts, [format!("0 large {OVERSIZED_HEAD_BYTES}"), "4096007 MSH|2\r".to_owned()]);
    }

    #[test]
    fn utf_16_is_one_message_to_be_refused_by_name() {
        let file: Vec<u8> = "MSH|1\rMSH|2\r".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let (parts, _) = split(&file);
        assert_eq!(parts, [Part::Message { bytes: file.into(), offset: 0 }]);
    }
}
