//! Bearer tokens.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::status::Status;

/// A bearer token and whose it is.
#[derive(Clone)]
pub struct Token {
    /// The secret.
    pub secret: String,
    /// The user's name, for logs.
    pub user: String,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({})", self.user)
    }
}

/// The tokens that a server knows.
#[derive(Debug)]
pub struct Tokens(Vec<Token>);

impl Tokens {
    /// These; a token without a secret would let everybody in and is left out.
    pub fn new(tokens: Vec<Token>) -> Self {
        Self(tokens.into_iter().filter(|t| !t.secret.is_empty()).collect())
    }

    /// Whose request this is.
    ///
    /// # Errors
    /// 401 where there is no token, or none that is known.
    pub fn user(&self, headers: &HeaderMap) -> Result<&str, Status> {
        let given = headers.get(AUTHORIZATION).ok_or_else(Status::unauthorized)?.as_bytes();
        let (scheme, secret) = given.split_at_checked(b"bearer ".len()).ok_or_else(Status::unauthorized)?;
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return Err(Status::unauthorized());
        }
        // Every token is compared in full, so that time tells nothing about any of them.
        let found = self.0.iter().fold(None, |found, token| {
            if equal(token.secret.as_bytes(), secret.trim_ascii()) { Some(token) } else { found }
        });
        found.map(|t| t.user.as_str()).ok_or_else(Status::unauthorized)
    }
}

/// Equality in a time that depends on the lengths only.
fn equal(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |acc, (x, y)| std::hint::black_box(acc | (x ^ y)));
    a.len() == b.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(header: Option<&str>) -> Result<String, u16> {
        let token = |secret: &str, user: &str| Token { secret: secret.into(), user: user.into() };
        let tokens = Tokens::new(vec![token("s3cret", "admin"), token("other", "node"), token("", "nobody")]);
        let headers = header.map(|h| (AUTHORIZATION, h.parse().expect("a header value")));
        tokens.user(&HeaderMap::from_iter(headers)).map(str::to_owned).map_err(|s| s.code.as_u16())
    }

    #[test]
    fn only_known_tokens_come_in() {
        assert_eq!(user(Some("Bearer s3cret")), Ok("admin".into()));
        assert_eq!(user(Some("bearer other")), Ok("node".into()));
        for bad in [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some("Bearer s3cre"),
            Some("Bearer s3crets"),
            Some("Basic s3cret"),
        ] {
            assert_eq!(user(bad), Err(401), "{bad:?}");
        }
    }
}
