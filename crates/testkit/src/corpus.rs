use std::path::{Path, PathBuf};

/// The folder `name` of the corpus of public manifests beside the project
/// (`../shared/corpus/NAME`; the variable `KILTER_CORPUS` names another place for the corpus), or
/// `None` after saying that the test was not run.
///
/// # Panics
///
/// Under `CI=true` when the folder is absent: there a test that tests nothing must not pass.
#[track_caller]
pub fn corpus(name: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let root = std::env::var_os("KILTER_CORPUS").map_or_else(beside, PathBuf::from);
    let folder = root.join(name);
    if folder.exists() {
        return Some(folder.canonicalize().unwrap_or(folder));
    }
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!ci, "the corpus is absent: {} (CI=true, so this is a failure)", folder.display());
    eprintln!("not run: the corpus is absent: {}", folder.display());
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_the_corpus_is_an_existing_absolute_path() {
        if let Some(folder) = corpus("sock-shop") {
            assert!(folder.is_absolute() && folder.is_dir(), "{}", folder.display());
        }
    }
}
