//! MLLP framing: `0x0B` message `0x1C 0x0D`. Pure and incremental; what comes in is bounded, whatever is sent.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

use crate::limits::{FRAME_COPY_BYTES_MAX, MESSAGE_BYTES_MAX, OVERSIZED_HEAD_BYTES, STRAY_BYTES_MAX};

const START: u8 = 0x0B;
const END: u8 = 0x1C;

/// One whole frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What stood between the marks; may be empty.
    pub body: Bytes,
    /// Bytes other than line ends between the frame before and this one.
    pub stray_bytes: usize,
    /// The end mark was not followed by CR.
    pub missing_cr: bool,
    /// Start or end marks stood inside.
    pub inner_marks: bool,
}

/// What is not a whole frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The frame is larger than the cap; the rest of it is dropped as it comes. Its beginning is kept, so that it
    /// can be answered.
    #[error("frame is larger than the cap")]
    TooLarge {
        /// The first bytes of the frame.
        head: Bytes,
    },
    /// Another message began, or the connection ended, before the end mark.
    #[error("frame has no end mark")]
    Unterminated {
        /// What came of it.
        body: Bytes,
    },
    /// Too many bytes outside of frames: the peer does not speak MLLP.
    #[error("too many bytes outside of frames")]
    Stray,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Between,
    Inside,
    Discarding,
}

/// Cuts a stream of bytes into frames.
///
/// Push what was read, then take frames until there is none: buffered are at most the cap and the last push.
///
/// ```
/// use hilum_hl7v2::mllp::Deframer;
/// let mut deframer = Deframer::default();
/// deframer.push(b"\x0BMSH|one\r\x1C\r\x0BMSH|t");
/// let frame = deframer.next_frame().expect("a frame").expect("no fault");
/// assert_eq!(&frame.body[..], b"MSH|one\r");
/// assert!(deframer.next_frame().is_none());
/// deframer.push(b"wo\r\x1C\r");
/// assert_eq!(&deframer.next_frame().expect("a frame").expect("no fault").body[..], b"MSH|two\r");
/// ```
#[derive(Debug)]
pub struct Deframer {
    buffer: BytesMut,
    state: State,
    cap: usize,
    /// Bytes of `buffer` that hold no end mark.
    scanned: usize,
    stray_bytes: usize,
    inner_marks: bool,
}

impl Default for Deframer {
    fn default() -> Self {
        Self::new(MESSAGE_BYTES_MAX)
    }
}

impl Deframer {
    /// A deframer for frames of at most `size_bytes_max`.
    pub fn new(size_bytes_max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            state: State::Between,
            cap: size_bytes_max,
            scanned: 0,
            stray_bytes: 0,
            inner_marks: false,
        }
    }

    /// Takes what was read.
    pub fn push(&mut self, read: &[u8]) {
        self.buffer.extend_from_slice(read);
    }

    /// Whether a frame has begun and not ended.
    pub fn is_inside(&self) -> bool {
        self.state != State::Between
    }

    /// How many bytes are held.
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The next frame or fault; `None` until more is pushed. After [`Fault::TooLarge`] and
    /// [`Fault::Unterminated`] the frames that follow can be taken; after [`Fault::Stray`] close the connection.
    ///
    /// # Errors
    /// [`Fault`]: something that is no whole frame.
    pub fn next_frame(&mut self) -> Option<Result<Frame, Fault>> {
        loop {
            let found = match self.state {
                State::Between => self.find_start()?,
                State::Inside => return self.find_end(),
                State::Discarding => self.discard()?,
            };
            if let Err(fault) = found {
                return Some(Err(fault));
            }
        }
    }

    /// What is left when the connection ends: a frame that never ended.
    pub fn finish(&mut self) -> Option<Fault> {
        let state = std::mem::replace(&mut self.state, State::Between);
        let body = std::mem::take(&mut self.buffer).freeze();
        self.reset_frame();
        (state == State::Inside).then_some(Fault::Unterminated { body })
    }

    fn reset_frame(&mut self) {
        self.scanned = 0;
        self.stray_bytes = 0;
        self.inner_marks = false;
    }

    /// Skips to the byte after a start mark.
    fn find_start(&mut self) -> Option<Result<(), Fault>> {
        let start = memchr(START, &self.buffer);
        let skipped = start.unwrap_or(self.buffer.len());
        let is_stray = |byte: &&u8| !matches!(**byte, b'\r' | b'\n');
        self.stray_bytes += self.buffer.iter().take(skipped).filter(is_stray).count();
        self.buffer.advance(skipped + usize::from(start.is_some()));
        self.shrink();
        if self.stray_bytes > STRAY_BYTES_MAX {
            self.stray_bytes = 0;
            return Some(Err(Fault::Stray));
        }
        start?;
        self.state = State::Inside;
        self.scanned = 0;
        self.inner_marks = false;
        Some(Ok(()))
    }

    /// The end of the frame that has begun: where its body ends, how many bytes mark the end. `None` = not here yet.
    fn end_mark(&mut self) -> Option<(usize, usize)> {
        while let Some(at) = memchr(END, self.buffer.get(self.scanned..)?) {
            let at = self.scanned + at;
            self.scanned = at;
            match self.buffer.get(at + 1)? {
                b'\r' | b'\n' => return Some((at, 2)),
                // The next frame begins: the CR was forgotten.
                &START => return Some((at, 1)),
                _ => {
                    self.inner_marks = true;
                    self.scanned = at + 1;
                }
            }
        }
        self.scanned = self.buffer.len();
        None
    }

    fn find_end(&mut self) -> Option<Result<Frame, Fault>> {
        let end = self.end_mark();
        if end.map_or(self.scanned, |(at, _)| at) > self.cap {
            let head =
                Bytes::copy_from_slice(self.buffer.get(..OVERSIZED_HEAD_BYTES).unwrap_or(&self.buffer));
            self.state = State::Discarding;
            return Some(Err(Fault::TooLarge { head }));
        }
        let (body_len, mark_len) = end?;
        if let Some(at) = self.restart(body_len) {
            // A message began inside: the one before it lost its end mark.
            let body = self.take(at);
            self.buffer.advance(1);
            self.scanned = body_len - at - 1;
            self.stray_bytes = 0;
            return Some(Err(Fault::Unterminated { body }));
        }
        let mark = self.buffer.get(body_len..body_len + mark_len).unwrap_or_default();
        let missing_cr = mark != [END, b'\r'];
        let inner_marks =
            self.inner_marks || self.buffer.get(..body_len).is_some_and(|body| memchr(START, body).is_some());
        let stray_bytes = self.stray_bytes;
        let body = self.take(body_len);
        self.buffer.advance(mark_len);
        self.shrink();
        self.state = State::Between;
        self.reset_frame();
        Some(Ok(Frame { body, stray_bytes, missing_cr, inner_marks }))
    }

    /// A start mark inside a body, in front of a header segment.
    fn restart(&self, body_len: usize) -> Option<usize> {
        let body = self.buffer.get(..body_len)?;
        let begins = |rest: &[u8]| [b"MSH", b"FHS", b"BHS"].iter().any(|name| rest.starts_with(&name[..]));
        memchr::memchr_iter(START, body).find(|at| begins(body.get(at + 1..).unwrap_or_default()))
    }

    /// Takes the first `len` bytes out: small ones as a copy, so that a queued message does not pin the buffer.
    fn take(&mut self, len: usize) -> Bytes {
        if len > FRAME_COPY_BYTES_MAX {
            return self.buffer.split_to(len).freeze();
        }
        let body = Bytes::copy_from_slice(self.buffer.get(..len).unwrap_or_default());
        self.buffer.advance(len);
        body
    }

    fn discard(&mut self) -> Option<Result<(), Fault>> {
        if let Some((at, mark_len)) = self.end_mark() {
            self.buffer.advance(at + mark_len);
            self.state = State::Between;
            self.reset_frame();
            self.shrink();
            return Some(Ok(()));
        }
        // All but a last end mark whose second byte is not here yet.
        self.buffer.advance(self.scanned);
        self.scanned = 0;
        self.shrink();
        None
    }

    /// Gives an empty buffer back, so that an idle connection holds nothing.
    fn shrink(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}

/// Puts `message` between the marks.
pub fn frame(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + 3);
    out.extend_from_slice(&[START]);
    out.extend_from_slice(message);
    out.extend_from_slice(&[END, b'\r']);
    out.freeze()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What comes out when `input` is pushed in pieces of `step` bytes: bodies, and `!` with the fault's text.
    fn run(deframer: &mut Deframer, input: &[u8], step: usize) -> Vec<String> {
        let mut out = Vec::new();
        for piece in input.chunks(step) {
            deframer.push(piece);
            while let Some(next) = deframer.next_frame() {
                out.push(match next {
                    Ok(frame) => {
                        let text = String::from_utf8_lossy(&frame.body).into_owned();
                        let marks = [
                            (frame.stray_bytes > 0).then(|| format!(" stray {}", frame.stray_bytes)),
                            frame.missing_cr.then(|| " missing-cr".to_owned()),
                            frame.inner_marks.then(|| " inner".to_owned()),
                        ];
                        marks.into_iter().flatten().fold(text, |text, mark| text + &mark)
                    }
                    Err(Fault::Unterminated { body }) => format!("!open {}", String::from_utf8_lossy(&body)),
                    Err(Fault::TooLarge { head }) => format!("!large {}", String::from_utf8_lossy(&head)),
                    Err(Fault::Stray) => "!stray".to_owned(),
                });
            }
        }
        if let Some(Fault::Unterminated { body }) = deframer.finish() {
            out.push(format!("!end {}", String::from_utf8_lossy(&body)));
        }
        out
    }

    #[test]
    fn frames_and_faults_however_they_are_split() {
        let cases: [(&str, &[u8], &[&str]); 15] = [
            ("one", b"\x0BMSH|1\r\x1C\r", &["MSH|1\r"]),
            ("two in one write", b"\x0BMSH|1\x1C\r\x0BMSH|2\x1C\r", &["MSH|1", "MSH|2"]),
            (
                "line ends between frames are nothing",
                b"\x0BMSH|1\x1C\r\r\n\x0BMSH|2\x1C\r",
                &["MSH|1", "MSH|2"],
            ),
            (
                "stray bytes between",
                b"xx\x0BMSH|1\x1C\ryyy\x0BMSH|2\x1C\r",
                &["MSH|1 stray 2", "MSH|2 stray 3"],
            ),
            ("empty", b"\x0B\x1C\r", &[""]),
            ("no end", b"\x0BMSH|1\r", &["!end MSH|1\r"]),
            ("end without CR, then a frame", b"\x0BMSH|1\x1C\x0BMSH|2\x1C\r", &["MSH|1 missing-cr", "MSH|2"]),
            ("end with LF", b"\x0BMSH|1\x1C\n\x0BMSH|2\x1C\r", &["MSH|1 missing-cr", "MSH|2"]),
            ("end mark inside", b"\x0BMSH|a\x1Cb\x1C\r", &["MSH|a\x1Cb inner"]),
            ("start mark inside", b"\x0BMSH|a\x0Bb\x1C\r", &["MSH|a\x0Bb inner"]),
            ("end marks in a row", b"\x0BMSH|a\x1C\x1C\r", &["MSH|a\x1C inner"]),
            ("a frame that lost its end", b"\x0BMSH|1\r\x0BMSH|2\x1C\r", &["!open MSH|1\r", "MSH|2"]),
            (
                "two that lost their ends",
                b"\x0BMSH|1\r\x0BMSH|2\r\x0BMSH|3\x1C\r\x0BMSH|4\x1C\r",
                &["!open MSH|1\r", "!open MSH|2\r", "MSH|3", "MSH|4"],
            ),
            ("a batch in a frame", b"\x0BFHS|1\rMSH|1\r\x1C\r", &["FHS|1\rMSH|1\r"]),
            ("start twice", b"\x0B\x0BMSH|1\x1C\r", &["!open ", "MSH|1"]),
        ];
        for (why, input, want) in cases {
            for step in [1, 2, 3, 7, input.len()] {
                let mut deframer = Deframer::default();
                assert_eq!(run(&mut deframer, input, step), want, "{why}, {step} bytes at once");
                assert_eq!(deframer.buffered_bytes(), 0, "{why}");
            }
        }
    }

    #[test]
    fn over_the_cap_is_dropped_and_the_next_frame_is_whole() {
        for step in [1, 3, 10, 1000] {
            let mut deframer = Deframer::new(8);
            let input = b"\x0BMSH|12345678901234567890\x1Cx\x1C\r\x0BMSH|2\x1C\r\x0BMSH|3456\x1C\r\x0BMSH|34567\x1C\r";
            let out = run(&mut deframer, input, step);
            let bodies: Vec<&str> =
                out.iter().map(String::as_str).filter(|out| !out.starts_with("!large MSH|")).collect();
            assert_eq!(bodies, ["MSH|2", "MSH|3456"], "{step} bytes at once");
            assert_eq!(out.len(), 4, "{step} bytes at once");
        }
    }

    #[test]
    fn a_frame_without_end_holds_no_more_than_the_cap() {
        let mut deframer = Deframer::new(1 << 20);
        deframer.push(b"\x0BMSH|");
        let piece = vec![b'x'; 64 * 1024];
        let mut faults = 0;
        for _ in 0..2_000 {
            deframer.push(&piece);
            while let Some(next) = deframer.next_frame() {
                assert!(matches!(next, Err(Fault::TooLarge { .. })));
                faults += 1;
            }
            assert!(deframer.buffered_bytes() <= (1 << 20) + piece.len());
        }
        assert_eq!(faults, 1);
        assert_eq!(deframer.buffered_bytes(), 0);
    }

    #[test]
    fn a_peer_that_speaks_something_else_is_given_up() {
        let mut deframer = Deframer::default();
        let mut faults = 0;
        for _ in 0..100 {
            deframer.push(&[b'G'; 1024]);
            while let Some(next) = deframer.next_frame() {
                assert_eq!(next, Err(Fault::Stray));
                faults += 1;
            }
        }
        assert_eq!(faults, 1);
    }

    #[test]
    fn what_is_framed_is_deframed() {
        let mut deframer = Deframer::default();
        let large = vec![b'x'; FRAME_COPY_BYTES_MAX * 3];
        for body in [&b"MSH|^~\\&"[..], &large] {
            deframer.push(&frame(body));
            assert_eq!(&deframer.next_frame().unwrap().unwrap().body[..], body);
            assert_eq!(deframer.next_frame(), None);
        }
    }
}
