//! The rows that policy and Services ask for, kept in the kernel.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use kilter_datapath::Datapath;
use kilter_model::{Change, Cluster, Routing};
use kilter_policy as policy;
use kilter_services as services;

use crate::difference;
use crate::shift::Shift;

/// Both compilers and what is known of the kernel's rows.
#[derive(Debug)]
pub struct Rows {
    policy: policy::Compiler,
    services: services::Compiler,
    shift: Shift,
    /// Whether the kernel holds the compilers' rows, so that their plans can be applied as they are.
    in_step: bool,
}

impl Rows {
    /// For a data plane that may hold a former process's rows; they stay in force until the first
    /// [`Rows::update`].
    pub fn new(
        node: Arc<str>,
        pod_cidrs: &[IpNet],
        routing: Routing,
        datapath: &Datapath,
    ) -> Result<Self, kilter_datapath::Error> {
        let shift = Shift::beyond(&datapath.read_policy()?, &datapath.read_services()?);
        Ok(Self {
            policy: policy::Compiler::new(policy::Config { node: node.clone(), pod_cidrs: pod_cidrs.to_vec() }),
            services: services::Compiler::new(node.clone()).routed(routing),
            shift,
            in_step: false,
        })
    }

    /// Brings the kernel in step with a cluster. After an error the next call compares what the kernel
    /// holds with what it should hold, and writes the difference.
    ///
    /// Policy goes first: a backend must have its class before a Service leads to it.
    pub fn update(
        &mut self,
        cluster: &Cluster,
        changes: &[Change],
        datapath: &mut Datapath,
    ) -> Result<(), kilter_datapath::Error> {
        let mut policy = self.shift.policy(self.policy.update(cluster, changes));
        let mut services = self.shift.services(self.services.update(cluster, changes));
        if !self.in_step {
            let wanted = self.shift.policy_tables(self.policy.tables());
            policy = difference::policy(&datapath.read_policy()?, &wanted);
            let wanted = self.shift.services_tables(self.services.tables());
            services = difference::services(&datapath.read_services()?, &wanted);
        }
        self.in_step = false;
        if !policy.is_empty() {
            datapath.apply_policy(&policy)?;
        }
        if !services.is_empty() {
            datapath.apply_services(&services)?;
        }
        self.in_step = true;
        Ok(())
    }

    /// What every rule stands for, in words.
    pub fn rules(&self) -> BTreeMap<u32, String> {
        self.policy.tables().rules.iter().map(|(id, reason)| (id.0, reason.to_string())).collect()
    }

    /// What a rule stands for, in words.
    pub fn rule(&self, rule: policy::RuleId) -> Option<String> {
        self.policy.tables().rules.get(&rule).map(ToString::to_string)
    }
}
