/// The query part of a URL.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads `a=1&b=2` with percent and plus decoding.
    pub fn parse(text: Option<&str>) -> Self {
        let pairs = text.unwrap_or_default().split('&').filter(|p| !p.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        });
        Self { pairs: pairs.collect() }
    }

    /// The first value of a key; an empty value counts as none, as in Kubernetes.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// All values of a key, empty ones too.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// A flag: present and neither `0` nor `false` (apimachinery's conversion of query strings).
    pub fn flag(&self, key: &str) -> bool {
        self.pairs
            .iter()
            .find(|(k, _)| k == key)
            .is_some_and(|(_, v)| v != "0" && !v.eq_ignore_ascii_case("false"))
    }
}

/// Undoes percent encoding and `+`; what is no valid encoding stays as it is.
pub(super) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |j: usize| bytes.get(j).and_then(|b| (*b as char).to_digit(16));
        match (bytes[i], hex(i + 1), hex(i + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                i += 3;
            }
            (b'+', _, _) => {
                out.push(b' ');
                i += 1;
            }
            (other, _, _) => {
                out.push(other);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_decoded() {
        let query = Query::parse(Some(
            "labelSelector=a%20in%20(b%2Cc)&x=a+b&command=sh&command=&watch=&tty=false&bad=%zz",
        ));
        assert_eq!(query.get("labelSelector"), Some("a in (b,c)"));
        assert_eq!(query.get("x"), Some("a b"));
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["sh", ""]);
        assert!(query.flag("watch"));
        assert!(!query.flag("tty"));
        assert_eq!(query.get("bad"), Some("%zz"));
    }
}
