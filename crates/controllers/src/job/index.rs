//! The completions of an indexed Job that are done, as `status.completedIndexes` writes them:
//! `0-2,5`.

use std::collections::BTreeSet;

/// Reads them; what makes no sense is left out, as are those beyond `count`.
pub(super) fn read(text: &str, count: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(from), Ok(to)) = (from.parse::<u32>(), to.parse::<u32>()) {
            found.extend((from..=to.min(count.saturating_sub(1))).take_while(|_| from < count));
        }
    }
    found
}

/// Writes them.
pub(super) fn write(indexes: &BTreeSet<u32>) -> String {
    let mut spans: Vec<(u32, u32)> = vec![];
    for index in indexes {
        match spans.last_mut() {
            Some((_, to)) if *to + 1 == *index => *to = *index,
            _ => spans.push((*index, *index)),
        }
    }
    let text = spans.iter().map(|(from, to)| match to - from {
        0 => from.to_string(),
        1 => format!("{from},{to}"),
        _ => format!("{from}-{to}"),
    });
    text.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_they_are_written() {
        for (indexes, text) in [(vec![], ""), (vec![4], "4"), (vec![0, 1], "0,1"), (vec![0, 1, 2, 5], "0-2,5")] {
            let set: BTreeSet<u32> = indexes.into_iter().collect();
            assert_eq!(write(&set), text);
            assert_eq!(read(text, 10), set);
        }
        assert_eq!(read("0-4000000000,x,7", 3), (0..3).collect());
    }
}
