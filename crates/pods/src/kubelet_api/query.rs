/// The pairs of a query string, decoded; a key may come more than once (`command`).
pub(super) fn pairs(query: Option<&str>) -> Vec<(String, String)> {
    let parts = query.unwrap_or_default().split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(key), decode(value))
        })
        .collect()
}

/// Whether a flag is set (`stdin=true`, `stdin=1`).
pub(super) fn flag(pairs: &[(String, String)], key: &str) -> bool {
    value(pairs, key).is_some_and(|value| value == "true" || value == "1")
}

/// The first value of a key.
pub(super) fn value<'a>(pairs: &'a [(String, String)], key: &str) -> Option<&'a str> {
    pairs.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
}

/// `application/x-www-form-urlencoded`: `+` is a space, `%XX` a byte.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut ahead = rest.clone();
        let hex = (byte == b'%').then(|| Some(digit(ahead.next()?)? << 4 | digit(ahead.next()?)?)).flatten();
        match (byte, hex) {
            (_, Some(value)) => {
                bytes.push(value);
                rest = ahead;
            }
            (b'+', None) => bytes.push(b' '),
            (other, None) => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_and_keys_may_repeat() {
        let pairs = pairs(Some("command=sh&command=-c&command=echo+%22a%26b%22%zz&stdin=true&tty"));
        let commands: Vec<_> =
            pairs.iter().filter(|(key, _)| key == "command").map(|(_, v)| v.as_str()).collect();
        assert_eq!(commands, ["sh", "-c", "echo \"a&b\"%zz"]);
        assert!(flag(&pairs, "stdin") && !flag(&pairs, "tty") && !flag(&pairs, "stdout"));
    }
}
