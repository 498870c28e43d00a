//! `kilter up --watch`: the twin follows the files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use kilter_manifests::Loaded;
use kilter_model::Origin;
use kilter_twin::UsageError;
use kilter_twin::follow::{Followed, Follower, What};
use serde_json::Value;

use super::sources;
use crate::cli::{Output, SourceArgs, UpArgs};

/// How often files are looked at.
const GLANCE: Duration = Duration::from_millis(300);
/// How often the sources are read though no file that is known has changed: a kustomization may refer
/// to any other.
const REREAD: Duration = Duration::from_secs(10);
/// A directory with more files than this is not looked through to the end.
const MOST: usize = 20_000;

/// When each file was last changed, and how long it is.
type Sight = BTreeMap<PathBuf, (SystemTime, u64)>;

/// Refuses what cannot be followed.
pub fn check(args: &SourceArgs) -> Result<()> {
    match args.sources.iter().any(|source| source == "-") {
        true => Err(UsageError("--watch follows files, and standard input is read once; name files with -f".into()).into()),
        false => Ok(()),
    }
}

/// Follows until interrupted. The twin stays.
pub async fn follow(args: &UpArgs, loaded: &Loaded) -> Result<()> {
    let mut termination = kilter_twin::Termination::catch()?;
    let objects: Vec<Value> = values(loaded);
    let mut follower = Follower::new(&args.twin.name, &objects).await?;
    let mut watched = Watched::of(&args.source, loaded);
    eprintln!("following the files; Ctrl-C ends that, and the twin stays");
    loop {
        tokio::select! {
            () = tokio::time::sleep(GLANCE) => {}
            () = termination.wait() => return Ok(()),
        }
        if !watched.has_changed() {
            continue;
        }
        match sources::load(&args.source) {
            Ok(loaded) => {
                watched.directories = directories(&args.source, &loaded);
                match follower.change(&values(&loaded)).await {
                    Ok(followed) => followed.iter().for_each(|it| tell(it, args.twin.output)),
                    Err(error) => eprintln!("error: {error:#}; the next change is tried anew"),
                }
            }
            Err(error) => watched.complain(&format!("{error:#}")),
        }
    }
}

fn values(loaded: &Loaded) -> Vec<Value> {
    loaded.objects.iter().map(|object| object.value.clone()).collect()
}

fn tell(it: &Followed, output: Output) {
    if output == Output::Json {
        return outln!("{}", serde_json::to_string(it).unwrap_or_default());
    }
    let done = match it.what {
        What::Created => "created",
        What::Configured => "configured",
        What::Unchanged => return,
        What::Pruned => "pruned",
        What::Refused => "REFUSED",
    };
    outln!("{} {done}{}", it.object, it.why.as_ref().map_or_else(String::new, |why| format!(": {why}")));
}

/// The files of the sources, as they were seen last.
struct Watched {
    directories: BTreeSet<PathBuf>,
    seen: Sight,
    /// When the sources were last read.
    read: Instant,
    /// What was last wrong with them.
    complaint: String,
}

impl Watched {
    fn of(args: &SourceArgs, loaded: &Loaded) -> Self {
        let directories = directories(args, loaded);
        let seen = look(&directories);
        Self { directories, seen, read: Instant::now(), complaint: String::new() }
    }

    /// Whether it is time to read the sources: a file changed and is being written no more, or none
    /// has for long.
    fn has_changed(&mut self) -> bool {
        let now = look(&self.directories);
        let changed = now != self.seen;
        let settled = !changed || {
            let newest = now.values().map(|(at, _)| *at).max();
            newest.and_then(|at| at.elapsed().ok()).is_none_or(|age| age >= GLANCE / 2)
        };
        if !settled || !(changed || self.read.elapsed() >= REREAD) {
            return false;
        }
        if changed {
            self.complaint.clear();
        }
        (self.seen, self.read) = (now, Instant::now());
        true
    }

    /// Once for each state of the files.
    fn complain(&mut self, what: &str) {
        if self.complaint != what {
            eprintln!("error: {what}\n  the twin stays as it is until this is mended");
            self.complaint = what.to_owned();
        }
    }
}

/// Where files may be that matter: what was named, and where objects were found.
fn directories(args: &SourceArgs, loaded: &Loaded) -> BTreeSet<PathBuf> {
    let named = args.sources.iter().map(PathBuf::from);
    let named = named.chain(args.sources.is_empty().then(|| PathBuf::from(".")));
    let found = loaded.objects.iter().filter_map(|object| match &object.origin {
        Origin::File { path, .. } => Path::new(&**path).parent().map(Path::to_owned),
        _ => None,
    });
    named.chain(found).collect()
}

fn look(directories: &BTreeSet<PathBuf>) -> Sight {
    let mut seen = Sight::new();
    for path in directories {
        see(path, &mut seen, 8);
    }
    seen
}

fn see(path: &Path, seen: &mut Sight, depth: usize) {
    let Ok(metadata) = std::fs::metadata(path) else { return };
    if metadata.is_file() {
        let at = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        seen.insert(path.to_owned(), (at, metadata.len()));
        return;
    }
    let hidden = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        let path = entry.path();
        if depth > 0 && seen.len() < MOST && !hidden(&path) {
            see(&path, seen, depth - 1);
        }
    }
}
