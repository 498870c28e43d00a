//! The rules that say which table of routes is asked.

use futures::TryStreamExt;
use rtnetlink::IpVersion;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use crate::{Error, Family, Netlink};

impl Netlink {
    /// The routing rules of a family, in the order in which they are asked, in words: priority, and the
    /// number of the table or what else is done, then what a packet must be like, where that is said.
    pub async fn routing_rules(&self, family: Family) -> Result<Vec<String>, Error> {
        let version = match family {
            Family::V4 => IpVersion::V4,
            Family::V6 => IpVersion::V6,
        };
        let all: Result<Vec<RuleMessage>, _> = self.handle.rule().get(version).execute().try_collect().await;
        let mut all = all.map_err(self.fail("list", "routing rules"))?;
        all.sort_by_key(priority);
        Ok(all.iter().map(text).collect())
    }
}

/// The first rule has no such attribute: it is 0.
fn priority(rule: &RuleMessage) -> u32 {
    let given = rule.attributes.iter().find_map(|it| match it {
        RuleAttribute::Priority(priority) => Some(*priority),
        _ => None,
    });
    given.unwrap_or_default()
}

fn text(rule: &RuleMessage) -> String {
    let mut table = u32::from(rule.header.table);
    let mut conditions = Vec::new();
    for attribute in &rule.attributes {
        match attribute {
            RuleAttribute::Table(number) => table = *number,
            // Neither says anything of packets; all bits set: nothing is suppressed.
            RuleAttribute::Priority(_) | RuleAttribute::Protocol(_) | RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
            other => conditions.push(format!("{other:?}")),
        }
    }
    if rule.header.tos != 0 {
        conditions.push(format!("tos {:#x}", rule.header.tos));
    }
    let action = match rule.header.action {
        RuleAction::ToTable => format!("table {table}"),
        other => format!("{other:?}").to_lowercase(),
    };
    let conditions = if conditions.is_empty() { String::new() } else { format!(" if {}", conditions.join(", ")) };
    format!("{}: {action}{conditions}", priority(rule))
}
