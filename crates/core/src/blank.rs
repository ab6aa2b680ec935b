//! Texts that say nothing though they are not empty.

/// Whether a sign shows as nothing: any blank of Unicode, control characters, what has no width, and the letters that
/// are there to fill.
fn shows_nothing(sign: char) -> bool {
    sign.is_whitespace()
        || sign.is_control()
        || matches!(
            sign,
            '\u{AD}'
                | '\u{34F}'
                | '\u{61C}'
                | '\u{115F}'
                | '\u{1160}'
                | '\u{17B4}'
                | '\u{17B5}'
                | '\u{180B}'..='\u{180F}'
                | '\u{200B}'..='\u{200F}'
                | '\u{202A}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}'
                | '\u{2800}'
                | '\u{3164}'
                | '\u{FE00}'..='\u{FE0F}'
                | '\u{FEFF}'
                | '\u{FFA0}'
                | '\u{E0000}'..='\u{E0FFF}'
        )
}

/// Whether nobody sees anything of a text: it is empty, or of blanks and signs without width alone.
///
/// ```
/// assert!(hilum_core::is_blank(" \u{3000}\u{200B}"));
/// assert!(!hilum_core::is_blank("-"));
/// ```
#[must_use]
pub fn is_blank(text: &str) -> bool {
    text.chars().all(shows_nothing)
}
