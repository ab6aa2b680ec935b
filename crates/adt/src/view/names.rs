//! Names as people type them: without accents, in any case, with or without punctuation.

use unicode_normalization::UnicodeNormalization as _;

/// The text in small letters, without the marks of Latin, Greek and Cyrillic letters, full-width signs as their usual
/// ones. Hangul and kana stay whole: their parts are letters of their own.
pub(crate) fn folded(text: &str) -> String {
    let is_mark = |sign: &char| ('\u{300}'..='\u{36F}').contains(sign);
    let mut out = String::with_capacity(text.len());
    for sign in text.chars().flat_map(char::to_lowercase).nfkd().filter(|sign| !is_mark(sign)) {
        match sign {
            // What no decomposition takes apart.
            'ß' => out.push_str("ss"),
            'æ' => out.push_str("ae"),
            'œ' => out.push_str("oe"),
            'þ' => out.push_str("th"),
            'ø' => out.push('o'),
            'ł' => out.push('l'),
            'đ' | 'ð' => out.push('d'),
            'ı' => out.push('i'),
            _ => out.push(sign),
        }
    }
    out.nfc().collect()
}

/// [`folded`], letters and digits alone.
pub(crate) fn tight(text: &str) -> String {
    folded(text).chars().filter(|sign| sign.is_alphanumeric()).collect()
}

/// What is asked for, word by word, each [`tight`]. A comma parts words as a blank does: names are shown so.
pub(crate) fn words(asked: &str) -> impl Iterator<Item = String> {
    let parts = asked.split(|sign: char| sign.is_whitespace() || matches!(sign, ',' | ';' | '、' | '，'));
    parts.map(tight).filter(|word| !word.is_empty())
}
