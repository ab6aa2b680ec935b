//! A population several times: the same resources under other ids, names and birthdays, each copy among itself.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Writes copy `number` (from 1) of the files at `from` into `into`. Every UUID becomes another one, the same each time, so that
/// references and conditions lead within the copy. Synthea's names ("Lerma517") and birthdays become others as well, in the same
/// year, so that as many people are found by one of them as in one copy alone. What is neither (a doctor's number, a code) stays,
/// and is shared.
///
/// # Errors
/// A file that cannot be read or written.
pub fn write(from: &[PathBuf], into: &Path, number: u32) -> Result<()> {
    std::fs::create_dir_all(into).with_context(|| into.display().to_string())?;
    for path in from {
        let text = read(path).with_context(|| path.display().to_string())?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.strip_suffix(".gz").unwrap_or(&name).to_owned();
        let mut file = std::fs::File::create(into.join(name))?;
        file.write_all(copied(&text, number).as_bytes())?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path)?;
    let mut text = String::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_string(&mut text)?;
    } else {
        text = String::from_utf8(bytes)?;
    }
    Ok(text)
}

fn copied(text: &str, number: u32) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 64);
    let (mut rest, mut last) = (text, "");
    while let Some(begin) = rest.find(|sign: char| sign.is_ascii_alphanumeric()) {
        let (before, from) = rest.split_at(begin);
        out.push_str(before);
        if last == "birthDate"
            && let Some((date, behind)) = from.split_at_checked(10)
            && let Some(other) = birthday(date, number)
        {
            out.push_str(&other);
            (rest, last) = (behind, "");
            continue;
        }
        if let Some((id, behind)) = from.split_at_checked(36)
            && is_uuid(id)
        {
            let hash = blake3::hash(format!("{number}/{id}").as_bytes());
            let mut bytes = [0; 16];
            bytes.copy_from_slice(hash.as_bytes().first_chunk::<16>().unwrap_or(&[0; 16]));
            out.push_str(&uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string());
            (rest, last) = (behind, "");
            continue;
        }
        let word = from.find(|sign: char| !sign.is_ascii_alphanumeric()).unwrap_or(from.len());
        let (word, behind) = from.split_at(word);
        out.push_str(word);
        if is_name(word) {
            out.push('c');
            out.push_str(&number.to_string());
        }
        (rest, last) = (behind, word);
    }
    out.push_str(rest);
    out
}

/// Another day of the same year.
fn birthday(date: &str, number: u32) -> Option<String> {
    let (year, rest) = date.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    let (month, day): (u32, u32) = (month.parse().ok()?, day.parse().ok()?);
    Some(format!("{year}-{:02}-{:02}", (month + number) % 12 + 1, (day + number / 12) % 28 + 1))
}

/// Whether it is a name as Synthea makes them: letters, the first one large, and up to three digits.
fn is_name(word: &str) -> bool {
    let letters = word.trim_end_matches(|sign: char| sign.is_ascii_digit());
    let (first, others) = letters.split_at(letters.len().min(1));
    let is_word = first.bytes().all(|byte| byte.is_ascii_uppercase())
        && others.len() > 1
        && others.bytes().all(|byte| byte.is_ascii_lowercase());
    is_word && (1..=3).contains(&(word.len() - letters.len()))
}

fn is_uuid(text: &str) -> bool {
    let dashes = [8, 13, 18, 23];
    text.bytes()
        .enumerate()
        .all(|(at, byte)| if dashes.contains(&at) { byte == b'-' } else { byte.is_ascii_hexdigit() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_ids_of_its_own_that_lead_to_each_other() {
        let text = r#"{"id":"c685b89a-e2d0-1f6c-d701-d8e155dfdd56","ref":"urn:uuid:c685b89a-e2d0-1f6c-d701-d8e155dfdd56","npi":"9999940999","a":"abc é","code":"Z38","v2-0203":1}"#;
        let (one, two) = (copied(text, 1), copied(text, 2));
        assert!(one != two && one != text && one == copied(text, 1));
        let id = one.get(7..43).unwrap_or_default();
        assert_eq!(one, text.replace("c685b89a-e2d0-1f6c-d701-d8e155dfdd56", id), "all else stays");
    }

    #[test]
    fn people_of_a_copy_have_names_and_birthdays_of_their_own() {
        let text = r#"{"family": "Lerma517", "birthDate": "1970-12-28", "period": {"start": "1970-12-28"}}"#;
        let want =
            r#"{"family": "Lerma517c2", "birthDate": "1970-03-01", "period": {"start": "1970-12-28"}}"#;
        assert_eq!(copied(text, 2), want);
    }
}
