//! What is said in a box, for as arrows it would cover the picture: the internet, and everybody.

use std::collections::{BTreeMap, BTreeSet};

use crate::connections::{Connection, End};

/// With fewer workloads than this arrows are clear enough.
const MANY: usize = 4;
/// Longer lists of ports are cut; the list below the picture has them all.
const LENGTH: usize = 30;

/// What is said instead of arrows.
#[derive(Debug, Default)]
pub struct Notes {
    /// Workloads that every other one may reach on the same ports.
    by_everybody: BTreeMap<String, String>,
    /// Workloads that the outside reaches, and those that reach it.
    internet: BTreeMap<(String, bool), BTreeSet<String>>,
}

pub fn of(connections: &[Connection]) -> Notes {
    let mut workloads: BTreeSet<String> = BTreeSet::new();
    let mut callers: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut notes = Notes::default();
    for it in connections {
        let (from, to, ports) = (it.from.to_string(), it.to.to_string(), it.permitted().to_string());
        match (&it.from, &it.to) {
            (End::External(_), _) => _ = notes.internet.entry((to, true)).or_default().insert(ports),
            (_, End::External(_)) => _ = notes.internet.entry((from, false)).or_default().insert(ports),
            (End::Workload(_), End::Workload(_)) => {
                *callers.entry((to.clone(), ports)).or_default() += 1;
                workloads.extend([from, to]);
            }
            _ => {}
        }
    }
    let everybody = |count: usize| workloads.len() >= MANY && count + 1 >= workloads.len();
    let called = callers.into_iter().filter(|(_, count)| everybody(*count));
    notes.by_everybody = called.map(|(key, _)| key).collect();
    notes
}

impl Notes {
    /// Whether a note says it, and no arrow need.
    pub fn stands_for(&self, connection: &Connection) -> bool {
        match (&connection.from, &connection.to) {
            (End::External(_), _) | (_, End::External(_)) => true,
            (End::Workload(_), to) => {
                self.by_everybody.get(&to.to_string()) == Some(&connection.permitted().to_string())
            }
            _ => false,
        }
    }

    /// The lines for one box.
    pub fn at(&self, key: &str) -> Vec<String> {
        let mut lines = vec![];
        lines.extend(self.by_everybody.get(key).map(|ports| format!("◂ every workload: {}", short(ports))));
        for (inbound, sign) in [(true, '◂'), (false, '▸')] {
            let Some(ports) = self.internet.get(&(key.to_owned(), inbound)) else { continue };
            let all = ports.iter().cloned().collect::<Vec<_>>().join("; ");
            lines.push(format!("{sign} internet: {}", short(&all)));
        }
        lines
    }
}

fn short(ports: &str) -> String {
    if ports == "All Connections" {
        return "all".to_owned();
    }
    match ports.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}…", &ports[..end]),
        None => ports.to_owned(),
    }
}
