//! Three witnesses for one answer: the rules asked directly, the rows looked up in Rust, and the
//! loaded programs, on random clusters, policies and packets. They must never disagree.
//!
//! A case is a cluster, questions about it, and then some changes: the rows are brought in step as
//! the agent does it, every connection that was allowed sends another packet, which must be judged
//! by the new rules, and new questions are asked. A case that fails is made smaller until nothing
//! can be left out, and printed as manifests.
//!
//! `KILTER_WITNESS_TRIPLES` and `KILTER_WITNESS_SEED` say how many questions, and which; `make
//! witnesses` asks a million.

mod kernel;
mod mutants;
mod question;

use std::cell::RefCell;

use kilter_model::{Change, Cluster, Event};
use kilter_policy::{Compiler, Config, RuleId, Tables};
use kilter_testkit::{manifests, random};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestCaseResult, TestError, TestRng, TestRunner};

use kernel::{Answer, Asked, Kernel};
use question::{Place, Question, Word, is_within_one_pod};

/// Questions to the cluster as it is first, and as it is after its changes.
const QUESTIONS: usize = 150;

/// One random case.
#[derive(Debug, Clone)]
struct Case {
    events: Vec<Event>,
    changes: Vec<Event>,
    first: Vec<Question>,
    then: Vec<Question>,
}

fn case(place: &Place) -> impl Strategy<Value = Case> + use<> {
    let questions = || vec(place.question(), QUESTIONS).no_shrink();
    let pods = random::pods_at(&place.pods);
    (pods, vec(random::event(), 5..40), vec(random::event(), 1..6), questions(), questions()).prop_map(
        |(pods, events, changes, first, then)| {
            let events = pods.into_iter().chain(events).collect();
            Case { events, changes, first, then }
        },
    )
}

/// What was asked so far, to see that the questions are worth asking.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    cases: u64,
    triples: u64,
    allowed: u64,
    refused: u64,
    not_loaded: u64,
    /// Of connections that lived when the rules changed, those that did not any more.
    ended: u64,
}

impl Count {
    fn note<R>(&mut self, word: &Word<R>) {
        self.triples += 1;
        match word {
            Word::Allowed { .. } => self.allowed += 1,
            Word::Refused(..) => self.refused += 1,
            Word::NotLoaded => self.not_loaded += 1,
        }
    }
}

/// A node to which cases are put.
struct Court {
    kernel: Kernel,
    place: Place,
    compiler: Compiler,
    count: Count,
    /// What the compiler is told of a cluster, and what the interpreter reads of its rows: the same,
    /// but where mistakes are made on purpose.
    seen_by_compiler: Box<dyn Fn(&Cluster) -> Cluster>,
    read_by_interpreter: Box<dyn Fn(&Tables) -> Tables>,
}

impl Court {
    fn new() -> Self {
        let kernel = Kernel::new();
        let place = kernel.place();
        Self {
            kernel,
            place,
            compiler: Compiler::new(config()),
            count: Count::default(),
            seen_by_compiler: Box::new(Cluster::clone),
            read_by_interpreter: Box::new(Tables::clone),
        }
    }

    fn hear(&mut self, case: &Case) -> TestCaseResult {
        let mut cluster = Cluster::from_events(random::nodes().into_iter().chain(case.events.clone()));
        // What the last case left is taken over, as after a restart.
        self.compiler = Compiler::resume(config(), self.kernel.tables());
        self.load(&cluster, &[])?;
        let answers = self.kernel.ask(&case.first);
        let live = self.compare(&cluster, answers)?;

        let changes: Vec<Change> = case.changes.iter().filter_map(|it| cluster.apply(it.clone())).collect();
        self.load(&cluster, &changes)?;
        let before = live.len();
        let answers = self.kernel.ask_again(live);
        let after = self.compare(&cluster, answers)?.len();
        let answers = self.kernel.ask(&case.then);
        self.compare(&cluster, answers)?;
        self.count.ended += (before - after) as u64;
        self.count.cases += 1;
        Ok(())
    }

    /// Brings the kernel's rows in step, and reads them back.
    fn load(&mut self, cluster: &Cluster, changes: &[Change]) -> TestCaseResult {
        let plan = self.compiler.update(&(self.seen_by_compiler)(cluster), changes);
        self.kernel.write(&plan);
        let mut wanted = self.compiler.tables().clone();
        wanted.rules.clear();
        let loaded = self.kernel.tables();
        if loaded != wanted {
            return Err(TestCaseError::fail(format!("rows read back differ:\n{loaded:#?}\n{wanted:#?}")));
        }
        Ok(())
    }

    /// Holds the kernel's answers against the other two; returns the connections that are allowed.
    fn compare(&mut self, cluster: &Cluster, answers: Vec<(Asked, Answer)>) -> Result<Vec<Asked>, TestCaseError> {
        let tables = (self.read_by_interpreter)(self.compiler.tables());
        let mut allowed = Vec::new();
        for (asked, kernel) in answers {
            if is_within_one_pod(cluster, &asked.question) || self.place.is_misplaced(cluster, &asked.question) {
                continue;
            }
            let rules = self.place.rules_say(cluster, &asked.question);
            let rows = self.place.tables_say(&tables, &asked.question);
            if rules != rows.bare() || kernel.as_ref() != Ok(&rows) {
                return Err(TestCaseError::fail(format!(
                    "{} stand alone\n{:#?}\nthe rules:    {rules:?}\nthe rows:     {rows:?}\nthe programs: {kernel:?}",
                    alone(&rules, &rows, &kernel),
                    asked.question
                )));
            }
            self.count.note(&rows);
            if rows.is_allowed() {
                allowed.push(asked);
            }
        }
        Ok(allowed)
    }
}

/// All say the same of the packet, but not by the same rule, of whose number the rules know nothing.
const BY_ANOTHER_RULE: &str = "the rows or the programs";

/// Which of three disagrees with the two others.
fn alone(rules: &Word<()>, rows: &Word<RuleId>, kernel: &Answer) -> &'static str {
    let bare = kernel.as_ref().ok().map(|word| word.bare());
    if *rules == rows.bare() {
        if bare.as_ref() == Some(rules) { BY_ANOTHER_RULE } else { "the programs" }
    } else if bare == Some(rows.bare()) {
        "the rules"
    } else if bare.as_ref() == Some(rules) {
        "the rows"
    } else {
        "all"
    }
}

/// Where pods' addresses come from; one in these that no pod holds may be any pod's.
fn pod_cidrs() -> Vec<ipnet::IpNet> {
    vec!["10.244.0.0/16".parse().unwrap(), "fd00::/48".parse().unwrap()]
}

fn config() -> Config {
    Config { node: random::NODES[0].into(), pod_cidrs: pod_cidrs() }
}

/// A disagreement, reduced to what it needs.
#[derive(Debug)]
struct Disagreement(String);

/// The random cases of a seed: the same seed asks the same.
fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new_with_rng(config, rng)
}

/// Puts random cases until so many questions are answered.
fn examine(court: &mut Court, triples: u64, seed: u64) -> Result<Count, Disagreement> {
    let mut runner = runner(seed);
    let cases = case(&court.place);
    court.count = Count::default();
    while court.count.triples < triples {
        let tree = cases.new_tree(&mut runner).expect("nothing is filtered");
        if court.hear(&tree.current()).is_err() {
            return Err(reduce(court, &mut runner, tree, seed));
        }
    }
    Ok(court.count)
}

/// The first disagreement among so many questions, as it is.
fn disagreement(court: &mut Court, triples: u64, seed: u64) -> Option<String> {
    let mut runner = runner(seed);
    let cases = case(&court.place);
    court.count = Count::default();
    while court.count.triples < triples {
        let case = cases.new_tree(&mut runner).expect("nothing is filtered").current();
        if let Err(TestCaseError::Fail(why)) = court.hear(&case) {
            return Some(why.to_string());
        }
    }
    None
}

fn reduce(court: &mut Court, runner: &mut TestRunner, tree: impl ValueTree<Value = Case>, seed: u64) -> Disagreement {
    let original = tree.current();
    let court = RefCell::new(court);
    let reduced = runner.run_one(tree, |case| court.borrow_mut().hear(&case));
    let (why, case) = match reduced {
        Err(TestError::Fail(why, case)) => (why.to_string(), case),
        // What fails in the company of other cases only is told as it was.
        other => (format!("alone it does not fail: {other:?}"), original),
    };
    let before = Cluster::from_events(case.events.clone());
    let mut after = before.clone();
    case.changes.iter().for_each(|change| drop(after.apply(change.clone())));
    Disagreement(format!(
        "seed {seed}: {why}\n# the cluster\n{}\n# and after its changes\n{}",
        manifests(&before),
        manifests(&after)
    ))
}

fn asked_for(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| {
        text.parse().unwrap_or_else(|error| panic!("{variable}={text} is no number: {error}"))
    })
}

#[test]
fn rules_rows_and_kernel_never_disagree() {
    let triples = asked_for("KILTER_WITNESS_TRIPLES", 20_000);
    let seed = asked_for("KILTER_WITNESS_SEED", 1);
    let began = std::time::Instant::now();
    let count = examine(&mut Court::new(), triples, seed).unwrap_or_else(|Disagreement(text)| panic!("{text}"));
    println!("{count:?} in {:?}, seed {seed}, no disagreement", began.elapsed());
    // Neither answer is rare, and live connections do end.
    assert!(count.allowed > triples / 10 && count.refused > triples / 10 && count.ended > 0, "{count:?}");
}
