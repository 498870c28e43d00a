use serde_json::Value;

use super::text::{age, items, name};
use super::{Printer, column, number, wide};

fn size(value: &Value) -> usize {
    value.as_object().map_or(0, serde_json::Map::len)
}

pub static CONFIG_MAPS: Printer = Printer {
    columns: &[column("Name"), number("Data"), column("Age")],
    cells: |v, now| vec![name(v), (size(&v["data"]) + size(&v["binaryData"])).into(), age(v, now)],
};

pub static SECRETS: Printer = Printer {
    columns: &[column("Name"), column("Type"), number("Data"), column("Age")],
    cells: |v, now| vec![name(v), v["type"].clone(), size(&v["data"]).into(), age(v, now)],
};

pub static SERVICE_ACCOUNTS: Printer = Printer {
    columns: &[column("Name"), number("Secrets"), column("Age")],
    cells: |v, now| vec![name(v), items(&v["secrets"]).count().into(), age(v, now)],
};

pub static LEASES: Printer = Printer {
    columns: &[column("Name"), column("Holder"), column("Age")],
    cells: |v, now| {
        vec![name(v), v["spec"]["holderIdentity"].as_str().unwrap_or_default().into(), age(v, now)]
    },
};

pub static ROLE_BINDINGS: Printer = Printer {
    columns: &[
        column("Name"),
        column("Role"),
        column("Age"),
        wide("Users"),
        wide("Groups"),
        wide("ServiceAccounts"),
    ],
    cells: |v, now| {
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let role = format!("{}/{}", text(&v["roleRef"], "kind"), text(&v["roleRef"], "name"));
        let of = |kind: &str| -> Value {
            let subjects = items(&v["subjects"]).filter(|s| s["kind"] == kind);
            let names = subjects.map(|s| match kind {
                "ServiceAccount" => format!("{}/{}", text(s, "namespace"), text(s, "name")),
                _ => text(s, "name"),
            });
            names.collect::<Vec<_>>().join(", ").into()
        };
        vec![name(v), role.into(), age(v, now), of("User"), of("Group"), of("ServiceAccount")]
    },
};
