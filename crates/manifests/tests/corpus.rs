//! Every folder of the corpus loads, or says clearly why it does not.

mod common;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use kilter_manifests::{Options, Source, Warning, events, load};

use common::corpus;

/// One line per folder with manifests: what it yields.
#[test]
fn every_folder_loads_or_says_why_not() {
    let Some(corpus) = corpus() else { return };
    let corpus = corpus.canonicalize().unwrap();
    let mut folders = vec![];
    collect(&corpus, &mut folders);
    let mut report = String::new();
    for folder in folders {
        let name = folder.strip_prefix(&corpus).unwrap().display();
        let line = outcome(&folder).replace(&format!("{}/", corpus.display()), "");
        writeln!(report, "{name}: {line}").unwrap();
    }
    insta::assert_snapshot!(report);
}

fn outcome(folder: &Path) -> String {
    let loaded = match load(&[Source::Path(folder.to_owned())], &Options::default()) {
        Ok(loaded) => loaded,
        Err(error) => return format!("ERROR {}", error.to_string().lines().next().unwrap_or_default()),
    };
    let events = match events(&loaded) {
        Ok(events) => events.len(),
        Err(error) => return format!("ERROR {error}"),
    };
    let mut text = format!("{} objects, {events} events", loaded.objects.len());
    let (mut replaced, mut unknown) = (0, 0);
    for warning in loaded.warnings {
        match warning {
            Warning::UnsupportedKinds(kinds) => {
                let each: Vec<_> = kinds.iter().map(|(k, n)| format!("{k} ({n})")).collect();
                write!(text, "; unsupported: {}", each.join(", ")).unwrap();
            }
            Warning::Replaced { .. } => replaced += 1,
            Warning::UnknownField { .. } => unknown += 1,
            Warning::Invalid(_) => unreachable!("only where tolerated"),
        }
    }
    for (count, what) in [(replaced, "replaced"), (unknown, "unknown fields")] {
        if count > 0 {
            write!(text, "; {count} {what}").unwrap();
        }
    }
    text
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    let manifest = |p: &PathBuf| p.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
    if entries.iter().any(manifest) {
        found.push(folder.to_owned());
    }
    for entry in entries.into_iter().filter(|e| e.is_dir()) {
        collect(&entry, found);
    }
}
