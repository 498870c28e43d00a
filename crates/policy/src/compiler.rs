use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use kilter_model::{Change, Cluster, IpBlock, Uid};

use crate::adopt::adopt;
use crate::partition::{Partition, longest};
use crate::pods::{GroupId, PodIndex, Touched};
use crate::posture::{Policies, Posture, compile};
use crate::rules::Traits;
use crate::shelf::Shelf;
use crate::transition::{ClassMove, PostureMove, Transition};
use crate::vocabulary::{NameId, PeerId, Vocabulary};
use crate::words::{GroupTraits, Words, WordsChange};
use crate::{ClassId, Plan, RuleId, Tables};

/// What a compiler needs to know about its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The node's name: its pods get postures.
    pub node: Arc<str>,
    /// The cluster's pod blocks: addresses in them that no known pod holds are of class `unknown`.
    pub pod_cidrs: Vec<IpNet>,
}

/// Keeps the policy rows of one node in step with a cluster.
///
/// Rows are made only of what policies that select a pod of this node say. Ids are this compiler's
/// own and never used twice; what keeps its content keeps its id.
#[derive(Debug)]
pub struct Compiler {
    config: Config,
    primed: bool,
    tables: Tables,
    shelf: Shelf,
    vocabulary: Vocabulary,
    pods: PodIndex,
    /// Postures of this node's pods, by address.
    locals: BTreeMap<IpAddr, Local>,
    words: Words,
    /// What `partition` is cut along.
    blocks: Vec<(PeerId, IpBlock)>,
    partition: Partition,
    /// What each group is to `words`.
    groups: BTreeMap<GroupId, GroupTraits>,
    /// Rules that decisions could name before the last update: late drop events still do.
    outgoing_rules: BTreeSet<RuleId>,
}

/// What is compiled for one pod of this node.
#[derive(Debug, Clone)]
struct Local {
    posture: Arc<Posture>,
    /// The port names its egress rules ask about.
    names: Arc<BTreeSet<NameId>>,
}

/// What a batch of changes may have made stale.
#[derive(Debug, Default)]
struct Dirty {
    pods: Touched,
    /// Namespaces whose policies changed.
    policies: BTreeSet<Arc<str>>,
    /// Namespaces whose labels changed.
    labels: BTreeSet<Arc<str>>,
    /// Whether cluster-scoped policies changed.
    cluster_policies: bool,
    /// Whether nodes changed.
    nodes: bool,
}

impl Dirty {
    /// Whether the postures of a namespace's pods may have changed with its policies.
    fn may_move(&self, namespace: &Arc<str>, policies: &Policies<'_>) -> bool {
        self.policies.contains(namespace)
            || self.cluster_policies
            || (policies.any_cluster_policy() && self.labels.contains(namespace))
    }
}

impl Compiler {
    /// A compiler for a node on which no rows are written yet.
    pub fn new(config: Config) -> Self {
        Self::with_rules_after(config, RuleId(0))
    }

    /// A compiler for a node on which these rows are found, after a restart or after a write that
    /// failed. What is right among them stays as it is; the first update replaces the rest, as
    /// carefully as any other, under ids above all that are found.
    pub fn resume(config: Config, found: Tables) -> Self {
        let shelf = Shelf::of(&found);
        Self { shelf, tables: found, ..Self::with_rules_after(config, RuleId(0)) }
    }

    /// A compiler whose rules get ids above `last`.
    pub(crate) fn with_rules_after(config: Config, last: RuleId) -> Self {
        Self {
            config,
            primed: false,
            tables: Tables::default(),
            shelf: Shelf::default(),
            vocabulary: Vocabulary::starting_after(last),
            pods: PodIndex::default(),
            locals: BTreeMap::new(),
            words: Words::default(),
            blocks: Vec::new(),
            partition: Partition::default(),
            groups: BTreeMap::new(),
            outgoing_rules: BTreeSet::new(),
        }
    }

    /// What its ids stand for.
    pub(crate) fn into_contents(self) -> (Shelf, Vocabulary) {
        (self.shelf, self.vocabulary)
    }

    /// Brings the rows in step with `cluster`, given what changed since the last call, and says
    /// how to get there. The first call compiles everything, whatever `changes` says.
    pub fn update(&mut self, cluster: &Cluster, changes: &[Change]) -> Plan {
        let is_resumed = !self.primed && self.tables != Tables::default();
        if is_resumed {
            self.vocabulary = adopt(&self.config, cluster, &self.tables, &mut self.shelf);
        }
        let dirty = self.note(cluster, changes);
        let (postures, compiled) = self.posture_moves(cluster, &dirty);
        let prefixes = self.stale_prefixes(cluster, &dirty, !postures.is_empty());
        let (classes, fresh) = self.class_moves(prefixes);
        if postures.is_empty() && classes.is_empty() {
            self.sync_rules(compiled);
            return Plan::default();
        }
        let plan =
            Transition { tables: &mut self.tables, shelf: &mut self.shelf }.run(postures, classes, fresh);
        self.sync_rules(compiled);
        plan
    }

    /// The rows after the last update.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Takes over what changed in the pod index, and says what depends on it.
    fn note(&mut self, cluster: &Cluster, changes: &[Change]) -> Dirty {
        let mut dirty = Dirty::default();
        if !self.primed {
            for pod in cluster.pods() {
                self.pods.update(cluster, &pod.uid, &mut dirty.pods);
            }
            let stale = self.tables.postures.keys().copied();
            dirty.pods.addresses.extend(stale);
            return dirty;
        }
        let mut pods: BTreeSet<&Uid> = BTreeSet::new();
        for change in changes {
            match change {
                Change::Pod(uid, _) => {
                    pods.insert(uid);
                }
                Change::NetworkPolicy(name) => {
                    dirty.policies.insert(name.namespace.clone());
                }
                Change::Namespace(name) => {
                    dirty.labels.insert(name.clone());
                }
                Change::ClusterNetworkPolicy(_) => dirty.cluster_policies = true,
                Change::Node(_) => dirty.nodes = true,
                Change::Service(_) | Change::SliceMoved { .. } | Change::Ingress(_) => {}
            }
        }
        for uid in pods {
            self.pods.update(cluster, uid, &mut dirty.pods);
        }
        dirty
    }

    /// Compiles the postures that may have changed, and finds those that did. Also says whether
    /// there was any.
    fn posture_moves(&mut self, cluster: &Cluster, dirty: &Dirty) -> (Vec<PostureMove>, bool) {
        let names: Vec<_> = dirty.pods.names.iter().filter_map(|it| self.vocabulary.known_name(it)).collect();
        let policies = Policies::of(cluster);
        let mut stale = dirty.pods.addresses.clone();
        for (address, local) in &self.locals {
            let asks = names.iter().any(|name| local.names.contains(name));
            let namespace = self.pods.group_of(*address).and_then(|it| self.pods.group(it));
            if asks || namespace.is_some_and(|it| dirty.may_move(&it.namespace, &policies)) {
                stale.insert(*address);
            }
        }
        let mut compiled: HashMap<GroupId, Local> = HashMap::new();
        let mut moves = Vec::new();
        for address in stale {
            let goal = self.compile_local(&policies, address, &mut compiled);
            let row = self.tables.postures.get(&address).copied();
            let before = row.and_then(|it| self.shelf.content(it));
            let same = match (&goal, before) {
                (Some(goal), Some(before)) => goal.posture == *before,
                (None, None) => row.is_none(),
                _ => false,
            };
            if !same {
                let to = goal.as_ref().map(|it| it.posture.clone());
                moves.push(PostureMove { address, from: row, to });
            }
            match goal {
                Some(goal) => self.locals.insert(address, goal),
                None => self.locals.remove(&address),
            };
        }
        let any = !compiled.is_empty() || !moves.is_empty();
        (moves, any)
    }

    fn compile_local(
        &mut self,
        policies: &Policies<'_>,
        address: IpAddr,
        compiled: &mut HashMap<GroupId, Local>,
    ) -> Option<Local> {
        let pod = self.pods.holder(policies.cluster(), address)?;
        if pod.node.as_ref() != Some(&self.config.node) {
            return None;
        }
        let group = self.pods.group_of(address)?;
        let local = compiled.entry(group).or_insert_with(|| {
            let (posture, names) = compile(&mut self.vocabulary, policies, pod, &self.pods);
            Local { posture: Arc::new(posture), names: Arc::new(names) }
        });
        Some(local.clone())
    }

    /// The prefixes whose class may have changed. Brings words, partition and groups in step.
    fn stale_prefixes(&mut self, cluster: &Cluster, dirty: &Dirty, postures_move: bool) -> BTreeSet<IpNet> {
        let mut stale: BTreeSet<IpNet> = dirty.pods.addresses.iter().map(|it| IpNet::from(*it)).collect();
        let mut words_before = None;
        if postures_move || !self.primed {
            let mut postures: Vec<&Arc<Posture>> = self.locals.values().map(|it| &it.posture).collect();
            postures.sort_by_key(|it| Arc::as_ptr(it));
            postures.dedup_by_key(|it| Arc::as_ptr(it));
            let words = Words::of(&self.vocabulary, postures.into_iter().map(Arc::as_ref));
            words_before = Some(std::mem::replace(&mut self.words, words));
        }
        let words_moved = words_before.as_ref().is_some_and(|it| *it != self.words) || !self.primed;
        if words_moved || dirty.nodes {
            self.cut_along_blocks(cluster, &mut stale);
        }
        let moved = words_before
            .filter(|_| words_moved && self.primed)
            .map(|it| it.change(&self.words, &self.vocabulary));
        self.refresh_groups(cluster, dirty, moved.as_ref(), &mut stale);
        self.primed = true;
        stale
    }

    /// Cuts the addresses anew if the blocks in use have changed. Where no region is another than
    /// before, no row is stale.
    fn cut_along_blocks(&mut self, cluster: &Cluster, stale: &mut BTreeSet<IpNet>) {
        let blocks = self.words.blocks(cluster);
        if blocks == self.blocks && self.primed {
            return;
        }
        let partition = Partition::new(blocks.iter().map(|(id, block)| (*id, block)), &self.config.pod_cidrs);
        let before = std::mem::replace(&mut self.partition, partition);
        self.blocks = blocks;
        if !self.primed {
            stale.extend(self.partition.regions().map(|(prefix, _)| *prefix));
            stale.extend(self.tables.classes.keys().copied());
            return;
        }
        for prefix in before.changes(&self.partition) {
            stale.insert(prefix);
            let within = self.tables.classes.range(prefix..=IpNet::from(prefix.broadcast()));
            stale.extend(within.map(|(row, _)| *row).filter(|row| prefix.contains(row)));
        }
    }

    fn refresh_groups(
        &mut self,
        cluster: &Cluster,
        dirty: &Dirty,
        moved: Option<&WordsChange>,
        stale: &mut BTreeSet<IpNet>,
    ) {
        for group in &dirty.pods.gone {
            self.groups.remove(group);
        }
        for group in self.unsure_groups(cluster, dirty, moved) {
            let Some(key) = self.pods.group(group) else { continue };
            let changed = match self.groups.get_mut(&group) {
                Some(known) if !dirty.labels.contains(&key.namespace) => {
                    moved.is_some_and(|it| it.revise(known, cluster, key))
                }
                _ => {
                    let traits = self.words.group(cluster, key);
                    self.groups.insert(group, traits.clone()) != Some(traits)
                }
            };
            if changed {
                stale.extend(self.pods.members(group).map(IpNet::from));
            }
        }
    }

    /// The groups that may be something else to the words than before, or are new.
    fn unsure_groups(
        &self,
        cluster: &Cluster,
        dirty: &Dirty,
        moved: Option<&WordsChange>,
    ) -> BTreeSet<GroupId> {
        if !self.primed {
            return self.pods.groups().map(|(group, _)| group).collect();
        }
        let touched = dirty.pods.addresses.iter().filter_map(|it| self.pods.group_of(*it));
        let mut unsure: BTreeSet<_> = touched.filter(|it| !self.groups.contains_key(it)).collect();
        unsure.extend(dirty.labels.iter().flat_map(|it| self.pods.groups_of(it)));
        unsure.extend(moved.into_iter().flat_map(|it| it.concerned(cluster, &self.pods)));
        unsure
    }

    /// Which class rows change, and which classes are new.
    fn class_moves(&mut self, stale: BTreeSet<IpNet>) -> (Vec<ClassMove>, Vec<ClassId>) {
        let mut memo: HashMap<(GroupId, IpNet), ClassId> = HashMap::new();
        let (mut moves, mut fresh) = (Vec::new(), Vec::new());
        for prefix in stale {
            let to = self.class_of(prefix, &mut memo, &mut fresh);
            let row = self.tables.classes.get(&prefix).copied();
            if to == row {
                continue;
            }
            let from = row.or_else(|| longest(&self.tables.classes, prefix).map(|(_, class)| *class));
            let heir = match to {
                Some(_) => None,
                None => self.partition.find(prefix).map(|(_, region)| region.traits()),
            };
            let heir = heir.map(|it| self.intern(it, &mut fresh));
            moves.push(ClassMove { prefix, row, from, to, heir });
        }
        (moves, fresh)
    }

    /// The class that the row of this very prefix should have; `None` if there should be none.
    fn class_of(
        &mut self,
        prefix: IpNet,
        memo: &mut HashMap<(GroupId, IpNet), ClassId>,
        fresh: &mut Vec<ClassId>,
    ) -> Option<ClassId> {
        let is_host = prefix.prefix_len() == prefix.max_prefix_len();
        let group = if is_host { self.pods.group_of(prefix.addr()) } else { None };
        let Some(group) = group else {
            let traits = self.partition.region(&prefix)?.traits();
            return Some(self.intern(traits, fresh));
        };
        let (region, blocks) = self.partition.find(prefix).map(|(region, it)| (*region, &it.blocks))?;
        if let Some(class) = memo.get(&(group, region)) {
            return Some(*class);
        }
        let traits = self.groups.get(&group)?.at(blocks);
        let class = self.intern(traits, fresh);
        memo.insert((group, region), class);
        Some(class)
    }

    fn intern(&mut self, traits: Traits, fresh: &mut Vec<ClassId>) -> ClassId {
        let (class, is_new) = self.shelf.class(traits);
        if is_new {
            fresh.push(class);
        }
        class
    }

    /// Publishes what the rules stand for, and forgets words that nothing is made of any more.
    fn sync_rules(&mut self, compiled: bool) {
        if compiled {
            let now = self.shelf.rule_ids();
            let peers = self.words.peers().collect();
            let asked = self.locals.values().flat_map(|it| it.names.iter().copied());
            let names = self.words.names().chain(asked).collect();
            let late = &self.outgoing_rules;
            self.vocabulary.retain(&peers, &names, |it| now.contains(&it) || late.contains(&it));
            self.outgoing_rules = now;
        }
        if let Some(reasons) = self.vocabulary.changed_reasons() {
            self.tables.rules = reasons.clone();
        }
    }
}
