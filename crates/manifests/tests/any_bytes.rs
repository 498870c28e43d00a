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
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    ["names/base/shop.yaml", "names/base/rbac.yaml", "labels/base/all.yaml", "patches/all.yaml"]
        .iter()
        .map(|file| std::fs::read_to_string(format!("{fixtures}/{file}")).unwrap())
        .collect()
});

fn mangled() -> impl Strategy<Value = String> {
    let edit = (any::<prop::sample::Index>(), 0..40_usize, "[-\\[\\]{}:,&*!|>'\"#%@ \\n\\ta-z0-9.]{0,6}");
    (0..4_usize, prop::collection::vec(edit, 1..6)).prop_map(|(seed, edits)| {
        let mut text: Vec<char> = SEEDS[seed].chars().collect();
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
    fn mangled_manifests(text in mangled()) {
        try_text(text);
    }

    #[test]
    fn mangled_kustomizations(text in mangled(), fields in "(resources|patches|images|labels|namespace|configMapGenerator): [-\\[\\]{}:, a-z0-9\\n]{0,60}") {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yaml"), text).unwrap();
        std::fs::write(folder.path().join("kustomization.yaml"), format!("namePrefix: a-\ncommonLabels: {{a: b}}\nresources: [a.yaml]\n{fields}\n")).unwrap();
        let _ = load(&[Source::Path(folder.path().to_owned())], &Options::default());
    }
}
