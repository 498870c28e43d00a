use kilter_netns::NetNs;
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Cmp, DataAttribute, Expressions, Hook, HookNumber, Immediate, ListAttribute,
    NfTablesMessage, Operator, Payload, Register, RuleAttribute, RuleMessage, TableAttribute, TableMessage,
    Verdict, VerdictAttribute,
};
use rtnetlink::packet_core::DefaultNla;

use crate::link::Mac;
use crate::{Error, nft};

const TABLE: &str = "kilter-chaos";
const CHAIN: &str = "forward";
const FAMILY: NetfilterProtoFamily = NetfilterProtoFamily::Bridge;
/// linux/netfilter_bridge.h, `NF_BR_FORWARD`.
const BRIDGE_FORWARD: u32 = 2;
/// linux/netfilter.h, `NF_DROP`.
const DROP: u32 = 0;
/// linux/netfilter/nf_tables.h, `NFT_PAYLOAD_LL_HEADER`.
const LINK_LAYER: u32 = 0;
/// Where an Ethernet frame has its addresses.
const DESTINATION: u32 = 0;
const SOURCE: u32 = 6;

/// Frames that a bridge loses on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impairment {
    /// One end, by the address of its interface.
    pub from: Mac,
    /// The other end; `None`: whoever it talks to.
    pub to: Option<Mac>,
    /// How many of a hundred frames are lost in each direction, at random; 100 is a cut.
    pub percent: u32,
}

impl Impairment {
    /// Puts these in place of whatever impairments were in force on the bridges of a namespace; none
    /// removes them all.
    ///
    /// # Errors
    /// When the kernel has no nf_tables for bridges, or without CAP_NET_ADMIN in the namespace.
    pub fn replace_all(namespace: &NetNs, all: &[Self]) -> Result<(), Error> {
        let mut changes = vec![NfTablesMessage::NewTable(table()), NfTablesMessage::DeleteTable(table())];
        if !all.is_empty() {
            changes.extend([NfTablesMessage::NewTable(table()), NfTablesMessage::NewChain(chain())]);
            changes.extend(all.iter().flat_map(Self::rules));
        }
        nft::transaction(namespace, "the nftables table bridge kilter-chaos", FAMILY, changes)
    }

    /// `ether saddr A [ether daddr B] [numgen random mod 100 < N] drop`, and the way back.
    fn rules(&self) -> [NfTablesMessage; 2] {
        [(SOURCE, DESTINATION), (DESTINATION, SOURCE)].map(|(from, to)| {
            let mut expressions = equal(from, self.from).to_vec();
            expressions.extend(self.to.into_iter().flat_map(|mac| equal(to, mac)));
            if self.percent < 100 {
                expressions.extend(chance(self.percent));
            }
            expressions.push(drop_it());
            NfTablesMessage::NewRule(RuleMessage {
                attributes: vec![
                    RuleAttribute::Table(TABLE.into()),
                    RuleAttribute::Chain(CHAIN.into()),
                    RuleAttribute::Expressions(expressions.into_iter().map(ListAttribute::from).collect()),
                ],
            })
        })
    }
}

fn table() -> TableMessage {
    TableMessage { attributes: vec![TableAttribute::Name(TABLE.into())] }
}

fn chain() -> ChainMessage {
    ChainMessage {
        attributes: vec![
            ChainAttribute::Table(TABLE.into()),
            ChainAttribute::Name(CHAIN.into()),
            ChainAttribute::Hook(vec![Hook::Number(HookNumber::Other(BRIDGE_FORWARD)), Hook::Priority(0)]),
            ChainAttribute::Type("filter".into()),
        ],
    }
}

fn equal(offset: u32, mac: Mac) -> [Expressions; 2] {
    [
        Expressions::Payload(vec![
            Payload::DestinationRegister(Register::Reg1),
            Payload::Base(LINK_LAYER),
            Payload::Offset(offset),
            Payload::Len(mac.len() as u32),
        ]),
        compare(Operator::Equal, mac.to_vec()),
    ]
}

/// A random number below 100, made comparable (registers compare as bytes), and less than `percent`.
fn chance(percent: u32) -> [Expressions; 3] {
    // linux/netfilter/nf_tables.h: `enum nft_ng_attributes` (DREG, MODULUS, TYPE = random) and
    // `enum nft_byteorder_attributes` (SREG, DREG, OP = hton, LEN, SIZE).
    let register = u32::from(Register::Reg1);
    let numgen = vec![number(1, register), number(2, 100), number(3, 1)];
    let byteorder =
        vec![number(1, register), number(2, register), number(3, 1), number(4, 4), number(5, 4)];
    [
        Expressions::Other { expression_type: "numgen".into(), attributes: numgen },
        Expressions::Other { expression_type: "byteorder".into(), attributes: byteorder },
        compare(Operator::LessThan, percent.to_be_bytes().to_vec()),
    ]
}

fn compare(operator: Operator, value: Vec<u8>) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(value)),
    ])
}

fn drop_it() -> Expressions {
    let verdict = vec![VerdictAttribute::Code(Verdict::Other(DROP))];
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(verdict)),
    ])
}

fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}
