//! The corpus' expected diffs, and what must hold of any diff.

#[path = "goldens/admin.rs"]
mod admin;
#[path = "goldens/cases.rs"]
mod cases;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cases::{cluster, forget_host_network, objects};
use kilter_model::{Cluster, PortRange, PortSet, Protocol, WorkloadRef};
use kilter_reach::diff::{Change, Diff, compare, diff};
use kilter_reach::{Connection, End, Options, Range, connections};
use proptest::prelude::*;

/// The cases that the project's list of differences names, by the reason that each table is about:
/// those with hostNetwork pods are compared as if these were other pods.
fn differences(reason: &str) -> BTreeSet<&'static str> {
    let text = include_str!("../../../docs/policy-differences.md");
    let section = text.split("\n## ").find(|it| it.lines().next() == Some(reason)).unwrap_or_default();
    section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
}

fn of(case: &Path, forget: bool) -> Cluster {
    let mut objects = objects(case);
    if forget {
        objects.iter_mut().for_each(forget_host_network);
    }
    cluster(&objects)
}

/// In that tool's words.
fn line(change: &Change, diff: &Diff) -> String {
    let Change { kind, from, to, old, new } = change;
    let kind = kind.word();
    let mut line = format!("diff-type: {kind}, source: {from}, destination: {to}, ref1: {old}, ref2: {new}");
    let is = |set: &BTreeSet<WorkloadRef>, end: &End| matches!(end, End::Workload(it) if set.contains(it));
    for (set, word) in [(&diff.workloads_added, "added"), (&diff.workloads_removed, "removed")] {
        let ends: Vec<String> = [from, to].iter().filter(|it| is(set, it)).map(|it| it.to_string()).collect();
        if !ends.is_empty() {
            line += &format!(", workloads-diff-info: workload {} {word}", ends.join(" and "));
        }
    }
    line
}

#[test]
fn diffs_equal_the_expected_ones() {
    let Some(corpus) = kilter_testkit::corpus("policy-goldens") else { return };
    let (mut compared, mut wrong) = (0, vec![]);
    let (host_network, ingresses) = (differences("Diffs with hostNetwork"), differences("Diffs with Ingresses"));
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(corpus.join("expected/diff")).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    for file in files {
        let case = file.file_stem().unwrap().to_str().unwrap();
        if ingresses.contains(case) {
            continue;
        }
        compared += 1;
        let (old, new) = case.split_once("..").unwrap();
        let forget = host_network.contains(case);
        let [old, new] = [old, new].map(|it| of(&corpus.join("input").join(it), forget));
        // That tool's choice: a block never matches a pod.
        let options = Options { ip_blocks_match_pods: false, ..Options::default() };
        let diff = diff(&old, &new, &options);
        let ours: BTreeSet<String> = diff.changes.iter().map(|it| line(it, &diff)).collect();
        let text = std::fs::read_to_string(&file).unwrap();
        let theirs: BTreeSet<String> =
            text.lines().filter(|it| it.starts_with("diff-type")).map(str::to_owned).collect();
        let mut lines = vec![format!("{case}:")];
        lines.extend(ours.difference(&theirs).take(12).map(|it| format!("  only ours:   {it}")));
        lines.extend(theirs.difference(&ours).take(12).map(|it| format!("  only theirs: {it}")));
        if lines.len() > 1 {
            wrong.push(lines.join("\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!((compared, host_network.len()), (16, 2));
}

fn workload(name: &str) -> WorkloadRef {
    WorkloadRef { kind: "Deployment".into(), name: kilter_model::NamespacedName::new("shop", name) }
}

/// Connections of one workload with the outside, cut at some of sixteen places.
fn outside() -> impl Strategy<Value = Vec<Connection>> {
    (proptest::collection::btree_set(1_u8..16, 0..6), proptest::collection::vec(0_u16..3, 16)).prop_map(
        |(cuts, ports)| {
            let firsts: Vec<u8> = std::iter::once(0).chain(cuts).collect();
            let lasts: Vec<u8> = firsts.iter().skip(1).map(|it| it - 1).chain([15]).collect();
            let each = firsts.iter().zip(lasts).filter(|(first, _)| ports[usize::from(**first)] > 0);
            let connection = |(first, last): (&u8, u8)| {
                let mut set = PortSet::default();
                set.insert(Protocol::Tcp, PortRange { first: 1, last: ports[usize::from(*first)] });
                Connection {
                    from: End::External(Range {
                        first: [*first << 4, 0, 0, 0].into(),
                        last: [(last << 4) | 15, 255, 255, 255].into(),
                    }),
                    to: End::Workload(workload("web")),
                    ports: set,
                    depends_on_address: PortSet::default(),
                }
            };
            each.map(connection).collect()
        },
    )
}

/// What is permitted from one address.
fn at(connections: &[Connection], address: std::net::IpAddr) -> String {
    let holds = |it: &&Connection| matches!(it.from, End::External(range) if range.first <= address && address <= range.last);
    connections.iter().find(holds).map(|it| it.permitted().to_string()).unwrap_or_default()
}

proptest! {
    /// At every address the diff says what the two lists say, however they are cut.
    #[test]
    fn a_diff_of_ranges_is_the_diff_at_each_address(old in outside(), new in outside()) {
        let diff = compare(old.clone(), new.clone());
        for high in 0..=255_u8 {
            let address = [high, 1, 2, 3].into();
            let (before, after) = (at(&old, address), at(&new, address));
            let found: Vec<&Change> = diff.changes.iter().filter(|it| {
                matches!(it.from, End::External(range) if range.first <= address && address <= range.last)
            }).collect();
            prop_assert_eq!(found.len(), usize::from(before != after));
            for change in found {
                let none = |text: String| if text.is_empty() { "No Connections".to_owned() } else { text };
                prop_assert_eq!(change.old.to_string(), none(before.clone()));
                prop_assert_eq!(change.new.to_string(), none(after.clone()));
            }
        }
    }
}

#[test]
fn nothing_differs_from_itself() {
    let Some(corpus) = kilter_testkit::corpus("policy-goldens") else { return };
    let one = of(&corpus.join("input/onlineboutique_workloads"), false);
    assert!(!connections(&one, &Options::default()).is_empty());
    assert!(diff(&one, &one, &Options::default()).is_empty());
}
