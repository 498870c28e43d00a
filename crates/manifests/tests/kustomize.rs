//! Kustomizations, ours and the corpus's, against `kubectl kustomize`.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kilter_manifests::{Options, Source, load};
use serde_json::Value;

use common::{corpus, fixtures};

/// Objects as comparable text, sorted: their order means nothing.
fn loaded(sources: &[Source]) -> Vec<String> {
    let loaded = load(sources, &Options::default()).unwrap_or_else(|e| panic!("{sources:?}: {e}"));
    let mut all: Vec<String> =
        loaded.objects.iter().chain(&loaded.unsupported).map(|o| common::canonical(&o.value)).collect();
    all.sort();
    all
}

fn has_kubectl() -> bool {
    let quiet = || Stdio::null();
    let found = Command::new(kubectl_program())
        .args(["version", "--client"])
        .stdout(quiet())
        .stderr(quiet())
        .status()
        .is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "kubectl is not installed");
    if !found {
        eprintln!("kubectl is not installed: not run");
    }
    found
}

/// The kubectl to compare with: `KUBECTL`, or the one on the path.
fn kubectl_program() -> std::ffi::OsString {
    std::env::var_os("KUBECTL").unwrap_or_else(|| "kubectl".into())
}

fn compare(folder: &Path) {
    let output = Command::new(kubectl_program()).arg("kustomize").arg(folder).output().unwrap();
    assert!(output.status.success(), "{}: {}", folder.display(), String::from_utf8_lossy(&output.stderr));
    let theirs = Source::Text { name: "kubectl".into(), text: String::from_utf8(output.stdout).unwrap() };
    let (ours, theirs) = (loaded(&[Source::Path(folder.to_owned())]), loaded(&[theirs]));
    let only = |a: &[String], b: &[String]| {
        a.iter().filter(|x| !b.contains(x)).cloned().collect::<Vec<_>>().join("\n")
    };
    assert!(
        ours == theirs,
        "{}\n--- only ours\n{}\n--- only kubectl's\n{}",
        folder.display(),
        only(&ours, &theirs),
        only(&theirs, &ours)
    );
}

#[test]
fn our_fixtures_build_as_kubectl_builds_them() {
    if !has_kubectl() {
        return;
    }
    for case in ["names/base", "names/overlay", "twice", "labels", "patches", "components"] {
        compare(&fixtures().join(case));
    }
}

#[test]
fn the_corpus_builds_as_kubectl_builds_it() {
    let Some(corpus) = corpus() else { return };
    if !has_kubectl() {
        return;
    }
    let copy = tempfile::tempdir().unwrap();
    for shop in ["online-boutique", "podinfo"] {
        duplicate(&corpus.join(shop), &copy.path().join(shop));
    }
    for missing in PODINFO_FILES {
        let path = copy.path().join("podinfo/deploy/bases").join(missing);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("# stands for {missing}\n")).unwrap();
    }
    let folders: Vec<_> = kustomizations(copy.path()).into_iter().filter(|f| !is_component(f)).collect();
    for folder in &folders {
        compare(folder);
    }
    assert_eq!(folders.len(), 14);
}

/// What podinfo's generators name and the corpus, which has only YAML, has not.
const PODINFO_FILES: &[&str] = &[
    "cache/redis.conf",
    "database/scripts/backup.sh",
    "database/scripts/rollup.sh",
    "frontend/scripts/warm-cache-init.sh",
    "frontend/scripts/warm-cache.sh",
];

fn duplicate(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(|e| e.unwrap().path()) {
        let target = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            duplicate(&entry, &target);
        } else {
            std::fs::write(target, std::fs::read(entry).unwrap()).unwrap();
        }
    }
}

/// A component on top of an ordinary file does what it does in a kustomization.
#[test]
fn a_component_applies_to_the_sources_before_it() {
    let Some(corpus) = corpus() else { return };
    let shop = corpus.join("online-boutique");
    let components = ["network-policies", "without-loadgenerator", "cymbal-branding"];
    let mut sources = vec![Source::Path(shop.join("kubernetes-manifests/frontend.yaml"))];
    sources.push(Source::Path(shop.join("kubernetes-manifests/loadgenerator.yaml")));
    sources.extend(components.map(|c| Source::Path(shop.join("kustomize/components").join(c))));
    let loaded = load(&sources, &Options::default()).unwrap();
    let titles: Vec<String> = loaded
        .objects
        .iter()
        .map(|o| {
            format!("{} {}", o.value["kind"].as_str().unwrap(), o.value["metadata"]["name"].as_str().unwrap())
        })
        .collect();
    assert!(titles.contains(&"NetworkPolicy deny-all".into()), "{titles:?}");
    assert!(!titles.contains(&"Deployment loadgenerator".into()), "{titles:?}");
    let frontend = loaded.objects.iter().find(|o| o.value["kind"] == "Deployment").unwrap();
    let env: &Vec<Value> =
        frontend.value["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    assert!(env.iter().any(|e| e["name"] == "CYMBAL_BRANDING" && e["value"] == "true"));
    assert_eq!(loaded.warnings, []);
}

fn kustomizations(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    if entries.iter().any(|e| e.ends_with("kustomization.yaml")) {
        found.push(folder.to_owned());
    }
    for entry in entries.into_iter().filter(|e| e.is_dir()) {
        found.extend(kustomizations(&entry));
    }
    found
}

fn is_component(folder: &Path) -> bool {
    std::fs::read_to_string(folder.join("kustomization.yaml")).unwrap().contains("kind: Component")
}
