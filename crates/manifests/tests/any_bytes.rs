//! No input makes the loader panic.

use std::sync::LazyLock;

use kilter_manifests::{Options, Source, events, load};
use proptest::prelude::*;

fn try_text(text: String) {
    let options = Options { tolerant: true, ..Options::default() };
    if let Ok(loaded) = load(&[Source::Text { name: "any".into(), text }], &options) {
        for warning in &loaded.warnings {
            let _ = warning.to_string();
        }
        let _ = events(&loaded);
    }
}

/// Manifests of ours, to be mangled: mutations of what is right go deeper than noise.
static SEEDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    read(&["names/base/shop.yaml", "names/base/rbac.yaml", "labels/base/all.yaml", "patches/all.yaml"])
});

static KUSTOMIZATIONS: LazyLock<Vec<String>> = LazyLock::new(|| {
    read(&["patches/kustomization.yaml", "labels/kustomization.yaml", "names/base/kustomization.yaml"])
});

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn read(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| std::fs::read_to_string(fixture(name)).unwrap()).collect()
}

fn mangled(seeds: &'static [String]) -> impl Strategy<Value = String> {
    let edit = (any::<prop::sample::Index>(), 0..40_usize, "[-\\[\\]{}:,&*!|>'\"#%@ \\n\\ta-z0-9.]{0,6}");
    (0..seeds.len(), prop::collection::vec(edit, 1..6)).prop_map(|(seed, edits)| {
        let mut text: Vec<char> = seeds[seed].chars().collect();
        for (at, length, replacement) in edits {
            let start = at.index(text.len() + 1);
            let end = (start + length).min(text.len());
            text.splice(start..end, replacement.chars());
        }
        text.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("any.yaml");
        std::fs::write(&path, bytes).unwrap();
        let _ = load(&[Source::Path(path)], &Options::default());
    }

    #[test]
    fn yaml_like_text(text in "[-\\[\\]{}:,&*!|>'\"#%@?~= \\n\\ta-z0-9.]{0,200}") {
        try_text(text);
    }

    #[test]
    fn mangled_manifests(text in mangled(&SEEDS)) {
        try_text(text);
    }

    #[test]
    fn mangled_manifests_in_a_kustomization(text in mangled(&SEEDS)) {
        let fields = "namespace: n\nnamePrefix: a-\nreplicas: [{name: web, count: 2}]\nimages: [{name: nginx, newTag: x}]\n";
        let labels = "commonLabels: {a: b}\ncommonAnnotations: {a: b}\n";
        build(&[("a.yaml", &text), ("kustomization.yaml", &format!("resources: [a.yaml]\n{fields}{labels}"))]);
    }

    #[test]
    fn mangled_kustomizations(text in mangled(&KUSTOMIZATIONS)) {
        let files = ["all.yaml", "strategic.yaml", "several.yaml", "operations.json"];
        let files = files.map(|name| (name, std::fs::read_to_string(fixture(&format!("patches/{name}"))).unwrap()));
        let mut all: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        all.push(("kustomization.yaml", &text));
        build(&all);
    }
}

fn build(files: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let options = Options { tolerant: true, ..Options::default() };
    let _ = load(&[Source::Path(folder.path().to_owned())], &options).map(|loaded| events(&loaded).is_ok());
}
