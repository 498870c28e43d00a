//! The compilers count ids from 1 in every process. What a former process loaded has ids of its own,
//! which live flows and half-applied plans may refer to, so this process's ids are moved beyond them.

use kilter_policy::{self as policy, ClassId, Interval, PostureId, SetId, Write as P};
use kilter_services::{self as services, FrontendRow, Write as S};

/// What is added to every id of this process. All zero on a fresh node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shift {
    class: u32,
    posture: u32,
    set: u32,
    revision: u32,
}

/// Half of the ids: a node whose loaded ids are all above it starts again from the bottom.
const HALF: u32 = u32::MAX / 2;

impl Shift {
    /// A shift that meets none of the loaded ids.
    pub fn beyond(policy: &policy::Tables, services: &services::Tables) -> Self {
        let exceptions = policy.sets.values().flat_map(|set| set.exceptions.keys());
        Self {
            class: free(policy.classes.values().chain(exceptions).map(|id| id.0)),
            posture: free(
                policy
                    .postures
                    .values()
                    .copied()
                    .chain(policy.intervals.keys().map(|i| i.posture))
                    .map(|id| id.0),
            ),
            set: free(policy.sets.keys().chain(policy.intervals.values()).map(|id| id.0)),
            revision: free(
                services
                    .frontends
                    .values()
                    .map(|row| row.revision)
                    .chain(services.backends.keys().map(|k| k.0))
                    .chain(services.chunks.keys().map(|k| k.0))
                    .chain(services.sources.iter().map(|(revision, _)| *revision)),
            ),
        }
    }

    /// A plan in the kernel's ids.
    pub fn policy(&self, plan: policy::Plan) -> policy::Plan {
        let all = |writes: Vec<P>| writes.into_iter().map(|write| self.policy_write(write)).collect();
        policy::Plan { prepare: all(plan.prepare), switch: all(plan.switch), retire: all(plan.retire) }
    }

    /// A plan in the kernel's ids.
    pub fn services(&self, plan: services::Plan) -> services::Plan {
        let all = |writes: Vec<S>| writes.into_iter().map(|write| self.services_write(write)).collect();
        services::Plan { prepare: all(plan.prepare), switch: all(plan.switch), retire: all(plan.retire) }
    }

    /// Tables in the kernel's ids, without the rules, which never get there.
    pub fn policy_tables(&self, tables: &policy::Tables) -> policy::Tables {
        let set_content = |set: &policy::DecisionSet| policy::DecisionSet {
            default: set.default,
            exceptions: set
                .exceptions
                .iter()
                .map(|(class, decision)| (self.class(*class), *decision))
                .collect(),
        };
        policy::Tables {
            classes: tables.classes.iter().map(|(prefix, class)| (*prefix, self.class(*class))).collect(),
            postures: tables
                .postures
                .iter()
                .map(|(address, posture)| (*address, self.posture(*posture)))
                .collect(),
            intervals: tables.intervals.iter().map(|(i, set)| (self.interval(*i), self.set(*set))).collect(),
            sets: tables.sets.iter().map(|(id, set)| (self.set(*id), set_content(set))).collect(),
            rules: Default::default(),
        }
    }

    /// Tables in the kernel's ids.
    pub fn services_tables(&self, tables: &services::Tables) -> services::Tables {
        services::Tables {
            frontends: tables.frontends.iter().map(|(frontend, row)| (*frontend, self.row(*row))).collect(),
            chunks: tables.chunks.iter().map(|((r, chunk), slots)| ((r + self.revision, *chunk), *slots)).collect(),
            sources: tables.sources.iter().map(|(r, range)| (r + self.revision, *range)).collect(),
            backends: tables.backends.iter().map(|((r, slot), b)| ((r + self.revision, *slot), *b)).collect(),
        }
    }

    fn policy_write(&self, write: P) -> P {
        match write {
            P::PutSet { set, default } => P::PutSet { set: self.set(set), default },
            P::PutException { set, class, decision } => {
                P::PutException { set: self.set(set), class: self.class(class), decision }
            }
            P::PutInterval { interval, set } => {
                P::PutInterval { interval: self.interval(interval), set: self.set(set) }
            }
            P::PutClass { prefix, class } => P::PutClass { prefix, class: self.class(class) },
            P::PutPosture { address, posture } => P::PutPosture { address, posture: self.posture(posture) },
            P::DeleteException { set, class } => {
                P::DeleteException { set: self.set(set), class: self.class(class) }
            }
            P::DeleteSet { set } => P::DeleteSet { set: self.set(set) },
            P::DeleteInterval { interval } => P::DeleteInterval { interval: self.interval(interval) },
            P::DeleteClass { .. } | P::DeletePosture { .. } => write,
        }
    }

    fn services_write(&self, write: S) -> S {
        match write {
            S::PutBackend { revision, slot, backend } => {
                S::PutBackend { revision: revision + self.revision, slot, backend }
            }
            S::PutFrontend { frontend, row } => S::PutFrontend { frontend, row: self.row(row) },
            S::DeleteBackend { revision, slot } => {
                S::DeleteBackend { revision: revision + self.revision, slot }
            }
            S::PutChunk { revision, chunk, slots } => {
                S::PutChunk { revision: revision + self.revision, chunk, slots }
            }
            S::DeleteChunk { revision, chunk } => S::DeleteChunk { revision: revision + self.revision, chunk },
            S::PutSource { revision, range } => S::PutSource { revision: revision + self.revision, range },
            S::DeleteSource { revision, range } => S::DeleteSource { revision: revision + self.revision, range },
            S::DeleteFrontend { .. } => write,
        }
    }

    fn class(&self, id: ClassId) -> ClassId {
        ClassId(id.0 + self.class)
    }

    fn posture(&self, id: PostureId) -> PostureId {
        PostureId(id.0 + self.posture)
    }

    fn set(&self, id: SetId) -> SetId {
        SetId(id.0 + self.set)
    }

    fn interval(&self, interval: Interval) -> Interval {
        Interval { posture: self.posture(interval.posture), ..interval }
    }

    fn row(&self, row: FrontendRow) -> FrontendRow {
        FrontendRow { revision: row.revision + self.revision, ..row }
    }
}

fn free(loaded: impl Iterator<Item = u32> + Clone) -> u32 {
    match (loaded.clone().min(), loaded.max()) {
        (Some(lowest), _) if lowest > HALF => 0,
        (_, highest) => highest.unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_start_beyond_the_loaded_ones_and_wrap_around_before_they_run_out() {
        assert_eq!(free([].into_iter()), 0);
        assert_eq!(free([3, 900, 7].into_iter()), 900);
        assert_eq!(free([HALF + 1, u32::MAX - 5].into_iter()), 0);
    }

    #[test]
    fn tables_and_plans_shift_alike() {
        let mut loaded = policy::Tables::default();
        loaded.classes.insert("10.0.0.1/32".parse().unwrap(), ClassId(7));
        let shift = Shift::beyond(&loaded, &services::Tables::default());
        let write = P::PutClass { prefix: "10.0.0.2/32".parse().unwrap(), class: ClassId(1) };
        let (mut plain, mut shifted) = (policy::Tables::default(), policy::Tables::default());
        plain.apply(&write);
        let plan = policy::Plan { switch: vec![write], ..policy::Plan::default() };
        shift.policy(plan).writes().for_each(|write| shifted.apply(write));
        assert_eq!(shift.policy_tables(&plain), shifted);
        assert_eq!(shifted.classes.values().copied().collect::<Vec<_>>(), [ClassId(8)]);
    }
}
