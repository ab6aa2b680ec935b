//! Signs that no person's name has: what is left of a name that was read in another charset than it was written in.
//!
//! ASCII is never one of them (`#`, `*`, `?` stand for names that nobody knows), nor are the signs by which names in
//! Chinese, Japanese and Korean are masked, numbered and described.

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

/// Whether `name`, one part of a person's name, holds a sign that no name has.
pub(super) fn are_odd(name: &str) -> bool {
    if name.is_ascii() {
        return false;
    }
    let signs: Vec<char> = name.chars().collect();
    // Those of a typewriter may be one of a pair.
    let quotes = signs.iter().filter(|sign| is_double_quote(**sign) || **sign == '"').count();
    if quotes % 2 == 1 {
        return true;
    }
    let has_latin = signs.iter().any(|sign| sign.is_alphabetic() && u32::from(*sign) < 0x250);
    signs.iter().enumerate().any(|(at, sign)| {
        let before = at.checked_sub(1).and_then(|at| signs.get(at)).copied();
        let place = Place { before, after: signs.get(at + 1).copied(), has_latin };
        !sign.is_ascii() && place.is_odd(*sign)
    })
}

/// Marks of quotation that come in pairs. Single ones are apostrophes too.
const fn is_double_quote(sign: char) -> bool {
    matches!(sign, '«' | '»' | '‹' | '›' | '“' | '”' | '„' | '‟')
}

fn is_letter(sign: Option<char>) -> bool {
    sign.is_some_and(char::is_alphabetic)
}

fn ends_word(sign: Option<char>) -> bool {
    sign.is_none_or(|sign| sign.is_whitespace() || matches!(sign, '.' | ',' | '-' | '/' | ')'))
}

/// Where a sign stands.
struct Place {
    before: Option<char>,
    after: Option<char>,
    /// Whether the name has letters of the Latin script.
    has_latin: bool,
}

impl Place {
    fn is_odd(&self, sign: char) -> bool {
        let is_inside = is_letter(self.before) && is_letter(self.after);
        match sign {
            // Quoted: beside a blank, or the end. `Müller †`, deceased, in German registers.
            '«' | '»' | '‹' | '›' | '“' | '”' | '„' | '‟' | '†' => is_inside,
            // What is typed for the middle dot of names: `买买提•艾力`.
            '•' => self.has_latin || !is_inside,
            // `Anne·Marie`, `l·l`, or alone.
            '·' => !is_inside && (is_letter(self.before) || is_letter(self.after)),
            // `Mª`, `M.ª`, `1º`, and the degree sign that is typed for it.
            'ª' | 'º' | '°' => {
                let ordinal = self.before.is_some_and(|sign| sign.is_ascii_alphanumeric() || sign == '.');
                !(ordinal && ends_word(self.after))
            }
            // An apostrophe for who has no other key: `O´Brien`, `´t Hart`.
            '´' => {
                let short = self.after.is_some_and(|sign| sign.is_ascii_lowercase());
                !(is_letter(self.before) || (ends_word(self.before) && short))
            }
            // `李×`: masked.
            '×' => self.has_latin,
            // Accents of Greek capitals; `홍○동`, `★`, `①`, `㈜`, `〓`; radicals and descriptions of signs that no charset
            // has; sound marks; full width.
            '\u{384}'
            | '\u{385}'
            | '\u{1FBD}'..='\u{1FFE}'
            | '\u{2460}'..='\u{24FF}'
            | '\u{25A0}'..='\u{25FF}'
            | '★'
            | '☆'
            | '\u{2E80}'..='\u{2FFF}'
            | '〓'
            | '\u{309B}'
            | '\u{309C}'
            | '\u{3200}'..='\u{33FF}'
            | '\u{FF01}'..='\u{FF60}' => false,
            // Letters and punctuation by their class, and in no name: what stands in the upper half of Latin 1 and
            // Windows-1252.
            '¡' | '¿' | '§' | '¶' | 'µ' | 'ƒ' | '‚' | '‡' | '‰' => true,
            _ => matches!(
                sign.general_category(),
                GeneralCategory::OtherSymbol
                    | GeneralCategory::CurrencySymbol
                    | GeneralCategory::ModifierSymbol
                    | GeneralCategory::MathSymbol
                    | GeneralCategory::OtherNumber
                    | GeneralCategory::Control
            ),
        }
    }
}

/// Whether a text holds a sign of private use: what it looks like, only who sent it knows.
pub(super) fn are_private(text: &str) -> bool {
    let is_private = |sign: char| matches!(sign, '\u{E000}'..='\u{F8FF}' | '\u{F0000}'..='\u{FFFFD}' | '\u{100000}'..='\u{10FFFD}');
    !text.is_ascii() && text.chars().any(is_private)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_people_have_them_are_names() {
        let names = [
            "O'Brien",
            "O’Brien",
            "O´Brien",
            "O`Brien",
            "O‘Brien",
            "d’Arc",
            "’t Hart",
            "D´Angelo",
            "Nicolo´",
            "Garcia-Lopez",
            "Müller–Schmidt",
            "Anne·Marie",
            "Gal·la",
            "Anne · Marie",
            "Dr.",
            "(geb. X)",
            "Ana \"Nina\"",
            "Ana “Nina”",
            "Hans „Hansi“",
            "Ana «Nina»",
            "Ana ‘Nina’",
            "José Mª",
            "Mª José",
            "M.ª Luz",
            "Mº",
            "M° Dolores",
            "홍길동",
            "홍○동",
            "홍○○",
            "김철수①",
            "㈜홍",
            "李×",
            "×",
            "○○",
            "〓田",
            "𠮷野",
            "買⿰女亭",
            "山田・太郎",
            "ﾔﾏﾀﾞ",
            "ヤマタ゛",
            "Ｄｏｅ",
            "＊＊＊",
            "〇〇",
            "★",
            "买买提·艾力",
            "买买提•艾力",
            "´t Hart",
            "Hans „Hansi\"",
            "N.N.",
            "Müller/Schmidt",
            "Baby 1",
            "#",
            "*",
            "?",
            "***",
            "+",
            "$",
            "=",
            "Müller †",
            "† Müller",
            "Łukasz Żak",
            "Świętosława",
            "İnce",
            "Æsa Þórðardóttir",
            "Νίκος",
            "΄Αννα",
            "Йорг",
            "דוד",
            "محمد",
            "ประยุทธ์",
            "Nguyễn Thị Bưởi",
            "Ka‘iulani",
            "Kaʻiulani",
            "Œuvré",
            "Müller…",
            "",
            "\u{200B}",
        ];
        for name in names {
            assert!(!are_odd(name), "{name}");
        }
    }

    #[test]
    fn names_in_another_charset_are_odd() {
        use encoding_rs as e;
        let written = [
            ("EUC-JP as 8859/1", "山田", e::EUC_JP, e::WINDOWS_1252, "»³ÅÄ"),
            ("kana", "ヤマダ", e::EUC_JP, e::WINDOWS_1252, "¥ä¥Þ¥À"),
            ("Shift_JIS as 8859/1", "山田", e::SHIFT_JIS, e::WINDOWS_1252, "ŽR“c"),
            ("its given name", "太郎", e::SHIFT_JIS, e::WINDOWS_1252, "‘¾˜Y"),
            ("kana", "ヤマダ", e::SHIFT_JIS, e::WINDOWS_1252, "ƒ„ƒ}ƒ_"),
            ("8859/2 as 8859/1", "Łódź", e::ISO_8859_2, e::WINDOWS_1252, "£ód¼"),
            ("its given name", "Świętosława", e::ISO_8859_2, e::WINDOWS_1252, "¦wiêtos³awa"),
            ("CP949 as 8859/1", "대한", e::EUC_KR, e::WINDOWS_1252, "´ëÇÑ"),
            ("UTF-8 as 8859/1", "Łódź", e::UTF_8, e::WINDOWS_1252, "Å\u{81}Ã³dÅº"),
        ];
        for (why, right, encoding, taken, wrong) in written {
            let bytes = encoding.encode(right).0;
            assert_eq!(taken.decode_without_bom_handling(&bytes).0, wrong, "{why}");
            assert!(are_odd(wrong), "{why}: {wrong}");
        }
        // Johab, which no library here writes; and what databases leave of a letter that they do not have.
        for wrong in ["‹©•·", "Mu¿oz", "Ñ·", "Jos\u{E9}\u{85}", "J\u{9F}rg", "Kim™", "\u{2592}\u{2524}"]
        {
            assert!(are_odd(wrong), "{wrong}");
        }
    }

    #[test]
    fn private_use_is_seen() {
        assert!(are_private("山\u{E258}") && are_private("\u{F0001}"));
        assert!(!are_private("山田") && !are_private("Kim"));
    }
}
