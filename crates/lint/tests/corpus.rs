//! Real manifests: what must be found is found, and nothing else; and nothing panics.

use std::path::{Path, PathBuf};

use kilter_lint::{Finding, Fix, Severity, lint};
use kilter_manifests::{Loaded, Options, Source};

fn load(sources: &[PathBuf]) -> Loaded {
    let sources: Vec<Source> = sources.iter().cloned().map(Source::Path).collect();
    let options = Options { tolerant: true, ..Options::default() };
    kilter_manifests::load(&sources, &options).unwrap_or_else(|e| panic!("{e}"))
}

fn check(sources: &[PathBuf]) -> Vec<Finding> {
    lint(&load(sources), &kilter_reach::Options::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// As people read it, with paths from `root`.
fn text(findings: &[Finding], root: &Path) -> String {
    let text: String = findings.iter().map(ToString::to_string).collect();
    text.replace(&format!("{}/", root.display()), "")
}

#[test]
fn sock_shop_is_broken_exactly_where_its_policies_break_it() {
    let Some(corpus) = kilter_testkit::corpus("sock-shop") else { return };
    let root = corpus.join("deploy/kubernetes");
    let findings = check(&[root.join("manifests"), root.join("manifests-policy")]);
    let breaks: Vec<&str> = findings.iter().flat_map(|it| &it.breaks).map(String::as_str).collect();
    assert_eq!(
        breaks,
        [
            "sock-shop/front-end[Deployment] => sock-shop/carts[Deployment] : TCP 80",
            "sock-shop/orders[Deployment] => sock-shop/carts[Deployment] : TCP 80",
            "sock-shop/carts[Deployment] => sock-shop/carts-db[Deployment] : TCP 27017",
        ]
    );
    insta::assert_snapshot!("sock_shop", text(&findings, &root));
}

#[test]
fn the_mends_mend_sock_shop() {
    let Some(corpus) = kilter_testkit::corpus("sock-shop") else { return };
    let root = corpus.join("deploy/kubernetes");
    let folder = tempfile::tempdir().unwrap();
    for name in ["manifests", "manifests-policy"] {
        for file in std::fs::read_dir(root.join(name)).unwrap().map(|it| it.unwrap().path()) {
            std::fs::copy(&file, folder.path().join(file.file_name().unwrap())).unwrap();
        }
    }
    for finding in check(&[folder.path().to_owned()]) {
        let Some(Fix::Replace { origin: kilter_model::Origin::File { path, line }, old, new }) = finding.fix
        else {
            continue;
        };
        let text = std::fs::read_to_string(&*path).unwrap();
        let lines = text.lines().enumerate();
        let mended: Vec<String> = lines
            .map(|(i, it)| if i + 1 == line as usize { it.replace(&old, &new) } else { it.to_owned() })
            .collect();
        assert_ne!(mended.join("\n"), text.trim_end(), "{old} is on line {line} of {path}");
        std::fs::write(&*path, mended.join("\n")).unwrap();
    }
    let left = check(&[folder.path().to_owned()]);
    assert!(left.iter().all(|it| it.breaks.is_empty()), "{}", text(&left, folder.path()));
}

#[test]
fn online_boutique_gives_no_noise() {
    let Some(root) = kilter_testkit::corpus("online-boutique") else { return };
    let sources =
        [root.join("release/kubernetes-manifests.yaml"), root.join("kustomize/components/network-policies")];
    let findings = check(&sources);
    assert!(findings.iter().all(|it| it.rule.severity() == Severity::Warning), "{}", text(&findings, &root));
    insta::assert_snapshot!("online_boutique", text(&findings, &root));
}

#[test]
fn our_own_example_is_clean() {
    let shop = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/shop");
    let findings = check(&[shop.clone()]);
    assert!(findings.is_empty(), "{}", text(&findings, &shop));
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()) {
        if entry.is_dir() {
            found.extend(folders(&entry));
            found.push(entry);
        }
    }
    found
}

/// Nothing panics, and every finding says where and what.
#[test]
fn any_manifests_can_be_judged() {
    let names = ["policy-goldens", "bookinfo", "gateway-api", "podinfo", "sock-shop", "online-boutique"];
    let (mut judged, mut refused) = (0, 0);
    for folder in names.into_iter().filter_map(kilter_testkit::corpus).flat_map(|it| folders(&it)) {
        let options = Options { tolerant: true, ..Options::default() };
        // What cannot be read at all is an error with a place, which is not of interest here.
        let Ok(loaded) = kilter_manifests::load(&[Source::Path(folder.clone())], &options) else {
            refused += 1;
            continue;
        };
        let Ok(findings) = lint(&loaded, &kilter_reach::Options::default()) else {
            refused += 1;
            continue;
        };
        judged += 1;
        for finding in &findings {
            assert!(!finding.message.is_empty() && !finding.object.is_empty(), "{}", folder.display());
            assert!(matches!(finding.origin, kilter_model::Origin::File { .. }), "{finding}");
        }
    }
    if kilter_testkit::corpus("policy-goldens").is_some() {
        assert!(judged > 150, "{judged} folders were judged, {refused} refused");
    }
}
