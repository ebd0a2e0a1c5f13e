//! The survey preview: a header, a line of dashes, and questions in a little Markdown.

/// The preview's HTML; none if the text has no header.
pub fn render(markdown: &str) -> Option<String> {
    let mut lines = markdown.lines();
    let header: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("---")).collect();
    let header = header.join("\n");
    let header = header.trim();
    let is_header = header.starts_with('{') && header.ends_with('}') && markdown.contains("\n---");
    is_header.then(|| questions(lines))
}

fn questions<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let mut html = String::new();
    let mut in_list = false;
    for line in lines.map(str::trim_end) {
        let item = line.strip_prefix("- ").or_else(|| line.strip_prefix("* "));
        if item.is_some() != in_list {
            html.push_str(if in_list { "</ul>\n" } else { "<ul>\n" });
            in_list = !in_list;
        }
        let level = line.bytes().take_while(|byte| *byte == b'#').count();
        match (item, level) {
            (Some(item), _) => html.push_str(&format!("<li>{item}</li>\n")),
            (None, 1..=6) => html.push_str(&format!("<h{level}>{}</h{level}>\n", line[level..].trim())),
            (None, _) if line.is_empty() => {}
            (None, _) => html.push_str(&format!("<p>{line}</p>\n")),
        }
    }
    if in_list {
        html.push_str("</ul>\n");
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_paragraphs_and_lists_become_html() {
        let html = render("{name: 'x'}\n-----\n# One\n\nHow?\n- a\n- b\nEnd").unwrap();
        assert_eq!(html, "<h1>One</h1>\n<p>How?</p>\n<ul>\n<li>a</li>\n<li>b</li>\n</ul>\n<p>End</p>\n");
    }

    #[test]
    fn a_text_without_a_header_has_no_preview() {
        assert_eq!(render("# One\n"), None);
        assert_eq!(render("{name: 'x'}\n# One\n"), None);
        assert_eq!(render(""), None);
    }
}
