//! What containers "print": a bounded ring of lines for each, which `kubectl logs` reads and
//! follows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;

/// Lines kept of one stand-in.
const LINES: usize = 500;
/// Longer lines of a stand-in are cut.
const LINE_BYTES: usize = 1024;
/// As much is kept of what a program prints, ...
const PROGRAM_BYTES: usize = 4 << 20;
/// ... in lines that are cut in two here, as container runtimes do.
const PROGRAM_LINE_BYTES: usize = 16 << 10;

/// One line and when it was printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub at: Timestamp,
    /// The line without its newline.
    pub text: String,
}

/// The log of one run of one container.
#[derive(Debug)]
pub struct Log {
    ring: Mutex<Ring>,
    /// How many lines were ever printed; `u64::MAX` once the container has ended.
    printed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    /// The number of the first line that is still kept.
    first: u64,
    lines: VecDeque<Line>,
    /// The length of all of them.
    bytes: usize,
}

impl Ring {
    fn push(&mut self, text: String) {
        self.bytes += text.len();
        self.lines.push_back(Line { at: Timestamp::now(), text });
    }

    fn shift(&mut self) {
        if let Some(line) = self.lines.pop_front() {
            self.bytes -= line.text.len();
            self.first += 1;
        }
    }

    fn count(&self) -> u64 {
        self.first + self.lines.len() as u64
    }
}

const ENDED: u64 = u64::MAX;

impl Default for Log {
    fn default() -> Self {
        Self { ring: Mutex::default(), printed: watch::Sender::new(0) }
    }
}

impl Log {
    /// Prints a line. Control characters of whoever sent a request do not reach a terminal.
    pub fn print(&self, text: &str) {
        let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        text.truncate(text.floor_char_boundary(LINE_BYTES));
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.push(text);
        if ring.lines.len() > LINES {
            ring.shift();
        }
        self.tell(ring.count());
    }

    /// Prints a line of a program, as it is.
    fn print_raw(&self, line: &[u8]) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.push(String::from_utf8_lossy(line).into_owned());
        while ring.bytes > PROGRAM_BYTES {
            ring.shift();
        }
        self.tell(ring.count());
    }

    fn tell(&self, count: u64) {
        self.printed.send_if_modified(|printed| {
            if *printed == ENDED {
                return false;
            }
            *printed = count;
            true
        });
    }

    /// What makes lines of the bytes that a program prints.
    pub fn lines(self: &Arc<Self>) -> Lines {
        Lines { log: self.clone(), partial: Vec::new() }
    }

    /// Says that nothing more will be printed: who follows is let go.
    pub fn end(&self) {
        self.printed.send_replace(ENDED);
    }

    /// A reader that starts `tail` lines before the end, or at the first line kept.
    pub fn read(&self, tail: Option<u64>) -> Reader {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = ring.lines.len() as u64;
        let next = ring.first + kept - tail.unwrap_or(kept).min(kept);
        Reader { next, printed: self.printed.subscribe() }
    }

    /// The lines that a reader has not had, at once.
    pub fn take(&self, reader: &mut Reader) -> Vec<Line> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let skip = reader.next.saturating_sub(ring.first) as usize;
        reader.next = ring.first + ring.lines.len() as u64;
        ring.lines.iter().skip(skip).cloned().collect()
    }
}

/// One stream of a program, on its way into a log.
#[derive(Debug)]
pub struct Lines {
    log: Arc<Log>,
    partial: Vec<u8>,
}

impl Lines {
    /// Takes what was printed; prints every line that it completes.
    pub fn push(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.partial.pop();
                self.flush();
            }
            while self.partial.len() >= PROGRAM_LINE_BYTES {
                let rest = self.partial.split_off(PROGRAM_LINE_BYTES);
                self.flush();
                self.partial = rest;
            }
        }
    }

    fn flush(&mut self) {
        self.log.print_raw(&self.partial);
        self.partial.clear();
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.partial.is_empty() {
            self.flush();
        }
    }
}

/// A place in a log.
#[derive(Debug)]
pub struct Reader {
    next: u64,
    printed: watch::Receiver<u64>,
}

impl Reader {
    /// Waits for lines that were not taken; false when there will be none.
    pub async fn more(&mut self) -> bool {
        let next = self.next;
        match self.printed.wait_for(|printed| *printed > next).await {
            Ok(printed) => *printed != ENDED,
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn only_the_last_lines_are_kept_and_control_characters_are_not() {
        let log = Log::default();
        for n in 0..LINES + 10 {
            log.print(&format!("line {n}"));
        }
        log.print("bell \u{7} and \u{1b}[31m");
        assert_eq!(log.take(&mut log.read(None)).len(), LINES);
        assert_eq!(texts(&log.take(&mut log.read(Some(2)))), ["line 509", "bell   and  [31m"]);
        log.print(&"ä".repeat(LINE_BYTES));
        assert_eq!(log.take(&mut log.read(Some(1)))[0].text.len(), LINE_BYTES);
    }

    #[test]
    fn a_programs_bytes_become_lines_wherever_they_are_cut() {
        let log = Arc::new(Log::default());
        let mut lines = log.lines();
        for part in ["one\ntw", "o\n", "\n\u{1b}[31mred", &"x".repeat(PROGRAM_LINE_BYTES)] {
            lines.push(part.as_bytes());
        }
        drop(lines);
        let taken = log.take(&mut log.read(None));
        let lengths: Vec<_> = taken.iter().map(|line| line.text.len()).collect();
        assert_eq!(texts(&taken[..3]), ["one", "two", ""]);
        assert!(taken[3].text.starts_with("\u{1b}[31mred"));
        assert_eq!(lengths[3..], [PROGRAM_LINE_BYTES, 8]);
    }

    #[tokio::test]
    async fn a_follower_sees_each_line_once_and_is_let_go_at_the_end() {
        let log = Log::default();
        log.print("one");
        let mut reader = log.read(None);
        assert_eq!(texts(&log.take(&mut reader)), ["one"]);
        log.print("two");
        assert!(reader.more().await);
        assert_eq!(texts(&log.take(&mut reader)), ["two"]);
        log.end();
        assert!(!reader.more().await);
    }
}
