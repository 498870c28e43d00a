//! Which of several servers behind one address has answered (RFC 4892).

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// What a server says of itself to questions of class CH.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The strings of `id.server`; without any the question is refused, as RFC 4892 allows.
    pub strings: Vec<String>,
}

impl Identity {
    /// The answer to a question of class CH.
    pub(crate) fn answer(&self, query: &Query) -> Result<Vec<Record>, ResponseCode> {
        if self.strings.is_empty() || !asks_for_id(&query.name) {
            return Err(ResponseCode::Refused);
        }
        if !matches!(query.query_type, RecordType::TXT | RecordType::ANY) {
            return Ok(Vec::new());
        }
        let text = RData::TXT(TXT::new(self.strings.clone()));
        let mut record = Record::from_rdata(query.name.clone(), 0, text);
        record.dns_class = DNSClass::CH;
        Ok(vec![record])
    }
}

/// BIND asked for `hostname.bind` before RFC 4892, and its tools still do.
fn asks_for_id(name: &Name) -> bool {
    let name = name.to_lowercase().to_ascii();
    matches!(name.trim_end_matches('.'), "id.server" | "hostname.bind")
}
