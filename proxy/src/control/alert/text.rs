//! A letter as plain text.

use super::letter::{Block, Letter};

/// Where paragraphs break.
const WIDTH: usize = 78;

/// The letter for readers without HTML.
pub(super) fn render(letter: &Letter) -> String {
    let mut out = format!("{}\n\n", letter.headline);
    paragraph(&mut out, &letter.lead);
    out.push('\n');
    let label_width = letter.facts.iter().map(|(label, _)| width(label)).max().unwrap_or(0);
    for (label, value) in &letter.facts {
        out.push_str(&format!("{label:label_width$}  {value}\n"));
    }
    for section in &letter.sections {
        out.push_str(&format!("\n{}\n{}\n", section.title, "-".repeat(width(section.title))));
        for block in &section.blocks {
            out.push('\n');
            match block {
                Block::Text(words) => paragraph(&mut out, words),
                Block::Table(head, rows) => table(&mut out, head, rows),
                Block::Command(words) | Block::Link(words) => out.push_str(&format!("  {words}\n")),
            }
        }
    }
    out.push_str(&format!("\n-- \n{}\n", letter.footer));
    out
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn paragraph(out: &mut String, words: &str) {
    let mut used = 0;
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        if used > 0 && used + 1 + width(word) > WIDTH {
            out.push('\n');
            used = 0;
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += width(word);
    }
    out.push('\n');
}

fn table(out: &mut String, head: &[&str], rows: &[Vec<String>]) {
    let widths: Vec<usize> = head
        .iter()
        .enumerate()
        .map(|(column, title)| rows.iter().map(|row| width(&row[column])).fold(width(title), usize::max))
        .collect();
    let head: Vec<String> = head.iter().map(|&title| title.to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out.push_str(&format!("  {}\n", cells.join("  ").trim_end()));
    }
}
