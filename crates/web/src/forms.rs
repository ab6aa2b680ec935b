//! What is typed never goes into a URL: it may be a name, and browsers, proxies and logs keep URLs. For tests of every
//! room that has templates.

use std::path::Path;

/// Types of `<input>` that hold what we put in, not what somebody types.
const CHOSEN: [&str; 6] = ["hidden", "checkbox", "radio", "submit", "button", "reset"];

/// The forms of the templates below `folder` that would write typed text into a URL: by GET, with scripts or without.
///
/// # Errors
/// When the folder cannot be read.
pub fn typed_into_urls(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(typed_into_urls(&path)?);
        } else {
            let text = std::fs::read_to_string(&path)?;
            found.extend(of_template(&text).into_iter().map(|why| format!("{}: {why}", path.display())));
        }
    }
    Ok(found)
}

fn of_template(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in text.split("<form").skip(1) {
        let form = rest.split("</form>").next().unwrap_or_default();
        let tag = form.split('>').next().unwrap_or_default();
        let method = attribute(tag, "method").unwrap_or("get");
        if !takes_text(form) || method == "dialog" {
            continue;
        }
        if method != "post" {
            found.push(format!("<form{tag}>: method {method}, and it takes text"));
        }
        for bad in ["hx-get", "hx-push-url", "hx-replace-url"] {
            if attribute(tag, bad).is_some() {
                found.push(format!("<form{tag}>: {bad}, and it takes text"));
            }
        }
    }
    for tag in tags(text) {
        let is_input = ["input", "textarea"].iter().any(|name| tag.starts_with(name));
        if attribute(tag, "hx-get").is_some() && (is_input || attribute(tag, "hx-include").is_some()) {
            found.push(format!("<{tag}>: hx-get with what is typed"));
        }
    }
    found
}

/// Whether a form has a field for free text.
fn takes_text(form: &str) -> bool {
    tags(form).any(|tag| {
        let kind = attribute(tag, "type").unwrap_or("text");
        tag.starts_with("textarea") || (tag.starts_with("input") && !CHOSEN.contains(&kind))
    })
}

fn tags(text: &str) -> impl Iterator<Item = &str> {
    text.split('<').skip(1).filter_map(|rest| rest.split('>').next())
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::of_template;

    #[test]
    fn a_form_that_writes_what_is_typed_into_a_url_is_found() {
        let cases = [
            ("no method is GET", r#"<form action="/x"><input name="q"></form>"#, 1),
            ("GET", r#"<form method="get"><input type="search" name="q"></form>"#, 1),
            (
                "POST that is a GET with scripts",
                r#"<form method="post" hx-get="/x"><input name="q"></form>"#,
                1,
            ),
            ("in an area", r#"<form method="get"><textarea name="q"></textarea></form>"#, 1),
            ("beside a form", r##"<b hx-get="/x" hx-include="#q"></b>"##, 1),
            (
                "choices alone",
                r#"<form method="get"><select name="u"></select><input type="checkbox"></form>"#,
                0,
            ),
            ("POST", r#"<form method="post" hx-post="/x"><input name="q"></form>"#, 0),
            ("closes a box", r#"<form method="dialog"><button></button></form>"#, 0),
        ];
        for (why, text, want) in cases {
            assert_eq!(of_template(text).len(), want, "{why}: {:?}", of_template(text));
        }
    }
}
