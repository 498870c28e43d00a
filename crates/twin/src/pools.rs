//! Where load balancers of a twin get their addresses from.

use std::net::IpAddr;

use ipnet::IpNet;
use kilter_model::Family;

use crate::spec::{Role, SpecError, TwinSpec, host};

/// The range within a node subnet that is its load balancers' where nobody asks for another: of IPv4 the last
/// /24 (of a small subnet its last sixteenth), of IPv6 256 addresses from number 0xff00 on.
fn default_pool(subnet: &IpNet) -> Option<IpNet> {
    let bits = subnet.max_prefix_len() - subnet.prefix_len();
    match subnet {
        IpNet::V4(_) => {
            let length = (subnet.prefix_len() + 4).clamp(24, 32);
            subnet.subnets(length.max(subnet.prefix_len())).ok()?.last()
        }
        IpNet::V6(_) if bits >= 16 => IpNet::new(host(subnet, 0xff00), 120).ok(),
        IpNet::V6(_) => subnet.subnets((subnet.prefix_len() + 4).min(128)).ok()?.last(),
    }
}

/// One pool for each node subnet: those given, and the default for the others. One that is given and of no
/// such family stays, for [`TwinSpec::validate`] to refuse.
pub fn pools(node_subnets: &[IpNet], given: &[IpNet]) -> Vec<IpNet> {
    let same = |a: &IpNet, b: &IpNet| a.addr().is_ipv4() == b.addr().is_ipv4();
    let of = |subnet: &IpNet| given.iter().find(|net| same(net, subnet)).copied().or_else(|| default_pool(subnet));
    let mut pools: Vec<IpNet> = node_subnets.iter().filter_map(of).collect();
    pools.extend(given.iter().filter(|net| !pools.contains(net)).copied().collect::<Vec<_>>());
    pools
}

impl TwinSpec {
    /// Pools may lie in the node subnets, beside the nodes; whatever else they overlap would be led astray.
    pub(crate) fn check_pools(&self, host: &[(String, IpAddr)]) -> Result<(), SpecError> {
        let families: Vec<Family> = self.lb_pools.iter().map(|net| Family::of(&net.addr())).collect();
        let doubled = families.len() > 1 && families[0] == families[1];
        if doubled || !families.iter().all(|family| self.families().contains(family)) {
            return Err(SpecError::Families {
                role: POOL,
                found: families.iter().map(|family| family.name()).collect::<Vec<_>>().join(" and "),
                wanted: self.families().iter().map(|family| family.name()).collect::<Vec<_>>().join(" and "),
                option: OPTION,
            });
        }
        self.lb_pools.iter().try_for_each(|pool| self.check_pool(pool, host))
    }

    fn check_pool(&self, pool: &IpNet, host: &[(String, IpAddr)]) -> Result<(), SpecError> {
        for (role, nets) in [(Role::PodCidr, &self.pod_cidrs), (Role::ServiceCidr, &self.service_cidrs)] {
            if let Some(net) = nets.iter().find(|net| net.contains(&pool.network()) || pool.contains(&net.network())) {
                return Err(SpecError::Overlap { a: POOL, a_net: *pool, b: role.name(), b_net: *net, option: OPTION });
            }
        }
        let nodes = self.node_plans().into_iter().flat_map(|node| node.addresses);
        let mut taken = self.gateways().into_iter().chain(self.api_addresses()).chain(nodes);
        if let Some(address) = taken.find(|address| pool.contains(address)) {
            return Err(SpecError::PoolHoldsNode { pool: *pool, address });
        }
        match host.iter().find(|(_, address)| pool.contains(address)) {
            None => Ok(()),
            Some((link, address)) => Err(SpecError::HostAddress {
                role: POOL,
                net: *pool,
                address: *address,
                link: link.clone(),
                option: OPTION,
            }),
        }
    }
}

const POOL: &str = "load balancer pool";
const OPTION: &str = "--lb-pool";

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn text(subnets: &[&str], given: &[&str]) -> Vec<String> {
        let nets = |all: &[&str]| all.iter().map(|text| net(text)).collect::<Vec<_>>();
        pools(&nets(subnets), &nets(given)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_node_subnet_has_a_pool_at_its_end_unless_another_is_given() {
        let both = ["10.240.0.0/16", "fd00:240::/64"];
        assert_eq!(text(&both, &[]), ["10.240.255.0/24", "fd00:240::ff00/120"]);
        assert_eq!(text(&both, &["192.0.2.0/28"]), ["192.0.2.0/28", "fd00:240::ff00/120"]);
        assert_eq!(text(&["192.168.7.0/24"], &[]), ["192.168.7.240/28"]);
        assert_eq!(text(&["fd00::/120"], &[]), ["fd00::f0/124"]);
        assert_eq!(text(&["10.240.0.0/16"], &["fd00::/64"]), ["10.240.255.0/24", "fd00::/64"]);
    }

    #[test]
    fn a_pool_holds_neither_nodes_nor_what_is_elsewhere() {
        let spec = |pools: &[&str]| TwinSpec {
            lb_pools: pools.iter().map(|text| net(text)).collect(),
            ..TwinSpec::named("shop", &[Family::V4])
        };
        let refused = |pools: &[&str]| spec(pools).validate(&[]).unwrap_err().to_string();
        assert_eq!(spec(&["10.240.255.0/24"]).validate(&[]), Ok(()));
        assert_eq!(spec(&["192.0.2.0/24"]).validate(&[]), Ok(()));
        assert_eq!(
            refused(&["10.240.0.0/28"]),
            "the load balancer pool 10.240.0.0/28 contains 10.240.0.1, a node's or the fabric's own address; choose another with --lb-pool"
        );
        assert!(refused(&["10.244.255.0/24"]).contains("overlaps the pod CIDR 10.244.0.0/16"));
        assert!(refused(&["10.0.0.0/8"]).contains("overlaps the pod CIDR"));
        assert!(refused(&["fd00::/64"]).contains("the load balancer pool has IPv6 and the twin IPv4"));
        assert!(refused(&["192.0.2.0/25", "192.0.2.128/25"]).contains("has IPv4 and IPv4"));
        let machine = [("eth9".to_owned(), "192.0.2.9".parse().unwrap())];
        let error = spec(&["192.0.2.0/24"]).validate(&machine).unwrap_err().to_string();
        assert!(error.contains("contains 192.0.2.9, an address of this machine (eth9)"), "{error}");
    }
}
