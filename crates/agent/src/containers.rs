//! The containers of this node, their addresses, and the records of both.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use kilter_wire::cni::code;

use crate::command::{Claim, Refusal, chain};
use crate::endpoint::link_name;
use crate::ipam::{Blocks, Exhausted, Millis, Reservation, Stage, Store};

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
    blocks: Blocks,
    store: Store,
    all: BTreeMap<String, Container>,
}

impl Containers {
    /// Adopts what a former process left on disk. Records that contradict each other or the block lose
    /// their address, newest first; their links are strays.
    pub fn load(blocks: &[IpNet], store: Store) -> anyhow::Result<Self> {
        let mut blocks = Blocks::new(blocks)?;
        let loaded = store.load()?;
        for path in &loaded.unreadable {
            tracing::warn!(path = %path.display(), "not an address record; left as it is");
        }
        let mut all = BTreeMap::new();
        for (stage, reservation) in loaded.reservations {
            match blocks.adopt(&reservation.container, &reservation.addresses) {
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
        blocks.remember_freed(&loaded.freed);
        Ok(Self { blocks, store, all })
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
            let addresses = &there.reservation.addresses;
            let msg = format!("container {container} is wired already, with {addresses:?}");
            return Err(Refusal::refused(msg, "DEL it first"));
        }
        let now = now();
        let addresses = self.blocks.allocate(container, now).map_err(|error| no_address(&error))?;
        let reservation = Reservation {
            container: container.to_owned(),
            addresses,
            uid: claim.pod.uid.clone(),
            pod: claim.pod.name.clone(),
            network: claim.network.clone(),
            ifname: claim.ifname.clone(),
            netns: claim.netns.clone(),
            link: link_name(container),
            since: now,
        };
        if let Err(error) = self.store.create(&reservation) {
            self.blocks.release(&reservation.addresses, now, false);
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
                self.blocks.release(&gone.reservation.addresses, now, gone.used);
            }
        }
        // The freed addresses first: a crash in between then frees one twice instead of too early.
        self.store.write_freed(&self.blocks.memory(now))?;
        containers.iter().try_for_each(|container| self.store.remove(container))
    }
}

fn no_address(error: &Exhausted) -> Refusal {
    let family = if error.ipv6 { "IPv6" } else { "IPv4" };
    match error.is_passing() {
        true => Refusal::later(format!("no {family} address is ready"), error.to_string()),
        false => Refusal::refused(format!("no {family} address left on this node"), error.to_string()),
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
        Claim {
            container: container.into(),
            network: "kilter".into(),
            ifname: "eth0".into(),
            netns: "/run/netns/web".into(),
            pod,
        }
    }

    fn load(directory: &std::path::Path) -> Containers {
        let blocks = ["10.244.1.0/29".parse().unwrap(), "fd00:244:1::/64".parse().unwrap()];
        Containers::load(&blocks, Store::open(directory).unwrap()).unwrap()
    }

    #[test]
    fn a_restart_finds_every_container_where_it_was_and_freed_addresses_at_rest() {
        let directory = tempfile::tempdir().unwrap();
        let mut containers = load(directory.path());
        let wired = containers.reserve(&claim("a")).unwrap();
        assert_eq!(wired.addresses.len(), 2);
        containers.advance("a", Stage::Wired).unwrap();
        let freed = containers.reserve(&claim("b")).unwrap();
        containers.set_used("b");
        containers.advance("b", Stage::Leaving).unwrap();
        containers.release(&["b".into(), "nobody".into()]).unwrap();

        let mut again = load(directory.path());
        assert_eq!(again.get("a"), Some(&Container { stage: Stage::Wired, reservation: wired, used: true }));
        assert_eq!(again.iter().count(), 1);
        for container in ["c", "d", "e"] {
            assert_ne!(again.reserve(&claim(container)).unwrap().addresses[0], freed.addresses[0]);
        }
        let resting = again.reserve(&claim("f")).unwrap_err();
        assert_eq!((resting.code, resting.msg.as_str()), (code::TRY_AGAIN_LATER, "no IPv4 address is ready"));
        assert!(
            resting.details.starts_with("10.244.1.0/29: 4 held by pods, 1 in quarantine, the first until"),
            "{resting:?}"
        );
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
        assert_eq!((full.code, full.msg.as_str()), (code::AGENT, "no IPv4 address left on this node"));
        assert!(full.details.starts_with("10.244.1.0/29: 5 held by pods, 0 in quarantine; "), "{full:?}");
        containers.release(&["c".into()]).unwrap();
        assert!(containers.reserve(&claim("f")).is_ok(), "it was never used, so it need not rest");
    }

    /// What may happen to a container, one step at a time, as the engine and the reaper do it.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Reserve,
        Attach,
        Wire,
        Leave,
        /// The first half of a release: the process dies before the record goes.
        HalfRelease,
        Release,
        Restart,
    }

    proptest::proptest! {
        /// Wherever the process is killed, no address is held twice, and none is lost: once every
        /// container is gone and has rested, all can be had again.
        #[test]
        fn a_crash_between_any_two_steps_leaks_nothing(
            steps in proptest::collection::vec((0usize..7, 0usize..6), 1..60),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let mut containers = load(directory.path());
            for (step, which) in steps {
                let step = [Step::Reserve, Step::Attach, Step::Wire, Step::Leave, Step::HalfRelease, Step::Release, Step::Restart][step];
                let name = format!("c{which}");
                match step {
                    Step::Reserve => drop(containers.reserve(&claim(&name))),
                    Step::Attach => containers.set_used(&name),
                    Step::Wire => containers.advance(&name, Stage::Wired).unwrap(),
                    Step::Leave => containers.advance(&name, Stage::Leaving).unwrap(),
                    Step::HalfRelease => {
                        if let Some(gone) = containers.all.remove(&name) {
                            containers.blocks.release(&gone.reservation.addresses, now(), gone.used);
                            containers.store.write_freed(&containers.blocks.memory(now())).unwrap();
                        }
                        containers = load(directory.path());
                    }
                    Step::Release => containers.release(&[name]).unwrap(),
                    Step::Restart => containers = load(directory.path()),
                }
                let held: Vec<_> = containers.iter().flat_map(|c| c.reservation.addresses.clone()).collect();
                let different: std::collections::BTreeSet<_> = held.iter().collect();
                proptest::prop_assert_eq!(held.len(), different.len());
            }
            let mut blocks = load(directory.path()).blocks;
            let all: Vec<_> = containers.iter().map(|c| c.reservation.clone()).collect();
            for gone in &all {
                blocks.release(&gone.addresses, now(), true);
            }
            let rested = now() + 60_000;
            let room = std::iter::from_fn(|| blocks.allocate("again", rested).ok()).take(9).count();
            proptest::prop_assert_eq!(room, 5);
        }
    }
}
