use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::zone::Answer;

/// Seconds for which an answer may be remembered.
const TTL: u32 = 60;

/// A resolver for a world of one server: every name leads to it, except those that exist nowhere
/// (`invalid.` and below, RFC 6761).
#[derive(Debug, Clone)]
pub struct Outside {
    addresses: Arc<[IpAddr]>,
}

impl Outside {
    /// Where every name leads.
    pub fn new(addresses: impl Into<Arc<[IpAddr]>>) -> Self {
        Self { addresses: addresses.into() }
    }

    pub(crate) fn answer(&self, name: &Name, kind: RecordType) -> Answer {
        let labels: Vec<_> = name.iter().collect();
        if labels.last().is_some_and(|label| label.eq_ignore_ascii_case(b"invalid")) {
            return negative(ResponseCode::NXDomain);
        }
        let data = self.addresses.iter().map(|address| match address {
            IpAddr::V4(v4) => RData::A(A(*v4)),
            IpAddr::V6(v6) => RData::AAAA(AAAA(*v6)),
        });
        let wanted = |data: &RData| kind == RecordType::ANY || data.record_type() == kind;
        let answers: Vec<_> =
            data.filter(wanted).map(|data| Record::from_rdata(name.clone(), TTL, data)).collect();
        match answers.is_empty() {
            true => negative(ResponseCode::NoError),
            false => Answer::Records { answers, additionals: vec![], onward: None },
        }
    }
}

fn negative(code: ResponseCode) -> Answer {
    let soa = RData::SOA(SOA::new(Name::root(), Name::root(), 1, 7200, 1800, 86400, TTL));
    Answer::Negative { code, answers: vec![], authority: Box::new(Record::from_rdata(Name::root(), TTL, soa)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_to_the_server_and_invalid_ones_nowhere() {
        let outside = Outside::new(vec![[198, 51, 100, 10].into(), "2001:db8::10".parse().unwrap()]);
        let ask = |name: &str, kind| match outside.answer(&Name::from_ascii(name).unwrap(), kind) {
            Answer::Records { answers, .. } => answers.iter().map(|r| r.data.to_string()).collect::<Vec<_>>(),
            Answer::Negative { code, .. } => vec![code.to_string()],
            other => panic!("{other:?}"),
        };
        assert_eq!(ask("example.com.", RecordType::A), ["198.51.100.10"]);
        assert_eq!(ask("example.com.", RecordType::AAAA), ["2001:db8::10"]);
        assert_eq!(ask("example.com.", RecordType::MX), [ResponseCode::NoError.to_string()]);
        assert_eq!(ask("host.Invalid.", RecordType::A), [ResponseCode::NXDomain.to_string()]);
    }
}
