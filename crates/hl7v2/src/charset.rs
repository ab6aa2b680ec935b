//! Which charset a message is in: clinical-rules 21 and 22.
//!
//! The ladder: the source's override → a byte order mark → MSH-18 (table 0211, all repetitions, aliases) → valid
//! UTF-8 → the source's fallback. The rule that decided goes to the envelope; whatever contradicts it is a flaw.
//! What we cannot read (ISO 2022, Johab, UTF-16, UTF-32, CNS 11643) is refused by name and never guessed.

use std::collections::BTreeSet;

use encoding_rs::{DecoderResult, Encoding};
use memchr::{memchr, memmem};

use crate::finding::{Flaw, Flaws};
use crate::limits::DECLARED_CHARSETS_MAX;

/// How a charset uses its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Ascii,
    SingleByte,
    MultiByte,
    Utf8,
}

/// A charset that can be read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charset {
    family: Family,
    encoding: &'static Encoding,
    name: &'static str,
}

/// Why a message's charset is not decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CharsetError {
    /// The charset is known by name, but not read yet.
    #[error("charset {0} is not supported")]
    Unsupported(&'static str),
    /// No such charset.
    #[error("unknown charset")]
    Unknown,
    /// Bytes beyond ASCII, nothing that says what they are, and no fallback is set.
    #[error("charset undecided: no MSH-18, not UTF-8, and the source has no fallback")]
    Undecided,
}

impl CharsetError {
    /// The rule's name, as quarantine lists it.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Unsupported(_) => "charset-unsupported",
            Self::Unknown => "charset-unknown",
            Self::Undecided => "charset-undecided",
        }
    }
}

enum Named {
    Known(Charset),
    Unsupported(&'static str),
    Unknown,
}

const fn known(family: Family, encoding: &'static Encoding, name: &'static str) -> Named {
    Named::Known(Charset { family, encoding, name })
}

/// The name in upper case without blanks and punctuation.
fn folded<'b>(raw: &[u8], buffer: &'b mut [u8; 32]) -> &'b [u8] {
    let mut len = 0;
    for byte in raw.iter().filter(|byte| byte.is_ascii_alphanumeric()) {
        let Some(slot) = buffer.get_mut(len) else { return b"" };
        *slot = byte.to_ascii_uppercase();
        len += 1;
    }
    &buffer[..len]
}

/// Table 0211 and the names that senders use instead.
fn by_name(raw: &[u8]) -> Named {
    use encoding_rs as e;
    // The most frequent names, before they are folded.
    if raw == b"UNICODE UTF-8" {
        return Named::Known(Charset::UTF_8);
    }
    let mut buffer = [0; 32];
    match folded(raw, &mut buffer) {
        b"ASCII" | b"USASCII" | b"ISO646" | b"ISOIR6" | b"ISO646US" | b"ANSIX341968" | b"ISO646IRV" => {
            known(Family::Ascii, e::WINDOWS_1252, "ASCII")
        }
        b"UNICODEUTF8" | b"UTF8" | b"UNICODE" | b"ISOIR192" => known(Family::Utf8, e::UTF_8, "UNICODE UTF-8"),
        b"88591" | b"ISO88591" | b"ISO885911987" | b"LATIN1" | b"ISOIR100" | b"WINDOWS1252" | b"CP1252"
        | b"ANSI" => known(Family::SingleByte, e::WINDOWS_1252, "8859/1"),
        b"88592" | b"ISO88592" | b"LATIN2" | b"ISOIR101" => {
            known(Family::SingleByte, e::ISO_8859_2, "8859/2")
        }
        b"88593" | b"ISO88593" | b"LATIN3" | b"ISOIR109" => {
            known(Family::SingleByte, e::ISO_8859_3, "8859/3")
        }
        b"88594" | b"ISO88594" | b"LATIN4" | b"ISOIR110" => {
            known(Family::SingleByte, e::ISO_8859_4, "8859/4")
        }
        b"88595" | b"ISO88595" | b"ISOIR144" => known(Family::SingleByte, e::ISO_8859_5, "8859/5"),
        b"88596" | b"ISO88596" | b"ISOIR127" => known(Family::SingleByte, e::ISO_8859_6, "8859/6"),
        b"88597" | b"ISO88597" | b"ISOIR126" => known(Family::SingleByte, e::ISO_8859_7, "8859/7"),
        b"88598" | b"ISO88598" | b"ISOIR138" => known(Family::SingleByte, e::ISO_8859_8, "8859/8"),
        b"88599" | b"ISO88599" | b"LATIN5" | b"ISOIR148" => {
            known(Family::SingleByte, e::WINDOWS_1254, "8859/9")
        }
        b"885915" | b"ISO885915" | b"LATIN9" => known(Family::SingleByte, e::ISO_8859_15, "8859/15"),
        b"KSX1001" | b"KSC5601" | b"KSC56011987" | b"KSC56011989" | b"KSX10011992" | b"KSX1003"
        | b"EUCKR" | b"CP949" | b"MS949" | b"UHC" | b"WINDOWS949" | b"KOREAN" | b"ISOIR149" => {
            known(Family::MultiByte, e::EUC_KR, "KS X 1001")
        }
        b"SHIFTJIS" | b"SJIS" | b"CP932" | b"MS932" | b"WINDOWS31J" | b"MSKANJI" | b"JISX0201"
        | b"ISOIR13" | b"ISOIR14" => known(Family::MultiByte, e::SHIFT_JIS, "Shift_JIS"),
        b"EUCJP" => known(Family::MultiByte, e::EUC_JP, "EUC-JP"),
        b"GB18030" | b"GB180302000" | b"GB180302005" | b"GB180302022" | b"GBK" | b"CP936" | b"GB2312"
        | b"EUCCN" | b"WINDOWS936" | b"ISOIR58" => known(Family::MultiByte, e::GB18030, "GB 18030-2000"),
        b"BIG5" | b"CP950" | b"BIG5HKSCS" | b"WINDOWS950" => known(Family::MultiByte, e::BIG5, "BIG-5"),
        b"ISOIR87" | b"ISOIR159" | b"JISX0208" | b"JISX0212" | b"JISX02021990" | b"JISX0202" | b"JAS2020"
        | b"ISO2022JP" | b"ISO2022KR" | b"ISO2022CN" | b"ISO2022" | b"ISO20221994" => {
            Named::Unsupported("ISO 2022")
        }
        b"JOHAB" | b"CP1361" | b"KSX1001JOHAB" => Named::Unsupported("Johab"),
        b"UNICODEUTF16" | b"UTF16" | b"UTF16LE" | b"UTF16BE" | b"UCS2" => Named::Unsupported("UTF-16"),
        b"UNICODEUTF32" | b"UTF32" | b"UTF32LE" | b"UTF32BE" | b"UCS4" => Named::Unsupported("UTF-32"),
        b"CNS116431992" | b"CNS11643" | b"EUCTW" => Named::Unsupported("CNS 11643"),
        _ => match Encoding::for_label(raw) {
            Some(encoding) if encoding.is_single_byte() && encoding != e::X_USER_DEFINED => {
                known(Family::SingleByte, encoding, encoding.name())
            }
            _ => Named::Unknown,
        },
    }
}

impl Charset {
    /// UTF-8.
    pub const UTF_8: Self =
        Self { family: Family::Utf8, encoding: encoding_rs::UTF_8, name: "UNICODE UTF-8" };

    /// Finds a charset by a name of table 0211 or one of its aliases (`KS X 1001`, `EUC-KR`, `cp949` …).
    ///
    /// # Errors
    /// [`CharsetError::Unsupported`] for what is known but not read, [`CharsetError::Unknown`] for the rest.
    pub fn parse(name: &str) -> Result<Self, CharsetError> {
        match by_name(name.as_bytes()) {
            Named::Known(charset) => Ok(charset),
            Named::Unsupported(name) => Err(CharsetError::Unsupported(name)),
            Named::Unknown => Err(CharsetError::Unknown),
        }
    }

    /// Its name in table 0211, or its common name.
    pub const fn name(self) -> &'static str {
        self.name
    }

    pub(crate) const fn encoding(self) -> &'static Encoding {
        self.encoding
    }

    /// Whether it has characters of several bytes that are not UTF-8.
    pub const fn is_multibyte(self) -> bool {
        matches!(self.family, Family::MultiByte)
    }
}

/// What a source says about its charset. Default: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CharsetSettings {
    /// Holds whatever MSH-18 says.
    pub override_with: Option<Charset>,
    /// Holds for bytes that MSH-18 does not explain and that are not UTF-8.
    pub fallback: Option<Charset>,
    /// The message came as text (JSON): it is UTF-8 and MSH-18 is ignored.
    pub unicode: bool,
}

impl CharsetSettings {
    /// From the names in a source's settings.
    ///
    /// # Errors
    /// [`CharsetError`] for a name that cannot be used.
    pub fn new(override_with: Option<&str>, fallback: Option<&str>) -> Result<Self, CharsetError> {
        Ok(Self {
            override_with: override_with.map(Charset::parse).transpose()?,
            fallback: fallback.map(Charset::parse).transpose()?,
            unicode: false,
        })
    }

    /// The same for a message that came as text.
    #[must_use]
    pub const fn unicode(self) -> Self {
        Self { unicode: true, ..self }
    }
}

/// The rule that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// The source's override.
    Override,
    /// MSH-18.
    Msh18,
    /// A UTF-8 byte order mark.
    Utf8Bom,
    /// The bytes are valid UTF-8 (ASCII included).
    Utf8Valid,
    /// The source's fallback: nothing else was said.
    Fallback,
    /// The source's fallback against what MSH-18 says.
    FlaggedFallback,
    /// The message came as text.
    Unicode,
}

impl Rule {
    /// All rules.
    pub const ALL: [Self; 7] = [
        Self::Override,
        Self::Msh18,
        Self::Utf8Bom,
        Self::Utf8Valid,
        Self::Fallback,
        Self::FlaggedFallback,
        Self::Unicode,
    ];

    /// The rule's name, as envelopes carry it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Override => "override",
            Self::Msh18 => "msh18",
            Self::Utf8Bom => "utf8-bom",
            Self::Utf8Valid => "utf8-valid",
            Self::Fallback => "fallback",
            Self::FlaggedFallback => "flagged-fallback",
            Self::Unicode => "unicode",
        }
    }
}

/// What was decided about one message's charset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    charset: Charset,
    rule: Rule,
    ascii: bool,
    pairs: bool,
    flaws: Flaws,
    broken_at: Option<u32>,
}

impl Decision {
    /// The charset.
    pub const fn charset(&self) -> Charset {
        self.charset
    }

    /// The rule that decided.
    pub const fn rule(&self) -> Rule {
        self.rule
    }

    /// What contradicts the decision.
    pub const fn flaws(&self) -> Flaws {
        self.flaws
    }

    /// The byte at which the first undecodable sequence (or the first U+FFFD that the sender sent) begins.
    pub const fn broken_at(&self) -> Option<usize> {
        match self.broken_at {
            Some(at) => Some(at as usize),
            None => None,
        }
    }

    /// Whether all bytes are ASCII.
    pub const fn is_ascii(&self) -> bool {
        self.ascii
    }

    pub(crate) const fn encoding(&self) -> &'static Encoding {
        self.charset.encoding
    }

    /// The encoding to split by where trail bytes may equal delimiters; absent where bytes can be compared alone.
    pub(crate) const fn pairs(&self) -> Option<&'static Encoding> {
        if self.pairs { Some(self.charset.encoding) } else { None }
    }

    fn of(charset: Charset, rule: Rule, bytes: &[u8], ascii: bool) -> Self {
        if ascii {
            Self::ascii(charset, rule, Flaws::NONE)
        } else {
            Self::new(charset, rule, bytes, Flaws::NONE)
        }
    }

    /// For bytes beyond ASCII.
    fn new(charset: Charset, rule: Rule, bytes: &[u8], flaws: Flaws) -> Self {
        let mut decision = Self { flaws, ..Self::ascii(charset, rule, flaws) };
        decision.ascii = false;
        decision.pairs = trails_below_0x80(charset.encoding);
        if let Some(at) = first_malformed(charset.encoding, bytes) {
            decision.flaws.insert(Flaw::CharsetUndecodable);
            decision.broken_at = Some(at as u32);
        } else if charset.family == Family::Utf8
            && let Some(at) = memmem::find(bytes, "\u{fffd}".as_bytes())
        {
            decision.flaws.insert(Flaw::ReplacementSent);
            decision.broken_at = Some(at as u32);
        }
        decision
    }

    const fn ascii(charset: Charset, rule: Rule, flaws: Flaws) -> Self {
        Self { charset, rule, ascii: true, pairs: false, flaws, broken_at: None }
    }
}

/// Whether a character's second byte may be one of HL7's delimiters (rule 21).
pub(crate) fn trails_below_0x80(encoding: &'static Encoding) -> bool {
    encoding == encoding_rs::SHIFT_JIS
        || encoding == encoding_rs::GB18030
        || encoding == encoding_rs::GBK
        || encoding == encoding_rs::BIG5
}

/// The place of the first sequence that `encoding` does not have, in constant memory.
fn first_malformed(encoding: &'static Encoding, bytes: &[u8]) -> Option<usize> {
    if encoding == encoding_rs::UTF_8 {
        return str::from_utf8(bytes).err().map(|error| error.valid_up_to());
    }
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let mut scratch = [0_u8; 4096];
    let mut done = 0;
    loop {
        let (result, read, _) =
            decoder.decode_to_utf8_without_replacement(bytes.get(done..)?, &mut scratch, true);
        done += read;
        match result {
            DecoderResult::InputEmpty => return None,
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(bad, after) => {
                return Some(done.saturating_sub(usize::from(bad) + usize::from(after)));
            }
        }
    }
}

/// How much of `bytes` is UTF-8: whether all of it, and how many sequences of three or four bytes and errors.
struct Utf8 {
    valid: bool,
    long_sequences: usize,
    errors: usize,
}

/// The first byte of a sequence of three or four.
const fn is_long_lead(byte: u8) -> bool {
    byte >= 0xE0
}

fn measure_utf8(bytes: &[u8]) -> Utf8 {
    if str::from_utf8(bytes).is_ok() {
        let long_sequences = bytes.iter().copied().filter(|byte| is_long_lead(*byte)).count();
        return Utf8 { valid: true, long_sequences, errors: 0 };
    }
    let mut found = Utf8 { valid: true, long_sequences: 0, errors: 0 };
    for chunk in bytes.utf8_chunks() {
        found.long_sequences += chunk.valid().bytes().filter(|byte| is_long_lead(*byte)).count();
        if !chunk.invalid().is_empty() {
            found.valid = false;
            found.errors += 1;
        }
    }
    found
}

impl Utf8 {
    /// UTF-8 that was cut or hurt in a few places, rather than something else.
    const fn damaged(&self) -> bool {
        !self.valid && self.long_sequences >= 4 * self.errors
    }

    /// Rule 22: with a multibyte fallback two-byte sequences prove nothing (황호 in CP949 is `Ȳȣ` in UTF-8).
    const fn proven(&self, fallback: Option<Charset>) -> bool {
        let doubtful = match fallback {
            Some(charset) => charset.is_multibyte(),
            None => false,
        };
        self.valid && (!doubtful || self.long_sequences > 0)
    }
}

const BOM_UTF8: &[u8] = b"\xEF\xBB\xBF";

/// UTF-16 and UTF-32 by their byte order marks, or by an `M` of sixteen or thirty-two bits.
fn wide(bytes: &[u8]) -> Option<&'static str> {
    const UTF32: [&[u8]; 4] = [b"\xFF\xFE\0\0", b"\0\0\xFE\xFF", b"M\0\0\0", b"\0\0\0M"];
    const UTF16: [&[u8]; 4] = [b"\xFF\xFE", b"\xFE\xFF", b"M\0S\0", b"\0M\0S"];
    if UTF32.iter().any(|start| bytes.starts_with(start)) {
        Some("UTF-32")
    } else if UTF16.iter().any(|start| bytes.starts_with(start)) {
        Some("UTF-16")
    } else {
        None
    }
}

/// Refuses bytes that are no superset of ASCII, before anything is split.
pub(crate) fn refuse_wide(bytes: &[u8]) -> Result<(), CharsetError> {
    wide(bytes).map_or(Ok(()), |name| Err(CharsetError::Unsupported(name)))
}

/// An ISO 2022 designation or shift: ESC and what may follow it there.
fn switches_charset(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = memchr(0x1B, rest) {
        if rest
            .get(at + 1)
            .is_some_and(|next| matches!(next, b'$' | b'(' | b')' | b'*' | b'+' | b'-' | b'.' | b'/'))
        {
            return true;
        }
        rest = rest.get(at + 1..).unwrap_or_default();
    }
    false
}

/// What MSH-18 says.
#[derive(Default)]
struct Declared {
    /// The best of its repetitions for bytes beyond ASCII.
    charset: Option<Charset>,
    unsupported: Option<&'static str>,
    unknown: bool,
}

fn read_declared<'a>(names: impl Iterator<Item = &'a [u8]>, bytes: &[u8], ascii: bool) -> Declared {
    let mut declared = Declared::default();
    for name in names.take(DECLARED_CHARSETS_MAX) {
        if name.is_empty() {
            continue;
        }
        match by_name(name) {
            Named::Known(charset) => {
                let better = match declared.charset {
                    None => true,
                    Some(_) if ascii => false,
                    Some(first) => {
                        first.family == Family::Ascii && charset.family != Family::Ascii
                            || first.family == Family::SingleByte
                                && matches!(charset.family, Family::MultiByte | Family::Utf8)
                                && first_malformed(charset.encoding, bytes).is_none()
                    }
                };
                if better {
                    declared.charset = Some(charset);
                }
            }
            Named::Unsupported(name) => declared.unsupported = declared.unsupported.or(Some(name)),
            Named::Unknown => declared.unknown = true,
        }
    }
    declared
}

/// Climbs the ladder for one message. `declared` are the repetitions of MSH-18 as they stand.
///
/// # Errors
/// [`CharsetError::Unsupported`] and [`CharsetError::Undecided`]: to be quarantined by name.
pub fn decide<'a>(
    bytes: &[u8],
    declared: impl Iterator<Item = &'a [u8]>,
    settings: &CharsetSettings,
) -> Result<Decision, CharsetError> {
    let ascii = bytes.is_ascii();
    if settings.unicode {
        return Ok(Decision::of(Charset::UTF_8, Rule::Unicode, bytes, ascii));
    }
    refuse_wide(bytes)?;
    if switches_charset(bytes) {
        return Err(CharsetError::Unsupported("ISO 2022"));
    }
    let mut flaws = Flaws::NONE;
    if let Some(charset) = settings.override_with
        && (ascii || charset.family != Family::Ascii)
    {
        return Ok(Decision::of(charset, Rule::Override, bytes, ascii));
    }
    let declared = read_declared(declared, bytes, ascii);
    if declared.unknown {
        flaws.insert(Flaw::CharsetUnknown);
    }
    if ascii {
        match declared.unsupported {
            // What has no single bytes is not what these are.
            Some("UTF-16" | "UTF-32") if declared.charset.is_none() => flaws.insert(Flaw::CharsetDiffers),
            // Beside another charset too: it is there for the letters that this sender will send. ISO 2022 is the
            // standard's own way (`ASCII~ISO IR87`), begins in ASCII, and says itself where it leaves it.
            Some("Johab" | "CNS 11643") => flaws.insert(Flaw::CharsetUnsupported),
            _ => {}
        }
        // The charset still matters for \X escapes and for edits.
        return Ok(match (declared.charset, settings.fallback) {
            (Some(charset), _) => Decision::ascii(charset, Rule::Msh18, flaws),
            (None, Some(charset)) => Decision::ascii(charset, Rule::Utf8Valid, flaws),
            (None, None) => Decision::ascii(Charset::UTF_8, Rule::Utf8Valid, flaws),
        });
    }
    if let Some(text) = bytes.strip_prefix(BOM_UTF8)
        && str::from_utf8(text).is_ok()
    {
        let is_another = match declared.charset {
            Some(charset) => charset.family != Family::Utf8,
            None => declared.unsupported.is_some(),
        };
        if is_another && !text.is_ascii() {
            flaws.insert(Flaw::CharsetDiffers);
        }
        return Ok(Decision::new(Charset::UTF_8, Rule::Utf8Bom, bytes, flaws));
    }
    match (declared.charset, declared.unsupported) {
        (Some(charset), _) => weigh_declared(bytes, charset, settings.fallback, flaws),
        (None, Some(name)) => Err(CharsetError::Unsupported(name)),
        (None, None) => undeclared(bytes, settings.fallback, flaws),
    }
}

/// Whether all that is beyond ASCII reads as Korean in EUC-KR, nearly all of it Hangul, two signs at least. Letters of
/// Western Europe stand one by one between ASCII.
fn reads_as_hangul(bytes: &[u8]) -> bool {
    let (mut signs, mut hangul) = (0_usize, 0_usize);
    for run in bytes.split(u8::is_ascii).filter(|run| !run.is_empty()) {
        let pairs = run.chunks_exact(2);
        if !pairs.remainder().is_empty() || run.iter().any(|byte| !(0xA1..=0xFE).contains(byte)) {
            return false;
        }
        for pair in pairs {
            signs += 1;
            hangul += usize::from((0xB0..=0xC8).contains(&pair[0]));
        }
    }
    signs >= 2 && hangul * 5 >= signs * 4
}

/// Distinct signs of a text in GB 18030 from which on it is odd that none begins behind `r` in pinyin.
const HANZI_DISTINCT_MIN: usize = 20;

/// Whether a text that calls itself GB 18030 is rather Korean. The 2,350 syllables of KS X 1001 lie on the commonest
/// Chinese signs, so no single sign tells; but those are in the order of pinyin, and the syllables take the places up to
/// `r` alone. Of Chinese names, addresses and prose three to four signs of ten lie behind it: that of twenty different
/// ones none does happens to one text in a thousand. A short text stays undecided.
fn reads_as_hangul_rather_than_chinese(bytes: &[u8]) -> bool {
    if !reads_as_hangul(bytes) {
        return false;
    }
    let pairs = bytes.split(u8::is_ascii).flat_map(|run| run.chunks_exact(2));
    let signs: BTreeSet<[u8; 2]> =
        pairs.filter(|pair| pair[0] >= 0xB0).map(|pair| [pair[0], pair[1]]).collect();
    signs.len() >= HANZI_DISTINCT_MIN && signs.iter().all(|sign| sign[0] <= 0xC8)
}

/// Whether the signs beyond ASCII are letters of Western and Central Europe, all of them.
fn is_accented_latin(text: &str) -> bool {
    let mut beyond = text.chars().filter(|sign| !sign.is_ascii()).peekable();
    beyond.peek().is_some() && beyond.all(|sign| ('\u{C0}'..='\u{17F}').contains(&sign))
}

/// Whether what MSH-18 says can be true of these bytes beyond ASCII.
fn weigh_declared(
    bytes: &[u8],
    charset: Charset,
    fallback: Option<Charset>,
    mut flaws: Flaws,
) -> Result<Decision, CharsetError> {
    let utf8_flagged = |mut flaws: Flaws| {
        flaws.insert(Flaw::CharsetDiffers);
        Ok(Decision::new(Charset::UTF_8, Rule::Utf8Valid, bytes, flaws))
    };
    match charset.family {
        Family::Utf8 if str::from_utf8(bytes).is_ok() || measure_utf8(bytes).damaged() => {}
        Family::MultiByte => {
            if str::from_utf8(bytes).is_ok_and(|text| text.bytes().any(is_long_lead)) {
                if first_malformed(charset.encoding, bytes).is_some() {
                    return utf8_flagged(flaws);
                }
                flaws.insert(Flaw::CharsetDoubtful);
            } else if str::from_utf8(bytes).is_ok_and(is_accented_latin) {
                // In UTF-8 these are pairs of such a set too; that all of its signs are such pairs is hardly chance.
                flaws.insert(Flaw::CharsetDoubtful);
            }
            let is_korean = (charset.encoding == encoding_rs::SHIFT_JIS && reads_as_hangul(bytes))
                || (charset.encoding == encoding_rs::GB18030 && reads_as_hangul_rather_than_chinese(bytes));
            if is_korean {
                flaws.insert(Flaw::CharsetDoubtful);
            }
        }
        Family::SingleByte if !fallback.is_some_and(Charset::is_multibyte) => {
            if str::from_utf8(bytes).is_ok() {
                return utf8_flagged(flaws);
            }
            if reads_as_hangul(bytes) {
                flaws.insert(Flaw::CharsetDoubtful);
            }
        }
        // Rule 22: ASCII or 8859-x with bytes beyond ASCII, or UTF-8 that is none: the sender does not know.
        Family::Ascii | Family::SingleByte | Family::Utf8 => {
            flaws.insert(Flaw::CharsetDiffers);
            return undeclared(bytes, fallback, flaws);
        }
    }
    Ok(Decision::new(charset, Rule::Msh18, bytes, flaws))
}

/// The lower half of the ladder: valid UTF-8, then the fallback.
fn undeclared(bytes: &[u8], fallback: Option<Charset>, mut flaws: Flaws) -> Result<Decision, CharsetError> {
    let fallback = fallback.filter(|charset| !matches!(charset.family, Family::Ascii | Family::Utf8));
    let utf8 = measure_utf8(bytes);
    if utf8.proven(fallback) || utf8.damaged() {
        // Rule 22: without a fallback nothing says which it is, and these letters are hardly anybody's.
        let is_rare = |sign: char| ('\u{180}'..='\u{24F}').contains(&sign);
        if reads_as_hangul(bytes) && str::from_utf8(bytes).is_ok_and(|text| text.contains(is_rare)) {
            flaws.insert(Flaw::CharsetDoubtful);
        }
        return Ok(Decision::new(Charset::UTF_8, Rule::Utf8Valid, bytes, flaws));
    }
    let Some(charset) = fallback else {
        return Err(CharsetError::Undecided);
    };
    if utf8.valid && first_malformed(charset.encoding, bytes).is_some() {
        return Ok(Decision::new(Charset::UTF_8, Rule::Utf8Valid, bytes, flaws));
    }
    let rule = if flaws.is_empty() { Rule::Fallback } else { Rule::FlaggedFallback };
    Ok(Decision::new(charset, rule, bytes, flaws))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use encoding_rs::{BIG5, EUC_KR, GB18030, SHIFT_JIS, WINDOWS_1252};

    fn decided(
        bytes: &[u8],
        msh_18: &str,
        override_with: Option<&str>,
        fallback: Option<&str>,
    ) -> Result<(&'static str, &'static str, Vec<Flaw>), CharsetError> {
        let settings = CharsetSettings::new(override_with, fallback)?;
        let decision = decide(bytes, msh_18.split('~').map(str::as_bytes), &settings)?;
        Ok((decision.rule().as_str(), decision.charset().name(), decision.flaws().iter().collect()))
    }

    #[test]
    fn the_ladder() {
        let cp949 = |text: &str| EUC_KR.encode(text).0.into_owned();
        let latin = |text: &str| WINDOWS_1252.encode(text).0.into_owned();
        let utf8 = |text: &str| text.as_bytes().to_vec();
        let bom = |text: &str| [BOM_UTF8, text.as_bytes()].concat();
        let (differs, undecodable) = (Flaw::CharsetDiffers, Flaw::CharsetUndecodable);
        let (kr, latin1, utf, gb) = ("KS X 1001", "8859/1", "UNICODE UTF-8", "GB 18030-2000");
        type Want = (&'static str, &'static str, Vec<Flaw>);
        type Case = (&'static str, Vec<u8>, &'static str, Option<&'static str>, Option<&'static str>, Want);
        let cases: Vec<Case> = vec![
            ("ASCII, nothing said", utf8("Kim"), "", None, None, ("utf8-valid", utf, vec![])),
            ("ASCII, declared", utf8("Kim"), "8859/1", None, None, ("msh18", latin1, vec![])),
            (
                "ASCII, unknown name",
                utf8("Kim"),
                "KLINGON",
                None,
                None,
                ("utf8-valid", utf, vec![Flaw::CharsetUnknown]),
            ),
            (
                "ASCII, ISO 2022 declared and not used",
                utf8("Kim"),
                "~ISO IR87",
                None,
                None,
                ("utf8-valid", utf, vec![]),
            ),
            (
                "CP949 as Latin 1",
                cp949("홍^길동"),
                "8859/1",
                None,
                None,
                ("msh18", latin1, vec![Flaw::CharsetDoubtful]),
            ),
            (
                "CP949 as Shift_JIS",
                cp949("홍^길동"),
                "SHIFT_JIS",
                None,
                None,
                ("msh18", "Shift_JIS", vec![Flaw::CharsetDoubtful]),
            ),
            (
                "CP949 as GB 18030, of some length",
                cp949("홍^길동|서울특별시 강남구 테헤란로 일백이십삼|김^영희|박^진수|정형외과"),
                "GB 18030-2000",
                None,
                None,
                ("msh18", gb, vec![Flaw::CharsetDoubtful]),
            ),
            (
                "Chinese, of some length",
                GB18030
                    .encode("王^小明|北京市海淀区中关村大街甲二十七号|李^丽华|陈^建国|骨科")
                    .0
                    .into_owned(),
                "GB 18030-2000",
                None,
                None,
                ("msh18", gb, vec![]),
            ),
            ("a short name of either", cp949("홍^길동"), "GB 18030-2000", None, None, ("msh18", gb, vec![])),
            (
                "CP949 that is UTF-8",
                cp949("황^호"),
                "",
                None,
                None,
                ("utf8-valid", utf, vec![Flaw::CharsetDoubtful]),
            ),
            ("letters of Latin 1", latin("Müller^Ääkkönen"), "8859/1", None, None, ("msh18", latin1, vec![])),
            ("letters in UTF-8", utf8("Müller^Žižek"), "", None, None, ("utf8-valid", utf, vec![])),
            (
                "ASCII, Johab declared",
                utf8("Kim"),
                "Johab",
                None,
                None,
                ("utf8-valid", utf, vec![Flaw::CharsetUnsupported]),
            ),
            (
                "ASCII, CNS declared beside it",
                utf8("Kim"),
                "ASCII~CNS 11643-1992",
                None,
                None,
                ("msh18", "ASCII", vec![Flaw::CharsetUnsupported]),
            ),
            (
                "ASCII, ISO 2022 declared",
                utf8("Kim"),
                "ASCII~ISO IR87",
                None,
                None,
                ("msh18", "ASCII", vec![]),
            ),
            (
                "ASCII, Johab declared, override",
                utf8("Kim"),
                "Johab",
                Some("EUC-KR"),
                None,
                ("override", kr, vec![]),
            ),
            (
                "ASCII, which UTF-16 is not",
                utf8("Kim"),
                "UNICODE UTF-16",
                None,
                None,
                ("utf8-valid", utf, vec![differs]),
            ),
            (
                "ASCII, which UTF-32 is not",
                utf8("Kim"),
                "UNICODE UTF-32",
                None,
                Some("EUC-KR"),
                ("utf8-valid", kr, vec![differs]),
            ),
            (
                "ASCII, UTF-16 among others",
                utf8("Kim"),
                "ASCII~UNICODE UTF-16",
                None,
                None,
                ("msh18", "ASCII", vec![]),
            ),
            (
                "byte order mark against an MSH-18 that is not read",
                bom("김"),
                "UNICODE UTF-16",
                None,
                None,
                ("utf8-bom", utf, vec![differs]),
            ),
            ("override", cp949("김"), "UNICODE UTF-8", Some("EUC-KR"), None, ("override", kr, vec![])),
            ("override on ASCII", utf8("Kim"), "", Some("EUC-KR"), None, ("override", kr, vec![])),
            (
                "override that does not fit",
                utf8("한"),
                "",
                Some("EUC-KR"),
                None,
                ("override", kr, vec![undecodable]),
            ),
            ("byte order mark", bom("김"), "", None, Some("EUC-KR"), ("utf8-bom", utf, vec![])),
            (
                "byte order mark against MSH-18",
                bom("김"),
                "8859/1",
                None,
                None,
                ("utf8-bom", utf, vec![differs]),
            ),
            (
                "byte order mark over two-byte UTF-8",
                bom("Ȳȣ"),
                "",
                None,
                Some("EUC-KR"),
                ("utf8-bom", utf, vec![]),
            ),
            (
                "byte order mark that lies",
                [BOM_UTF8, &cp949("각")].concat(),
                "EUC-KR",
                None,
                None,
                ("msh18", kr, vec![undecodable]),
            ),
            ("MSH-18", cp949("뷁"), "KS X 1001", None, None, ("msh18", kr, vec![])),
            ("MSH-18, alias", cp949("뷁"), "ks_c_5601-1987", None, None, ("msh18", kr, vec![])),
            ("MSH-18, second repetition", cp949("뷁"), "ASCII~KS X 1001", None, None, ("msh18", kr, vec![])),
            (
                "MSH-18, accented letters in UTF-8 under a double-byte name",
                utf8("Müller^Jörg"),
                "KS X 1001",
                None,
                None,
                ("msh18", kr, vec![Flaw::CharsetDoubtful]),
            ),
            (
                "MSH-18, a fitting multibyte repetition",
                cp949("황호"),
                "8859/1~KS X 1001",
                None,
                None,
                ("msh18", kr, vec![]),
            ),
            ("MSH-18 says UTF-8", utf8("é"), "UNICODE UTF-8", None, Some("EUC-KR"), ("msh18", utf, vec![])),
            ("MSH-18 says UNICODE", utf8("한"), "UNICODE", None, None, ("msh18", utf, vec![])),
            ("MSH-18 says 8859/1", latin("é"), "8859/1", None, None, ("msh18", latin1, vec![])),
            (
                "8859/1 that is UTF-8",
                utf8("Jürgen"),
                "8859/1",
                None,
                None,
                ("utf8-valid", utf, vec![differs]),
            ),
            (
                "KS X 1001 that is UTF-8",
                utf8("한글이름"),
                "KS X 1001",
                None,
                None,
                ("utf8-valid", utf, vec![differs]),
            ),
            ("nothing said, UTF-8", utf8("Jürgen"), "", None, None, ("utf8-valid", utf, vec![])),
            (
                "nothing said, UTF-8 of three bytes",
                utf8("한"),
                "",
                None,
                Some("EUC-KR"),
                ("utf8-valid", utf, vec![]),
            ),
            (
                "rule 22: 황호 is valid UTF-8",
                cp949("황호"),
                "",
                None,
                Some("CP949"),
                ("fallback", kr, vec![]),
            ),
            ("rule 22: 천호", cp949("천호"), "", None, Some("CP949"), ("fallback", kr, vec![])),
            (
                "rule 22: a syllable beyond KS X 1001",
                cp949("뷁"),
                "",
                None,
                Some("EUC-KR"),
                ("fallback", kr, vec![]),
            ),
            (
                "two-byte UTF-8 that the fallback does not have",
                utf8("À"),
                "",
                None,
                Some("EUC-KR"),
                ("utf8-valid", utf, vec![]),
            ),
            ("single-byte fallback", latin("é"), "", None, Some("8859/1"), ("fallback", latin1, vec![])),
            ("single-byte fallback, UTF-8", utf8("é"), "", None, Some("8859/1"), ("utf8-valid", utf, vec![])),
            (
                "rule 22: declared 8859/1",
                cp949("황호"),
                "8859/1",
                None,
                Some("EUC-KR"),
                ("flagged-fallback", kr, vec![differs]),
            ),
            (
                "rule 22: declared ASCII",
                cp949("황호"),
                "ASCII",
                None,
                Some("EUC-KR"),
                ("flagged-fallback", kr, vec![differs]),
            ),
            (
                "declared ASCII, UTF-8",
                utf8("황호"),
                "ASCII",
                None,
                Some("EUC-KR"),
                ("utf8-valid", utf, vec![differs]),
            ),
            (
                "declared UTF-8 that is not",
                cp949("각"),
                "UTF-8",
                None,
                Some("EUC-KR"),
                ("flagged-fallback", kr, vec![differs]),
            ),
            (
                "unknown name, fallback",
                cp949("천호"),
                "KLINGON",
                None,
                Some("EUC-KR"),
                ("flagged-fallback", kr, vec![Flaw::CharsetUnknown]),
            ),
            (
                "a cut character",
                [&cp949("김철수")[..], b"\xC8"].concat(),
                "EUC-KR",
                None,
                None,
                ("msh18", kr, vec![undecodable]),
            ),
            (
                "UTF-8 with one cut character",
                [&utf8("황호 천호 길동")[..], b"\xED\x95"].concat(),
                "UTF-8",
                None,
                Some("EUC-KR"),
                ("msh18", utf, vec![undecodable]),
            ),
            (
                "U+FFFD sent",
                utf8("Kim \u{fffd}"),
                "UTF-8",
                None,
                None,
                ("msh18", utf, vec![Flaw::ReplacementSent]),
            ),
        ];
        for (why, bytes, msh_18, override_with, fallback, want) in cases {
            assert_eq!(decided(&bytes, msh_18, override_with, fallback), Ok(want), "{why}");
        }
    }

    #[test]
    fn what_is_refused_by_name() {
        let cp949 = EUC_KR.encode("황호각").0.into_owned();
        let cases: [(&str, &[u8], &str, CharsetError); 12] = [
            ("ISO 2022 escape", b"\x1B$B6b\x1B(B", "~ISO IR87", CharsetError::Unsupported("ISO 2022")),
            ("ISO 2022 escape, nothing said", b"\x1B$)C\x0E", "", CharsetError::Unsupported("ISO 2022")),
            (
                "ISO 2022 declared, bytes beyond ASCII",
                b"\xB6",
                "ISO IR87",
                CharsetError::Unsupported("ISO 2022"),
            ),
            ("Johab", b"\x88\x61", "Johab", CharsetError::Unsupported("Johab")),
            ("CNS 11643", b"\xC4\xE3", "CNS 11643-1992", CharsetError::Unsupported("CNS 11643")),
            ("UTF-16 LE", b"\xFF\xFEM\0S\0H\0", "", CharsetError::Unsupported("UTF-16")),
            ("UTF-16 BE without a mark", b"\0M\0S\0H", "", CharsetError::Unsupported("UTF-16")),
            ("UTF-16 declared", b"\xB6", "UNICODE UTF-16", CharsetError::Unsupported("UTF-16")),
            ("UTF-32", b"\xFF\xFE\0\0M\0\0\0", "", CharsetError::Unsupported("UTF-32")),
            ("not UTF-8, no fallback", &cp949, "", CharsetError::Undecided),
            ("not UTF-8 though declared, no fallback", &cp949, "UNICODE UTF-8", CharsetError::Undecided),
            ("not ASCII though declared, no fallback", &cp949, "ASCII", CharsetError::Undecided),
        ];
        for (why, bytes, msh_18, want) in cases {
            assert_eq!(decided(bytes, msh_18, None, None), Err(want), "{why}");
        }
        for (name, want) in [
            ("ISO-2022-JP", CharsetError::Unsupported("ISO 2022")),
            ("UTF-16LE", CharsetError::Unsupported("UTF-16")),
            ("Johab", CharsetError::Unsupported("Johab")),
            ("KLINGON", CharsetError::Unknown),
            ("", CharsetError::Unknown),
            ("x-user-defined", CharsetError::Unknown),
            ("replacement", CharsetError::Unknown),
        ] {
            assert_eq!(Charset::parse(name), Err(want), "{name}");
        }
    }

    #[test]
    fn an_escape_character_alone_is_no_iso_2022() {
        assert_eq!(decided(b"a\x1Bb", "", None, None).map(|found| found.0), Ok("utf8-valid"));
    }

    #[test]
    fn table_0211_and_aliases() {
        let cases = [
            (&["ASCII", "us-ascii", "ISO IR6"][..], "ASCII"),
            (&["8859/1", "ISO-8859-1", "ISO_8859-1:1987", "latin1", "windows-1252"], "8859/1"),
            (&["8859/2", "iso8859-2"], "8859/2"),
            (&["8859/9", "ISO 8859-9"], "8859/9"),
            (&["8859/15", "ISO8859/15"], "8859/15"),
            (&["UNICODE UTF-8", "UTF-8", "utf8", "UNICODE"], "UNICODE UTF-8"),
            (
                &[
                    "KS X 1001",
                    "KSX1001",
                    "EUC-KR",
                    "euckr",
                    "CP949",
                    "ms949",
                    "UHC",
                    "ks_c_5601-1987",
                    "KS C 5601",
                ],
                "KS X 1001",
            ),
            (&["Shift_JIS", "SJIS", "CP932", "windows-31j", "ISO IR14", "ISO IR13"], "Shift_JIS"),
            (&["GB 18030-2000", "GB18030", "GBK", "GB2312", "CP936"], "GB 18030-2000"),
            (&["BIG-5", "Big5", "CP950"], "BIG-5"),
            (&["EUC-JP"], "EUC-JP"),
            (&["windows-1251", "cp1251"], "windows-1251"),
        ];
        for (names, want) in cases {
            for name in names {
                assert_eq!(Charset::parse(name).map(Charset::name), Ok(want), "{name}");
            }
        }
    }

    #[test]
    fn only_three_charsets_have_delimiters_in_second_bytes() {
        for (encoding, want) in [
            (SHIFT_JIS, true),
            (GB18030, true),
            (BIG5, true),
            (EUC_KR, false),
            (encoding_rs::EUC_JP, false),
            (WINDOWS_1252, false),
        ] {
            let mut hits = false;
            for lead in 0x80..=0xFF_u8 {
                for trail in *b"|^~\\&" {
                    hits |= !encoding.decode_without_bom_handling(&[lead, trail]).1
                        && encoding.decode_without_bom_handling(&[lead, trail]).0.chars().count() == 1;
                }
            }
            assert_eq!((hits, trails_below_0x80(encoding)), (want, want), "{}", encoding.name());
        }
    }
}
