//! The peers' rule sets.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

use anyhow::Result;

use super::{CHANGES, single};
use crate::datapath::{self, PORT};
use crate::engine::Subject;
use crate::figure::Figure;
use crate::lab::Lab;
use crate::peers::{Mode, Service};

/// The peers' rule sets, each loaded once: nft takes most of a minute for 10,000 Services.
pub(super) struct Peers {
    pub(super) lab: Lab,
    /// Seconds that loading took, and the node's place in the lab; of the last count of Services.
    loaded: Vec<(Mode, f64, usize)>,
}

impl Peers {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { lab: Lab::new()?, loaded: Vec::new() })
    }

    pub(super) fn load(&mut self, mode: Mode, count: usize) -> Result<Subject> {
        let began = Instant::now();
        let (subject, node) = datapath::through_service(&mut self.lab, mode, count)?;
        self.loaded.retain(|(other, ..)| other.subject() != mode.subject());
        self.loaded.push((mode, began.elapsed().as_secs_f64(), node));
        Ok(subject)
    }

    /// What loading and changing the rule sets takes, without the program that would write them.
    pub(super) fn figures(&self, count: usize, progress: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
        let mut figures = Vec::new();
        for (mode, seconds, node) in &self.loaded {
            progress(&format!("change {count} Services {}", mode.subject()));
            let mut changes = Vec::new();
            for change in 0..CHANGES / 10 {
                let backends = vec![SocketAddrV4::new(Ipv4Addr::new(10, 251, 0, change as u8 + 1), PORT)];
                let service = Service { protocols: &["tcp", "udp"], frontend: datapath::FRONTEND, backends };
                let began = Instant::now();
                mode.change(self.lab.node(*node), count / 2, &service)?;
                changes.push(began.elapsed().as_secs_f64() * 1e3);
            }
            figures.extend(single(&format!("rules-loaded of-{count}"), mode.subject(), "s", vec![*seconds]));
            figures.extend(single(&format!("rules-changed of-{count}"), mode.subject(), "ms", changes));
        }
        Ok(figures)
    }
}
