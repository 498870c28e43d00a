use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kilter_model::{Direction, PortRange};

use crate::posture::Posture;
use crate::rules::{Rules, Traits};
use crate::{ClassId, Interval, PostureId, ProtocolClass, RuleId, SetId, Tables};

/// The classes, sets and postures that rows refer to, with their contents. Equal contents have
/// one id for as long as something uses them; no id is given twice.
#[derive(Debug, Default)]
pub struct Shelf {
    classes: BTreeMap<ClassId, Class>,
    sets: BTreeMap<SetId, Set>,
    postures: BTreeMap<PostureId, PostureOnShelf>,
    class_ids: HashMap<Arc<Traits>, ClassId>,
    set_ids: HashMap<Arc<Rules>, SetId>,
    posture_ids: HashMap<Arc<Posture>, PostureId>,
    last: Last,
    /// Ids up to these were found in rows.
    found: Last,
}

/// A class; without content it was found in the kernel at the start, or it is one of a transition.
#[derive(Debug, Default)]
struct Class {
    content: Option<Arc<Traits>>,
    rows: usize,
}

#[derive(Debug, Default)]
struct Set {
    content: Option<Arc<Rules>>,
    intervals: usize,
}

#[derive(Debug, Default)]
struct PostureOnShelf {
    content: Option<Arc<Posture>>,
    intervals: BTreeMap<(Direction, ProtocolClass, PortRange), SetId>,
    pods: usize,
}

#[derive(Debug, Default, Clone, Copy)]
struct Last {
    class: u32,
    set: u32,
    posture: u32,
}

impl Shelf {
    /// A shelf of what is in `tables`, contents unknown.
    pub fn of(tables: &Tables) -> Self {
        let mut shelf = Self::default();
        for class in tables.classes.values() {
            shelf.classes.entry(*class).or_default().rows += 1;
        }
        for class in tables.sets.values().flat_map(|set| set.exceptions.keys()) {
            shelf.classes.entry(*class).or_default();
        }
        for set in tables.sets.keys() {
            shelf.sets.entry(*set).or_default();
        }
        for (interval, set) in &tables.intervals {
            let posture = shelf.postures.entry(interval.posture).or_default();
            posture.intervals.insert((interval.direction, interval.protocol, interval.ports), *set);
            shelf.sets.entry(*set).or_default().intervals += 1;
        }
        for posture in tables.postures.values() {
            shelf.postures.entry(*posture).or_default().pods += 1;
        }
        shelf.last = Last {
            class: shelf.classes.keys().next_back().map_or(0, |it| it.0),
            set: shelf.sets.keys().next_back().map_or(0, |it| it.0),
            posture: shelf.postures.keys().next_back().map_or(0, |it| it.0),
        };
        shelf.found = shelf.last;
        shelf
    }

    /// The content of a class that was found.
    pub fn adopt_class(&mut self, class: ClassId, content: Arc<Traits>) {
        self.class_ids.insert(content.clone(), class);
        self.classes.entry(class).or_default().content = Some(content);
    }

    /// The content of a set that was found.
    pub fn adopt_set(&mut self, set: SetId, content: Arc<Rules>) {
        self.set_ids.insert(content.clone(), set);
        self.sets.entry(set).or_default().content = Some(content);
    }

    /// The content of a posture that was found.
    pub fn adopt_posture(&mut self, posture: PostureId, content: Arc<Posture>) {
        self.posture_ids.insert(content.clone(), posture);
        self.postures.entry(posture).or_default().content = Some(content);
    }

    /// Whether the rows of this set tell about this class, because both were found in rows.
    pub fn found_both(&self, set: SetId, class: ClassId) -> bool {
        set.0 <= self.found.set && class.0 <= self.found.class
    }

    /// The class of this content; whether it is a new one.
    pub fn class(&mut self, content: Traits) -> (ClassId, bool) {
        if let Some(class) = self.class_ids.get(&content) {
            return (*class, false);
        }
        let (class, content) = (self.transitional_class(), Arc::new(content));
        self.class_ids.insert(content.clone(), class);
        self.classes.insert(class, Class { content: Some(content), rows: 0 });
        (class, true)
    }

    /// A class for the time of one plan only.
    pub fn transitional_class(&mut self) -> ClassId {
        self.last.class += 1;
        let class = ClassId(self.last.class);
        self.classes.insert(class, Class::default());
        class
    }

    /// The posture of this content; if it is new, its new sets are returned, and it has to be
    /// written.
    pub fn posture(&mut self, content: &Arc<Posture>) -> (PostureId, Option<Vec<SetId>>) {
        if let Some(posture) = self.posture_ids.get(content) {
            return (*posture, None);
        }
        self.last.posture += 1;
        let (posture, mut fresh, mut intervals) = (PostureId(self.last.posture), Vec::new(), BTreeMap::new());
        for (at, rules) in content.iter() {
            let set = self.set_ids.get(rules).copied().unwrap_or_else(|| {
                self.last.set += 1;
                let set = SetId(self.last.set);
                self.set_ids.insert(rules.clone(), set);
                self.sets.insert(set, Set { content: Some(rules.clone()), intervals: 0 });
                fresh.push(set);
                set
            });
            self.sets.entry(set).or_default().intervals += 1;
            intervals.insert(*at, set);
        }
        self.posture_ids.insert(content.clone(), posture);
        self.postures.insert(posture, PostureOnShelf { content: Some(content.clone()), intervals, pods: 0 });
        (posture, Some(fresh))
    }

    /// From here on every posture and set asked for is a new one, even if its content is known.
    pub fn forget_contents(&mut self) {
        self.posture_ids.clear();
        self.set_ids.clear();
    }

    /// The content of a class.
    pub fn traits(&self, class: ClassId) -> Option<&Arc<Traits>> {
        self.classes.get(&class)?.content.as_ref()
    }

    /// The content of a set.
    pub fn rules(&self, set: SetId) -> Option<&Arc<Rules>> {
        self.sets.get(&set)?.content.as_ref()
    }

    /// The content of a posture.
    pub fn content(&self, posture: PostureId) -> Option<&Arc<Posture>> {
        self.postures.get(&posture)?.content.as_ref()
    }

    /// The rows of a posture.
    pub fn intervals(&self, posture: PostureId) -> impl Iterator<Item = (Interval, SetId)> {
        self.postures.get(&posture).into_iter().flat_map(move |it| {
            it.intervals.iter().map(move |(&(direction, protocol, ports), set)| {
                (Interval { posture, direction, protocol, ports }, *set)
            })
        })
    }

    /// All classes.
    pub fn classes(&self) -> impl Iterator<Item = ClassId> {
        self.classes.keys().copied()
    }

    /// All sets.
    pub fn sets(&self) -> impl Iterator<Item = SetId> {
        self.sets.keys().copied()
    }

    /// All rules that decisions of sets may name.
    pub fn rule_ids(&self) -> BTreeSet<RuleId> {
        self.sets.values().filter_map(|set| set.content.as_ref()).flat_map(|it| it.rule_ids()).collect()
    }

    /// A class row came (`true`) or went.
    pub fn count_class(&mut self, class: ClassId, came: bool) {
        count(&mut self.classes.entry(class).or_default().rows, came);
    }

    /// A posture row came (`true`) or went.
    pub fn count_posture(&mut self, posture: PostureId, came: bool) {
        count(&mut self.postures.entry(posture).or_default().pods, came);
    }

    /// Takes away postures that no pod has, with their rows, then sets without intervals.
    pub fn sweep_postures(&mut self) -> (Vec<Interval>, Vec<SetId>) {
        let idle: Vec<_> = self.postures.iter().filter(|(_, it)| it.pods == 0).map(|(id, _)| *id).collect();
        let mut intervals = Vec::new();
        for posture in idle {
            let rows: Vec<_> = self.intervals(posture).collect();
            for (interval, set) in rows {
                intervals.push(interval);
                count(&mut self.sets.entry(set).or_default().intervals, false);
            }
            let content = self.postures.remove(&posture).and_then(|it| it.content);
            forget(&mut self.posture_ids, content, posture);
        }
        let idle: Vec<_> = self.sets.iter().filter(|(_, it)| it.intervals == 0).map(|(id, _)| *id).collect();
        for set in &idle {
            let content = self.sets.remove(set).and_then(|it| it.content);
            forget(&mut self.set_ids, content, *set);
        }
        (intervals, idle)
    }

    /// Takes away these classes if no row has them.
    pub fn sweep_classes(&mut self, candidates: impl IntoIterator<Item = ClassId>) -> Vec<ClassId> {
        let mut gone = Vec::new();
        for class in candidates {
            if self.classes.get(&class).is_some_and(|it| it.rows == 0) {
                let content = self.classes.remove(&class).and_then(|it| it.content);
                forget(&mut self.class_ids, content, class);
                gone.push(class);
            }
        }
        gone
    }
}

fn count(counter: &mut usize, up: bool) {
    *counter = if up { *counter + 1 } else { counter.saturating_sub(1) };
}

/// Removes a content's id, unless the content has been given another since.
fn forget<K: std::hash::Hash + Eq, I: PartialEq>(
    ids: &mut HashMap<Arc<K>, I>,
    content: Option<Arc<K>>,
    id: I,
) {
    if let Some(content) = content.filter(|it| ids.get(it) == Some(&id)) {
        ids.remove(&content);
    }
}
