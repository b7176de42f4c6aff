//! Which headers of a response may be kept.

/// Parts of the names of headers that carry credentials, cookies or tokens.
const SECRET: [&str; 16] = [
    "auth",
    "session",
    "jwt",
    "assertion",
    "signature",
    "access-key",
    "passwd",
    "cookie",
    "token",
    "secret",
    "api-key",
    "apikey",
    "password",
    "credential",
    "csrf",
    "xsrf",
];

/// Whether a header may carry a credential. Names have no case. Rather one header too many than a session in a table.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    SECRET.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_known_by_their_names() {
        for name in [
            "Authorization",
            "PROXY-AUTHORIZATION",
            "cookie",
            "Set-Cookie",
            "set-cookie2",
            "X-API-Key",
            "x_api_key",
            "apikey",
            "WWW-Authenticate",
            "Proxy-Authenticate",
            "Authentication-Info",
            "X-Auth-Token",
            "X-CSRF-Token",
            "x-amz-security-token",
            "X-Auth-Key",
            "X-Session-Id",
            "X-JWT",
            "X-Passwd",
            "X-Access-Key",
            "X-Goog-Iap-Jwt-Assertion",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["Location", "Content-Type", "ETag", "x-request-id", "Retry-After", ""] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
