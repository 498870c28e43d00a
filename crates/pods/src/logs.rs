//! What containers "print": a bounded ring of lines for each, which `kubectl logs` reads and
//! follows.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;

/// Lines kept of one container.
const LINES: usize = 500;
/// Longer lines are cut.
const LINE_BYTES: usize = 1024;

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
        ring.lines.push_back(Line { at: Timestamp::now(), text });
        if ring.lines.len() > LINES {
            ring.lines.pop_front();
            ring.first += 1;
        }
        let count = ring.first + ring.lines.len() as u64;
        self.printed.send_if_modified(|printed| {
            if *printed == ENDED {
                return false;
            }
            *printed = count;
            true
        });
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
