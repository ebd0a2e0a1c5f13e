//! A letter as HTML: one table, inline styles, nothing loaded from elsewhere, as mail clients want it.

use super::letter::{Block, Letter, Tone};

const FONT: &str = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif";
const MONO: &str = "font-family:ui-monospace,Consolas,Menlo,monospace;font-size:12px";
const CELL: &str = "padding:4px 12px 4px 0;text-align:left;vertical-align:top";
const RULE: &str = "border-bottom:1px solid #e5e7eb";

/// The letter for readers with HTML.
pub(super) fn render(letter: &Letter) -> String {
    let colour = match letter.tone {
        Tone::Bad => "#b42318",
        Tone::Good => "#027a48",
    };
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title></head>\n\
         <body style=\"margin:0;padding:16px;background:#f4f4f5;color:#18181b;font-size:14px;line-height:1.5;{FONT}\">\n\
         <div style=\"max-width:860px;margin:0 auto;padding:24px;background:#ffffff;border-radius:8px;\
         border-top:4px solid {colour}\">\n\
         <h1 style=\"margin:0 0 8px;font-size:20px;color:{colour}\">{}</h1>\n",
        escape(&letter.subject),
        escape(&letter.headline),
    );
    paragraph(&mut out, &letter.lead);
    facts(&mut out, &letter.facts);
    for section in &letter.sections {
        out.push_str(&format!("<h2 style=\"margin:24px 0 8px;font-size:15px\">{}</h2>\n", escape(section.title)));
        for block in &section.blocks {
            match block {
                Block::Text(words) => paragraph(&mut out, words),
                Block::Table(head, rows) => table(&mut out, head, rows),
                Block::Command(command) => out.push_str(&format!(
                    "<pre style=\"margin:0 0 12px;padding:8px 12px;background:#f4f4f5;border-radius:4px;{MONO}\">{}</pre>\n",
                    escape(command)
                )),
                Block::Link(address) => link(&mut out, address),
            }
        }
    }
    out.push_str(&format!(
        "<p style=\"margin:24px 0 0;color:#71717a;font-size:12px\">{}</p>\n</div>\n</body></html>\n",
        escape(&letter.footer)
    ));
    out
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(c),
        }
    }
    safe
}

fn paragraph(out: &mut String, words: &str) {
    out.push_str(&format!("<p style=\"margin:0 0 12px\">{}</p>\n", escape(words)));
}

fn facts(out: &mut String, facts: &[(&str, String)]) {
    out.push_str("<table style=\"border-collapse:collapse\">\n");
    for (label, value) in facts {
        out.push_str(&format!(
            "<tr><th style=\"{CELL};font-weight:normal;color:#71717a;white-space:nowrap\">{}</th>\
             <td style=\"{CELL}\">{}</td></tr>\n",
            escape(label),
            escape(value)
        ));
    }
    out.push_str("</table>\n");
}

fn table(out: &mut String, head: &[&str], rows: &[Vec<String>]) {
    out.push_str("<table style=\"margin:0 0 12px;border-collapse:collapse\">\n<tr>");
    for title in head {
        out.push_str(&format!("<th style=\"{CELL};{RULE}\">{}</th>", escape(title)));
    }
    out.push_str("</tr>\n");
    for row in rows {
        out.push_str("<tr>");
        for cell in row {
            out.push_str(&format!("<td style=\"{CELL};{RULE};{MONO}\">{}</td>", escape(cell)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table>\n");
}

/// Only web addresses become links; anything else is shown as it is.
fn link(out: &mut String, address: &str) {
    let shown = escape(address);
    if address.starts_with("https://") || address.starts_with("http://") {
        out.push_str(&format!("<p style=\"margin:0 0 12px\"><a href=\"{shown}\">{shown}</a></p>\n"));
    } else {
        paragraph(out, address);
    }
}
