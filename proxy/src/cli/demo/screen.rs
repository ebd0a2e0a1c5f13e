//! The terminal: chapters, facts, and one line that is kept up to date in place.
//!
//! Colours and lines in place are for terminals only; a file or a pipe gets plain
//! text, each line once.

use std::io::{self, IsTerminal as _, Write};

/// Where lines break, and where those that can't are cut on a terminal.
pub(super) const WIDTH: usize = 80;
/// Where text begins; numbers of chapters stand before it.
const INDENT: &str = "   ";
/// The width of a fact's label.
const LABEL: usize = 18;

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Title,
    Dim,
    Good,
    Bad,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Title => "\x1b[1m",
            Self::Dim => "\x1b[2m",
            Self::Good => "\x1b[32m",
            Self::Bad => "\x1b[31m",
        }
    }
}

/// What the demo writes to.
pub(super) struct Screen {
    out: Box<dyn Write + Send>,
    is_terminal: bool,
    /// A line that is kept up to date stands there, without its end.
    has_live_line: bool,
    is_closed: bool,
}

impl Screen {
    /// Standard output.
    pub(super) fn stdout() -> Self {
        let out = io::stdout();
        Self::new(out.is_terminal(), Box::new(out))
    }

    fn new(is_terminal: bool, out: Box<dyn Write + Send>) -> Self {
        Self { out, is_terminal, has_live_line: false, is_closed: false }
    }

    /// Whether nobody reads any more.
    pub(super) const fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Begins a chapter.
    pub(super) fn chapter(&mut self, number: u8, title: &str) {
        self.write(&format!("\n{}\n", self.paint(Style::Title, &format!("{number}  {title}"))));
    }

    /// A line on its own, from the left margin.
    pub(super) fn headline(&mut self, text: &str) {
        self.write(&format!("{}\n", self.paint(Style::Title, text)));
    }

    /// A paragraph.
    pub(super) fn say(&mut self, text: &str) {
        self.say_in(Style::Plain, text);
    }

    /// A paragraph that looks like this.
    pub(super) fn say_in(&mut self, style: Style, text: &str) {
        let lines = wrapped(text, WIDTH - INDENT.len());
        let lines = lines.iter().map(|line| format!("{INDENT}{}\n", self.paint(style, line))).collect::<String>();
        self.write(&lines);
    }

    /// An empty line.
    pub(super) fn gap(&mut self) {
        self.write("\n");
    }

    /// A label and its value; what doesn't fit goes on below the value.
    pub(super) fn fact(&mut self, style: Style, label: &str, value: &str) {
        let room = WIDTH - INDENT.len() - LABEL;
        let mut text = String::new();
        for (n, line) in wrapped(value, room).iter().enumerate() {
            let label = if n == 0 { label } else { "" };
            text.push_str(&format!("{INDENT}{label:LABEL$}{}\n", self.paint(style, line)));
        }
        self.write(&text);
    }

    /// Something to type or to read as it stands: never broken.
    pub(super) fn verbatim(&mut self, text: &str) {
        let lines = text.lines().map(|line| format!("{INDENT}{line}\n")).collect::<String>();
        self.write(&lines);
    }

    /// A text of somebody else's, set apart by a bar at the margin: mails are 78 columns wide.
    /// On a terminal longer lines are cut.
    pub(super) fn quote(&mut self, text: &str) {
        let bar = self.paint(Style::Dim, "│");
        let room = if self.is_terminal { WIDTH - 2 } else { usize::MAX };
        let lines = text.lines().map(|line| format!("{bar} {}\n", cut(line, room)).replace(" \n", "\n"));
        let lines = lines.collect::<String>();
        self.write(&lines);
    }

    /// Shows how things stand, in place. Nothing where there is no terminal.
    pub(super) fn live(&mut self, text: &str) {
        if !self.is_terminal {
            return;
        }
        // One write for the whole line, and what is left of the old one goes last: no flicker.
        let line = format!("\r{INDENT}{}\x1b[K", cut(text, WIDTH - INDENT.len() - 1));
        self.put(&line);
        self.has_live_line = true;
    }

    /// Ends the line in place with how things stood in the end.
    pub(super) fn settle(&mut self, text: &str) {
        self.write(&format!("{INDENT}{text}\n"));
    }

    fn paint(&self, style: Style, text: &str) -> String {
        if !self.is_terminal || style == Style::Plain || text.is_empty() {
            return text.to_owned();
        }
        format!("{}{text}\x1b[0m", style.code())
    }

    fn write(&mut self, text: &str) {
        if std::mem::take(&mut self.has_live_line) {
            self.put(&format!("\r\x1b[K{text}"));
        } else {
            self.put(text);
        }
    }

    fn put(&mut self, text: &str) {
        let done = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        self.is_closed |= done.is_err();
    }
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("is_terminal", &self.is_terminal).finish_non_exhaustive()
    }
}

fn cut(line: &str, room: usize) -> String {
    if line.chars().count() <= room {
        return line.to_owned();
    }
    line.chars().take(room - 1).chain(['…']).collect()
}

/// The text in lines of at most `room` characters, if its words let it.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.len() - 1;
        let used = lines[line].chars().count();
        if used > 0 && used + 1 + word.chars().count() > room {
            lines.push(word.to_owned());
            continue;
        }
        if used > 0 {
            lines[line].push(' ');
        }
        lines[line].push_str(word);
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panicked").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn shown(is_terminal: bool, tell: impl FnOnce(&mut Screen)) -> String {
        let page = Page::default();
        tell(&mut Screen::new(is_terminal, Box::new(page.clone())));
        let bytes = page.0.lock().expect("no writer panicked").clone();
        String::from_utf8(bytes).expect("text")
    }

    fn a_bit_of_everything(screen: &mut Screen) {
        screen.chapter(1, "A beginning");
        screen.say_in(Style::Good, &"word ".repeat(30));
        screen.live("1 of 2");
        screen.live("2 of 2");
        screen.settle("done");
        screen.fact(Style::Bad, "label", &"value ".repeat(20));
        screen.quote(&"x".repeat(200));
    }

    #[test]
    fn a_pipe_gets_each_line_once_in_plain_text() {
        let text = shown(false, a_bit_of_everything);
        assert!(!text.contains(['\x1b', '\r']), "{text:?}");
        assert!(!text.contains("of 2") && text.contains("   done\n"), "{text}");
        assert!(text.contains(&"x".repeat(200)), "a quote was cut: {text}");
    }

    #[test]
    fn a_terminal_gets_colours_and_a_line_in_place_within_80_columns() {
        let text = shown(true, a_bit_of_everything);
        assert!(text.contains("\r   2 of 2\x1b[K\r\x1b[K   done\n"), "{text:?}");
        let plain = [Style::Title, Style::Dim, Style::Good, Style::Bad].map(Style::code).into_iter();
        let plain = plain.chain(["\x1b[0m", "\x1b[K"]).fold(text, |text, code| text.replace(code, ""));
        for line in plain.split(['\n', '\r']) {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }

    #[test]
    fn a_reader_that_left_is_noticed_and_nothing_breaks() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut screen = Screen::new(false, Box::new(Gone));
        assert!(!screen.is_closed());
        screen.say("anybody?");
        assert!(screen.is_closed());
    }
}
