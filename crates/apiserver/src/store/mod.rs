//! Objects in memory, and every write in a journal: one revision counter for everything, a table and a ring of recent changes per
//! resource. A watcher is a cursor into the ring, so a slow one holds no memory.

mod journal;
mod object;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use kilter_model::{NamespacedName, Uid};
use serde_json::Value;
use tokio::sync::watch;

use journal::{Journal, Kind, Record};
pub use object::Object;
pub use table::Change;
use table::Table;

use crate::custom::{Catalogue, DEFINITIONS};
use crate::resources::Resource;

/// The ring no longer has what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {asked} ({oldest})")]
pub struct TooOld {
    /// The revision asked for.
    pub asked: u64,
    /// The oldest revision from which changes are known.
    pub oldest: u64,
}

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// An object of that name is there already.
    #[error("it exists already")]
    Exists(Arc<Object>),
    /// There is no such object.
    #[error("it does not exist")]
    Missing,
    /// The object is at another revision than expected.
    #[error("it is at revision {}", .0.revision)]
    Changed(Arc<Object>),
    /// The namespace does not exist.
    #[error("its namespace does not exist")]
    NoNamespace,
    /// The namespace is being deleted.
    #[error("its namespace is being deleted")]
    NamespaceTerminating,
    /// It could not be written down, and so did not happen.
    #[error("the journal cannot be written")]
    Journal(#[source] std::io::Error),
}

type TableId = (&'static str, &'static str);

/// An object's place: its resource's table and its key.
pub(crate) type Place = (&'static Resource, NamespacedName);

#[derive(Debug)]
struct State {
    revision: u64,
    tables: BTreeMap<TableId, Table>,
    /// Where each living object is.
    places: HashMap<Uid, (TableId, NamespacedName)>,
    /// Which objects name a UID as owner, whether or not that owner exists.
    dependents: HashMap<Uid, BTreeSet<(TableId, NamespacedName)>>,
    /// Where every write goes before it happens.
    journal: Option<Journal>,
    catalogue: Arc<Catalogue>,
    /// How many changes a table keeps.
    history: usize,
}

/// The state of the cluster. Cheap to share behind an `Arc`; every method takes one lock, briefly.
#[derive(Debug)]
pub struct Store {
    state: Mutex<State>,
    news: watch::Sender<u64>,
    catalogue: Arc<Catalogue>,
}

impl Store {
    /// An empty store whose rings keep `history` changes per resource.
    pub fn new(history: usize) -> Self {
        let tables = Resource::all().iter().filter(|r| r.is_storage());
        let tables = tables.map(|r| (r.stored_as, Table::new(r, history.max(1)))).collect();
        let (places, dependents, history) = (HashMap::new(), HashMap::new(), history.max(1));
        // Kubernetes never hands out revision 0: as a parameter it means "any".
        let catalogue = Arc::new(Catalogue::default());
        let known = catalogue.clone();
        let state = State { revision: 1, tables, places, dependents, journal: None, catalogue: known, history };
        Self { state: Mutex::new(state), news: watch::Sender::new(1), catalogue }
    }

    /// A store that goes on where the journal ends: objects, revisions and, as far as the journal
    /// has it, the recent history are as they were.
    ///
    /// # Errors
    /// A journal that cannot be used.
    pub fn open(history: usize, journal: &Path) -> std::io::Result<Self> {
        let store = Self::new(history);
        let mut state = store.lock();
        let opened = Journal::open(journal, |record| state.replay(record))?;
        state.journal = Some(opened);
        store.news.send_replace(state.revision);
        drop(state);
        Ok(store)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What is served: the published list and custom resources.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Every resource under which objects are kept.
    pub(crate) fn resources(&self) -> Vec<&'static Resource> {
        self.lock().tables.values().map(|table| table.resource).collect()
    }

    /// The resource under which objects of a custom resource are kept.
    pub(crate) fn custom_table(&self, group: &str, plural: &str) -> Option<&'static Resource> {
        let state = self.lock();
        let mut tables = state.tables.values().map(|table| table.resource);
        tables.find(|r| r.custom.is_some() && r.stored_as == (group, plural))
    }

    /// The newest revision.
    pub fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// Tells of every write to any resource.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Tells of every write to one resource. Take it before reading, so that nothing falls between.
    pub fn news_of(&self, resource: &Resource) -> watch::Receiver<u64> {
        self.lock().table(resource).news.subscribe()
    }

    /// One object.
    pub fn get(&self, resource: &Resource, key: &NamespacedName) -> Option<Arc<Object>> {
        self.lock().table(resource).objects.get(key).cloned()
    }

    /// The objects of a namespace, or of all, in order, and the revision at which they are so.
    pub fn list(&self, resource: &Resource, namespace: Option<&str>) -> (u64, Vec<Arc<Object>>) {
        let state = self.lock();
        (state.revision, state.table(resource).range(namespace, None))
    }

    /// The objects after `start`, as they were at an earlier revision.
    pub fn list_at(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        start: Option<&NamespacedName>,
        revision: u64,
    ) -> Result<Vec<Arc<Object>>, TooOld> {
        self.lock().table(resource).range_at(namespace, start, revision)
    }

    /// Up to `limit` changes after a revision, oldest first.
    pub fn after(
        &self,
        resource: &Resource,
        revision: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Change>>, TooOld> {
        self.lock().table(resource).after(revision, limit)
    }

    /// Adds an object. Its namespace must exist and not be going away.
    pub fn create(&self, resource: &Resource, value: Value) -> Result<Arc<Object>, WriteError> {
        let mut state = self.lock();
        let revision = state.revision + 1;
        let table = state.table_mut(resource);
        let object = Arc::new(Object::new(table.resource, value, revision));
        if let Some(found) = table.objects.get(&object.key) {
            return Err(WriteError::Exists(found.clone()));
        }
        state.check_namespace(resource, &object.key.namespace)?;
        let change = Change { revision, before: None, object: object.clone(), deleted: false };
        self.commit(&mut state, resource, change)?;
        Ok(object)
    }

    /// Replaces an object that is at the expected revision.
    pub fn update(
        &self,
        resource: &Resource,
        expected: u64,
        value: Value,
    ) -> Result<Arc<Object>, WriteError> {
        let mut state = self.lock();
        let revision = state.revision + 1;
        let table = state.table_mut(resource);
        let object = Arc::new(Object::new(table.resource, value, revision));
        let before = table.at(&object.key, expected)?;
        let change = Change { revision, before: Some(before), object: object.clone(), deleted: false };
        self.commit(&mut state, resource, change)?;
        Ok(object)
    }

    /// Removes an object that is at the expected revision; answers its last state.
    pub fn delete(
        &self,
        resource: &Resource,
        key: &NamespacedName,
        expected: u64,
    ) -> Result<Arc<Object>, WriteError> {
        let mut state = self.lock();
        let revision = state.revision + 1;
        let table = state.table_mut(resource);
        let before = table.at(key, expected)?;
        let object = Arc::new(Object::new(table.resource, before.value(), revision));
        let change = Change { revision, before: Some(before), object: object.clone(), deleted: true };
        self.commit(&mut state, resource, change)?;
        Ok(object)
    }

    /// Whether a namespace exists and takes new objects; always so for cluster-scoped resources.
    pub(crate) fn check_namespace(&self, resource: &Resource, namespace: &str) -> Result<(), WriteError> {
        self.lock().check_namespace(resource, namespace)
    }

    /// Every change after a revision, of any resource; each resource's oldest first.
    pub(crate) fn all_after(&self, revision: u64) -> Result<Vec<(&'static Resource, Arc<Change>)>, TooOld> {
        let state = self.lock();
        let mut found = Vec::new();
        for table in state.tables.values().filter(|t| *t.news.borrow() > revision) {
            found.extend(table.after(revision, usize::MAX)?.into_iter().map(|c| (table.resource, c)));
        }
        Ok(found)
    }

    /// Where the object with this UID is, if it lives.
    pub(crate) fn place_of(&self, uid: &str) -> Option<Place> {
        let state = self.lock();
        let (table, key) = state.places.get(uid)?;
        Some((state.tables[table].resource, key.clone()))
    }

    /// The objects that name this UID as an owner.
    pub(crate) fn dependents_of(&self, uid: &str) -> Vec<Place> {
        let state = self.lock();
        let found = state.dependents.get(uid).into_iter().flatten();
        found.map(|(table, key)| (state.tables[table].resource, key.clone())).collect()
    }

    fn commit(&self, state: &mut State, resource: &Resource, change: Change) -> Result<(), WriteError> {
        state.write_down(resource, &change).map_err(WriteError::Journal)?;
        let revision = change.revision;
        state.apply(resource.stored_as, change);
        state.renew_journal();
        self.news.send_replace(revision);
        Ok(())
    }
}

impl State {
    fn table(&self, resource: &Resource) -> &Table {
        &self.tables[&resource.stored_as]
    }

    fn table_mut(&mut self, resource: &Resource) -> &mut Table {
        self.tables.get_mut(&resource.stored_as).expect("every served resource has a table")
    }

    /// Makes a change.
    fn apply(&mut self, table: TableId, change: Change) {
        self.revision = change.revision;
        if let Some(before) = &change.before {
            self.unindex(table, before);
        }
        if !change.deleted {
            self.index(table, &change.object);
        }
        let table = self.tables.get_mut(&table).expect("every served resource has a table");
        match change.deleted {
            true => table.objects.remove(&change.object.key),
            false => table.objects.insert(change.object.key.clone(), change.object.clone()),
        };
        let definition = (table.resource.stored_as == DEFINITIONS).then(|| (change.object.clone(), change.deleted));
        table.record(change);
        if let Some((definition, deleted)) = definition {
            self.redefine(&definition, deleted);
        }
    }

    /// Serves what a definition says, from now on, or nothing of it any more.
    fn redefine(&mut self, definition: &Object, deleted: bool) {
        let value = definition.value();
        if deleted {
            self.catalogue.undefine(&definition.key.name);
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (group, plural) = (text(&value["spec"]["group"]), text(&value["spec"]["names"]["plural"]));
            let revision = self.revision;
            let mut tables = self.tables.values_mut();
            // Who watches it learns that it must list again, and then that there is nothing to list.
            if let Some(table) = tables.find(|t| t.resource.custom.is_some() && t.resource.stored_as == (&*group, &*plural)) {
                table.forget(revision);
            }
            return;
        }
        let Some(resource) = self.catalogue.define(&value) else { return };
        let (revision, history) = (self.revision, self.history);
        let table = self.tables.entry(resource.stored_as).or_insert_with(|| {
            let mut table = Table::new(resource, history);
            table.forget(revision);
            table
        });
        table.resource = resource;
    }

    fn write_down(&mut self, resource: &Resource, change: &Change) -> std::io::Result<()> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let kind = if change.deleted { Kind::Gone } else { Kind::Put };
        let json = &change.object.json;
        journal.append(&Record { kind, revision: change.revision, table: resource.stored_as, json })
    }

    /// Writes the journal anew when it has become much larger than what lives.
    fn renew_journal(&mut self) {
        let Some(journal) = self.journal.as_mut().filter(|j| j.is_due()) else { return };
        // Definitions first: what they define can be read only after them.
        let mut tables: Vec<(&TableId, &Table)> = self.tables.iter().collect();
        tables.sort_by_key(|(table, _)| **table != DEFINITIONS);
        let kept = tables.into_iter().flat_map(|(table, of)| of.objects.values().map(move |o| (*table, o)));
        let kept =
            kept.map(|(table, o)| Record { kind: Kind::Kept, revision: o.revision, table, json: &o.json });
        let base = Record { kind: Kind::Base, revision: self.revision, table: ("", ""), json: b"" };
        if let Err(error) = journal.renew(kept.chain([base])) {
            tracing::warn!(%error, "the journal could not be written anew; it grows on");
        }
    }

    /// Takes in what the journal says.
    fn replay(&mut self, record: &Record<'_>) {
        if record.kind == Kind::Base {
            self.revision = record.revision;
            self.tables.values_mut().for_each(|table| table.forget(record.revision));
            return;
        }
        let found = self.tables.iter().find(|(id, _)| **id == record.table).map(|(id, t)| (*id, t.resource));
        let value = serde_json::from_slice(record.json);
        let (Some((id, resource)), Ok(value)) = (found, value) else {
            tracing::warn!(table = ?record.table, revision = record.revision, "a record of the journal is passed over");
            return;
        };
        let object = Arc::new(Object::new(resource, value, record.revision));
        if record.kind == Kind::Kept {
            self.index(id, &object);
            self.table_mut(resource).objects.insert(object.key.clone(), object.clone());
            if id == DEFINITIONS {
                self.redefine(&object, false);
            }
            return;
        }
        let before = self.table(resource).objects.get(&object.key).cloned();
        let deleted = record.kind == Kind::Gone;
        self.apply(id, Change { revision: record.revision, before, object, deleted });
    }

    fn check_namespace(&self, resource: &Resource, namespace: &str) -> Result<(), WriteError> {
        if !resource.kind.namespaced {
            return Ok(());
        }
        match self.tables[&("", "namespaces")].objects.get(&NamespacedName::new("", namespace)) {
            None => Err(WriteError::NoNamespace),
            Some(found) if found.deleting => Err(WriteError::NamespaceTerminating),
            Some(_) => Ok(()),
        }
    }

    fn index(&mut self, table: TableId, object: &Object) {
        let place = (table, object.key.clone());
        for owner in &object.owners {
            self.dependents.entry(owner.clone()).or_default().insert(place.clone());
        }
        self.places.insert(object.uid.clone(), place);
    }

    fn unindex(&mut self, table: TableId, object: &Object) {
        let place = (table, object.key.clone());
        for owner in &object.owners {
            if let Some(of_owner) = self.dependents.get_mut(owner) {
                of_owner.remove(&place);
                if of_owner.is_empty() {
                    self.dependents.remove(owner);
                }
            }
        }
        self.places.remove(&object.uid);
    }
}

impl Table {
    fn at(&self, key: &NamespacedName, expected: u64) -> Result<Arc<Object>, WriteError> {
        match self.objects.get(key) {
            None => Err(WriteError::Missing),
            Some(found) if found.revision != expected => Err(WriteError::Changed(found.clone())),
            Some(found) => Ok(found.clone()),
        }
    }
}
