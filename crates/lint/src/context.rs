use std::cell::{OnceCell, RefCell};
use std::sync::Arc;

use kilter_manifests::{Error, Lines, Loaded, Object};
use kilter_model::{Cluster, NamespacedName, Origin, Pod};
use kilter_objects::value;
use kilter_reach::diff::{Kind, compare};
use kilter_reach::{Connection, Options, Permitted, connections};
use serde_json::Value;

/// What rules look at.
pub struct Context<'a> {
    pub loaded: &'a Loaded,
    pub cluster: Cluster,
    pub options: &'a Options,
    lines: RefCell<Lines>,
    connections: OnceCell<Vec<Connection>>,
}

impl<'a> Context<'a> {
    pub fn new(loaded: &'a Loaded, options: &'a Options) -> Result<Self, Error> {
        let cluster = kilter_manifests::cluster(loaded)?;
        Ok(Self { loaded, cluster, options, lines: RefCell::default(), connections: OnceCell::new() })
    }

    /// All objects, those of kinds that Kilter does not act on included.
    pub fn objects(&self) -> impl Iterator<Item = &'a Object> {
        self.loaded.objects.iter().chain(&self.loaded.unsupported)
    }

    /// The objects of one kind.
    pub fn of_kind(&self, kind: &'static str) -> impl Iterator<Item = &'a Object> {
        self.objects().filter(move |it| value::kind(&it.value) == kind)
    }

    /// Where a field was declared.
    pub fn at(&self, object: &Object, pointer: &str) -> Origin {
        self.lines.borrow_mut().of(&object.value, &object.origin, pointer)
    }

    /// The pods that the sources put into a namespace.
    pub fn pods_of(&self, namespace: &str) -> impl Iterator<Item = &Pod> {
        self.cluster.pods().filter(move |it| *it.name.namespace == *namespace)
    }

    pub fn connections(&self) -> &[Connection] {
        self.connections.get_or_init(|| connections(&self.cluster, self.options))
    }

    /// What would be permitted if the cluster were so.
    pub fn connections_of(&self, cluster: &Cluster) -> Vec<Connection> {
        connections(cluster, self.options)
    }
}

/// What is permitted after and was not before.
pub fn opened(before: &[Connection], after: &[Connection]) -> Vec<Connection> {
    let diff = compare(before.to_vec(), after.to_vec());
    let opened = diff.changes.into_iter().filter(|it| it.kind != Kind::Removed);
    opened
        .filter_map(|it| {
            let more = it.new.beyond(&it.old);
            let Permitted { ports, depends_on_address } = more;
            let connection = Connection { from: it.from, to: it.to, ports, depends_on_address };
            (!connection.permitted().is_empty()).then_some(connection)
        })
        .collect()
}

/// `Kind namespace/name`.
pub fn title(object: &Value) -> String {
    let name = NamespacedName::new(value::namespace(object), value::name(object));
    format!("{} {name}", value::kind(object))
}

/// Namespace and name.
pub fn name(object: &Value) -> NamespacedName {
    let namespace = match value::namespace(object) {
        "" => "default",
        namespace => namespace,
    };
    NamespacedName::new(Arc::from(namespace), value::name(object))
}
