//! Deliberate mistakes, each of which some witness must notice: what no mutant can slip past is
//! worth believing. Nothing of this is in the programs that ship: the C is patched as text and
//! compiled aside, the Rust is given other input.

use std::mem::MaybeUninit;
use std::path::Path;
use std::process::Command;

use kilter_model::{
    Action, Cluster, ClusterNetworkPolicy, ClusterTier, Event, NetworkPolicy, Operator, Peer, PolicyRule, PortRange, PortSpec, Requirement, Selector,
};
use kilter_policy::{Compiler, DecisionSet, Interval, ProtocolClass, Tables, Verdict};
use kilter_testkit::{TempDir, random};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::ObjectBuilder;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::kernel::Answer;
use super::question::{Question, Shape, Way, Word};
use super::{BY_ANOTHER_RULE, Court, config, disagreement};
use crate::loader::{Programs, constants, duplicate};
use crate::pins::Pins;
use crate::skel::KilterSkelBuilder;

/// A mistake in the programs: this text of this file of `bpf/` becomes that.
struct Patch {
    name: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
}

const PATCHES: [Patch; 15] = [
    Patch {
        name: "every decision allows",
        file: "lib/policy.h",
        from: "decision->allow ? DROP_NONE : DROP_POLICY",
        to: "DROP_NONE",
    },
    Patch {
        name: "a missing row allows",
        file: "lib/policy.h",
        from: "verdict->reason = DROP_NOT_LOADED;",
        to: "verdict->reason = DROP_NONE;",
    },
    Patch {
        name: "exceptions are not looked at",
        file: "lib/policy.h",
        from: "set.class_id = bpf_htonl(question->class_id);",
        to: "set.class_id = 0;",
    },
    Patch {
        name: "the opener is judged by its ingress rules",
        file: "lib/policy.h",
        from: "question.direction = EGRESS;",
        to: "question.direction = INGRESS;",
    },
    Patch {
        name: "the receiver's side is not judged",
        file: "lib/policy.h",
        from: "if (flow->end[called].kind == END_POD && flow->end[opener].kind != END_NODE)",
        to: "if (0)",
    },
    Patch {
        name: "who is no pod of this node is let in unasked",
        file: "lib/policy.h",
        from: "if (flow->end[called].kind == END_POD && flow->end[opener].kind != END_NODE)",
        to: "if (flow->end[called].kind == END_POD && flow->end[opener].kind == END_POD)",
    },
    Patch {
        name: "the source port is judged",
        file: "lib/policy.h",
        from: ".port = key->port[called]",
        to: ".port = key->port[opener]",
    },
    Patch {
        name: "ports are not looked at",
        file: "lib/policy.h",
        from: "interval.port = interval.protocol ? question->port : 0;",
        to: "interval.port = 0;",
    },
    Patch {
        name: "UDP is judged as TCP",
        file: "lib/policy.h",
        from: "return has_ports(protocol) ? protocol : 0;",
        to: "return has_ports(protocol) ? IPPROTO_TCP : 0;",
    },
    Patch {
        name: "the sender's egress is asked about the sender",
        file: "lib/policy.h",
        from: "question.class_id = called_class;",
        to: "question.class_id = opener_class;",
    },
    Patch {
        name: "a refusal is not heeded",
        file: "lib/admit.h",
        from: "judge(key, flow, &verdict);\n\tif (verdict.reason) {",
        to: "judge(key, flow, &verdict);\n\tif (0) {",
    },
    Patch {
        name: "SCTP is judged as if it had no ports",
        file: "lib/policy.h",
        from: "interval.port = interval.protocol ? question->port : 0;",
        to: "interval.port = interval.protocol != IPPROTO_SCTP ? question->port : 0;",
    },
    Patch {
        name: "of a receiver with a verdict of its own only the sender is heard",
        file: "lib/policy.h",
        from: "question.class_id = opener_class;",
        to: "question.class_id = opener_class;\n\t\tif (flow->end[opener].kind == END_POD)\n\t\t\treturn 0;",
    },
    Patch {
        name: "live connections are never judged again",
        file: "lib/flow.h",
        from: "return first && second && *first == flow->end[0].generation && *second == flow->end[1].generation;",
        to: "return first && second;",
    },
    Patch {
        name: "one end's change is overlooked",
        file: "lib/flow.h",
        from: " && *second == flow->end[1].generation;",
        to: ";",
    },
];

impl Patch {
    /// The patched programs, over the maps of a running node.
    fn load(&self, config: &crate::Config) -> Programs {
        let dir = TempDir::new("mutant");
        let source = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../bpf"));
        copy(source, dir.path());
        let file = dir.path().join(self.file);
        let text = std::fs::read_to_string(&file).unwrap();
        let found = text.matches(self.from).count();
        assert_eq!(found, 1, "{}: `{}` occurs {found} times in {}", self.name, self.from, self.file);
        std::fs::write(&file, text.replace(self.from, self.to)).unwrap();
        let object = dir.path().join("mutant.o");
        compile(&dir.path().join("kilter.bpf.c"), &object);
        load(&object, config)
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// As build.rs has it compiled, but that a mutant may leave something unused.
fn compile(source: &Path, object: &Path) {
    let output = Command::new("clang")
        .args(["-g", "-O2", "-target", "bpf", "-fno-stack-protector", "-c"])
        .arg(format!("-D__TARGET_ARCH_{}", env!("KILTER_BPF_ARCH")))
        .args(["-I", env!("KILTER_BPF_HEADERS")])
        .arg(format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH))
        .arg(source)
        .arg("-o")
        .arg(object)
        .output()
        .expect("clang runs: the build needs it too");
    assert!(output.status.success(), "clang: {}", String::from_utf8_lossy(&output.stderr));
}

/// Loads an object with the constants and the pinned maps of a node.
fn load(object: &Path, config: &crate::Config) -> Programs {
    let pins = Pins::create(&config.pin_dir).unwrap();
    let rodata = rodata(config);
    let mut open = ObjectBuilder::default().open_file(object).unwrap();
    for mut map in open.maps_mut() {
        let name = map.name().to_str().unwrap().to_owned();
        if name.ends_with(".rodata") {
            map.initial_value_mut().unwrap().copy_from_slice(&rodata);
        } else if !name.contains('.') {
            map.reuse_pinned_map(pins.map(&name)).unwrap();
        }
    }
    let object = open.load().unwrap();
    let programs = object.progs().map(|program| {
        use std::os::fd::AsFd;
        (program.name().to_string_lossy().into_owned(), duplicate(program.as_fd()).unwrap())
    });
    Programs(programs.collect())
}

/// The constants as the loader sets them.
fn rodata(config: &crate::Config) -> Vec<u8> {
    let mut storage = MaybeUninit::uninit();
    let mut open = KilterSkelBuilder::default().open(&mut storage).unwrap();
    open.maps.rodata_data.as_deref_mut().unwrap().config = constants(config).unwrap();
    let object = open.open_object();
    let map = object.maps().find(|map| map.name().to_string_lossy().ends_with(".rodata")).unwrap();
    map.initial_value().unwrap().to_vec()
}

/// A mistake in what the compiler understands of a policy: rows and kernel then say the same, and
/// only the rules know better.
type Misreading = (&'static str, fn(&mut NetworkPolicy));

const MISREADINGS: [Misreading; 14] = [
    ("`except` is dropped", |policy| each_peer(policy, |peer| {
        if let Peer::IpBlock(block) = peer {
            block.except.clear();
        }
    })),
    ("the namespace selector is ignored", |policy| each_peer(policy, |peer| {
        if let Peer::Pods { namespaces, .. } = peer {
            *namespaces = None;
        }
    })),
    ("no namespace selector means all namespaces", |policy| each_peer(policy, |peer| {
        if let Peer::Pods { namespaces, .. } = peer {
            namespaces.get_or_insert_default();
        }
    })),
    ("the pod selector of a peer is ignored", |policy| each_peer(policy, |peer| {
        if let Peer::Pods { pods, .. } = peer {
            *pods = Selector::default();
        }
    })),
    ("the policy's own selector is ignored", |policy| policy.pod_selector = Selector::default()),
    ("NotIn wants the key to be there", |policy| {
        let strict = |requirement: &Requirement| {
            let exists = Requirement { key: requirement.key.clone(), operator: Operator::Exists };
            let and = matches!(requirement.operator, Operator::NotIn(_)).then_some(exists);
            [requirement.clone()].into_iter().chain(and).collect::<Vec<_>>()
        };
        policy.pod_selector = Selector::new(policy.pod_selector.requirements().iter().flat_map(strict));
    }),
    ("a range of ports ends one early", |policy| each_port(policy, |port| {
        if let PortSpec::Range(range) = port
            && range.first < range.last
        {
            range.last -= 1;
        }
    })),
    ("an empty list of rules isolates nothing", |policy| {
        for rules in [&mut policy.ingress, &mut policy.egress] {
            rules.take_if(|rules| rules.is_empty());
        }
    }),
    ("ingress and egress are swapped", |policy| std::mem::swap(&mut policy.ingress, &mut policy.egress)),
    ("a rule without peers is for nobody", |policy| each_rule(policy, |rule| {
        rule.peers.get_or_insert_default();
    })),
    ("a rule without ports is for none", |policy| each_rule(policy, |rule| {
        rule.ports.get_or_insert_default();
    })),
    ("a named port is every port", |policy| each_port(policy, |port| {
        if let PortSpec::Named(_) = port {
            *port = PortSpec::Range(PortRange::ALL);
        }
    })),
    ("the second rule is overlooked", |policy| {
        policy.ingress.iter_mut().chain(&mut policy.egress).for_each(|rules| rules.truncate(1));
    }),
    ("a policy without egress rules isolates nothing outbound, whatever its types", |policy| {
        policy.egress.take_if(|rules| rules.is_empty());
    }),
];

/// The same of a cluster-wide policy.
type ClusterMisreading = (&'static str, fn(&mut ClusterNetworkPolicy));

const CLUSTER_MISREADINGS: [ClusterMisreading; 8] = [
    ("a Deny passes", |policy| each_action(policy, |action| if *action == Action::Deny { Action::Pass } else { *action })),
    ("a Pass accepts", |policy| each_action(policy, |action| if *action == Action::Pass { Action::Accept } else { *action })),
    ("a Pass denies", |policy| each_action(policy, |action| if *action == Action::Pass { Action::Deny } else { *action })),
    ("the tiers are swapped", |policy| {
        policy.tier = match policy.tier {
            ClusterTier::Admin => ClusterTier::Baseline,
            ClusterTier::Baseline => ClusterTier::Admin,
        }
    }),
    ("the last rule that matches decides", |policy| {
        policy.ingress.reverse();
        policy.egress.reverse();
    }),
    ("the highest priority is asked first", |policy| policy.priority = 1000 - policy.priority),
    ("the subject's namespaces are ignored", |policy| policy.subject.namespaces = Selector::default()),
    ("the subject's pods are ignored", |policy| policy.subject.pods = Selector::default()),
];

fn each_action(policy: &mut ClusterNetworkPolicy, change: impl Fn(&Action) -> Action) {
    policy.ingress.iter_mut().chain(&mut policy.egress).for_each(|rule| rule.action = change(&rule.action));
}

fn each_rule(policy: &mut NetworkPolicy, mut change: impl FnMut(&mut PolicyRule)) {
    policy.ingress.iter_mut().chain(&mut policy.egress).flatten().for_each(|rule| change(rule));
}

fn each_peer(policy: &mut NetworkPolicy, mut change: impl FnMut(&mut Peer)) {
    each_rule(policy, |rule| rule.peers.iter_mut().flatten().for_each(|peer| change(peer)));
}

fn each_port(policy: &mut NetworkPolicy, mut change: impl FnMut(&mut PortSpec)) {
    each_rule(policy, |rule| rule.ports.iter_mut().flatten().for_each(|port| change(&mut port.port)));
}

/// The cluster as somebody who misreads policies sees it.
fn misread(cluster: &Cluster, change: fn(&mut NetworkPolicy)) -> Cluster {
    let mut seen = cluster.clone();
    for policy in cluster.policies() {
        let mut policy = policy.clone();
        change(&mut policy);
        seen.apply(Event::NetworkPolicy(policy));
    }
    seen
}

fn misread_cluster_wide(cluster: &Cluster, change: fn(&mut ClusterNetworkPolicy)) -> Cluster {
    let mut seen = cluster.clone();
    for policy in cluster.cluster_policies() {
        let mut policy = policy.clone();
        change(&mut policy);
        seen.apply(Event::ClusterNetworkPolicy(policy));
    }
    seen
}

/// A mistake in how rows are looked up: the rules and the kernel agree against the interpreter.
type Slip = (&'static str, fn(&mut Tables));

const SLIPS: [Slip; 5] = [
    ("the default of a set is forgotten", |tables| each_set(tables, |set| set.default.verdict = Verdict::Allow)),
    ("exceptions are forgotten", |tables| each_set(tables, |set| set.exceptions.clear())),
    ("a comparison of ports is off by one", |tables| {
        let shifted = |interval: Interval| {
            let last = interval.ports.last.saturating_sub(1).max(interval.ports.first);
            Interval { ports: PortRange { last, ..interval.ports }, ..interval }
        };
        tables.intervals = tables.intervals.iter().map(|(at, set)| (shifted(*at), *set)).collect();
    }),
    ("the shortest prefix wins", |tables| {
        let all = tables.classes.clone();
        tables.classes.retain(|prefix, _| all.keys().all(|it| it == prefix || !it.contains(prefix)));
    }),
    ("directions are swapped", |tables| {
        let swapped = |at: Interval| Interval { direction: opposite(at.direction), ..at };
        tables.intervals = tables.intervals.iter().map(|(at, set)| (swapped(*at), *set)).collect();
    }),
];

fn each_set(tables: &mut Tables, change: impl Fn(&mut DecisionSet)) {
    tables.sets.values_mut().for_each(change);
}

fn opposite(direction: kilter_model::Direction) -> kilter_model::Direction {
    match direction {
        kilter_model::Direction::Ingress => kilter_model::Direction::Egress,
        kilter_model::Direction::Egress => kilter_model::Direction::Ingress,
    }
}

/// How many questions a mutant may survive.
const QUESTIONS: u64 = 60_000;

/// The mutant must be caught, and the one that stands alone must be the one that was made wrong.
#[track_caller]
fn assert_caught(court: &mut Court, mutant: &str, alone: &str) {
    let caught = disagreement(court, QUESTIONS, 7);
    let Some(text) = caught else { panic!("`{mutant}` survives {QUESTIONS} questions") };
    let line = text.lines().next().unwrap_or_default();
    println!("{mutant}: caught, {line}");
    let who = line.trim_end_matches(" stand alone");
    assert!(who == alone || who == BY_ANOTHER_RULE && alone != "the rules", "{mutant}:\n{text}");
}

#[test]
fn mutants_of_the_programs_are_caught() {
    let mut court = Court::new();
    for patch in &PATCHES {
        court.kernel.instead = Some(patch.load(court.kernel.config()));
        assert_caught(&mut court, patch.name, "the programs");
    }
    court.kernel.instead = None;
    assert_eq!(disagreement(&mut court, 2_000, 7), None);
}

/// The compiler gives every address a class, so that no case shows what becomes of one without.
#[test]
fn the_mutant_that_judges_who_has_no_class_by_the_default_is_caught() {
    let mutant = Patch {
        name: "who has no class is judged by the default",
        file: "lib/policy.h",
        from: "if (!posture || !question->class_id)",
        to: "if (!posture)",
    };
    let mut court = Court::new();
    let pods = random::pods_at(&court.place.pods).new_tree(&mut TestRunner::deterministic()).unwrap();
    let cluster = Cluster::from_events(random::nodes().into_iter().chain(pods.current()));
    court.compiler = Compiler::resume(config(), court.kernel.tables());
    court.load(&cluster, &[]).unwrap();
    court.kernel.lose_classes();
    let question = Question {
        from: court.place.pods[0],
        to: "8.8.8.8".parse().unwrap(),
        protocol: ProtocolClass::Tcp,
        port: 443,
        way: Way::Uplink,
        shape: Shape::Plain,
    };
    let answer = |court: &mut Court| -> Answer { court.kernel.ask(&[question]).remove(0).1 };
    assert_eq!(answer(&mut court), Ok(Word::NotLoaded));
    court.kernel.instead = Some(mutant.load(court.kernel.config()));
    assert!(matches!(answer(&mut court), Ok(Word::Allowed { .. })), "`{}` survives", mutant.name);
}

#[test]
fn mutants_of_the_compiler_are_caught() {
    let mut court = Court::new();
    for (name, change) in MISREADINGS {
        court.seen_by_compiler = Box::new(move |cluster| misread(cluster, change));
        assert_caught(&mut court, name, "the rules");
    }
    for (name, change) in CLUSTER_MISREADINGS {
        court.seen_by_compiler = Box::new(move |cluster| misread_cluster_wide(cluster, change));
        assert_caught(&mut court, name, "the rules");
    }
}

#[test]
fn mutants_of_the_interpreter_are_caught() {
    let mut court = Court::new();
    for (name, change) in SLIPS {
        court.read_by_interpreter = Box::new(move |tables| {
            let mut tables = tables.clone();
            change(&mut tables);
            tables
        });
        assert_caught(&mut court, name, "the rows");
    }
}
