use kilter_netns::NetNs;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions, Hook, Immediate,
    InetHookNumber, ListAttribute, Meta, MetaKey, NfTablesMessage, Operator, Register, RuleAttribute,
    RuleMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use rtnetlink::packet_core::{DefaultNla, Nla};

use crate::{Error, nft};

const TABLE: &str = "kilter";
const CHAIN: &str = "postrouting";
/// Where the kernel's own names put source NAT (`srcnat`, linux/netfilter_ipv4.h).
const PRIORITY: u32 = 100;
/// linux/netfilter/nf_tables.h, `enum nft_masq_attributes`; flags and port registers.
const NFTA_MASQ_FLAGS: u16 = 1;
const NFTA_MASQ_REG_PROTO_MIN: u16 = 2;
const NFTA_MASQ_REG_PROTO_MAX: u16 = 3;
/// linux/netfilter/nf_nat.h, `NF_NAT_RANGE_PROTO_SPECIFIED`.
const NF_NAT_RANGE_PROTO_SPECIFIED: u32 = 1 << 1;

/// A version of IP. Each has tables of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Version 4, nftables' `ip`.
    V4,
    /// Version 6, nftables' `ip6`.
    V6,
}

impl Family {
    pub(crate) fn number(self) -> NetfilterProtoFamily {
        match self {
            Self::V4 => NetfilterProtoFamily::IPv4,
            Self::V6 => NetfilterProtoFamily::IPv6,
        }
    }

    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::V4 => "the nftables table ip kilter",
            Self::V6 => "the nftables table ip6 kilter",
        }
    }
}

/// Source NAT for what leaves the cluster: packets with exactly this mark that leave by this link get
/// the link's address. Everything else is left alone, whatever its addresses: the data plane marks the
/// flows that pods opened towards outside, and only those go through conntrack both ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masquerade {
    /// Of which packets.
    pub family: Family,
    /// The mark that the data plane gives, not 0.
    pub mark: u32,
    /// Name of the uplink.
    pub link: String,
    /// First and last port that TCP and UDP flows may get, kept apart from those of local sockets.
    pub ports: (u16, u16),
}

impl Masquerade {
    /// Puts this rule in place of whatever Kilter's table of the family held, in one transaction.
    /// Existing translations live on in conntrack.
    ///
    /// # Errors
    /// When the kernel has no nf_tables or no NAT, or without CAP_NET_ADMIN in the namespace.
    pub fn replace(&self, namespace: &NetNs) -> Result<(), Error> {
        let changes = vec![
            NfTablesMessage::NewTable(table()),
            NfTablesMessage::DeleteTable(table()),
            NfTablesMessage::NewTable(table()),
            NfTablesMessage::NewChain(chain()),
            self.rule(Some(6)),
            self.rule(Some(17)),
            self.rule(None),
        ];
        nft::transaction(namespace, self.family.table(), self.family.number(), changes)
    }

    /// What is in force for a family, if Kilter's table is there and holds what it should.
    pub fn current(namespace: &NetNs, family: Family) -> Result<Option<Self>, Error> {
        let query =
            NfTablesMessage::GetRule(RuleMessage { attributes: vec![RuleAttribute::Table(TABLE.into())] });
        let listed = nft::dump(namespace, family.number(), query)?;
        let rules: Vec<_> = listed.iter().filter_map(rule_expressions).collect();
        let Some(found) = rules.first().and_then(|rule| Self::decode(family, rule)) else { return Ok(None) };
        let wanted = [found.expressions(Some(6)), found.expressions(Some(17)), found.expressions(None)];
        let same = rules.len() == wanted.len() && rules.iter().zip(&wanted).all(|(a, b)| a == b);
        Ok(same.then_some(found))
    }

    /// Removes Kilter's table of a family; it need not be there.
    pub fn delete(namespace: &NetNs, family: Family) -> Result<(), Error> {
        let changes = vec![NfTablesMessage::NewTable(table()), NfTablesMessage::DeleteTable(table())];
        nft::transaction(namespace, family.table(), family.number(), changes)
    }

    fn rule(&self, protocol: Option<u8>) -> NfTablesMessage {
        rule(self.expressions(protocol))
    }

    /// `meta mark M oifname LINK [meta l4proto P] masquerade [to :FIRST-LAST]`
    fn expressions(&self, protocol: Option<u8>) -> Vec<Expressions> {
        let mut all = Vec::new();
        all.extend(compare(MetaKey::Mark, self.mark.to_ne_bytes().to_vec()));
        all.extend(compare(MetaKey::Oifname, link_name(&self.link)));
        let Some(protocol) = protocol else {
            all.push(masq(vec![]));
            return all;
        };
        all.extend(compare(MetaKey::L4Proto, vec![protocol]));
        all.push(load(Register::Reg1, self.ports.0));
        all.push(load(Register::Reg2, self.ports.1));
        all.push(masq(vec![
            number(NFTA_MASQ_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED),
            number(NFTA_MASQ_REG_PROTO_MIN, Register::Reg1.into()),
            number(NFTA_MASQ_REG_PROTO_MAX, Register::Reg2.into()),
        ]));
        all
    }

    fn decode(family: Family, rule: &[Expressions]) -> Option<Self> {
        let values: Vec<&Vec<u8>> = rule.iter().filter_map(constant).collect();
        let [mark, link, _protocol, first, last] = values.as_slice() else { return None };
        let link = link.split(|byte| *byte == 0).next()?;
        let port = |bytes: &[u8]| Some(u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?));
        Some(Self {
            family,
            mark: u32::from_ne_bytes(mark.as_slice().try_into().ok()?),
            link: String::from_utf8(link.to_vec()).ok()?,
            ports: (port(first)?, port(last)?),
        })
    }
}

/// A rule of Kilter's chain.
pub(crate) fn rule(expressions: Vec<Expressions>) -> NfTablesMessage {
    NfTablesMessage::NewRule(RuleMessage {
        attributes: vec![
            RuleAttribute::Table(TABLE.into()),
            RuleAttribute::Chain(CHAIN.into()),
            RuleAttribute::Expressions(expressions.into_iter().map(ListAttribute::from).collect()),
        ],
    })
}

/// A link's name as the kernel compares it: the whole field, IFNAMSIZ bytes.
pub(crate) fn link_name(link: &str) -> Vec<u8> {
    let mut name = link.to_owned().into_bytes();
    name.resize(16, 0);
    name
}

pub(crate) fn table() -> TableMessage {
    TableMessage { attributes: vec![TableAttribute::Name(TABLE.into())] }
}

pub(crate) fn chain() -> ChainMessage {
    ChainMessage {
        attributes: vec![
            ChainAttribute::Table(TABLE.into()),
            ChainAttribute::Name(CHAIN.into()),
            ChainAttribute::Hook(vec![
                Hook::Number(InetHookNumber::PostRouting.into()),
                Hook::Priority(PRIORITY),
            ]),
            ChainAttribute::Type("nat".into()),
        ],
    }
}

pub(crate) fn compare(key: MetaKey, value: Vec<u8>) -> [Expressions; 2] {
    [
        Expressions::Meta(vec![Meta::DestinationRegister(Register::Reg1), Meta::Key(key)]),
        Expressions::Cmp(vec![
            Cmp::SourceRegister(Register::Reg1),
            Cmp::Op(Operator::Equal),
            Cmp::Data(DataAttribute::Value(value)),
        ]),
    ]
}

fn load(register: Register, port: u16) -> Expressions {
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(register),
        Immediate::Data(DataAttribute::Value(port.to_be_bytes().to_vec())),
    ])
}

pub(crate) fn masq(attributes: Vec<DefaultNla>) -> Expressions {
    Expressions::Other { expression_type: "masq".into(), attributes }
}

fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}

fn constant(expression: &Expressions) -> Option<&Vec<u8>> {
    match expression {
        Expressions::Cmp(parts) => parts.iter().find_map(|p| match p {
            Cmp::Data(DataAttribute::Value(value)) => Some(value),
            _ => None,
        }),
        Expressions::Immediate(parts) => parts.iter().find_map(|p| match p {
            Immediate::Data(DataAttribute::Value(value)) => Some(value),
            _ => None,
        }),
        _ => None,
    }
}

/// The expressions of a listed rule, in the form in which [`Masquerade::expressions`] writes them.
fn rule_expressions(message: &NetfilterMessage) -> Option<Vec<Expressions>> {
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewRule(rule)) = &message.inner else { return None };
    let list = rule.attributes.iter().find_map(|a| match a {
        RuleAttribute::Expressions(list) => Some(list),
        _ => None,
    })?;
    Some(list.iter().filter_map(expression).collect())
}

fn expression(element: &ListAttribute<ExpressionAttribute>) -> Option<Expressions> {
    let ListAttribute::Element(attributes) = element else { return None };
    let found = attributes.iter().find_map(|a| match a {
        ExpressionAttribute::Data(data) => Some(data.clone()),
        _ => None,
    })?;
    Some(match found {
        // The kernel lists the attributes in another order than it accepts them.
        Expressions::Meta(mut parts) => {
            parts.sort_by_key(|p| !matches!(p, Meta::DestinationRegister(_)));
            Expressions::Meta(parts)
        }
        Expressions::Other { expression_type, mut attributes } => {
            attributes.sort_by_key(Nla::kind);
            Expressions::Other { expression_type, attributes }
        }
        other => other,
    })
}
