//! Hardware addresses and settings of pods' links.

use std::collections::BTreeMap;

use kilter_wire::loaded::Link;

use super::network::find;
use super::{Proof, Subject, View};

/// Each link has the gateway's address and its settings, and the data plane has its pod's address.
pub(super) fn links(view: &View<'_>, proof: &mut Proof) {
    let wanted = &view.expected.links;
    for endpoint in &view.loaded.endpoints {
        let mac = wanted.macs.get(&endpoint.address).filter(|mac| **mac != endpoint.mac);
        if let Some(mac) = mac {
            let (name, found) = (view.name(endpoint.address), text(&endpoint.mac));
            let what = format!("the data plane sends to {name} at {found}, and should at {}", text(mac));
            find(proof, Subject::Endpoint, what);
        }
    }
    let mut compared = 0;
    for link in &view.loaded.links {
        let behind: Vec<_> = view.loaded.endpoints.iter().filter(|it| it.link == link.index).collect();
        let Some(first) = behind.first() else { continue };
        let name = format!("link {} of {}", link.name, view.name(first.address));
        if link.mac != Some(wanted.gateway_mac) {
            let found = link.mac.map_or_else(|| "none".into(), |mac| text(&mac));
            let what = format!("{name} has the hardware address {found}, and should have {}", text(&wanted.gateway_mac));
            find(proof, Subject::Endpoint, what);
        }
        let speaks_ipv6 = behind.iter().any(|it| it.address.is_ipv6());
        compared += settings(link, &name, &wanted.settings[usize::from(speaks_ipv6)], proof);
    }
    *proof.compared.entry("settings").or_default() += compared;
}

fn settings(link: &Link, name: &str, wanted: &BTreeMap<String, String>, proof: &mut Proof) -> u64 {
    for (setting, wanted) in wanted {
        let found = link.settings.get(setting).map_or("nothing", String::as_str);
        if found != wanted {
            let setting = setting.replace('*', &link.name);
            find(proof, Subject::Setting, format!("{setting} is `{found}`, and should be `{wanted}` ({name})"));
        }
    }
    wanted.len() as u64
}

/// The kernel knows each pod under its hardware address, for good, and nobody else on its link.
pub(super) fn neighbours(view: &View<'_>, proof: &mut Proof) {
    let loaded: BTreeMap<_, _> = view.loaded.neighbours.iter().map(|it| ((it.link, it.address), it.mac)).collect();
    proof.compared.insert("neighbours", loaded.len() as u64);
    let wanted: BTreeMap<_, _> = view.loaded.endpoints.iter().map(|it| ((it.link, it.address), it.address)).collect();
    for (key, address) in &wanted {
        let Some(mac) = view.expected.links.macs.get(address) else { continue };
        let name = view.name(*address);
        match loaded.get(key) {
            None => {
                find(proof, Subject::Neighbour, format!("the kernel does not know {name}, and should at {}", text(mac)));
            }
            Some(found) if found != mac => {
                let what = format!("the kernel knows {name} at {}, and should at {}", text(found), text(mac));
                find(proof, Subject::Neighbour, what);
            }
            Some(_) => {}
        }
    }
    for ((link, address), mac) in loaded.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
        let what = format!("the kernel knows {address} at {} on link {link}, which should not be there", text(mac));
        find(proof, Subject::Neighbour, what);
    }
}

fn text(mac: &[u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
