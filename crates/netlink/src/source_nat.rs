use kilter_netns::NetNs;
use netlink_packet_netfilter::nftables::{MetaKey, NfTablesMessage};

use crate::masquerade::{self, Family};
use crate::{Error, nft};

/// Source NAT as a NAT gateway does it: whatever leaves by this link gets the link's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceNat {
    /// Of which packets.
    pub family: Family,
    /// Name of the link that leads outside.
    pub link: String,
}

impl SourceNat {
    /// Puts this rule in place of whatever Kilter's table of the family held, in one transaction.
    ///
    /// # Errors
    /// When the kernel has no nf_tables or no NAT, or without CAP_NET_ADMIN in the namespace.
    pub fn replace(&self, namespace: &NetNs) -> Result<(), Error> {
        let mut expressions = Vec::new();
        expressions.extend(masquerade::compare(MetaKey::Oifname, masquerade::link_name(&self.link)));
        expressions.push(masquerade::masq(vec![]));
        let changes = vec![
            NfTablesMessage::NewTable(masquerade::table()),
            NfTablesMessage::DeleteTable(masquerade::table()),
            NfTablesMessage::NewTable(masquerade::table()),
            NfTablesMessage::NewChain(masquerade::chain()),
            masquerade::rule(expressions),
        ];
        nft::transaction(namespace, self.family.table(), self.family.number(), changes)
    }
}
