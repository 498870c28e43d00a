//! The containers of this node, their addresses, and the records of both.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};

use ipnet::Ipv4Net;
use kilter_wire::cni::code;

use crate::command::{Claim, Refusal, chain};
use crate::endpoint::link_name;
use crate::ipam::{Millis, Pool, PoolError, Reservation, Stage, Store};

/// A container that holds an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// How far it is.
    pub stage: Stage,
    /// What it holds.
    pub reservation: Reservation,
    /// Whether packets may have carried its address.
    pub used: bool,
}

/// All of them. Every change is on disk before it is acted upon.
#[derive(Debug)]
pub struct Containers {
    pool: Pool,
    store: Store,
    all: BTreeMap<String, Container>,
}

impl Containers {
    /// Adopts what a former process left on disk. Records that contradict each other or the block lose
    /// their address, newest first; their links are strays.
    pub fn load(block: Ipv4Net, store: Store) -> anyhow::Result<Self> {
        let mut pool = Pool::new(block)?;
        let loaded = store.load()?;
        for path in &loaded.unreadable {
            tracing::warn!(path = %path.display(), "not an address record; left as it is");
        }
        let mut all = BTreeMap::new();
        for (stage, reservation) in loaded.reservations {
            match pool.adopt(&reservation.container, reservation.address) {
                Ok(()) => {
                    let container = Container { stage, reservation, used: true };
                    all.insert(container.reservation.container.clone(), container);
                }
                Err(error) => {
                    tracing::error!(pod = %reservation.pod, %error, "an address record is dropped");
                    store.remove(&reservation.container)?;
                }
            }
        }
        pool.remember_freed(loaded.freed);
        Ok(Self { pool, store, all })
    }

    /// All containers, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Container> {
        self.all.values()
    }

    /// A container by id.
    pub fn get(&self, container: &str) -> Option<&Container> {
        self.all.get(container)
    }

    /// Gives a container an address.
    pub fn reserve(&mut self, claim: &Claim) -> Result<Reservation, Refusal> {
        let container = claim.container.as_str();
        if let Some(there) = self.all.get(container) {
            let msg = format!("container {container} is wired already, with {}", there.reservation.address);
            return Err(Refusal::refused(msg, "DEL it first"));
        }
        let now = now();
        let address = self.pool.allocate(container, now).map_err(|error| no_address(&error))?;
        let reservation = Reservation {
            container: container.to_owned(),
            address,
            uid: claim.pod.uid.clone(),
            pod: claim.pod.name.clone(),
            network: claim.network.clone(),
            ifname: claim.ifname.clone(),
            link: link_name(container),
            since: now,
        };
        if let Err(error) = self.store.create(&reservation) {
            self.pool.release(address, now, false);
            return Err(Refusal {
                code: code::IO,
                msg: "the address cannot be recorded".into(),
                details: chain(&error),
            });
        }
        let entry = Container { stage: Stage::Wiring, reservation: reservation.clone(), used: false };
        self.all.insert(container.to_owned(), entry);
        Ok(reservation)
    }

    /// Its hooks are attached: from now on packets may carry its address.
    pub fn set_used(&mut self, container: &str) {
        if let Some(container) = self.all.get_mut(container) {
            container.used = true;
        }
    }

    /// Moves a container to another stage.
    pub fn advance(&mut self, container: &str, to: Stage) -> Result<(), crate::ipam::StoreError> {
        if let Some(entry) = self.all.get_mut(container) {
            self.store.advance(container, entry.stage, to)?;
            entry.stage = to;
        }
        Ok(())
    }

    /// Frees the addresses of containers that are gone altogether.
    pub fn release(&mut self, containers: &[String]) -> Result<(), crate::ipam::StoreError> {
        let now = now();
        for container in containers {
            if let Some(gone) = self.all.remove(container) {
                self.pool.release(gone.reservation.address, now, gone.used);
            }
        }
        // The freed addresses first: a crash in between then frees one twice instead of too early.
        let freed: Vec<(Ipv4Addr, Millis)> = self.pool.freed().collect();
        self.store.write_freed(&freed)?;
        containers.iter().try_for_each(|container| self.store.remove(container))
    }
}

fn no_address(error: &PoolError) -> Refusal {
    match error {
        PoolError::Resting { .. } => Refusal::later("no address is ready", error.to_string()),
        _ => Refusal::refused("no address left on this node", error.to_string()),
    }
}

fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Pod;

    fn claim(container: &str) -> Claim {
        let pod = Pod { uid: "u-1".into(), name: "shop/web".into() };
        Claim { container: container.into(), network: "kilter".into(), ifname: "eth0".into(), pod }
    }

    fn load(directory: &std::path::Path) -> Containers {
        Containers::load("10.244.1.0/29".parse().unwrap(), Store::open(directory).unwrap()).unwrap()
    }

    #[test]
    fn a_restart_finds_every_container_where_it_was_and_freed_addresses_at_rest() {
        let directory = tempfile::tempdir().unwrap();
        let mut containers = load(directory.path());
        let wired = containers.reserve(&claim("a")).unwrap();
        containers.advance("a", Stage::Wired).unwrap();
        let freed = containers.reserve(&claim("b")).unwrap();
        containers.set_used("b");
        containers.advance("b", Stage::Leaving).unwrap();
        containers.release(&["b".into(), "nobody".into()]).unwrap();

        let mut again = load(directory.path());
        assert_eq!(again.get("a"), Some(&Container { stage: Stage::Wired, reservation: wired, used: true }));
        assert_eq!(again.iter().count(), 1);
        for container in ["c", "d", "e"] {
            assert_ne!(again.reserve(&claim(container)).unwrap().address, freed.address);
        }
        assert_eq!(again.reserve(&claim("f")).unwrap_err().code, code::TRY_AGAIN_LATER);
    }

    #[test]
    fn a_container_is_wired_once_and_a_full_node_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let mut containers = load(directory.path());
        for container in ["a", "b", "c", "d", "e"] {
            containers.reserve(&claim(container)).unwrap();
        }
        let twice = containers.reserve(&claim("a")).unwrap_err();
        assert!(twice.msg.contains("wired already"), "{twice:?}");
        let full = containers.reserve(&claim("f")).unwrap_err();
        assert_eq!(full.code, code::AGENT);
        assert!(full.details.contains("all 5 belong to pods"), "{full:?}");
        containers.release(&["c".into()]).unwrap();
        assert!(containers.reserve(&claim("f")).is_ok(), "it was never used, so it need not rest");
    }
}
