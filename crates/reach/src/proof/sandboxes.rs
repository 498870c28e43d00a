//! Inside the pods' network namespaces, and whose the sockets there are taken to be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::network::find;
use super::{Proof, Subject, View};

/// What ADD made in each is there, and the data plane knows the sockets of each as its pod's, and of no other.
pub(super) fn sandboxes(view: &View<'_>, proof: &mut Proof) {
    proof.compared.insert("sandboxes", view.loaded.sandboxes.len() as u64);
    let mut owners = BTreeMap::new();
    for sandbox in &view.loaded.sandboxes {
        let name = pod(view, &sandbox.addresses);
        for missing in &sandbox.missing {
            find(proof, Subject::Endpoint, format!("{name} lacks {missing}"));
        }
        owners.extend(sandbox.cookie.map(|cookie| (cookie, &sandbox.addresses)));
    }
    let known = &view.loaded.namespaces;
    for (cookie, addresses) in &owners {
        match known.get(cookie) {
            None => {
                let what = format!("the data plane does not know whose the sockets of {} are", pod(view, addresses));
                find(proof, Subject::Endpoint, what);
            }
            Some(found) if found != *addresses => {
                let (found, wanted) = (pod(view, found), pod(view, addresses));
                find(proof, Subject::Endpoint, format!("the sockets of {wanted} are taken for those of {found}"));
            }
            Some(_) => {}
        }
    }
    for (cookie, addresses) in known.iter().filter(|(cookie, _)| !owners.contains_key(*cookie)) {
        let name = pod(view, addresses);
        let what = format!("the sockets of namespace {cookie} are taken for those of {name}, which is another's");
        find(proof, Subject::Endpoint, what);
    }
}

fn pod(view: &View<'_>, addresses: &BTreeSet<IpAddr>) -> String {
    addresses.first().map_or_else(|| "nobody".into(), |address| view.name(*address))
}
