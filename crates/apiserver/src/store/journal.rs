//! The journal: every write, appended to one file before it is answered, so that a server that was
//! killed goes on where it was. A record that was cut off by the kill is the end of the file.
//!
//! The file is a magic line and then records: length and CRC-32 of the rest, its kind, the
//! revision, the table, and the object as JSON. From time to time it is written anew with the
//! living objects only.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8] = b"kilter journal 1\n";
/// Length and checksum.
const HEAD: usize = 8;
/// Far more than the largest object.
const LONGEST: usize = 64 << 20;
/// A file smaller than this is not worth writing anew.
const SMALL: u64 = 8 << 20;
/// How many times larger than what lives in it a file becomes before it is written anew.
const SLACK: u64 = 4;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The object is so now.
    Put,
    /// The object, in its last state, is gone.
    Gone,
    /// The object was so when the file was last written anew.
    Kept,
    /// The objects before are the state at this revision.
    Base,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it says.
    pub kind: Kind,
    /// At which revision.
    pub revision: u64,
    /// The group and plural name of the table.
    pub table: (&'a str, &'a str),
    /// The object.
    pub json: &'a [u8],
}

/// A journal that is open. No other process can open it meanwhile.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    length: u64,
    /// The length at which it is next written anew.
    renewal: u64,
}

impl Journal {
    /// Opens a journal, made where there is none, and reads it from the beginning. What comes after
    /// the last whole record is cut off.
    ///
    /// # Errors
    /// A file that cannot be used, is another process's at this moment, or is no journal.
    pub fn open(path: &Path, mut read: impl FnMut(&Record<'_>)) -> io::Result<Self> {
        // Secrets are in it.
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        file.try_lock().map_err(|_| {
            io::Error::new(io::ErrorKind::ResourceBusy, format!("{} is used by another process", path.display()))
        })?;
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes)?;
        let whole = match bytes.strip_prefix(MAGIC) {
            Some(records) => MAGIC.len() + read_all(records, &mut read),
            // Cut off in its first line.
            None if MAGIC.starts_with(&bytes) => 0,
            None => {
                let what = format!("{} is no journal of this version of kilter", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        };
        if whole < bytes.len() {
            tracing::warn!(path = %path.display(), bytes = bytes.len() - whole, "the journal's end was cut off in a write");
        }
        file.set_len(whole as u64)?;
        if whole == 0 {
            (&file).write_all(MAGIC)?;
        }
        let length = (whole.max(MAGIC.len())) as u64;
        Ok(Self { file, path: path.to_owned(), length, renewal: SMALL })
    }

    /// Appends a record. Where that fails, the file is as it was.
    ///
    /// # Errors
    /// What the file system says.
    pub fn append(&mut self, record: &Record<'_>) -> io::Result<()> {
        let bytes = encode(record);
        // The kernel has it when this returns, so it survives any death of this process.
        if let Err(error) = self.file.write_all(&bytes) {
            // A part of it that stays is the file's end to whoever reads it; this file must not go on.
            if let Err(error) = self.file.set_len(self.length) {
                tracing::error!(%error, "the journal cannot be mended");
            }
            return Err(error);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Makes the file another.
    #[cfg(test)]
    pub fn stand_in(&mut self, file: File) {
        self.file = file;
    }

    /// Whether the file is to be written anew: it has grown far beyond what lives.
    pub fn is_due(&self) -> bool {
        self.length > self.renewal
    }

    /// Writes the file anew with these records. Where that fails, the old one stays.
    ///
    /// # Errors
    /// What the file system says.
    pub fn renew<'a>(&mut self, records: impl Iterator<Item = Record<'a>>) -> io::Result<()> {
        // Also after a failure: not again with every write.
        self.renewal = self.length * 2;
        let path = self.path.with_extension("new");
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(&path)?;
        file.try_lock()?;
        let mut writer = BufWriter::with_capacity(1 << 20, file);
        writer.write_all(MAGIC)?;
        for record in records {
            writer.write_all(&encode(&record))?;
        }
        let mut file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        let length = file.seek(SeekFrom::End(0))?;
        std::fs::rename(&path, &self.path)?;
        (self.file, self.length, self.renewal) = (file, length, SMALL.max(length * SLACK));
        Ok(())
    }
}

fn encode(record: &Record<'_>) -> Vec<u8> {
    let (group, plural) = record.table;
    let mut out = vec![0; HEAD];
    out.reserve(11 + group.len() + plural.len() + record.json.len());
    out.push(record.kind as u8);
    out.extend(record.revision.to_le_bytes());
    for name in [group, plural] {
        // Names of resources are far shorter (253).
        out.push(name.len() as u8);
        out.extend(name.as_bytes());
    }
    out.extend(record.json);
    let length = (out.len() - HEAD) as u32;
    let checksum = crc32fast::hash(&out[HEAD..]);
    out[..4].copy_from_slice(&length.to_le_bytes());
    out[4..HEAD].copy_from_slice(&checksum.to_le_bytes());
    out
}

/// Reads records up to the first that is not whole; answers how many bytes those before it are.
fn read_all(bytes: &[u8], read: &mut impl FnMut(&Record<'_>)) -> usize {
    let mut at = 0;
    while let Some((record, length)) = next(&bytes[at..]) {
        read(&record);
        at += length;
    }
    at
}

fn next(bytes: &[u8]) -> Option<(Record<'_>, usize)> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let length = u32::from_le_bytes(head[..4].try_into().ok()?) as usize;
    let checksum = u32::from_le_bytes(head[4..].try_into().ok()?);
    let body = rest.get(..length).filter(|body| length <= LONGEST && crc32fast::hash(body) == checksum)?;
    Some((decode(body)?, HEAD + length))
}

fn decode(body: &[u8]) -> Option<Record<'_>> {
    let (kind, rest) = body.split_first()?;
    let kind = [Kind::Put, Kind::Gone, Kind::Kept, Kind::Base].into_iter().find(|k| *k as u8 == *kind)?;
    let (revision, mut rest) = rest.split_first_chunk()?;
    let mut name = || {
        let (length, after) = rest.split_first()?;
        let (name, after) = after.split_at_checked(usize::from(*length))?;
        rest = after;
        std::str::from_utf8(name).ok()
    };
    let table = (name()?, name()?);
    Some(Record { kind, revision: u64::from_le_bytes(*revision), table, json: rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Owned = (Kind, u64, String, Vec<u8>);

    fn open(path: &Path) -> (Journal, Vec<Owned>) {
        let mut found = vec![];
        let journal = Journal::open(path, |r| found.push((r.kind, r.revision, r.table.1.to_owned(), r.json.to_vec())));
        (journal.expect("it opens"), found)
    }

    fn record(revision: u64, json: &[u8]) -> Record<'_> {
        Record { kind: Kind::Put, revision, table: ("apps", "deployments"), json }
    }

    #[test]
    fn a_file_that_is_cut_off_anywhere_keeps_its_whole_records() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("journal");
        let (mut journal, found) = open(&path);
        assert!(found.is_empty());
        let mut ends = vec![journal.length];
        for revision in 1..=3 {
            journal.append(&record(revision, format!("{{\"n\":{revision}}}").as_bytes())).expect("appended");
            ends.push(journal.length);
        }
        drop(journal);
        let whole = std::fs::read(&path).expect("readable");
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).expect("written");
            let (mut journal, found) = open(&path);
            let expected = ends[1..].iter().filter(|end| **end <= cut as u64).count();
            assert_eq!(found.len(), expected, "cut at {cut}");
            // And it goes on from there.
            journal.append(&record(9, b"{}")).expect("appended");
            drop(journal);
            assert_eq!(open(&path).1.last().map(|r| r.1), Some(9), "cut at {cut}");
        }
        // A flipped bit is noticed.
        for at in MAGIC.len()..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 1;
            std::fs::write(&path, &broken).expect("written");
            assert!(open(&path).1.len() < 3, "bit at {at}");
        }
    }

    #[test]
    fn a_renewed_file_has_what_it_was_given_and_goes_on() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("journal");
        let (mut journal, _) = open(&path);
        let large = vec![b' '; 1 << 20];
        let mut revision = 0;
        while !journal.is_due() {
            revision += 1;
            journal.append(&record(revision, &large)).expect("appended");
        }
        let base = Record { kind: Kind::Base, revision, table: ("", ""), json: b"" };
        journal.renew([Record { kind: Kind::Kept, ..record(revision, b"{}") }, base].into_iter()).expect("renewed");
        assert!(!journal.is_due() && journal.length < 200);
        journal.append(&record(revision + 1, b"[]")).expect("appended");
        let busy = Journal::open(&path, |_| {}).expect_err("it is open").kind();
        assert_eq!(busy, io::ErrorKind::ResourceBusy);
        drop(journal);
        let kinds: Vec<_> = open(&path).1.into_iter().map(|r| (r.0, r.1)).collect();
        assert_eq!(kinds, [(Kind::Kept, revision), (Kind::Base, revision), (Kind::Put, revision + 1)]);
    }

    #[test]
    fn another_file_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notes");
        std::fs::write(&path, "shopping list").expect("written");
        assert!(Journal::open(&path, |_| {}).is_err());
        assert_eq!(std::fs::read(&path).expect("readable"), b"shopping list");
    }
}
